"""Sites, as the REST API represents them (rest-api §8)."""

from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.rest.views import ViewFields
from wardgate.portal.sites.tables import Site as SiteRow


class SiteView(BaseModel):
    id: UUID
    name: str

    @classmethod
    def of(cls, row: SiteRow) -> "SiteView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: SiteRow) -> ViewFields:
        return {"id": row.id, "name": row.name}
