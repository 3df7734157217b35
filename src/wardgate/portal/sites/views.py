"""Sites, as the REST API represents them (rest-api §8)."""

from uuid import UUID

from wardgate.portal.rest.views import RowView


class SiteView(RowView):
    id: UUID
    name: str
