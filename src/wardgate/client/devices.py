"""Client to client: what we ask of devices in pools, and what others are granted to this one (data-plane §4.10).

```
 intent ──request──► portal ──DeviceAccessAuthorized──► peer, Authorize          we reach a device
                     portal ──…, with the pool────────► peer, Grant until then   a device reaches us
```

One connection serves both directions, so two grants may want two different ones: the portal derives their secrets by
direction (control-plane §4.1). Both ends then keep the one whose controlling end has the lower tunnel address.

The engine enforces grants, by packet and by deadline. Here stands which they are, and what became of them.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, TypeVar
from uuid import UUID

from msgspec import UnsetType
from msgspec.structs import asdict

from wardgate.client.pool_table import DevicePool, DeviceTarget, PoolTable
from wardgate.connect import log_fields as fields
from wardgate.connect.authorization_requests import OpenRequests
from wardgate.connect.connections import Connections, PeerEvent, Signalling
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.filters import engine_filters, filter_text, permits
from wardgate.connect.flow_logging import FlowLogging
from wardgate.connect.tolerated_commands import try_apply
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.programmable import Programmable
from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.model.ids import ClientId, DeviceId, ResourceId
from wardgate.peer.status import GrantView, ResourceView, Why
from wardgate.wire import messages as m

SIGNALLING: Final[Signalling[DeviceId]] = Signalling(
    added=lambda peer, candidates: m.NewPeerIceCandidates(ClientId(peer), candidates),
    removed=lambda peer, candidates: m.InvalidateNewPeerIceCandidates(ClientId(peer), candidates),
    id_field=fields.CLIENT_ID,
)

MAX_RESUMED: Final = 64  # ours: targets asked for again after a network change

_Given = TypeVar("_Given")

log = logging.getLogger(__name__)


class Devices:
    """Other clients that we reach, or that reach us."""

    def __init__(
        self,
        engine: Programmable,
        connections: Connections[DeviceId],
        pools: PoolTable,
        flows: FlowLogging,
        *,
        clock: ClockOffset,
        send: Callable[[m.Message], None],
    ) -> None:
        """Start without any; `send` queues a message to the portal, through which `connections` signals too."""
        self._engine: Final = engine
        self._connections: Final = connections
        self._pools: Final = pools
        self._flows: Final = flows
        self._clock = clock
        self._send: Final = send
        self._own_ipv4: IPv4Address | None = None
        self._requests: OpenRequests[DeviceTarget] = OpenRequests()
        self._devices: dict[ClientId, _Device] = {}
        self._refusals: dict[DeviceTarget, str] = {}
        self._resumed: tuple[DeviceTarget, ...] = ()

    def __contains__(self, device_id: DeviceId) -> bool:
        return device_id in self._devices

    def held(self) -> frozenset[tuple[ClientId, ResourceId]]:
        """The pairs of client and pool by which others may reach this device."""
        return frozenset((one, pool_id) for one, device in self._devices.items() for pool_id in device.grants)

    def set_interface(self, interface: m.ClientInterface) -> None:
        self._own_ipv4 = interface.ipv4

    # ── as initiator ────────────────────────────────────────────────────────────────────────────────────────

    def request(self, target: DeviceTarget, *, now: float, is_renewal: bool = False) -> None:
        """Ask for access if that is due. `is_renewal`: the device refuses what we believe to be granted."""
        is_due = self._requests.is_renewal_due if is_renewal else self._requests.is_due
        if self._connections.is_joined and target.pool_id in self._pools and is_due(target, now=now):
            self._requests.handle_asked(target, now=now, is_renewal=is_renewal)
            address = str(target.address)
            if target.address.version == 4:
                self._send(m.RequestAuthorization(target.pool_id, ipv4=address))
            else:
                self._send(m.RequestAuthorization(target.pool_id, ipv6=address))

    def resume(self, *, now: float) -> None:
        """Ask for what was in use when the network changed, as far as pools still lead there."""
        resumed, self._resumed = self._resumed, ()
        for target in resumed:
            if any(one.pool.id == target.pool_id for one in self._pools.leading_to(target.address)):
                self.request(target, now=now)

    def end(self, targets: Iterable[DeviceTarget]) -> None:
        """Pools do not lead there any more."""
        for target in targets:
            self._requests.forget(target)
            self._refusals.pop(target, None)
            self._deauthorize(target)

    def _deauthorize(self, target: DeviceTarget) -> None:
        self._apply(c.Deauthorize(str(target.pool_id), str(target.address)))
        for device in self._devices.values():
            device.targets.discard(target)

    # ── for people ──────────────────────────────────────────────────────────────────────────────────────────

    def why(self, target: IpAddress | str, *, protocol: str, port: int | None) -> Why | None:
        """Tell what becomes of a connection to a device, as far as it is known; None: no pool leads there."""
        found = self._pools.leading_to(target)
        if not found:
            return None
        open_to_it = [one for one in found if permits(engine_filters(one.pool.filters), protocol, port)]
        chosen = (open_to_it or list(found))[0]
        device_id = self._reached(chosen.targets)
        refusal = next((self._refusals[one] for one in chosen.targets if one in self._refusals), None)
        connections = {one.peer_id: one for one in self._connections.shown()}
        return Why(
            outcome="authorized" if device_id else "refused" if refusal else "no answer",
            resource=self._shown(chosen.pool, chosen.targets),
            others=tuple(one.pool.name for one in found if one is not chosen),
            is_filtered=not open_to_it,
            filters=tuple(map(filter_text, engine_filters(chosen.pool.filters))),
            reason=None if device_id else refusal,
            connection=None if device_id is None else connections.get(str(device_id)),
            is_portal_connected=self._connections.is_joined,
        )

    def ask_again(self, pool_id: ResourceId, target: IpAddress | str, *, now: float) -> None:
        """Ask the portal for a device as a packet would; what it refused before is forgotten."""
        for pool, targets in self._pools.leading_to(target):
            if pool.id == pool_id and targets:
                if self._reached(targets) is None and self._requests.is_due(targets[0], now=now):
                    self._refusals.pop(targets[0], None)
                self.request(targets[0], now=now)

    def shown_pools(self) -> tuple[ResourceView, ...]:
        return tuple(self._shown(pool, targets) for pool, targets in self._pools.pools())

    def shown_grants(self) -> tuple[GrantView, ...]:
        """Tell which devices may reach this one."""
        names = {one.peer_id: one.names.get(fields.DEVICE) for one in self._connections.shown()}
        return tuple(
            GrantView(
                client_id=str(client_id),
                actor=names.get(str(client_id)),
                resource=self._pools.log_fields(pool_id).get(fields.RESOURCE, str(pool_id)),
                address="this device",
                expires_at=expires_at,
            )
            for client_id, device in self._devices.items()
            for pool_id, expires_at in device.grants.items()
        )

    def _shown(self, pool: DevicePool, targets: tuple[DeviceTarget, ...]) -> ResourceView:
        """Return a pool with those of its devices that are looked at."""
        device_id = self._reached(targets)
        is_online = device_id is not None and self._devices[device_id].is_established
        return ResourceView(
            id=str(pool.id),
            name=pool.name,
            kind="device pool",
            address=pool.address if isinstance(pool, m.ClientDynamicDevicePool) else "",
            sites=(),
            state="online" if is_online else "unknown",
            gateway_id=None if device_id is None else str(device_id),
            refusal=next((self._refusals[one] for one in targets if one in self._refusals), None),
        )

    def _reached(self, targets: Iterable[DeviceTarget]) -> ClientId | None:
        """Return a device that we are authorised for by one of these targets."""
        wanted = set(targets)
        return next((one for one, device in self._devices.items() if device.targets & wanted), None)

    def _reached_at(self, peers: Collection[str]) -> Iterator[DeviceTarget]:
        """Yield one target for each pool by which we reach one of these devices: a grant covers both its addresses."""
        for client_id, device in self._devices.items():
            if str(client_id) in peers:
                by_pool = {one.pool_id: one for one in sorted(device.targets, key=_ipv4_last)}
                yield from (by_pool[pool_id] for pool_id in sorted(by_pool, key=str))

    # ── the portal ──────────────────────────────────────────────────────────────────────────────────────────

    def handle_authorized(self, message: m.DeviceAccessAuthorized) -> None:
        """Carry out a grant: with a pool in it, it is one to the other device, else one that we have asked for."""
        if isinstance(message.resource, UnsetType):
            self._reach(message)
        elif isinstance(message.resource, DevicePool):
            self._grant_access(message, message.resource)

    def _reach(self, message: m.DeviceAccessAuthorized) -> None:
        addresses = (message.client_ipv4, message.client_ipv6)
        asked = [target for target in self._requests if target.address in addresses]
        who = {fields.CLIENT_ID: str(message.client_id), fields.DEVICE: message.client_name}
        if not asked:
            log.debug("grant ignored: no request is open", extra=who)
            return
        former = self._devices.get(message.client_id)
        device = self._connect(message)
        record_under = self._flows.handle_token(message.flow_logs_ingest_token)
        for target in asked:
            self._requests.close(target)
            self._refusals.pop(target, None)
            if device is None:
                continue
            # Granted is the device, whichever of its addresses was asked for.
            for address in addresses:
                authorize = c.Authorize(
                    str(target.pool_id), str(message.client_id), (), str(address), record_under
                )
                if self._apply(authorize):
                    device.targets.add(DeviceTarget(target.pool_id, address))
            log.info("access granted", extra={**self._pools.log_fields(target.pool_id), **who})
        self._leave(message.client_id, former, device)

    def _grant_access(self, message: m.DeviceAccessAuthorized, pool: DevicePool) -> None:
        who = {fields.CLIENT_ID: str(message.client_id), fields.DEVICE: message.client_name}
        what = {**who, fields.RESOURCE_ID: str(pool.id), fields.RESOURCE: pool.name}
        expires_at = _given(message.expires_at, message.authorization_expires_at)
        if expires_at is None:
            log.warning("a device's access was refused: it has no end", extra=what)
            return
        former = self._devices.get(message.client_id)
        device = self._connect(message)
        if device is None:
            log.warning("a device could not be let in", extra=what)
            return
        grant = c.Grant(
            peer_id=str(message.client_id),
            resource_id=str(pool.id),
            kind="device",
            networks=(),
            filters=engine_filters(pool.filters),
            expires_deadline_s=self._clock.deadline_s(expires_at),
            record_under=self._flows.handle_token(message.flow_logs_ingest_token),
        )
        if self._apply(grant):
            device.grants[pool.id] = expires_at
            log.info("a device was let in", extra=what)
        self._leave(message.client_id, former, device)

    def handle_denied(self, message: m.DeviceAccessDenied) -> None:
        """Drop the request that this answers. With both addresses it is no answer: the device has left our pools."""
        addresses = denied_addresses(message)
        log.info("access to a device refused", extra={fields.REASON: message.reason})
        asked = [target for target in self._requests if target.address in addresses]
        for target in asked:
            self._requests.refuse(target)
            self._refusals[target] = message.reason
        gone = [
            target
            for device in self._devices.values()
            for target in sorted(device.targets, key=str)
            if target.address in addresses and (len(addresses) > 1 or target in asked)
        ]
        for target in dict.fromkeys((*asked, *gone)):
            self._deauthorize(target)

    def handle_rejected(self, client_id: ClientId, pool_id: ResourceId) -> None:
        """A device may not reach us through a pool any more."""
        self._apply(c.Revoke(str(client_id), str(pool_id)))
        self._end_grant("a device's access was revoked", client_id, pool_id)

    def handle_filters(self, pool_id: ResourceId, filters: Iterable[m.Filter]) -> None:
        """What devices may do here through a pool has changed."""
        self._apply(c.UpdateFilters(str(pool_id), engine_filters(filters)))

    def handle_offline(self, client_id: ClientId) -> None:
        """The portal does not reach a device: a tunnel that stands outlives that, or ends by itself."""
        device = self._devices.get(client_id)
        if device is None:
            return
        for target in [one for one in self._requests if one.address in device.addresses]:
            self._requests.refuse(target)
            self._deauthorize(target)
        if not device.is_established:
            self._apply(c.RemovePeer(str(client_id)))

    def handle_authorizations(self, authorizations: Iterable[m.Authorization]) -> None:
        """Keep only the grants to others that the portal lists, each until the listed time (`init`)."""
        listed = {(one.client_id, one.resource_id): one.expires_at for one in authorizations}
        for client_id, pool_id in self.held():
            if (client_id, pool_id) in listed:
                expires_at = listed[client_id, pool_id]
                if expires_at is not None:  # a grant without an end is none (`_grant_access`)
                    self._devices[client_id].grants[pool_id] = expires_at
            else:
                self._end_grant("a device's access was revoked while the portal was away", client_id, pool_id)
        self._retain()

    def handle_portal_lost(self) -> None:
        """Tunnels and grants stay; open requests will not be answered."""
        self._requests.close_all()

    # ── the engine and the process ──────────────────────────────────────────────────────────────────────────

    def handle_event(self, client_id: ClientId, event: PeerEvent | e.GrantExpired) -> None:
        """Take note of what became of a device's connection and grants."""
        if isinstance(event, e.GrantExpired):
            self._end_grant("a device's access has expired", client_id, _resource_id(event.resource_id))
            return
        self._connections.handle_peer_event(client_id, event)
        match event:
            case e.HandshakeDone() if client_id in self._devices:
                self._devices[client_id].is_established = True
            case e.PeerFailed() | e.PeerClosed():
                self._devices.pop(client_id, None)
                self._connections.forget(client_id)

    def handle_clock_step(self, clock: ClockOffset) -> None:
        """The wall clock was set: every expiry is now at a different time of the engine's clock."""
        self._clock = clock
        self._retain()

    def handle_reset(self, *, in_use: Collection[str]) -> None:
        """The network changed: every connection is gone, and in the engine everything that belonged to it.

        What `in_use`, peers with whom packets were exchanged lately, are reached by is asked for again by `resume`.
        """
        self._resumed = tuple(self._reached_at(in_use))[:MAX_RESUMED] or self._resumed
        self._devices.clear()
        self._refusals.clear()
        self._requests.close_all()

    # ── what is common to both directions ───────────────────────────────────────────────────────────────────

    def _connect(self, message: m.DeviceAccessAuthorized) -> "_Device | None":
        """Have the engine connect to a device, or keep its connection; return None if it cannot."""
        peer = c.UpsertPeer(
            id=str(message.client_id),
            public_key=message.client_public_key,
            preshared_key=message.preshared_key,
            local_ice=c.IceCredentials(**asdict(message.local_ice_credentials)),
            remote_ice=c.IceCredentials(**asdict(message.remote_ice_credentials)),
            role=message.ice_role,
            profile="client",
            ipv4=str(message.client_ipv4),
            ipv6=str(message.client_ipv6),
        )
        known = self._devices.get(message.client_id)
        if known is not None and self._is_preferred(known.peer, peer):
            peer = known.peer
        if not self._apply(peer):
            return None
        self._connections.open(message.client_id, {fields.DEVICE: message.client_name}, SIGNALLING)
        if known is None or known.peer.public_key != peer.public_key:
            known = self._devices[message.client_id] = _Device(peer)
        elif known.peer != peer:
            known.peer, known.is_established = peer, False
        return known

    def _leave(self, client_id: ClientId, former: "_Device | None", device: "_Device | None") -> None:
        """Leave nothing to a process of the device that has ended: the one that follows it asks for itself.

        Comes after what the new process was granted, so that the engine does not close its connection.
        """
        if former is None or device is None or former is device:
            return
        for pool_id in former.grants.keys() - device.grants.keys():
            self._apply(c.Revoke(str(client_id), str(pool_id)))
        for target in sorted(former.targets - device.targets, key=str):
            self._deauthorize(target)

    def _is_preferred(self, known: c.UpsertPeer, other: c.UpsertPeer) -> bool:
        """Tell whether of two connections of the same processes, one for each direction, the known one is to stay."""
        if self._own_ipv4 is None or known.public_key != other.public_key or known.role == other.role:
            return False
        is_lower = self._own_ipv4 < IPv4Address(known.ipv4)
        return (known.role == "controlling") is is_lower

    def _retain(self) -> None:
        self._apply(
            c.RetainGrants(
                tuple(
                    c.RetainedGrant(str(client_id), str(pool_id), self._clock.deadline_s(expires_at))
                    for client_id, device in self._devices.items()
                    for pool_id, expires_at in device.grants.items()
                )
            )
        )

    def _end_grant(self, line: str, client_id: ClientId, pool_id: ResourceId) -> None:
        """Remove a grant that the engine no longer enforces, and log it."""
        device = self._devices.get(client_id)
        if device is not None and device.grants.pop(pool_id, None) is not None:
            log.info(line, extra={fields.CLIENT_ID: str(client_id), fields.RESOURCE_ID: str(pool_id)})

    def _apply(self, command: c.AnyCommand) -> bool:
        return try_apply(self._engine, command)


