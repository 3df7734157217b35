"""Which gateway serves a grant and which relays a peer is given (portal-domain §6). Chance is an argument."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from wardgate.model.ids import GatewayId, RelayId
from wardgate.model.randomness import Rng
from wardgate.model.resources import Resource, is_expressible
from wardgate.model.versions import Version, is_compatible

EARTH_RADIUS_KM: Final = 6371.0
RELAYS_PER_PEER: Final = 2


@dataclass(frozen=True, slots=True)
class Position:
    """Degrees."""

    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class OnlineGateway:
    """A gateway that is online in its site. `version` is None if it announced none, or an unreadable one."""

    id: GatewayId
    version: Version | None = None
    position: Position | None = None
    is_draining: bool = False


@dataclass(frozen=True, slots=True)
class OnlineRelay:
    id: RelayId
    position: Position | None = None


class WhyChosen(Enum):
    """What narrowed the choice; the value is for people."""

    ALREADY_CONNECTED = "the client has a tunnel to it already"
    NEAREST = "it is the nearest to the client, and of the newest version there"
    NEWEST = "it is of the newest version: no gateway's position is known"
    ONLY = "no other that fits is online"
    RANDOM = "by chance: the client's position is not known"


@dataclass(frozen=True, slots=True)
class Chosen:
    gateway: OnlineGateway
    why: WhyChosen


class NoGateway(Enum):
    """Why no gateway could be chosen; the value is for explanations."""

    OFFLINE = "offline"
    DRAINING = "draining"
    VERSION_MISMATCH = "version_mismatch"

    @property
    def reason(self) -> str:
        """The reason on the wire: clients know two."""
        return NoGateway.OFFLINE.value if self is NoGateway.DRAINING else self.value


def select_gateway(
    online: Sequence[OnlineGateway],
    *,
    resource: Resource,
    client_version: Version | None,
    client_announced_version: bool,
    client_position: Position | None,
    connected: Collection[GatewayId],
    rng: Rng,
) -> Chosen | NoGateway:
    """Choose among the online gateways of the resource's site.

    Args:
        online: in any order; the result depends on the set and on `rng` alone.
        client_version: None with `client_announced_version` means it cannot be parsed: no gateway is compatible.
        connected: gateways that the client has a tunnel to; sharing one beats everything, distance included, but not
            that it drains.
    """
    if not online:
        return NoGateway.OFFLINE
    if client_version is None and client_announced_version:
        return NoGateway.VERSION_MISMATCH
    usable = [
        gateway
        for gateway in sorted(online, key=lambda gateway: gateway.id.int)
        if is_compatible(client_version, gateway.version) and is_expressible(resource, gateway.version)
    ]
    if not usable:
        return NoGateway.VERSION_MISMATCH
    usable = [gateway for gateway in usable if not gateway.is_draining]
    if not usable:
        return NoGateway.DRAINING
    shared = [gateway for gateway in usable if gateway.id in connected]
    best = _nearest_and_newest(shared or usable, client_position)
    return Chosen(pick(best, rng), _why(bool(shared), len(usable), client_position, best[0].position))


def _nearest_and_newest(
    pool: Sequence[OnlineGateway], client_position: Position | None
) -> Sequence[OnlineGateway]:
    if client_position is None:
        return pool
    place = min(
        (gateway.position for gateway in pool), key=lambda place: _distance_key(client_position, place)
    )
    near = [gateway for gateway in pool if gateway.position == place]
    newest = max(_version_key(gateway.version) for gateway in near)
    return [gateway for gateway in near if _version_key(gateway.version) == newest]


def _why(is_shared: bool, usable: int, client_position: Position | None, place: Position | None) -> WhyChosen:
    if is_shared:
        return WhyChosen.ALREADY_CONNECTED
    if usable == 1:
        return WhyChosen.ONLY
    if client_position is None:
        return WhyChosen.RANDOM
    return WhyChosen.NEWEST if place is None else WhyChosen.NEAREST


def select_relays(
    online: Iterable[OnlineRelay], *, position: Position | None, rng: Rng
) -> tuple[OnlineRelay, ...]:
    """Choose up to two relays for a peer: the nearest, those without position last; equally far ones by chance.

    To a peer without position all are equally far.
    """
    left = sorted(online, key=lambda relay: relay.id)
    drawn: list[OnlineRelay] = []
    while left:
        drawn.append(left.pop(_draw(len(left), rng)))
    if position is not None:
        drawn.sort(key=lambda relay: _distance_key(position, relay.position))
    return tuple(drawn[:RELAYS_PER_PEER])


def distance_km(one: Position, other: Position) -> float:
    """Great-circle distance (haversine)."""
    lat1, lat2 = math.radians(one.lat), math.radians(other.lat)
    lon = math.radians(other.lon - one.lon)
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin(lon / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(h, 1.0)))


_T = TypeVar("_T")


def pick(pool: Sequence[_T], rng: Rng) -> _T:
    """Draw one element uniformly."""
    return pool[_draw(len(pool), rng)]


def _draw(below: int, rng: Rng) -> int:
    return min(int(rng.random() * below), below - 1)


def _distance_key(client: Position, place: Position | None) -> tuple[bool, float]:
    return (True, 0.0) if place is None else (False, distance_km(client, place))


def _version_key(version: Version | None) -> tuple[bool, Version]:
    return (False, Version(0, 0)) if version is None else (True, version)
