"""What may be done with clients, gateways and members of device pools (portal-domain §3.8, §3.9, rest-api
§8.5, §8.9, §8.10, §8.12)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from wardgate.portal.access.rules import load_resource
from wardgate.portal.access.tables import Resource
from wardgate.portal.credentials import Issued, issue
from wardgate.portal.database.turns import in_turns, leaving_and_coming
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember
from wardgate.portal.edits import Edit, Given
from wardgate.portal.keys import Keys
from wardgate.portal.outcomes import Invalid, Missing, Unsuitable, WrongState
from wardgate.portal.sites.rules import load_site
from wardgate.portal.sites.tables import GatewayToken
from wardgate.portal.store import AccountTables, Conflict, Transaction

PSK_BASE_BYTES: Final = 32
MIN_HOSTNAME_CHARS: Final = 3
HAS_TOKEN: Final = "An active token already exists for this gateway. Rotate it or delete it first."  # noqa: S105 - a message
HOSTNAME_TAKEN: Final = {"hostname": ["has already been taken"]}

_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NAME_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"


async def load_client(tables: AccountTables, id_: UUID | None) -> Device:
    """Raises Missing."""
    device = None if id_ is None else await tables.devices.load(id_)
    if device is None or device.type != "client":
        raise Missing
    return device


async def rename(tables: AccountTables, before: Device, given: Given) -> Device:
    """Rename a client or a gateway. Raises Invalid."""
    edit = Edit(given, {"name": before.name})
    edit.text("name", required=True)
    return await tables.devices.save(replace(before, **edit.finish()))


async def verify_client(tables: AccountTables, before: Device) -> Device:
    """Mark a client as verified; an earlier time of verification is kept."""
    return await tables.devices.save(replace(before, verified_at=before.verified_at or tables.now))


async def unverify_client(tables: AccountTables, before: Device) -> Device:
    return await tables.devices.save(replace(before, verified_at=None))


async def set_hostname(tables: AccountTables, before: Device, given: Given) -> Device:
    """Give a client the host name by which dynamic device pools know it. Raises Invalid."""
    edit = Edit(given, {"hostname": before.hostname})
    edit.text("hostname")
    hostname = edit.value("hostname")
    if hostname is not None and "hostname" not in edit.errors and not _is_hostname(hostname):
        edit.error("hostname", "is not a host name of at least 3 characters, such as nas.lab.example")
    try:
        return await tables.devices.save(replace(before, **edit.finish()))
    except Conflict:
        raise Invalid(HOSTNAME_TAKEN) from None


async def load_gateway(tables: AccountTables, site_id: UUID | None, id_: UUID | None) -> Device:
    """Return a gateway of a site. Raises Missing."""
    device = None if id_ is None else await tables.devices.load(id_)
    if device is None or device.type != "gateway" or device.site_id != site_id:
        raise Missing
    return device


async def drain_gateway(tables: AccountTables, before: Device) -> Device:
    """Keep a gateway from new grants; what it has goes on. An earlier beginning is kept."""
    return await tables.devices.save(replace(before, draining_since=before.draining_since or tables.now))


async def undrain_gateway(tables: AccountTables, before: Device) -> Device:
    return await tables.devices.save(replace(before, draining_since=None))


async def make_gateway(
    tables: AccountTables, transaction: Transaction, site_id: UUID | None, given: Given, *, keys: Keys
) -> tuple[Device, Issued[GatewayToken]]:
    """Make a gateway with its tunnel addresses and a token of its own; without a name it gets a random one.

    Raises:
        Missing: there is no such site.
        Invalid: the name is wrong.
    """
    site = await load_site(tables, site_id)
    edit = Edit(given, {"name": _random_name(transaction)})
    if given.get("name") is not None:
        edit.text("name", required=True)
    device = await tables.devices.insert(
        Device(
            id=tables.new_id(),
            account_id=tables.account_id,
            type="gateway",
            site_id=site.id,
            psk_base=transaction.random_bytes(PSK_BASE_BYTES),
            **edit.finish(),
        )
    )
    return device, await _issue(tables, transaction, keys, device_id=device.id)


async def make_gateway_token(
    tables: AccountTables, transaction: Transaction, gateway: Device, *, keys: Keys
) -> Issued[GatewayToken]:
    """Make the token of a gateway that has none. Raises WrongState."""
    if any(token.rotated_at is None for token in await _tokens_of(tables, gateway)):
        raise WrongState(HAS_TOKEN)
    return await _issue(tables, transaction, keys, device_id=gateway.id)


async def rotate_gateway_token(
    tables: AccountTables, transaction: Transaction, gateway: Device, *, keys: Keys
) -> Issued[GatewayToken]:
    """Replace a gateway's token; the one in use works until the new one is used, or for four hours."""
    tokens = await _tokens_of(tables, gateway)
    is_pending = any(token.rotated_at is not None for token in tokens)
    for token in tokens:
        if token.rotated_at is not None:
            continue
        if is_pending or gateway.gateway_token_id != token.id:
            await tables.gateway_tokens.delete(token.id)
        else:
            await tables.gateway_tokens.save(replace(token, rotated_at=tables.now))
    return await _issue(tables, transaction, keys, device_id=gateway.id)


