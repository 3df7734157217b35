"""Look-ups of names to which clients have assigned proxy addresses (data-plane §5.4)."""

from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from wardgate.connect.control_packets import AssignedIps
from wardgate.model.addresses import IpAddress, is_proxy_ip, may_be_translated_to, parse_ip
from wardgate.model.ids import ClientId

MAX_LOOK_UPS: Final = 1000  # at once; further ones are dropped without a reply (data-plane §5.4)
MAX_LOOK_UPS_PER_CLIENT: Final = 100  # ours: of those, so that one client leaves room for nine others
PROXY_IPS_PER_NAME: Final = (4, 8)  # of one family, of both (data-plane §4.8)


@dataclass(frozen=True, slots=True)
class Resolve:
    """Look up A and AAAA of a name within 10 s; answer with `handle_resolved`."""

    lookup_id: int
    name: str


@dataclass(frozen=True, slots=True)
class LookUp:
    """A client's assignment that waits for the name's addresses; `proxies` are its parsed proxy addresses."""

    client_id: ClientId
    assigned: AssignedIps
    proxies: tuple[IpAddress, ...]


class LookUps:
    """Look-ups in progress, bounded per client and in total."""

    def __init__(self) -> None:
        self._open: dict[int, LookUp] = {}
        self._of_client: Counter[ClientId] = Counter()
        self._next_id = 0

    def begin(self, look_up: LookUp) -> Resolve | None:
        """Return what to resolve, or None if too many look-ups are in progress."""
        client_id = look_up.client_id
        if len(self._open) >= MAX_LOOK_UPS or self._of_client[client_id] >= MAX_LOOK_UPS_PER_CLIENT:
            return None
        lookup_id = self._next_id
        self._next_id += 1
        self._open[lookup_id] = look_up
        self._of_client[client_id] += 1
        return Resolve(lookup_id, look_up.assigned.domain)

    def finish(self, lookup_id: int) -> LookUp:
        look_up = self._open.pop(lookup_id)
        self._of_client[look_up.client_id] -= 1
        if not self._of_client[look_up.client_id]:
            del self._of_client[look_up.client_id]
        return look_up


def proxies_of(assigned: AssignedIps) -> tuple[IpAddress, ...] | None:
    """Return None unless a client may assign these addresses to a name; the engine has the same rule."""
    try:
        addresses = tuple(parse_ip(text) for text in assigned.proxy_ips)
    except ValueError:
        return None
    is_complete = len(addresses) in PROXY_IPS_PER_NAME and len(set(addresses)) == len(addresses)
    return addresses if is_complete and all(map(is_proxy_ip, addresses)) else None


def translation(
    proxies: tuple[IpAddress, ...], real: frozenset[IpAddress]
) -> tuple[tuple[str, str | None], ...]:
    """Pair proxy with real addresses of their family, ascending, in turn; None if the family has none."""
    pairs: list[tuple[str, str | None]] = []
    for version in (4, 6):
        ours = sorted((address for address in proxies if address.version == version), key=int)
        theirs = sorted(
            (one for one in real if one.version == version and may_be_translated_to(one)), key=int
        )
        pairs += (
            [(str(one), str(other)) for one, other in zip(ours, cycle(theirs), strict=False)]
            if theirs
            else [(str(one), None) for one in ours]
        )
    return tuple(pairs)