@dataclass(slots=True)
class _Device:
    """A client with a connection.

    Attributes:
        targets: what we are authorised for.
        grants: the pools by which it reaches us, with the end of each in Unix seconds.
    """

    peer: c.UpsertPeer
    targets: set[DeviceTarget] = field(default_factory=set)
    grants: dict[ResourceId, int] = field(default_factory=dict)
    is_established: bool = False

    @property
    def addresses(self) -> tuple[IpAddress, IpAddress]:
        return parse_ip(self.peer.ipv4), parse_ip(self.peer.ipv6)


def _given(*values: _Given | UnsetType) -> _Given | None:
    """Return the first value that is there."""
    return next((value for value in values if not isinstance(value, UnsetType)), None)


def _ipv4_last(target: DeviceTarget) -> int:
    return -target.address.version


def _resource_id(text: str) -> ResourceId:
    return ResourceId(UUID(text))


def denied_addresses(denial: m.DeviceAccessDenied) -> tuple[IpAddress, ...]:
    """Return which addresses a denial is about; what is no address is left out."""
    addresses = list[IpAddress]()
    for text in (denial.ipv4, denial.ipv6):
        with contextlib.suppress(ValueError):
            addresses += [parse_ip(text)] if isinstance(text, str) else []
    return tuple(addresses)