async def make_site_token(
    tables: AccountTables, transaction: Transaction, site_id: UUID | None, *, keys: Keys
) -> Issued[GatewayToken]:
    """Make a token that any number of gateways of the site may use. Raises Missing."""
    site = await load_site(tables, site_id)
    return await _issue(tables, transaction, keys, site_id=site.id)


async def load_gateway_token(tables: AccountTables, site_id: UUID | None, id_: UUID | None) -> GatewayToken:
    """Return a token of a site, or of a gateway in it. Raises Missing."""
    token = None if id_ is None else await tables.gateway_tokens.load(id_)
    if token is None or await _site_of(tables, token) != site_id:
        raise Missing
    return token


async def load_static_pool(tables: AccountTables, resource_id: UUID | None) -> Resource:
    """Return a pool whose members are listed. Raises Missing, and Unsuitable for another resource."""
    resource = await load_resource(tables, resource_id)
    if resource.type != "static_device_pool":
        raise Unsuitable(f"Resource type {resource.type} has no pool members; only static_device_pool does")
    return resource


async def members_of(tables: AccountTables, pool: Resource) -> dict[UUID, StaticDevicePoolMember]:
    """Return the memberships by client."""
    rows = await tables.pool_members.load_by_turns(tables.pool_members.c.resource_id == pool.id)
    return await tables.pass_through(len(rows), lambda: {row.device_id: row for row in rows})


async def set_members(
    tables: AccountTables,
    pool: Resource,
    current: Mapping[UUID, StaticDevicePoolMember],
    wanted: Iterable[UUID],
) -> None:
    """Make these clients the only members; rows that stay are kept, so that nobody is disconnected needlessly.

    Args:
        current: what `members_of` returned in this transaction.
    """
    ids = list(wanted)
    leaving, coming = await tables.pass_through(
        len(current) + len(ids), lambda: leaving_and_coming(current.keys(), ids)
    )
    members = tables.pool_members
    await members.delete_rows(
        await tables.pass_through(len(leaving), lambda: [current[device_id] for device_id in leaving])
    )
    for some in in_turns(coming):
        await members.insert_all(
            [
                StaticDevicePoolMember(
                    id=tables.new_id(), account_id=tables.account_id, resource_id=pool.id, device_id=device_id
                )
                for device_id in some
            ]
        )


def _is_hostname(text: str) -> bool:
    return len(text) >= MIN_HOSTNAME_CHARS and all(_LABEL.fullmatch(label) for label in text.split("."))


async def _issue(
    tables: AccountTables, transaction: Transaction, keys: Keys, **owner: Any
) -> Issued[GatewayToken]:
    return await issue(
        tables.gateway_tokens, transaction=transaction, keys=keys, account_id=tables.account_id, **owner
    )


async def _tokens_of(tables: AccountTables, gateway: Device) -> list[GatewayToken]:
    return await tables.gateway_tokens.load_all(tables.gateway_tokens.c.device_id == gateway.id)


async def _site_of(tables: AccountTables, token: GatewayToken) -> UUID | None:
    if token.device_id is None:
        return token.site_id
    device = await tables.devices.load(token.device_id)
    return None if device is None else device.site_id


def _random_name(transaction: Transaction) -> str:
    """Draw five characters that nobody confuses."""
    number = int.from_bytes(transaction.random_bytes(8), "big")
    return "".join(_NAME_ALPHABET[number // 31**place % 31] for place in range(5))
