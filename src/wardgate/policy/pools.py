"""Whom a device pool leads to (portal-domain §3.10, §6.4): the members of a static pool, the host names that
a dynamic one covers.

The engine decides whether a client may use the pool; here it is decided which device an address or a name in it means.
"""

from enum import Enum

from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.model.domain import ClientDevice
from wardgate.model.ids import ClientId, ResourceId
from wardgate.model.resources import DevicePool, DynamicDevicePool
from wardgate.policy.snapshot import Snapshot


class NoTarget(Enum):
    """Why a request names no device of the pool: the value is the wire's reason."""

    AMBIGUOUS_ADDRESS = "ambiguous_address"
    MISSING_ADDRESS = "missing_address"
    INVALID_ADDRESS = "invalid_address"
    FORBIDDEN = "forbidden"


def find_target(
    snapshot: Snapshot, pool: DevicePool, *, ipv4: str | None, ipv6: str | None
) -> ClientDevice | NoTarget:
    """Return the device of the pool that has the requested tunnel address; exactly one must be given."""
    if ipv4 is not None and ipv6 is not None:
        return NoTarget.AMBIGUOUS_ADDRESS
    text = ipv6 if ipv4 is None else ipv4
    if text is None:
        return NoTarget.MISSING_ADDRESS
    try:
        address = parse_ip(text)
    except ValueError:
        return NoTarget.INVALID_ADDRESS
    if address.version != (6 if ipv4 is None else 4):
        return NoTarget.INVALID_ADDRESS
    return _at_address(snapshot, pool, address) or NoTarget.FORBIDDEN


def find_named(snapshot: Snapshot, pool: DevicePool, hostname: str) -> ClientDevice | None:
    """Return the device of a dynamic pool with this host name, regardless of case; static pools know no names."""
    if not isinstance(pool, DynamicDevicePool):
        return None
    device = snapshot.devices_by_hostname.get(hostname.lower())
    return device if device is not None and belongs_to(snapshot, pool, device) else None


def members_of(snapshot: Snapshot, pool_id: ResourceId) -> list[ClientDevice]:
    """Return the members of a static pool, by id."""
    members = snapshot.members_of.get(pool_id.int, ())
    return [snapshot.devices[number] for number in sorted(members) if number in snapshot.devices]


def belongs_to(snapshot: Snapshot, pool: DevicePool, device: ClientDevice) -> bool:
    """Tell whether the pool leads to a device as it is now."""
    if isinstance(pool, DynamicDevicePool):
        return device.hostname is not None and pool.address.covers(device.hostname)
    return device.id.int in snapshot.members_of.get(pool.id.int, ())


def device_of(snapshot: Snapshot, device_id: ClientId) -> ClientDevice | None:
    return snapshot.devices.get(device_id.int)


def _at_address(snapshot: Snapshot, pool: DevicePool, address: IpAddress) -> ClientDevice | None:
    text = str(address)
    if isinstance(pool, DynamicDevicePool):
        device = snapshot.devices_by_address.get(text)
        return device if device is not None and belongs_to(snapshot, pool, device) else None
    return next((one for one in members_of(snapshot, pool.id) if text in (one.ipv4, one.ipv6)), None)
