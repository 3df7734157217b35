"""A client, a gateway and a relay out of the extension module, joined by a network of 10 ms in virtual time."""

import base64
import hashlib
import heapq
from typing import Any, Literal

import msgspec
from wardgate_native import RelayEngine, TunnelEngine, generate_private_key, public_key

from wardgate.datapath.commands import (
    AddRemoteCandidates,
    Authorize,
    Command,
    Grant,
    IceCredentials,
    RelayServer,
    Route,
    SetAddresses,
    SetRelays,
    SetRoutes,
    UpsertPeer,
)
from wardgate.datapath.events import AnyEvent, LocalCandidatesAdded

ONE_WAY_S = 0.01
UNIX_AT_ZERO = 1_800_000_000.0
RELAY = "5.5.5.5:3478"
SOCKETS = {"client": "6.6.6.6:52625", "gateway": "7.7.7.7:52625"}
TUNNEL = {"client": ("100.64.0.1", "fd00:2021:1111::1"), "gateway": ("100.64.0.2", "fd00:2021:1111::2")}
STAMP_SECRET = "ab" * 32
PRESHARED_KEY = base64.b64encode(bytes(32)).decode()
OTHER = {"client": "gateway", "gateway": "client"}

_EVENTS = msgspec.json.Decoder(list[AnyEvent])


def relay_server() -> RelayServer:
    """The relay with credentials as the portal stamps them (relay §3)."""
    expiry = int(UNIX_AT_ZERO) + 86_400
    digest = hashlib.sha256(f"{expiry}:{STAMP_SECRET}:salt".encode()).digest()
    password = base64.b64encode(digest).decode().rstrip("=")
    return RelayServer(id="relay", addresses=(RELAY,), username=f"{expiry}:salt", password=password)


