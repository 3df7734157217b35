"""`/wardgate/groups`: every group, the managed ones too, of which Everyone is one. The published `/groups` hides those.

They are only read here: what may be changed of a group is changed at `/groups`. A policy takes the id of any of them.
"""

from typing import Literal

from fastapi import Response

from wardgate.portal.people.rest.groups import DirectoryText, EntityTypeText, conditions
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, GroupView, ListOf, Shown, listed
from wardgate.portal.store import rows

routes = Routes("all_groups", "/wardgate/groups", tag="Wardgate")


class AnyGroupView(GroupView):
    """A group; of a managed one nobody edits the members: every user is in Everyone."""

    type: Literal["static", "managed"]

    @classmethod
    def of(cls, row: rows.Group) -> "AnyGroupView":
        return cls(**cls.shown(row))

    @staticmethod
    def shown(row: rows.Group) -> Shown:
        return GroupView.shown(row) | {"type": row.type}


@routes.get("", response_model=ListOf[AnyGroupView])
async def index(
    caller: ForAccount,
    paging: Paging,
    name: str | None = None,
    directory_id: DirectoryText = None,
    entity_type: EntityTypeText = None,
) -> Response:
    async with caller.reading() as tables:
        wanted = conditions(tables, name, directory_id, entity_type)
        return listed(await load_page(tables.groups, paging, *wanted), AnyGroupView.shown)


@routes.get("/{id}", is_versioned=True)
async def show(caller: ForAccount, id: Id) -> Data[AnyGroupView]:  # noqa: A002
    async with caller.reading() as tables:
        group = None if id is None else await tables.groups.load(id)
        if group is None:
            raise not_found()
        return Data(data=AnyGroupView.of(caller.tagged(group)))
