"""The real `wardgate gateway` with a thousand quiet clients: memory, CPU time and wake-ups of the whole process.

The clients, a relay and what decides for them are those of `native/crates/io/examples/crowd`, which programs an
engine by lines. Here stands a portal between: it says the same to a gateway over the control channel.

Usage: python -m benches.quiet_gateway [CLIENTS]        (root, for network namespaces)
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import websockets
from websockets.asyncio.server import ServerConnection, serve

from wardgate.lab.host import Host, Process
from wardgate.model.ids import ClientId, DeviceId, RelayId, ResourceId, TokenId
from wardgate.wire import messages as m
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.frames import HEARTBEAT, JOIN, Framing
from wardgate.wire.tokens import TokenKind, mint_fragment

_NATIVE: Final = Path(__file__).parents[1] / "native"
_NEAR, _FAR, _PORT = "10.76.0.1", "10.76.0.2", 8080
_RESOURCE: Final = ResourceId(UUID(int=1))
_FIRST: Final = 1_000  # the number in a client's id is its own behind it
_MEGABYTES, _KILOBYTES_OF_CLIENT, _CORE = 60, 20, 0.03
"""What a gateway may take, and what each client adds to it; of a core with all quiet."""
# The crowd knows its gateway's key beforehand, while a gateway draws one.
_PROGRAM: Final = """
import base64, sys
import wardgate.cli.gateway as gateway
gateway.generate_private_key = lambda: base64.b64encode(bytes([0x48] * 32)).decode()
from wardgate.cli.main import main
sys.exit(main(["gateway"]))
"""
_TOKEN: Final = mint_fragment(
    TokenKind.GATEWAY, account_id=None, token_id=TokenId(UUID(int=3)), secret=bytes(32), key=bytes(32)
)
_ENVIRONMENT: Final = {
    "WARDGATE_API_URL": f"ws://{_NEAR}:{_PORT}",
    "WARDGATE_TOKEN": _TOKEN,
    "WARDGATE_ID": "bench",
    "PYTHONUNBUFFERED": "",
}
_READY_S: Final = 3.0  # a relay answers within a second
_PHASES: Final = ("fresh", "connected", "quiet from", "quiet until")
"""When the crowd asks what the gateway has cost."""


@dataclass(frozen=True)
class Cost:
    at: float
    resident_kb: int
    cpu_s: float
    switches: int
    turns: int


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Print what a gateway takes, and what it was to stay within; return the figures."""
    return measure(1_000)


def measure(clients: int) -> dict[str, Any]:
    build = ["cargo", "build", "--quiet", "--release", "-p", "wardgate-io", "--example", "crowd"]
    subprocess.run(build, cwd=_NATIVE, check=True)
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wardgate-quiet-")))
        near, far = Host("crowd", state), Host("gateway", state)
        stack.callback(near.close)
        stack.callback(far.close)
        _join(near, far)
        costs = asyncio.run(_Bench(near, far, clients).run())
    found = _figures(costs, clients)
    print(
        f"\n{clients} clients: {found['fresh_mb']:.1f} MB without them, {found['megabytes']:.1f} MB with them "
        f"({found['kilobytes_a_client']:.1f} KB each); quiet: "
        f"{found['switches_s']:.0f} wake-ups of its threads and {found['turns_s']:.0f} turns of the packets' a second"
    )
    budgets = {"megabytes": _MEGABYTES + clients * _KILOBYTES_OF_CLIENT / 1e3, "core": _CORE}
    for name, budget in budgets.items():
        verdict = "kept" if found[name] <= budget else "MISSED"
        print(f"  {name:46} {found[name]:10,.3f}  <= {budget:<8g} {verdict}")
    return found


def _figures(costs: list[Cost], clients: int) -> dict[str, Any]:
    fresh, connected, before, after = costs
    seconds = after.at - before.at
    return {
        "clients": clients,
        "fresh_mb": fresh.resident_kb / 1e3,
        "megabytes": after.resident_kb / 1e3,
        "kilobytes_a_client": (connected.resident_kb - fresh.resident_kb) / clients,
        "core": (after.cpu_s - before.cpu_s) / seconds,
        "switches_s": (after.switches - before.switches) / seconds,
        "turns_s": (after.turns - before.turns) / seconds,
    }


def _join(near: Host, far: Host) -> None:
    """A cable between both; all of 10.80.0.0/16, where the clients are, is local to the first one."""
    peer = ["type", "veth", "peer", "name", "eth0", "netns", str(far.pid)]
    subprocess.run(["ip", "link", "add", "eth0", "netns", str(near.pid), *peer], check=True)
    for host, address in ((near, _NEAR), (far, _FAR)):
        host.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
    near.run("ip", "route", "add", "local", "10.80.0.0/16", "dev", "lo")
    far.run("ip", "route", "add", "10.80.0.0/16", "via", _NEAR)
    far.run("ip", "addr", "add", "10.78.0.2/32", "dev", "lo")


