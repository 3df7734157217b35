"""Groups that a provider's claim `groups` fills, for providers of which that is asked. Rules, without HTTP.

A group of the claim is marked by its `idp_id`, so it is nobody's to edit and policies find it again. Members come and
go at their sign-ins: what the claim of today does not name, the person is no longer in, and without the claim in no
group of this provider at all. The groups themselves stay, for policies name them.
"""

from typing import Final
from uuid import UUID

from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.sign_in.oidc.profile import MAX_GROUPS
from wardgate.portal.store import AccountTables

MAX_GROUPS_OF_PROVIDER: Final = 1000


def mark_of(provider_id: UUID, name: str = "") -> str:
    """Return the `idp_id` of a group that this provider's claim names."""
    return f"claim:{provider_id}:{name}"


async def fill(tables: AccountTables, provider_id: UUID, actor: Actor, names: tuple[str, ...] | None) -> None:
    """Make the actor a member of the groups that the claim names, and of no other of this provider."""
    groups = {group.name: group for group in await _groups_of(tables, provider_id)}
    wanted = set(names or ())
    for name in sorted(wanted - groups.keys()):
        if len(groups) < MAX_GROUPS_OF_PROVIDER:
            groups[name] = await tables.groups.insert(
                Group(
                    id=tables.new_id(),
                    account_id=tables.account_id,
                    name=name,
                    idp_id=mark_of(provider_id, name),
                )
            )
    memberships = tables.memberships
    ids = {group.id: group.name for group in groups.values()}
    current = {
        row.group_id: row
        for row in await memberships.load_all(memberships.c.actor_id == actor.id)
        if row.group_id in ids
    }
    for group_id, membership in current.items():
        if ids[group_id] not in wanted:
            await memberships.delete(membership.id)
    for group_id, name in ids.items():
        if name in wanted and group_id not in current:
            await memberships.insert(
                Membership(
                    id=tables.new_id(), account_id=tables.account_id, actor_id=actor.id, group_id=group_id
                )
            )


async def empty(tables: AccountTables, provider_id: UUID) -> None:
    """Take everybody out of the groups that this provider's claim filled."""
    memberships = tables.memberships
    for group in await _groups_of(tables, provider_id):
        await memberships.delete_where(memberships.c.group_id == group.id)


async def _groups_of(tables: AccountTables, provider_id: UUID) -> list[Group]:
    groups = tables.groups
    return await groups.load_all(
        groups.c.idp_id.startswith(mark_of(provider_id), autoescape=True),
        limit=MAX_GROUPS_OF_PROVIDER + MAX_GROUPS,
    )
