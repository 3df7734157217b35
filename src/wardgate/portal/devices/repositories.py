"""The repository of devices."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Update, bindparam, update

from wardgate.model.addresses import LAST_TUNNEL_OFFSET, TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.portal.database.among import MOST_AMONG
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
        return await super().insert((await self._addressed([row]))[0])

    async def insert_all(self, rows: Sequence[Device]) -> list[Device]:
        """Insert devices, as `insert` does."""
        return await super().insert_all(await self._addressed(rows))

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

    async def _addressed(self, rows: Sequence[Device]) -> list[Device]:
        """Return the devices with the addresses that they lack."""
        drawn: list[dict[str, Any]] = [{} for _ in rows]
        for column, pool in (("ipv4", TUNNEL_IPV4), ("ipv6", TUNNEL_IPV6)):
            lacking = [number for number, row in enumerate(rows) if not getattr(row, column)]
            for start in range(0, len(lacking), MOST_AMONG):
                some = lacking[start : start + MOST_AMONG]
                for number, address in zip(
                    some, await self._free_addresses(pool, column, len(some)), strict=True
                ):
                    drawn[number][column] = address
        return [replace(row, **drawn[number]) if drawn[number] else row for number, row in enumerate(rows)]

    async def _free_addresses(self, pool: IPv4Network | IPv6Network, column: str, count: int) -> list[str]:
        """Draw addresses; nearly all that are drawn are free, so all are looked for by one statement."""
        drawn = [self._random_offset() for _ in range(count)]
        taken = {
            getattr(row, column)
            for row in await self.load_among(**{column: [_address(pool, offset) for offset in drawn]})
        }
        free: dict[str, None] = {}
        for offset in drawn:
            address = _address(pool, offset)
            if address in taken or address in free:
                address = await self._next_free_address(pool, column, offset, free)
            free[address] = None
        return list(free)

    async def _next_free_address(
        self, pool: IPv4Network | IPv6Network, column: str, first: int, given: Collection[str]
    ) -> str:
        for step in range(1, LAST_TUNNEL_OFFSET):
            address = _address(pool, (first + step) % LAST_TUNNEL_OFFSET)
            if address not in given and await self.find_by(**{column: address}) is None:
                return address
            # A look at all of them is worth it where many are taken, and for nobody else.
            if step == _TAKEN_IN_A_ROW and await self.count(at_most=LAST_TUNNEL_OFFSET) == LAST_TUNNEL_OFFSET:
                break
        raise AddressesExhausted(f"all addresses of {pool} are in use")

    def _random_offset(self) -> int:
        return int.from_bytes(self._transaction.random_bytes(8), "big") % LAST_TUNNEL_OFFSET


def _address(pool: IPv4Network | IPv6Network, offset: int) -> str:
    return str(pool.network_address + 1 + offset)


@cache
def _note_session(names: tuple[str, ...]) -> Update:
    devices = DEVICES.table
    is_newer = devices.c.last_seen_at.is_(None) | (devices.c.last_seen_at <= bindparam("seen_at"))
    return (
        update(devices)
        .where(*DeviceRepository.open_scope(devices), devices.c.id == bindparam("of_id"), is_newer)
        .values({name: bindparam(name) for name in names})
    )
