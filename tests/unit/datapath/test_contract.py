"""The extension module understands every command and speaks every event that the Python structs describe."""

import typing

import msgspec
import pytest
from wardgate_native import CommandRefused, TunnelEngine, generate_private_key, public_key

from wardgate.datapath import commands, events
from wardgate.datapath.commands import (
    AnyCommand,
    Authorize,
    Command,
    Deauthorize,
    Filter,
    HoldName,
    ReleaseName,
    RemovePeer,
    RemoveRemoteCandidates,
    ResetNetwork,
    RetainedGrant,
    RetainGrants,
    Revoke,
    Route,
    SendControlPacket,
    SetAddresses,
    SetRelays,
    SetRoutes,
    Shutdown,
    Translate,
    UpdateFilters,
)
from wardgate.datapath.events import AnyEvent
from wardgate.datapath.figures import ConnectionFigures

from .engine_world import UNIX_AT_ZERO, EngineWorld, grant, relay_server, udp_packet

CANDIDATE = "candidate:1 1 udp 2130706431 8.8.8.8 4000 typ host"

# In an order in which each can be accepted; the peer is the other side.
CLIENT_COMMANDS: tuple[Command, ...] = (
    SetAddresses(ipv4="100.64.0.1", ipv6="fd00:2021:1111::1"),
    SetRelays(relays=(relay_server(),), removed=("gone",), replace_all=True),
    SetRoutes(
        routes=(
            Route(prefix="10.0.0.0/24", resource_id="net", table="cidr", filters=(Filter(protocol="icmp"),)),
            Route(prefix="100.96.0.1/32", resource_id="app", table="dns", rank=3),
            Route(prefix="100.64.0.9/32", resource_id="pool", table="device"),
            Route(prefix="::/0", resource_id="internet", table="internet"),
        )
    ),
    commands.AddRoutes(routes=(Route(prefix="100.96.0.2/32", resource_id="app", table="dns", rank=3),)),
    commands.RemoveRoutes(
        routes=(commands.RemovedRoute(prefix="100.96.0.2/32", resource_id="app", table="dns"),)
    ),
    commands.AddRemoteCandidates(peer_id="gateway", candidates=(CANDIDATE,)),
    RemoveRemoteCandidates(peer_id="gateway", candidates=(CANDIDATE,)),
    Authorize(
        resource_id="pool",
        peer_id="gateway",
        addresses=("100.64.0.9",),
        device_address="100.64.0.9",
        record_under="authorization",
    ),
    commands.RecordFlows(is_on=True, unix_at_zero_s=1_800_000_000.5),
    HoldName(peer_id="gateway", resource_id="app", proxy_ips=("100.96.0.1",)),
    ReleaseName(peer_id="gateway", resource_id="app", proxy_ips=("100.96.0.1",), flush=True),
    SendControlPacket(peer_id="gateway", type=0, payload='{"resource":"app"}'),
    Deauthorize(resource_id="pool"),
    RemovePeer(id="gateway"),
    ResetNetwork(private_key=generate_private_key()),
    Shutdown(),
)
GATEWAY_COMMANDS: tuple[Command, ...] = (
    grant("net", deadline_s=3600.0),
    grant("app", kind="dns"),
    commands.InheritFlows(
        flows=(
            commands.TranslatedFlow(
                "client", "tcp", ("100.96.0.1", 4_000), ("10.0.0.1", 4_000), is_answered=True
            ),
        )
    ),
    Translate(
        peer_id="client",
        resource_id="app",
        name="app.example",
        addresses=(
            *((f"100.96.0.{last}", "10.0.0.1") for last in range(1, 5)),
            *((f"fd00:2021:1111:8000::{last}", None) for last in range(1, 5)),
        ),
    ),
    UpdateFilters(resource_id="net", filters=(Filter(protocol="tcp", first_port=22, last_port=22),)),
    RetainGrants(grants=(RetainedGrant(peer_id="client", resource_id="net", expires_deadline_s=None),)),
    Revoke(peer_id="client", resource_id="net"),
)


@pytest.fixture
def world() -> EngineWorld:
    world = EngineWorld()
    world.connect()
    return world


def test_each_command_is_understood(world: EngineWorld) -> None:
    for command in GATEWAY_COMMANDS:
        world.apply("gateway", command)
    for command in CLIENT_COMMANDS:
        world.apply("client", command)
    # `connect` applied the first one.
    tried = {commands.UpsertPeer, *(type(command) for command in (*CLIENT_COMMANDS, *GATEWAY_COMMANDS))}
    assert tried == set(typing.get_args(AnyCommand))


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (b"", "malformed command: EOF"),
        (b'{"command":"dance"}', "malformed command: unknown variant `dance`"),
        (b'{"command":"revoke","peer_id":"x"}', "malformed command: missing field `resource_id`"),
        (
            msgspec.json.encode(Translate(peer_id="x", resource_id="r", name="n", addresses=())),
            "translate is for a gateway only",
        ),
        (
            msgspec.json.encode(SendControlPacket(peer_id="nobody", type=0, payload="")),
            "unknown peer nobody",
        ),
        (
            msgspec.json.encode(
                SetRoutes(routes=(Route(prefix="10.0.0.0/33", resource_id="r", table="cidr"),))
            ),
            'malformed command: not an IP prefix: "10.0.0.0/33"',
        ),
        (
            msgspec.json.encode(ResetNetwork(private_key="secret")),
            "malformed command: a key is not base64 of 32 bytes",
        ),
    ],
)
def test_a_refusal_says_why(command: bytes, reason: str) -> None:
    engine = TunnelEngine(
        role="client", private_key=generate_private_key(), seed=bytes(32), listen_port=1, unix_at_zero=0.0
    )
    with pytest.raises(CommandRefused) as refused:
        engine.apply(command, now=0.0)
    assert str(refused.value).startswith(reason)


