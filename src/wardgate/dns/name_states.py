"""State of each (gateway, name, resource): does the gateway know where our proxy addresses lead? (data-plane §4.8)

```
            first update                 Active
   none ────────────────► PENDING_HOLD ─────────► CONFIRMED ──query──► PENDING_PASS
                               ▲   │ Inactive               or grant      │ Active: CONFIRMED
                query or grant │   ▼                                      │ Inactive
                               FAILED ◄───────────────────────────────────┘
```

In PENDING_HOLD packets to the name wait in the engine; everywhere else they pass (after FAILED the gateway
answers them with ICMP). A fresh grant does what a query does: the gateway may have forgotten the name along
with the grant before. Inactive in answer to a query may mean that the gateway has lost our grant, which is
worth asking the portal; in answer to what a grant announced it is about the name itself, and asking again
would go round for ever without any traffic.

Entering a PENDING state announces the name to the gateway (AssignedIps). The protocol has no timer: a packet
or query at least 2 s later repeats the announcement. Held packets stay in the engine here, so a timer of the
same 2 s stands in for them; it runs only while the tunnel stands and gives up after `MAX_ANNOUNCEMENTS`.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from wardgate.model.ids import GatewayId, ResourceId

ANNOUNCE_INTERVAL_S: Final = 2.0  # data-plane §4.8
MAX_ANNOUNCEMENTS: Final = 5  # ours: an unanswered name costs 10 s, then a new query starts over


@dataclass(frozen=True, slots=True)
class NameKey:
    gateway_id: GatewayId
    name: str
    resource_id: ResourceId


@dataclass(frozen=True, slots=True)
class Hold:
    """Buffer packets to these addresses."""

    key: NameKey
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """Stop buffering; `flush` sends what waited, else it is dropped."""

    key: NameKey
    addresses: tuple[str, ...]
    flush: bool


@dataclass(frozen=True, slots=True)
class Announce:
    """Send AssignedIps for the name to the gateway."""

    key: NameKey
    addresses: tuple[str, ...]


NameAction = Hold | Release | Announce


class NameStates:
    """All names of all gateways. Actions are to be carried out in the order in which they are polled."""

    def __init__(self) -> None:
        self._entries: dict[NameKey, _Entry] = {}
        self._by_name: dict[str, set[NameKey]] = {}
        self._due: list[
            tuple[float, int, NameKey]
        ] = []  # a heap; what no longer matches its entry is passed over
        self._count = 0
        self._established: set[GatewayId] = set()
        self._actions: deque[NameAction] = deque()

    def handle_authorized(self, key: NameKey, addresses: tuple[str, ...], *, now: float) -> None:
        """The gateway was told to serve the resource for us, or a name was added to one that it serves."""
        if key not in self._entries:
            entry = self._entries[key] = _Entry(addresses)
            self._by_name.setdefault(key.name, set()).add(key)
            self._actions.append(Hold(key, addresses))
            self._announce(key, entry, now)
        else:
            self._refresh(key, now, is_asked=False)

    def handle_query(self, name: str, *, now: float) -> None:
        """We answered a query for the name: every gateway that serves it resolves it again."""
        for key in sorted(self._by_name.get(name, ()), key=str):
            self._refresh(key, now, is_asked=True)

    def handle_status(self, key: NameKey, *, is_active: bool) -> bool:
        """The gateway's DomainStatus; one about a name that is not pending says nothing new and is ignored.

        Returns whether it puts the grant in doubt.
        """
        entry = self._entries.get(key)
        if entry is None or not entry.is_pending:
            return False
        if entry.state is State.PENDING_HOLD:
            self._actions.append(Release(key, entry.addresses, flush=is_active))
        entry.state = _NEXT[entry.state, is_active]
        entry.announce_at = None
        return entry.is_asked and not is_active

    def handle_established(self, gateway_id: GatewayId, *, now: float) -> None:
        """The tunnel is established: announcements that waited for it go out now and are repeated from here on."""
        self._established.add(gateway_id)
        for key, entry in self._entries.items():
            if key.gateway_id == gateway_id and entry.is_pending:
                self._arm(key, entry, now + ANNOUNCE_INTERVAL_S)

    def forget_gateway(self, gateway_id: GatewayId) -> None:
        """The connection is gone, and with it everything that the engine held."""
        self._established.discard(gateway_id)
        for key in [key for key in self._entries if key.gateway_id == gateway_id]:
            self._pop(key)

    def forget_name(self, name: str) -> None:
        """The name has no addresses any more: what is held for it is dropped."""
        for key in sorted(self._by_name.get(name, ()), key=str):
            self._drop(key)

    def forget_resource(self, resource_id: ResourceId, *, except_at: GatewayId | None = None) -> None:
        """The resource is gone, or served by another gateway now: what is held for it elsewhere is dropped."""
        for key in list(self._entries):
            if key.resource_id == resource_id and key.gateway_id != except_at:
                self._drop(key)

    def handle_timeout(self, *, now: float) -> None:
        while (due_at := self.poll_timeout()) is not None and now >= due_at:
            _, _, key = heapq.heappop(self._due)
            entry = self._entries[key]
            if entry.announcements < MAX_ANNOUNCEMENTS:
                self._announce(key, entry, now)
            else:
                entry.announce_at = None

    def poll_timeout(self) -> float | None:
        while self._due:
            due_at, _, key = self._due[0]
            entry = self._entries.get(key)
            if entry is not None and entry.announce_at == due_at:
                return due_at
            heapq.heappop(self._due)
        return None

    def poll_action(self) -> NameAction | None:
        return self._actions.popleft() if self._actions else None

    def state(self, key: NameKey) -> "State | None":
        entry = self._entries.get(key)
        return None if entry is None else entry.state

    def __iter__(self) -> Iterator[NameKey]:
        return iter(self._entries)

    def _refresh(self, key: NameKey, now: float, *, is_asked: bool) -> None:
        entry = self._entries[key]
        match entry.state:
            case State.CONFIRMED:
                entry = _Entry(entry.addresses, State.PENDING_PASS, is_asked=is_asked)
            case State.FAILED:
                entry = _Entry(entry.addresses, State.PENDING_HOLD, is_asked=is_asked)
                self._actions.append(Hold(key, entry.addresses))
            case State.PENDING_HOLD | State.PENDING_PASS:
                if now - entry.announced_at < ANNOUNCE_INTERVAL_S:
                    return
                entry.announcements, entry.is_asked = 0, is_asked
        self._entries[key] = entry
        self._announce(key, entry, now)

    def _announce(self, key: NameKey, entry: "_Entry", now: float) -> None:
        self._actions.append(Announce(key, entry.addresses))
        entry.announced_at = now
        entry.announcements += 1
        entry.announce_at = None
        if key.gateway_id in self._established:
            self._arm(key, entry, now + ANNOUNCE_INTERVAL_S)

    def _arm(self, key: NameKey, entry: "_Entry", due_at: float) -> None:
        entry.announce_at = due_at
        self._count += 1
        heapq.heappush(self._due, (due_at, self._count, key))

    def _drop(self, key: NameKey) -> None:
        entry = self._pop(key)
        if entry.state is State.PENDING_HOLD:
            self._actions.append(Release(key, entry.addresses, flush=False))

    def _pop(self, key: NameKey) -> "_Entry":
        namesakes = self._by_name[key.name]
        namesakes.discard(key)
        if not namesakes:
            del self._by_name[key.name]
        return self._entries.pop(key)


class State(Enum):
    PENDING_HOLD = auto()
    PENDING_PASS = auto()
    CONFIRMED = auto()
    FAILED = auto()


# (state, the gateway said Active) → state
_NEXT: Final = {
    (State.PENDING_HOLD, True): State.CONFIRMED,
    (State.PENDING_HOLD, False): State.FAILED,
    (State.PENDING_PASS, True): State.CONFIRMED,
    (State.PENDING_PASS, False): State.FAILED,
}


@dataclass(slots=True)
class _Entry:
    addresses: tuple[str, ...]
    state: State = field(default=State.PENDING_HOLD)
    is_asked: bool = False  # a program's query caused the last announcement, not a grant
    announced_at: float = 0.0
    announcements: int = 0
    announce_at: float | None = None

    @property
    def is_pending(self) -> bool:
        return self.state in {State.PENDING_HOLD, State.PENDING_PASS}
