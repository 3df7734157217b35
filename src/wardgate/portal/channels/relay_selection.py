"""Which relays a peer was given, and when it gets others (protocol §3.6.5).

A change of presence starts a debounce. After it, the peer gets a new selection only if one of its relays has
gone, or if it has fewer than two and more are online. A peer that says that it has none gets a new selection at once,
but no more than three in three seconds: relays that refuse its credentials, which have ended or which a relay's clock
takes for ended, would be asked again as fast as the network allows, and the portal with them.
"""

import random
from collections import deque
from typing import Final

from wardgate.model.ids import RelayId
from wardgate.policy.selection import RELAYS_PER_PEER, OnlineRelay, Position, select_relays
from wardgate.portal.bus import Bus, RelayPresence
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import derive_turn_credentials
from wardgate.wire.relay_entries import socket_address

DEBOUNCE_S: Final = 1.0
MAX_DEBOUNCE_S: Final = 5.0  # ours
REQUESTS: Final = 3  # ours, answered at once within `REQUESTS_S`
REQUESTS_S: Final = 3.0  # ours


class RelaySelection:
    """One peer's relays. `now` is monotonic seconds; credentials end at `expires_at_unix`."""

    def __init__(
        self,
        bus: Bus,
        rng: random.Random,
        *,
        public_key: str,
        expires_at_unix: int,
        position: Position | None,
    ) -> None:
        self._bus = bus
        self._rng = rng
        self._public_key = public_key
        self._expires_at_unix = expires_at_unix
        self._position = position
        self._given: tuple[RelayId, ...] = ()
        self._due_at: float | None = None
        self._latest_at: float | None = None
        self._requested_at = deque[float](maxlen=REQUESTS)
        self._owed_at: float | None = None

    def choose(self) -> tuple[wire.Relay, ...]:
        """Make a fresh selection, remember it, and return its entries for a message."""
        online = self._online()
        chosen = select_relays(
            (OnlineRelay(id_, relay.position) for id_, relay in online.items()),
            position=self._position,
            rng=self._rng,
        )
        self._given = tuple(relay.id for relay in chosen)
        return tuple(entry for id_ in self._given for entry in self._entries(online[id_]))

    def handle_presence_change(self, *, now: float) -> None:
        """Look again after a second without changes, or after five in any case: a relay may come and go
        without end.
        """
        if self._latest_at is None:
            self._latest_at = now + MAX_DEBOUNCE_S
        self._due_at = min(now + DEBOUNCE_S, self._latest_at)

    def handle_no_relays(self, *, now: float) -> wire.RelaysPresence | None:
        """Return the message for a peer that has none; None: it follows, from `handle_timeout`."""
        if len(self._requested_at) == REQUESTS and now < self._requested_at[0] + REQUESTS_S:
            self._owed_at = self._requested_at[0] + REQUESTS_S
            return None
        self._requested_at.append(now)
        self._owed_at = None
        return wire.RelaysPresence(disconnected_ids=(), connected=self.choose())

    def poll_timeout(self) -> float | None:
        return min((at for at in (self._due_at, self._owed_at) if at is not None), default=None)

    def handle_timeout(self, *, now: float) -> wire.RelaysPresence | None:
        """Return the message for the peer, if the debounce is over and its relays change."""
        if self._owed_at is not None and now >= self._owed_at:
            return self.handle_no_relays(now=now)
        if self._due_at is None or now < self._due_at:
            return None
        self._due_at = self._latest_at = None
        online = self._online()
        gone = tuple(id_ for id_ in self._given if id_ not in online)
        if not gone and (len(self._given) >= RELAYS_PER_PEER or len(online) <= len(self._given)):
            return None
        return wire.RelaysPresence(disconnected_ids=gone, connected=self.choose())

    def _online(self) -> dict[RelayId, RelayPresence]:
        return {relay.relay_id: relay for relay in self._bus.members("relay", None)}

    def _entries(self, relay: RelayPresence) -> list[wire.TurnRelay]:
        credentials = derive_turn_credentials(relay.stamp_secret, self._public_key, self._expires_at_unix)
        return [
            wire.TurnRelay(
                id=relay.relay_id,
                addr=socket_address(address, relay.port),
                username=credentials.username,
                password=credentials.password,
                expires_at=credentials.expires_at_unix,
            )
            for address in (relay.ipv4, relay.ipv6)
            if address is not None
        ]
