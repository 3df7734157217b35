"""`/sites` (rest-api §8.8)."""

from dataclasses import replace
from typing import Annotated, Final
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel

from wardgate.portal.limits import check_site
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.edits import Edit
from wardgate.portal.rest.fields import Fields, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import forbidden, invalid, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, SiteView, listed
from wardgate.portal.store import AccountTables, Conflict
from wardgate.portal.store.rows import Site

routes = Routes("sites", "/sites", tag="Sites")
ROUTES: Final = (routes,)

NAME_TAKEN = {"name": ["has already been taken"]}


class SiteFields(Fields):
    name: Annotated[str | None, text(64, shortest=1)] = None


class NewSiteFields(SiteFields):
    model_config = required("name")


class NewSiteBody(BaseModel):
    site: NewSiteFields


class SiteBody(BaseModel):
    site: SiteFields


@routes.get("", response_model=ListOf[SiteView])
async def index(caller: ForAccount, paging: Paging, name: str | None = None) -> Response:
    async with caller.reading() as tables:
        wanted = [] if name is None else [tables.sites.c.name == name]
        return listed(await load_page(tables.sites, paging, *wanted), SiteView.shown)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[SiteView]:  # noqa: A002
    async with caller.reading() as tables:
        return Data(data=SiteView.of(caller.tagged(await load_site(tables, id))))


@routes.post("", makes_object=True)
async def create(caller: ForAccount, body: NewSiteBody, response: Response) -> Data[SiteView]:
    try:
        async with caller.writing() as (tables, transaction):
            await check_site(tables, caller.account, now=transaction.now)
            edit = Edit(body.site, {"name": None})
            edit.text("name", longest=64, required=True)
            values = edit.finish()
            site = await tables.sites.insert(
                Site(id=transaction.new_id(), account_id=caller.account.id, **values)
            )
    except Conflict:
        raise invalid(NAME_TAKEN) from None
    response.headers["location"] = f"/sites/{site.id}"
    return Data(data=SiteView.of(caller.tagged(site)))


@routes.edit("/{id}", is_versioned=True)
async def update(caller: ForAccount, id: Id, body: SiteBody) -> Data[SiteView]:  # noqa: A002
    try:
        async with caller.writing() as (tables, _):
            before = caller.expected(await _load_managed(tables, id))
            edit = Edit(body.site, {"name": before.name})
            edit.text("name", longest=64, required=True)
            after = await tables.sites.save(replace(before, **edit.finish()))
            return Data(data=SiteView.of(caller.tagged(after)))
    except Conflict:
        raise invalid(NAME_TAKEN) from None


@routes.delete("/{id}", is_versioned=True)
async def delete(caller: ForAccount, id: Id) -> Data[SiteView]:  # noqa: A002
    async with caller.writing() as (tables, _):
        site = caller.expected(await _load_managed(tables, id))
        await tables.sites.delete(site.id)
        return Data(data=SiteView.of(site))


async def load_site(tables: AccountTables, id_: UUID | None) -> Site:
    """Return a site of the account. Raises Problem 404."""
    site = None if id_ is None else await tables.sites.load(id_)
    if site is None:
        raise not_found()
    return site


async def _load_managed(tables: AccountTables, id_: UUID | None) -> Site:
    site = await load_site(tables, id_)
    if site.managed_by == "system":
        raise forbidden("System managed Site cannot be modified")
    return site