class _Bench:
    """The portal, and who passes on what the crowd says."""

    def __init__(self, near: Host, far: Host, clients: int) -> None:
        self._near, self._far, self._clients = near, far, clients
        self._dialect, self._framing = Dialect(PeerKind.GATEWAY), Framing.OBJECT
        self._gateway: Process
        self._channel: asyncio.Future[ServerConnection]
        self._tell: Callable[[bytes], object] = lambda _line: None
        self._addresses: dict[str, str] = {}
        self._peers: dict[str, dict[str, Any]] = {}
        self._costs: list[Cost] = []
        self._refs = 0

    async def run(self) -> list[Cost]:
        self._channel = asyncio.get_running_loop().create_future()
        listening = self._near.inside(lambda: socket.create_server((_NEAR, _PORT)))
        async with serve(self._converse, sock=listening, ping_interval=None, compression=None):
            self._gateway = self._far.start(
                "gateway", sys.executable, "-c", _PROGRAM, environment=_ENVIRONMENT
            )
            program = str(_NATIVE / "target" / "release" / "examples" / "crowd")
            crowd = await asyncio.create_subprocess_exec(
                *self._near.command(program, "clients", str(self._clients), "1", "3"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert crowd.stdin is not None
            assert crowd.stdout is not None
            self._tell = crowd.stdin.write
            try:
                while len(self._costs) < len(_PHASES):
                    line = await crowd.stdout.readline()
                    if not line:
                        raise RuntimeError(f"the crowd gave up; the gateway: {self._gateway.log()[-2000:]}")
                    await self._handle(line.decode().strip())
            finally:
                if crowd.returncode is None:
                    crowd.kill()
                await crowd.wait()
                self._gateway.stop()
        return self._costs

    async def _handle(self, line: str) -> None:
        """What the crowd's own portal tells a gateway's engine."""
        if line == "figures":
            try:
                await asyncio.wait_for(asyncio.shield(self._channel), 60)
            except TimeoutError as error:
                raise RuntimeError(f"the gateway did not come: {self._gateway.log()[-2000:]}") from error
            self._costs.append(cost_of(self._gateway, self._far, "gateway", 8081))
            self._say({"event": "figures", "stats": {}, "cpu_ns": 0, "memory": 0})
            return
        said = json.loads(line)
        match said["command"]:
            case "set_addresses":
                self._addresses = said
            case "set_relays":
                await self._send(self._init(said["relays"][0]))
                await asyncio.sleep(_READY_S)
                self._say({"event": "relay_up"})
            case "upsert_peer":
                self._peers[said["id"]] = said
            case "grant":
                await self._send(self._grant(self._peers[said["peer_id"]]))
            case "add_remote_candidates":
                candidates = tuple(said["candidates"])
                await self._send(m.ClientIceCandidates(_id_of(said["peer_id"]), candidates))

    def _init(self, relay: dict[str, Any]) -> m.GatewayInit:
        turn = m.TurnRelay(
            id=RelayId(UUID(int=2)),
            addr=relay["addresses"][0],
            username=relay["username"],
            password=relay["password"],
            expires_at=int(relay["username"].partition(":")[0]),
        )
        ipv4, ipv6 = IPv4Address(self._addresses["ipv4"]), IPv6Address(self._addresses["ipv6"])
        return m.GatewayInit(
            interface=m.GatewayInterface(ipv4, ipv6), config=m.GatewayConfig(), relays=(turn,)
        )

    def _grant(self, peer: dict[str, Any]) -> m.CreateAuthorization:
        self._refs += 1
        return m.CreateAuthorization(
            ref=str(self._refs),
            resource=m.GatewayCidrResource(id=_RESOURCE, name="network", address="10.78.0.2/32", filters=()),
            client=m.AuthorizedClient(
                _id_of(peer["id"]),
                peer["public_key"],
                peer["preshared_key"],
                IPv4Address(peer["ipv4"]),
                IPv6Address(peer["ipv6"]),
            ),
            client_ice_credentials=m.IceCredentials(**peer["remote_ice"]),
            gateway_ice_credentials=m.IceCredentials(**peer["local_ice"]),
            expires_at=int(time.time()) + 86_400,
        )

    async def _converse(self, channel: ServerConnection) -> None:
        """The control channel of the gateway."""
        async for text in channel:
            frame = self._framing.parse(text)
            if frame.event in (JOIN, HEARTBEAT):
                await channel.send(self._framing.reply_ok(frame))
                if frame.event == JOIN and not self._channel.done():
                    self._channel.set_result(channel)
                continue
            message = self._dialect.decode_from_peer(frame.event, frame.payload)
            if isinstance(message, m.BroadcastIceCandidates):
                for client_id in message.client_ids:
                    name = f"client-{client_id.int - _FIRST}"
                    said = {"event": "local_candidates_added", "peer_id": name}
                    self._say({**said, "candidates": message.candidates})

    async def _send(self, message: m.Message) -> None:
        channel = await self._channel
        event, payload = self._dialect.encode_to_peer(message)
        try:
            await channel.send(self._framing.encode(self._dialect.topic, event, payload))
        except websockets.ConnectionClosed as error:
            raise RuntimeError(f"the gateway is gone: {self._gateway.log()[-2000:]}") from error

    def _say(self, event: dict[str, Any]) -> None:
        self._tell(json.dumps([event]).encode() + b"\n")


def cost_of(process: Process, host: Host, part: str, health_port: int) -> Cost:
    """What a part's process has cost so far, all its threads."""
    place = Path(f"/proc/{process.pid}")
    threads = [(one / "status").read_text() for one in (place / "task").iterdir()]
    metrics = host.run("curl", "-sS", f"http://127.0.0.1:{health_port}/metrics")
    (turns,) = (line for line in metrics.splitlines() if line.startswith(f"wardgate_{part}_io_turns_total "))
    return Cost(
        at=time.monotonic(),
        resident_kb=_number((place / "status").read_text(), "VmRSS:"),
        cpu_s=process.cpu_seconds(),
        switches=sum(_number(thread, "voluntary_ctxt_switches:") for thread in threads),
        turns=int(turns.split()[1]),
    )


def _number(status: str, name: str) -> int:
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))


def _id_of(name: str) -> ClientId:
    return ClientId(DeviceId(UUID(int=_FIRST + int(name.removeprefix("client-")))))


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)))