def test_each_event_is_spoken(world: EngineWorld) -> None:
    routes = tuple(
        Route(prefix=prefix, resource_id=resource_id, table="cidr")
        for prefix, resource_id in [("10.0.0.0/24", "net"), ("10.1.0.0/24", "new"), ("10.2.0.0/24", "void")]
    )
    world.apply("client", SetRoutes(routes=routes))
    world.apply("client", commands.RecordFlows(is_on=True, unix_at_zero_s=UNIX_AT_ZERO))
    recorded = Authorize(resource_id="net", peer_id="gateway", addresses=("10.0.0.0/24",), record_under="one")
    world.apply("client", recorded)
    world.send("client", udp_packet("10.0.0.1", b"recorded"))
    world.send("client", udp_packet("10.1.0.1", b"intent"))
    world.apply("client", Authorize(resource_id="void", peer_id="gateway", addresses=("10.2.0.0/24",)))
    world.send("client", udp_packet("10.2.0.1", b"prohibited"))
    world.apply("client", SendControlPacket(peer_id="gateway", type=0, payload="{}"))
    world.apply("gateway", grant("brief", network="10.3.0.0/24", deadline_s=world.now + 1))
    world.run(2.0)
    world.apply("gateway", SetRelays(relays=(), removed=("relay",)))
    world.relay_answers = False
    world.run(90.0)
    world.apply("gateway", RemovePeer(id="client", goodbye=False))
    world.run(300.0)
    spoken = {type(event) for side in world.events.values() for event in side}
    assert spoken == set(typing.get_args(AnyEvent))


def test_a_flow_is_reported_as_python_reads_it(world: EngineWorld) -> None:
    record = commands.RecordFlows(is_on=True, unix_at_zero_s=UNIX_AT_ZERO)
    for side in ("client", "gateway"):
        world.apply(side, record)  # type: ignore[arg-type]
    world.apply(
        "client",
        Authorize(resource_id="net", peer_id="gateway", addresses=("10.0.0.0/24",), record_under="one"),
    )
    world.apply("gateway", msgspec.structs.replace(grant("net"), record_under="one"))
    began_at = world.now
    world.send("client", udp_packet("10.0.0.1", b"recorded"))
    world.run(130.0)
    for side, role in (("client", "initiator"), ("gateway", "responder")):
        reported = [event for event in world.events[side] if isinstance(event, events.FlowsReported)]
        begun, ended = (report for event in reported for report in event.reports)
        assert (begun.role, begun.authorization_id, begun.end) == (role, "one", None)
        assert begun.initiator[0] == "100.64.0.1"
        assert begun.responder[0] == "10.0.0.1"
        assert begun.started_at_us == pytest.approx((UNIX_AT_ZERO + began_at) * 1e6, abs=20_000)
        assert (begun.paths[0].source, begun.paths[0].destination) == ("6.6.6.6:52625", "7.7.7.7:52625")
        assert ended.end is not None
        assert (ended.end.tx_packets, ended.end.tx_bytes, ended.end.rx_packets) == (1, 8, 0)


def test_figures_of_a_connection_are_told_as_python_reads_them(world: EngineWorld) -> None:
    world.send("client", udp_packet("10.0.0.5", b"request"))
    world.run(1.0)

    def figures(*peers: str) -> list[ConnectionFigures]:
        told = world.engines["gateway"].figures(list(peers), now=world.now)
        return msgspec.json.decode(told, type=list[ConnectionFigures])

    (one,) = figures("nobody", "client")
    assert (one.peer_id, one.received_packets, one.missing_messages) == ("client", 1, 0)
    assert one.received_bytes == len(udp_packet("10.0.0.5", b"request"))
    assert one.handshake_age_s is not None
    (used,) = (pair for pair in one.checks if pair.is_used)
    assert used.round_trip_ms is not None
    assert 0 < used.answered <= used.sent
    assert figures() == []


def test_packets_cross_the_world_of_python(world: EngineWorld) -> None:
    packet = udp_packet("10.0.0.1", b"hello")
    world.send("client", packet)
    world.run(1.0)
    assert world.received("gateway") == [packet]
    selected = [event for event in world.events["client"] if isinstance(event, events.PathSelected)]
    assert selected[-1].kind == "direct"
    assert selected[-1].remote == "7.7.7.7:52625"


def test_public_key_is_that_of_rfc_7748_section_6_1() -> None:
    private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
    assert public_key(private) == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="


def test_times_before_zero_are_refused() -> None:
    engine = TunnelEngine(
        role="gateway", private_key=generate_private_key(), seed=bytes(32), listen_port=1, unix_at_zero=0.0
    )
    with pytest.raises(ValueError, match="negative or not finite"):
        engine.handle_timeout(now=-1.0)
