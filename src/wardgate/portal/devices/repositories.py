"""The repository of devices."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Update, bindparam, update

from wardgate.model.addresses import LAST_TUNNEL_OFFSET, TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.portal.database.errors import AddressesExhausted
from wardgate.portal.database.refusals import check_storable
from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.devices.tables import DEVICES, Device
from wardgate.portal.schema.rights import Action

_TAKEN_IN_A_ROW: Final = 16
"""Taken addresses after which it is worth asking whether any is free."""


class DeviceRepository(TenantRepository[Device]):
    """Devices; a new one draws its tunnel addresses here (portal-domain §3.8)."""

    async def insert(self, row: Device) -> Device:
        """Insert a device; empty addresses are drawn.

        Raises:
            AddressesExhausted: no address left.
        """
        if not row.ipv4:
            row = replace(row, ipv4=await self._free_address(TUNNEL_IPV4, "ipv4"))
        if not row.ipv6:
            row = replace(row, ipv6=await self._free_address(TUNNEL_IPV6, "ipv6"))
        return await super().insert(row)

    async def note_sessions(self, sessions: Sequence[tuple[UUID, Mapping[str, Any]]]) -> None:
        """Note the latest session of devices, each by its columns of the latest use, `last_seen_at` among them; one
        that is gone, or has connected again since, is left alone. Not in the feed (portal-domain §18).

        Raises:
            DanglingReference: a token is gone.
        """
        self._transaction.require_writable()
        self._require(Action.UPDATE)
        await self._hold()
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for id_, columns in sessions:
            check_storable(self._table, columns)
            values = {**columns, "of_id": id_, "seen_at": columns["last_seen_at"], **self._open_values}
            by_columns.setdefault(tuple(columns), []).append(values)
        for names, some in by_columns.items():
            if not self._declaration.latest_use.issuperset(names):
                raise ValueError(f"{self.table}: not only columns of the latest use")
            await self._transaction.update_rows(_note_session(names), some)

    async def _free_address(self, pool: IPv4Network | IPv6Network, column: str) -> str:
        random = int.from_bytes(self._transaction.random_bytes(8), "big")
        first = random % LAST_TUNNEL_OFFSET
        for step in range(LAST_TUNNEL_OFFSET):
            address: IPv4Address | IPv6Address = (
                pool.network_address + 1 + (first + step) % LAST_TUNNEL_OFFSET
            )
            if await self.find_by(**{column: str(address)}) is None:
                return str(address)
            # A look at all of them is worth it where many are taken, and for nobody else.
            if step == _TAKEN_IN_A_ROW and await self.count(at_most=LAST_TUNNEL_OFFSET) == LAST_TUNNEL_OFFSET:
                break
        raise AddressesExhausted(f"all addresses of {pool} are in use")


@cache
def _note_session(names: tuple[str, ...]) -> Update:
    devices = DEVICES.table
    is_newer = devices.c.last_seen_at.is_(None) | (devices.c.last_seen_at <= bindparam("seen_at"))
    return (
        update(devices)
        .where(*DeviceRepository.open_scope(devices), devices.c.id == bindparam("of_id"), is_newer)
        .values({name: bindparam(name) for name in names})
    )
