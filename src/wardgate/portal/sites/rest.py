"""`/sites` (rest-api §8.8)."""

from typing import Annotated, Final

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import Fields, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response
from wardgate.portal.sites import rules
from wardgate.portal.sites.tables import MAX_NAME_CHARS
from wardgate.portal.sites.views import SiteView

routes = Routes("sites", "/sites", tag="Sites")
ROUTES: Final = (routes,)


class SiteFields(Fields):
    name: Annotated[str | None, text(MAX_NAME_CHARS, shortest=1)] = None


class NewSiteFields(SiteFields):
    model_config = required("name")


class NewSiteBody(BaseModel):
    site: NewSiteFields


class SiteBody(BaseModel):
    site: SiteFields


@routes.get("", response_model=ListOf[SiteView])
async def index(caller: ForAccount, paging: Paging, name: str | None = None) -> Response:
    async with caller.listing() as tables:
        wanted = [] if name is None else [tables.sites.c.name == name]
        return list_response(await load_page(tables.sites, paging, *wanted), SiteView.fields_of)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[SiteView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=SiteView.of(caller.tagged(await rules.load_site(tables, id))))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewSiteBody, response: Response) -> Data[SiteView]:
    async with caller.writing() as (tables, _):
        site = await rules.make_site(tables, caller.account, body.site.given())
    response.headers["location"] = f"/sites/{site.id}"
    return Data(data=SiteView.of(caller.tagged(site)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: SiteBody) -> Data[SiteView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        before = caller.expected(await rules.load_editable_site(tables, id))
        after = await rules.change_site(tables, before, body.site.given())
        return Data(data=SiteView.of(caller.tagged(after)))


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[SiteView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        site = caller.expected(await rules.load_editable_site(tables, id))
        await tables.sites.delete(site.id)
        return Data(data=SiteView.of(site))
