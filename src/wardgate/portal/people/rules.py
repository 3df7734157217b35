"""What may be done with actors, groups and memberships (portal-domain §3.2, §3.4, rest-api §8.2, §8.6,
§8.7)."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final
from uuid import UUID

from wardgate.portal.database.turns import as_number, in_turns, leaving_and_coming
from wardgate.portal.edits import BLANK, Edit, Given
from wardgate.portal.installation.tables import Account
from wardgate.portal.limits import USERS, check_actor, check_promotion
from wardgate.portal.outcomes import Forbidden, Invalid, Missing
from wardgate.portal.people.tables import ACTORS, GROUPS, Actor, ExternalIdentity, Group, Membership
from wardgate.portal.provisioning import check_email
from wardgate.portal.store import AccountTables, Conflict

ACTOR_TYPES: Final = (*USERS, "service_account", "api_client")
MADE_TYPES: Final = (*USERS, "service_account")
EMAIL_TAKEN: Final = {"email": ["has already been taken"]}
LAST_ADMIN: Final = "The last enabled admin of an account cannot be {}"
ONLY_WAY: Final = "is the only way in which this person can sign in"
GROUP_NAME_TAKEN: Final = {"name": ["A group with this name already exists."]}
MEMBER_TYPES: Final = MADE_TYPES  # an API client reaches nothing, so that no group is of use to it
IDS_A_QUERY: Final = 500  # below every driver's limit of bound values


async def load_actor(tables: AccountTables, id_: UUID | None) -> Actor:
    """Raises Missing."""
    actor = None if id_ is None else await tables.actors.load(id_)
    if actor is None:
        raise Missing
    return actor


async def make_actor(tables: AccountTables, account: Account, given: Given) -> Actor:
    """Make a user or a service account.

    Raises:
        LimitReached: the account may have no more of the type.
        Invalid: a value is wrong, or the e-mail address is taken.
    """
    type_ = given.get("type")
    if type_ in MADE_TYPES:
        await check_actor(tables, account, type_, now=tables.now)
    new = Actor(id=tables.new_id(), account_id=tables.account_id, type="", name="")
    edit = Edit(given, {**asdict(new), "type": None, "name": None})
    edit.choice("type", ACTOR_TYPES, required=True)
    if edit.value("type") == "api_client":
        edit.error("type", "API clients cannot be created via the API")
    values = _checked_actor(edit)
    try:
        return await tables.actors.insert(replace(new, **values))
    except Conflict:
        raise Invalid(EMAIL_TAKEN) from None


async def change_actor(
    tables: AccountTables, account: Account, before: Actor, given: Given, *, by: Actor
) -> Actor:
    """Change an actor.

    Args:
        by: who asks; nobody disables themselves.

    Raises:
        Forbidden: `by` would be disabled, or the last enabled admin.
        LimitReached: the account may have no more of what the actor becomes.
        Invalid: a value is wrong, the e-mail address is taken, the last enabled admin would be none any more, or
            the only way in which somebody can sign in would be closed.
    """
    edit = Edit(given, asdict(before))
    edit.choice("type", ACTOR_TYPES, required=True)
    edit.flag("is_disabled")
    if edit.value("is_disabled") and not before.is_disabled and before.id == by.id:
        raise Forbidden("You cannot disable the Actor used to make this request")
    _check_transition(edit, before.type)
    if edit.value("is_disabled") and await _is_last_admin(tables, before):
        raise Forbidden(LAST_ADMIN.format("disabled"))
    if edit.value("type") == "account_user" and await _is_last_admin(tables, before):
        edit.error("type", LAST_ADMIN.format("demoted"))
    edit.flag("allow_email_otp_sign_in")
    is_closed = before.allow_email_otp_sign_in and edit.value("allow_email_otp_sign_in") is False
    if is_closed and await _is_only_by_email(tables, before):
        edit.error("allow_email_otp_sign_in", ONLY_WAY)
    values = _checked_actor(edit)
    if before.is_disabled and not values["is_disabled"]:
        await check_actor(tables, account, values["type"], now=tables.now)
    elif values["type"] == "account_admin_user" and before.type == "account_user":
        await check_promotion(tables, account, now=tables.now)
    try:
        return await tables.actors.save(replace(before, **values))
    except Conflict:
        raise Invalid(EMAIL_TAKEN) from None


async def delete_actor(tables: AccountTables, actor: Actor, *, by: Actor) -> None:
    """Delete an actor with all that is theirs.

    Raises:
        Forbidden: it is `by`, or the last enabled admin.
    """
    if actor.id == by.id:
        raise Forbidden("You cannot delete the Actor used to make this request")
    if await _is_last_admin(tables, actor):
        raise Forbidden(LAST_ADMIN.format("deleted"))
    await tables.actors.delete(actor.id)


async def _is_last_admin(tables: AccountTables, actor: Actor) -> bool:
    """Tell whether nobody else could administer the account."""
    if actor.type != "account_admin_user" or actor.is_disabled:
        return False
    c = tables.actors.c
    others = c.type == "account_admin_user", c.is_disabled.is_(False), c.id != actor.id
    return await tables.actors.count(*others, at_most=1) == 0


async def _is_only_by_email(tables: AccountTables, actor: Actor) -> bool:
    """Tell whether a code by e-mail is all that somebody can sign in with."""
    identities = tables.external_identities
    has_identity = await identities.count(identities.c.actor_id == actor.id, at_most=1) > 0
    return actor.type in USERS and actor.password_hash is None and not has_identity


async def load_identity(tables: AccountTables, actor_id: UUID | None, id_: UUID | None) -> ExternalIdentity:
    """Return an identity of an actor. Raises Missing."""
    identity = None if id_ is None else await tables.external_identities.load(id_)
    if identity is None or identity.actor_id != actor_id:
        raise Missing
    return identity


async def delete_identity(
    tables: AccountTables, actor: Actor, identity: ExternalIdentity, *, by: Actor
) -> None:
    """Delete an identity of an actor, with what the actor got by signing in with it.

    Raises:
        Forbidden: it is all that `by` can sign in with.
    """
    if actor.id == by.id and not actor.allow_email_otp_sign_in and actor.password_hash is None:
        c = tables.external_identities.c
        others = c.actor_id == actor.id, c.id != identity.id
        if await tables.external_identities.count(*others, at_most=1) == 0:
            raise Forbidden("This identity is the only way in which you can sign in")
    await tables.external_identities.delete(identity.id)


async def load_group(tables: AccountTables, id_: UUID | None, *, with_managed: bool = False) -> Group:
    """Return a group; a managed one, such as Everyone, only if asked for. Raises Missing."""
    group = None if id_ is None else await tables.groups.load(id_)
    if group is None or (group.type == "managed" and not with_managed):
        raise Missing
    return group


async def load_group_with_editable_members(tables: AccountTables, id_: UUID | None) -> Group:
    """Return a group whose members are decided here. Raises Missing, and Forbidden for a managed or synced
    one."""
    group = await load_group(tables, id_, with_managed=True)
    if group.type != "static" or group.idp_id is not None:
        raise Forbidden("Group is not editable")
    return group


def check_not_synced(group: Group) -> None:
    """Raises Forbidden: what a directory decides of a group is not changed here (rest-api §8.6)."""
    if group.idp_id is not None:
        raise Forbidden("Cannot update a synced Group")


async def make_group(tables: AccountTables, given: Given) -> Group:
    """Raises Invalid."""
    new = Group(id=tables.new_id(), account_id=tables.account_id, name="")
    values = _checked_group(given, {**asdict(new), "name": None})
    try:
        return await tables.groups.insert(replace(new, **values))
    except Conflict:
        raise Invalid(GROUP_NAME_TAKEN) from None


async def change_group(tables: AccountTables, before: Group, given: Given) -> Group:
    """Raises Invalid."""
    values = _checked_group(given, asdict(before))
    try:
        return await tables.groups.save(replace(before, **values))
    except Conflict:
        raise Invalid(GROUP_NAME_TAKEN) from None


async def add_to_groups(tables: AccountTables, actor: Actor, group_ids: Iterable[UUID]) -> int:
    """Put an actor into groups; returns into how many it was not yet. Raises Missing, and Forbidden for a group whose
    members are not decided here."""
    c = tables.memberships.c
    current = set(await tables.memberships.load_column(c.group_id, c.actor_id == actor.id))
    wanted = [id_ for id_ in dict.fromkeys(group_ids) if id_ not in current]
    for id_ in wanted:
        group = await load_group_with_editable_members(tables, id_)
        await tables.memberships.insert(
            Membership(id=tables.new_id(), account_id=tables.account_id, actor_id=actor.id, group_id=group.id)
        )
    return len(wanted)


async def members_of(tables: AccountTables, group: Group) -> dict[UUID, Membership]:
    """Return the memberships by actor."""
    rows = await tables.memberships.load_by_turns(tables.memberships.c.group_id == group.id)
    return await tables.pass_through(len(rows), lambda: {row.actor_id: row for row in rows})


async def unknown_actors(tables: AccountTables, ids: Iterable[UUID]) -> list[UUID]:
    """Return which of these are no actors of the account, in order."""
    given = list(ids)
    actors, ordered = (
        tables.actors,
        await tables.pass_through(len(given), lambda: sorted(given, key=as_number)),
    )
    known: set[UUID] = set()
    for start in range(0, len(ordered), IDS_A_QUERY):
        some = ordered[start : start + IDS_A_QUERY]
        known.update(await actors.load_column(actors.c.id, actors.c.id.in_(some)))
    return await tables.pass_through(len(ordered), lambda: [id_ for id_ in ordered if id_ not in known])


async def check_can_be_members(tables: AccountTables, ids: Iterable[UUID]) -> None:
    """Raises Invalid: one of them is no actor of the account any more."""
    if unknown := await unknown_actors(tables, ids):
        raise Invalid({"memberships": [f"{id_} is not an Actor in this account" for id_ in unknown]})


async def set_members(
    tables: AccountTables, group: Group, current: Mapping[UUID, Membership], wanted: Iterable[UUID]
) -> None:
    """Make these actors the only members; rows that stay are kept, so that nobody is disconnected needlessly.

    Args:
        current: what `members_of` returned in this transaction.
    """
    ids = list(wanted)
    leaving, coming = await tables.pass_through(
        len(current) + len(ids), lambda: leaving_and_coming(current.keys(), ids)
    )
    memberships = tables.memberships
    await memberships.delete_rows(
        await tables.pass_through(len(leaving), lambda: [current[actor_id] for actor_id in leaving])
    )
    for some in in_turns(coming):
        await memberships.insert_all(
            [
                Membership(
                    id=tables.new_id(), account_id=tables.account_id, actor_id=actor_id, group_id=group.id
                )
                for actor_id in some
            ]
        )


def _checked_actor(edit: Edit) -> dict[str, Any]:
    edit.columns(ACTORS)
    edit.text("email", longest=160)
    email, is_user = edit.value("email"), edit.value("type") in USERS
    if email is None and is_user:
        edit.error("email", BLANK)
    elif email is not None and not is_user:
        edit.error("email", "must be blank for this type of actor")
    elif email is not None:
        try:
            edit.put("email", check_email(email))
        except ValueError:
            edit.error("email", "is an invalid email address")
    return edit.finish()


def _check_transition(edit: Edit, before: str) -> None:
    after = edit.value("type")
    if after == before:
        return
    if before == "api_client":
        edit.error("type", "cannot change the type of an API client")
    elif before == "service_account":
        edit.error("type", "cannot change the type of a service account")
    elif after not in USERS:
        edit.error("type", "cannot change a user to a service account or API client")


def _checked_group(given: Given, before: Given) -> dict[str, Any]:
    edit = Edit(given, before)
    edit.columns(GROUPS)
    return edit.finish()
