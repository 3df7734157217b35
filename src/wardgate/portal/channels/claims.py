"""Whether grants are still valid when they are stored (portal-domain §7.1).

A grant is decided on the account's view, which follows the database by a moment, and stored a moment later.
What happens in between revokes nothing: the row that it would delete is not there yet. So in the storing
transaction, which is the account's only writer, a grant is judged again if anything has happened since it was
decided:

    nothing but grants since ─────────────────────────────► it is valid
    something, and the same policy grants it, as long ────► it is valid
    anything else ────────────────────────────────────────► it is not stored; its receiver and its client are told

Everything that deletes a stored grant (portal-domain §8.4) is either looked at here, or takes a row with it
that the grant names, so that it cannot be inserted: token, membership, policy, resource and both devices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import bindparam, select

from wardgate.model.domain import Policy
from wardgate.model.resources import (
    CidrResource,
    DevicePool,
    DnsResource,
    DynamicDevicePool,
    InternetResource,
    IpResource,
    Resource,
    StaticDevicePool,
)
from wardgate.policy import pools
from wardgate.policy.engine import AccessRequest, Granted, authorize
from wardgate.policy.snapshot import Snapshot, site_of
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.database.row_changes import row_change
from wardgate.portal.devices.tables import Device
from wardgate.portal.schema.change_feed import CHANGES
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.snapshot.accounts import GRANTS, AccountView, evolve
from wardgate.portal.store import Transaction

MAX_CHANGES: Final = 1000
"""How far the view may lag behind the database; beyond that no claim is valid, and clients ask again."""


_NEWS: Final = (
    select(CHANGES.table)
    .where(
        CHANGES.c.account_id == bindparam("account_id"),
        CHANGES.c.sequence > bindparam("followed"),
        CHANGES.c.object != GRANTS,
    )
    .order_by(CHANGES.c.sequence)
    .limit(MAX_CHANGES + 1)
)
"""What has happened since, but for grants."""


@dataclass(frozen=True, slots=True)
class Target:
    """By which tunnel address a client asked for a device of a pool, and the device's host name at that time."""

    ipv4: str | None
    ipv6: str | None
    hostname: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A grant on its way to the store, with the inputs of its decision.

    Attributes:
        view: the account's; `sequence` is its position at the decision.
        target: which device of a pool was asked for; None if a gateway reaches the resource.
    """

    row: PolicyAuthorization
    grant: Granted
    access: AccessRequest
    view: AccountView
    sequence: int
    target: Target | None = None


async def valid_claims(transaction: Transaction, claims: Sequence[Claim], *, now: datetime) -> list[Claim]:
    """Return those of one account's claims that are still valid; `transaction` is the account's only writer."""
    account_id = claims[0].row.account_id
    position = await transaction.sequence(account_id)
    valid: list[Claim] = []
    for view in {id(claim.view): claim.view for claim in claims}.values():
        of_view = [claim for claim in claims if claim.view is view]
        snapshot, followed, moved_at = view.snapshot, view.sequence, view.moved_at
        if position > followed:
            values = {"account_id": account_id, "followed": followed}
            news = [CHANGES.rows.of(row) for row in await transaction.look_up(_NEWS, values)]
            if len(news) > MAX_CHANGES:
                continue
            if news:
                snapshot = evolve(snapshot, [row_change(one) for one in news])
                moved_at = news[-1].sequence
        untouched = [claim for claim in of_view if claim.sequence >= moved_at]
        others = [claim for claim in of_view if claim.sequence < moved_at]
        valid += untouched
        if others:
            valid += await _judged_again(transaction, snapshot, others, now=now)
    return valid


async def _judged_again(
    transaction: Transaction, snapshot: Snapshot, claims: Sequence[Claim], *, now: datetime
) -> list[Claim]:
    rows = [claim.row for claim in claims]
    tables = transaction.of(rows[0].account_id)
    device_ids = {row.initiating_device_id for row in rows} | {row.receiving_device_id for row in rows}
    devices = {one.id: one for one in await tables.devices.load_all(tables.devices.c.id.in_(device_ids))}
    token_ids = {row.token_id for row in rows}
    tokens = {
        one.id: one for one in await tables.client_tokens.load_all(tables.client_tokens.c.id.in_(token_ids))
    }
    return [claim for claim in claims if is_still_valid(snapshot, claim, devices, tokens, now=now)]


def is_still_valid(
    snapshot: Snapshot,
    claim: Claim,
    devices: dict[UUID, Device],
    tokens: dict[UUID, ClientToken],
    *,
    now: datetime,
) -> bool:
    """Tell whether the grant would be decided the same way now: the same use, by the same policy, for at
    least as long.
    """
    row, before = claim.row, claim.grant
    client, receiver = devices.get(row.initiating_device_id), devices.get(row.receiving_device_id)
    token = tokens.get(row.token_id)
    if client is None or receiver is None or token is None:
        return False
    is_verified = client.verified_at is not None
    if claim.access.facts.is_verified is True and not is_verified:
        return False
    facts = replace(claim.access.facts, is_verified=is_verified)
    access = replace(claim.access, facts=facts, token_expires_at=token.expires_at)
    decision = authorize(snapshot, access, now=now)
    return (
        isinstance(decision, Granted)
        and decision.resource.id == before.resource.id
        and _place(decision.resource) == _place(before.resource)
        and before.expires_at <= token.expires_at
        and _is_granted_by_the_same(decision, before)
        and _still_leads_to(snapshot, decision.resource, receiver, claim.target)
    )


def _is_granted_by_the_same(decision: Granted, before: Granted) -> bool:
    """Tell whether the recorded policy still grants at least as much; other policies may have been added."""
    return any(
        one.is_satisfied
        and one.policy.id == before.policy.id
        and _terms(one.policy) == _terms(before.policy)
        and (one.until is None or one.until >= before.expires_at)
        for one in decision.evaluations
    )


def _terms(policy: Policy) -> tuple[object, ...]:
    """Return the parts of a policy whose change ends its grants (portal-domain §8.4)."""
    return policy.conditions, policy.group_id, policy.resource_id, policy.flow_log_uploads_enabled


def _place(resource: Resource) -> tuple[object, ...]:
    """Return the parts of a resource whose change ends its grants (portal-domain §8.4)."""
    match resource:
        case DnsResource():
            return DnsResource, site_of(resource), resource.address, resource.ip_stack
        case CidrResource() | IpResource() | DynamicDevicePool():
            return type(resource), site_of(resource), resource.address
        case InternetResource() | StaticDevicePool():
            return type(resource), site_of(resource)


def _still_leads_to(snapshot: Snapshot, resource: Resource, receiver: Device, target: Target | None) -> bool:
    """Tell whether the receiver still reaches the resource, or is still the device of the pool that was asked
    for.
    """
    if not isinstance(resource, DevicePool):
        return receiver.site_id == site_of(resource)
    if target is None:
        return False
    device = pools.find_target(snapshot, resource, ipv4=target.ipv4, ipv6=target.ipv6)
    return (
        not isinstance(device, pools.NoTarget)
        and device.id == receiver.id
        and device.hostname == target.hostname
    )
