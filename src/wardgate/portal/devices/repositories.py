"""The repository of devices."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from sqlalchemy import ColumnElement

from wardgate.model.addresses import LAST_TUNNEL_OFFSET, TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.portal.database.errors import AddressesExhausted
from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.devices.tables import Device

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
            row = replace(row, ipv4=await self._free_address(TUNNEL_IPV4, self.c.ipv4))
        if not row.ipv6:
            row = replace(row, ipv6=await self._free_address(TUNNEL_IPV6, self.c.ipv6))
        return await super().insert(row)

    async def _free_address(self, pool: IPv4Network | IPv6Network, column: ColumnElement[str]) -> str:
        random = int.from_bytes(self._transaction.random_bytes(8), "big")
        first = random % LAST_TUNNEL_OFFSET
        for step in range(LAST_TUNNEL_OFFSET):
            address: IPv4Address | IPv6Address = (
                pool.network_address + 1 + (first + step) % LAST_TUNNEL_OFFSET
            )
            if await self.count(column == str(address), at_most=1) == 0:
                return str(address)
            # A look at all of them is worth it where many are taken, and for nobody else.
            if step == _TAKEN_IN_A_ROW and await self.count(at_most=LAST_TUNNEL_OFFSET) == LAST_TUNNEL_OFFSET:
                break
        raise AddressesExhausted(f"all addresses of {pool} are in use")
