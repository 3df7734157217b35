"""Directories (rest-api §8.15) and device posture (§8.16), of which there are none: what the published API
answers then.

Whoever lists directories, as the published Terraform provider does to find a group, gets an empty list.
Device posture is a feature that no account has. Neither is in the document: there is nothing to be had here.
"""

from typing import Any, Final

from wardgate.portal.rest.pages import Paging
from wardgate.portal.rest.problems import forbidden, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import ListOf, Metadata

routes = Routes("directories", is_documented=False)

NOT_ENABLED: Final = "This feature is not enabled for your account."


async def _none(paging: Paging) -> ListOf[dict[str, Any]]:
    return ListOf(data=[], metadata=Metadata(count=0, limit=paging.limit, next_page=None, prev_page=None))


async def _not_found() -> None:
    raise not_found()


async def _not_enabled() -> None:
    raise forbidden(NOT_ENABLED)


for _kind in ("google", "entra", "okta"):
    routes.add("GET", f"/{_kind}_directories", _none)
    routes.add("GET", f"/{_kind}_directories/{{id}}", _not_found)
for _kind in ("intune", "iru"):
    for _noun in ("posture_providers", "devices"):
        routes.add("GET", f"/{_kind}_{_noun}", _not_enabled)
        routes.add("GET", f"/{_kind}_{_noun}/{{id}}", _not_enabled)
