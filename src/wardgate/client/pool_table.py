"""The device pools that the portal lists for a client, and the devices that they lead to (data-plane §4.1, §4.10).

A static pool is listed with its members. A dynamic one is a pattern: it leads to the devices whose names programs
have asked for and the portal has resolved, until the pool goes, changes its pattern, or the portal says that a device
left it.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Final, NamedTuple

from wardgate.connect import log_fields as fields
from wardgate.connect.filters import engine_filters
from wardgate.connect.log_names import resource_fields
from wardgate.datapath.commands import Route
from wardgate.model.addresses import TUNNEL_IPV4, TUNNEL_IPV6, IpAddress
from wardgate.model.ids import ResourceId
from wardgate.model.name_pattern import NamePattern
from wardgate.wire import messages as m

DevicePool = m.ClientStaticDevicePool | m.ClientDynamicDevicePool

MAX_NAMES: Final = 1024  # ours, resolved names of one dynamic pool; the oldest makes room

log = logging.getLogger(__name__)


class DeviceTarget(NamedTuple):
    """What access is asked for: one device of a pool, by one of its tunnel addresses."""

    pool_id: ResourceId
    address: IpAddress


class PoolMembers(NamedTuple):
    """A pool, and devices that it leads to."""

    pool: DevicePool
    targets: tuple[DeviceTarget, ...]


class DeviceAddresses(NamedTuple):
    ipv4: IpAddress
    ipv6: IpAddress


class PoolTable:
    """Pools by id; those that cannot be read are left out, and so are members without tunnel addresses."""

    def __init__(self) -> None:
        self._entries: dict[ResourceId, _Entry] = {}

    def __contains__(self, pool_id: ResourceId) -> bool:
        return pool_id in self._entries

    def log_fields(self, pool_id: ResourceId) -> dict[str, str]:
        """Return the pool's id, and its name if it is listed."""
        entry = self._entries.get(pool_id)
        return {fields.RESOURCE_ID: str(pool_id)} if entry is None else resource_fields(entry.pool)

    def replace(self, pools: Iterable[DevicePool]) -> tuple[DeviceTarget, ...]:
        """Replace the whole list; return what it does not lead to any more."""
        listed = {pool.id: pool for pool in pools}
        ended = [
            one for pool_id in list(self._entries) if pool_id not in listed for one in self.remove(pool_id)
        ]
        return (*ended, *(one for pool in listed.values() for one in self.upsert(pool)))

    def upsert(self, pool: DevicePool) -> tuple[DeviceTarget, ...]:
        """Add or update one; return what it does not lead to any more. New filters hold at once and end nothing."""
        former = self._entries.get(pool.id)
        entry = _entry(pool, former)
        if entry is None:
            return self.remove(pool.id)
        self._entries[pool.id] = entry
        return () if former is None else _without(former.targets, entry.targets)

    def remove(self, pool_id: ResourceId) -> tuple[DeviceTarget, ...]:
        """Remove one; return what it led to."""
        entry = self._entries.pop(pool_id, None)
        return () if entry is None else entry.targets

    def routes(self) -> tuple[Route, ...]:
        """The routes to all devices."""
        return tuple(
            Route(_prefix(address), str(entry.pool.id), "device", engine_filters(entry.pool.filters))
            for entry in self._entries.values()
            for _, address in entry.targets
        )

    def pools(self) -> tuple[PoolMembers, ...]:
        """Return every pool with what it leads to, by name and id."""
        listed = (PoolMembers(entry.pool, entry.targets) for entry in self._entries.values())
        return tuple(sorted(listed, key=lambda one: (one.pool.name, one.pool.id.int)))

    def leading_to(self, target: IpAddress | str) -> tuple[PoolMembers, ...]:
        """Return the pools that an address or a name (lower case, no trailing dot) belongs to, by id.

        With each come the addresses of that one device; none if its name is not resolved yet.
        """
        if isinstance(target, str):
            pool_id = self.pool_of_name(target)
            if pool_id is None:
                return ()
            known = self.resolved(pool_id, target)
            targets = () if known is None else tuple(DeviceTarget(pool_id, one) for one in known)
            return (PoolMembers(self._entries[pool_id].pool, targets),)
        found = (
            PoolMembers(entry.pool, (DeviceTarget(entry.pool.id, target),))
            for entry in self._entries.values()
            if any(one.address == target for one in entry.targets)
        )
        return tuple(sorted(found, key=lambda one: one.pool.id.int))

    def patterns(self) -> tuple[NamePattern, ...]:
        """The names of dynamic pools."""
        return tuple(entry.pattern for entry in self._entries.values() if entry.pattern is not None)

    def pool_of_name(self, name: str) -> ResourceId | None:
        """Return the dynamic pool that a name (lower case, no trailing dot) belongs to: the first one, by id."""
        matching = (
            pool_id
            for pool_id, entry in self._entries.items()
            if entry.pattern is not None and entry.pattern.covers(name)
        )
        return min(matching, default=None, key=lambda pool_id: pool_id.int)

    def resolved(self, pool_id: ResourceId, name: str) -> DeviceAddresses | None:
        """Return the addresses of a name, if the portal has resolved it."""
        entry = self._entries.get(pool_id)
        return None if entry is None else entry.names.get(name)

    def handle_resolved(
        self, pool_id: ResourceId, name: str, addresses: DeviceAddresses
    ) -> tuple[DeviceTarget, ...] | None:
        """Lead to the device of this name; return what the pool does not lead to any more.

        Returns None if there is no such pool, the name does not belong to it or the addresses are no tunnel addresses.
        """
        entry = self._entries.get(pool_id)
        if (
            entry is None
            or entry.pattern is None
            or not entry.pattern.covers(name)
            or not _are_of_tunnels(addresses)
        ):
            return None
        before = entry.targets
        entry.names.pop(name, None)
        entry.names[name] = addresses
        while len(entry.names) > MAX_NAMES:
            del entry.names[next(iter(entry.names))]
        return _without(before, entry.targets)

    def forget_names_of(self, addresses: Iterable[IpAddress]) -> bool:
        """Forget which names led to these addresses: the portal is to be asked again. Return whether there were any."""
        gone, found = set(addresses), False
        for entry in self._entries.values():
            names = [name for name, known in entry.names.items() if gone & set(known)]
            for name in names:
                del entry.names[name]
            found |= bool(names)
        return found


