"""Policies in the panels of both their ends: a resource's groups and a group's resources.

Granted in one form, with a policy for each of several; then disabled, enabled and removed where they are listed.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from starlette.responses import Response

from wardgate.portal.access import rules
from wardgate.portal.access.tables import Policy
from wardgate.portal.outcomes import Missing
from wardgate.portal.store import AccountTables
from wardgate.portal.web.page import PageRoute
from wardgate.portal.web.visit import Visit

Owner = Literal["group_id", "resource_id"]
"""Whose panel it is, by the column that has its id."""

GONE: Final = "The policy does not exist any more."


async def make_policies(
    visit: Visit, tables: AccountTables, given: Mapping[str, Any], ends: Iterable[Mapping[str, str]]
) -> None:
    """Make a policy for each pair of a group and a resource, alike otherwise; all or none.

    Raises:
        Refused: one of them is not possible.
    """
    for end in ends:
        await rules.make_policy(tables, visit.account, {**given, **end})


def policy_routes(owner: Owner, tab: str) -> tuple[PageRoute, ...]:
    """Return what the lines of the tab post."""

    async def find(visit: Visit, tables: AccountTables) -> Policy:
        policy = await rules.load_policy(tables, visit.id("policy_id"))
        if getattr(policy, owner) != visit.id():
            raise Missing
        return policy

    async def switch(visit: Visit, *, is_disabled: bool) -> Response:
        try:
            async with visit.writing() as (tables, _):
                policy = await find(visit, tables)
                await rules.change_policy(tables, visit.account, policy, {"is_disabled": is_disabled})
        except Missing:
            return gone(visit)
        told, other = ("disabled", "enable") if is_disabled else ("enabled", "disable")
        undo = f"{visit.page.path}/{visit.id()}/policies/{policy.id}/{other}"
        return back(visit, f"Access was {told}.", undo=undo)

    async def disable(visit: Visit) -> Response:
        return await switch(visit, is_disabled=True)

    async def enable(visit: Visit) -> Response:
        return await switch(visit, is_disabled=False)

    async def remove(visit: Visit) -> Response:
        try:
            async with visit.writing() as (tables, _):
                await tables.policies.delete((await find(visit, tables)).id)
        except Missing:
            return gone(visit)
        return back(visit, "Access was removed.")

    def gone(visit: Visit) -> Response:
        return visit.go(f"{visit.page.path}/{visit.id()}", toast=GONE, tone="caution", tab=tab)

    def back(visit: Visit, toast: str, *, undo: str | None = None) -> Response:
        return visit.go(f"{visit.page.path}/{visit.id()}", toast=toast, tab=tab, undo=undo)

    return (
        PageRoute("/{id}/policies/{policy_id}/disable", disable, "POST"),
        PageRoute("/{id}/policies/{policy_id}/enable", enable, "POST"),
        PageRoute("/{id}/policies/{policy_id}/remove", remove, "POST"),
    )