class EngineWorld:
    """`run` moves time; commands go in by `apply`, all events of each side gather in `events`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: dict[str, list[Any]] = {"client": [], "gateway": []}
        self.relay_answers = True
        keys = {name: generate_private_key() for name in SOCKETS}
        self.public_keys = {name: public_key(key) for name, key in keys.items()}
        self.engines = {
            name: TunnelEngine(
                role=name,
                private_key=keys[name],
                seed=hashlib.sha256(name.encode()).digest(),
                listen_port=52625,
                unix_at_zero=UNIX_AT_ZERO,
            )
            for name in SOCKETS
        }
        self.relay = RelayEngine(
            stamp_secret=STAMP_SECRET,
            ipv4="5.5.5.5",
            ipv6=None,
            port=3478,
            first_port=50_000,
            last_port=50_099,
            seed=bytes(32),
            unix_at_zero=UNIX_AT_ZERO,
        )
        self._in_flight: list[tuple[float, int, str, str, bytes]] = []
        self._signals: list[tuple[float, int, str, Command]] = []
        self._sequence = 0
        for name, (ipv4, ipv6) in TUNNEL.items():
            self.apply(name, SetAddresses(ipv4=ipv4, ipv6=ipv6))
            self.apply(name, SetRelays(relays=(relay_server(),)))
        self.run(1.0)

    def connect(self) -> None:
        """Authorise resource "net", 10.0.0.0/24, and let both sides meet."""
        self.apply(
            "client", SetRoutes(routes=(Route(prefix="10.0.0.0/24", resource_id="net", table="cidr"),))
        )
        self.apply("gateway", self.upsert("gateway"))
        self.apply("gateway", grant("net"))
        self.apply("client", self.upsert("client"))
        self.apply("client", Authorize(resource_id="net", peer_id="gateway", addresses=("10.0.0.0/24",)))
        self.run(2.0)

    def upsert(self, name: str) -> UpsertPeer:
        """What the portal tells `name` about the other one."""
        ice = {side: IceCredentials(username=side, password=f"password-of-{side}-22") for side in SOCKETS}
        ipv4, ipv6 = TUNNEL[OTHER[name]]
        return UpsertPeer(
            id=OTHER[name],
            public_key=self.public_keys[OTHER[name]],
            preshared_key=PRESHARED_KEY,
            local_ice=ice[name],
            remote_ice=ice[OTHER[name]],
            role="controlling" if name == "client" else "controlled",
            profile="client" if name == "client" else "server",
            ipv4=ipv4,
            ipv6=ipv6,
        )

    def apply(self, name: str, command: Command) -> None:
        self.engines[name].apply(msgspec.json.encode(command), now=self.now)
        self._settle(name)

    def send(self, name: str, packet: bytes) -> None:
        self.engines[name].handle_tun([packet], now=self.now)
        self._settle(name)

    def received(self, name: str) -> list[bytes]:
        return self.engines[name].poll_tun()

    def run(self, duration_s: float) -> None:
        end = self.now + duration_s
        while (step_at := self._next_step()) is not None and step_at <= end:
            self.now = max(self.now, step_at)
            self._step()
        self.now = end

    def _next_step(self) -> float | None:
        engines = [self.relay.poll_timeout(), *(engine.poll_timeout() for engine in self.engines.values())]
        queues = [queue[0][0] for queue in (self._in_flight, self._signals) if queue]
        return min((at for at in (*engines, *queues) if at is not None), default=None)

    def _step(self) -> None:
        while self._in_flight and self._in_flight[0][0] <= self.now:
            _, _, source, destination, payload = heapq.heappop(self._in_flight)
            self._deliver(source, destination, payload)
        while self._signals and self._signals[0][0] <= self.now:
            _, _, name, command = heapq.heappop(self._signals)
            self.apply(name, command)
        for name, engine in self.engines.items():
            engine.handle_timeout(now=self.now)
            self._settle(name)
        self.relay.handle_timeout(now=self.now)
        self._post(self.relay.poll_transmit(), RELAY)

    def _deliver(self, source: str, destination: str, payload: bytes) -> None:
        if destination.startswith("5.5.5.5:"):
            if self.relay_answers:
                self.relay.handle_network([(source, destination, payload)], now=self.now)
                self._post(self.relay.poll_transmit(), RELAY)
            return
        for name, socket in SOCKETS.items():
            if socket == destination:
                self.engines[name].handle_network([(source, destination, payload)], now=self.now)
                self._settle(name)

    def _settle(self, name: str) -> None:
        self._post(self.engines[name].poll_transmit(), SOCKETS[name])
        for event in _EVENTS.decode(self.engines[name].poll_events()):
            self.events[name].append(event)
            if isinstance(event, LocalCandidatesAdded):
                signal = AddRemoteCandidates(peer_id=name, candidates=event.candidates)
                self._sequence += 1
                entry = (self.now + 2 * ONE_WAY_S, self._sequence, OTHER[name], signal)
                heapq.heappush(self._signals, entry)

    def _post(self, datagrams: list[tuple[str, str, bytes]], own: str) -> None:
        for source, destination, payload in datagrams:
            self._sequence += 1
            source = own if source.startswith("0.0.0.0:") else source
            entry = (self.now + ONE_WAY_S, self._sequence, source, destination, payload)
            heapq.heappush(self._in_flight, entry)


def grant(
    resource_id: str,
    *,
    kind: Literal["cidr", "dns"] = "cidr",
    network: str = "10.0.0.0/24",
    deadline_s: float | None = None,
) -> Grant:
    return Grant(
        peer_id="client",
        resource_id=resource_id,
        kind=kind,
        networks=(network,) if kind == "cidr" else (),
        filters=(),
        expires_deadline_s=deadline_s,
    )


def udp_packet(destination: str, payload: bytes) -> bytes:
    """An IPv4 UDP packet from the client's port 4000 to port 80; UDP checksum 0, which means none."""
    source = bytes(int(part) for part in TUNNEL["client"][0].split("."))
    target = bytes(int(part) for part in destination.split("."))
    udp = (
        (4000).to_bytes(2, "big") + (80).to_bytes(2, "big") + (8 + len(payload)).to_bytes(2, "big") + bytes(2)
    )
    length = 28 + len(payload)
    header = b"\x45\x00" + length.to_bytes(2, "big") + bytes(4) + b"\x40\x11" + bytes(2) + source + target
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = 0xFFFF - ((total & 0xFFFF) + (total >> 16))
    return header[:10] + checksum.to_bytes(2, "big") + header[12:] + udp + payload