@dataclass(slots=True)
class _Entry:
    """One pool: `members` of a static one, `pattern` and the resolved `names` of a dynamic one."""

    pool: DevicePool
    members: tuple[DeviceAddresses, ...] = ()
    pattern: NamePattern | None = None
    names: dict[str, DeviceAddresses] = field(default_factory=dict)

    @property
    def targets(self) -> tuple[DeviceTarget, ...]:
        """What the pool leads to, each once."""
        devices = (*self.members, *self.names.values())
        return tuple(dict.fromkeys(DeviceTarget(self.pool.id, one) for device in devices for one in device))


def _entry(pool: DevicePool, former: _Entry | None) -> _Entry | None:
    if isinstance(pool, m.ClientStaticDevicePool):
        members = (_addresses(pool, device) for device in pool.devices)
        return _Entry(pool, members=tuple(one for one in members if one is not None))
    try:
        pattern = NamePattern.parse(pool.address)
    except ValueError as error:
        log.warning(
            "a pool's pattern cannot be read", extra={**resource_fields(pool), fields.REASON: str(error)}
        )
        return None
    names = former.names if former is not None and former.pattern == pattern else {}
    return _Entry(pool, pattern=pattern, names=names)


def _addresses(pool: m.ClientStaticDevicePool, device: m.PoolDevice) -> DeviceAddresses | None:
    """Read a member's addresses: networks of one address each (control-plane §5.1)."""
    try:
        addresses = DeviceAddresses(ip_interface(device.ipv4).ip, ip_interface(device.ipv6).ip)
    except ValueError:
        addresses = None
    if addresses is None or not _are_of_tunnels(addresses):
        log.warning("a pool's member has no tunnel addresses", extra=resource_fields(pool))
        return None
    return addresses


def _without(before: tuple[DeviceTarget, ...], after: tuple[DeviceTarget, ...]) -> tuple[DeviceTarget, ...]:
    left = set(after)
    return tuple(one for one in before if one not in left)


def _are_of_tunnels(addresses: DeviceAddresses) -> bool:
    return addresses.ipv4 in TUNNEL_IPV4 and addresses.ipv6 in TUNNEL_IPV6


def _prefix(address: IpAddress) -> str:
    return f"{address}/{address.max_prefixlen}"
