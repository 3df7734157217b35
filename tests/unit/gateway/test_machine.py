import json
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

import msgspec
import pytest
from msgspec.structs import replace

from support.log_records import lines
from support.recording_engine import RecordingEngine
from wardgate.connect.deadlines import ClockOffset
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.gateway.look_ups import MAX_LOOK_UPS_PER_CLIENT, Resolve
from wardgate.gateway.machine import Gateway, GatewayAction
from wardgate.model.ids import ActorId, ClientId, DeviceId, RelayId, ResourceId
from wardgate.peer.machine import Configure, Send
from wardgate.wire import messages as m

CLIENT = ClientId(DeviceId(UUID("11111111-1111-4111-8111-111111111111")))
CIDR = ResourceId(UUID("22222222-2222-4222-8222-222222222222"))
NAMED = ResourceId(UUID("33333333-3333-4333-8333-333333333333"))
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
UNIX_AT_ZERO = 1_700_000_000.0
EXPIRES_AT = 1_700_000_600
WEB = m.Filter("tcp", 443, 443)


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def gateway(engine: RecordingEngine) -> Gateway:
    made = Gateway(engine, clock=ClockOffset(UNIX_AT_ZERO))
    made.handle_joined()
    drained(made)
    return made


def drained(gateway: Gateway) -> list[GatewayAction]:
    actions = []
    while (action := gateway.poll_action()) is not None:
        actions.append(action)
    return actions


def sent(gateway: Gateway) -> list[m.Message]:
    return [action.message for action in drained(gateway) if isinstance(action, Send)]


def cidr_resource(*filters: m.Filter) -> m.GatewayCidrResource:
    return m.GatewayCidrResource(id=CIDR, name="net", address="10.20.0.0/24", filters=filters)


def dns_resource(address: str = "*.corp.example", resource_id: ResourceId = NAMED) -> m.GatewayDnsResource:
    return m.GatewayDnsResource(id=resource_id, name="names", address=address, filters=())


def grant(resource: m.GatewayResource, expires_at: int | None = EXPIRES_AT) -> m.CreateAuthorization:
    return m.CreateAuthorization(
        ref="r1",
        resource=resource,
        client=m.AuthorizedClient(
            CLIENT, KEY, KEY, IPv4Address("100.64.0.9"), IPv6Address("fd00:2021:1111::9")
        ),
        client_ice_credentials=m.IceCredentials("cccc", "c" * 22),
        gateway_ice_credentials=m.IceCredentials("gggg", "g" * 22),
        expires_at=expires_at,
    )


def init(*authorizations: m.Authorization) -> m.GatewayInit:
    return m.GatewayInit(
        interface=m.GatewayInterface(IPv4Address("100.64.0.1"), IPv6Address("fd00:2021:1111::1")),
        config=m.GatewayConfig(),
        authorizations=authorizations,
    )


PROXY_IPV4 = tuple(f"100.96.0.{last}" for last in range(1, 5))
PROXY_IPV6 = tuple(f"fd00:2021:1111:8000::{last}" for last in range(1, 5))


def assigned(
    domain: str = "app.corp.example",
    resource_id: ResourceId = NAMED,
    proxy_ips: Sequence[str] = (*reversed(PROXY_IPV4), *PROXY_IPV6),
) -> e.ControlPacket:
    payload = {"resource": str(resource_id), "domain": domain, "proxy_ips": list(proxy_ips)}
    return e.ControlPacket(str(CLIENT), 0, json.dumps(payload))


def reported(engine: RecordingEngine) -> str:
    packet = engine.last(c.SendControlPacket)
    assert packet.type == 1
    return str(json.loads(packet.payload)["status"])


def test_a_grant_is_acknowledged_after_the_engine_has_it(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_message(grant(cidr_resource(WEB)))

    assert [type(command) for command in engine.commands] == [c.UpsertPeer, c.Grant]
    given = engine.last(c.Grant)
    assert (given.kind, given.networks) == ("cidr", ("10.20.0.0/24",))
    assert given.filters == (c.Filter("tcp", 443, 443),)
    assert given.expires_deadline_s == EXPIRES_AT - UNIX_AT_ZERO
    assert sent(gateway) == [m.AuthorizationAcknowledged("r1")]


def test_own_credentials_are_the_gateways_and_it_is_controlled(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(grant(cidr_resource()))
    peer = engine.last(c.UpsertPeer)

    assert (peer.local_ice.username, peer.remote_ice.username) == ("gggg", "cccc")
    assert (peer.role, peer.profile) == ("controlled", "server")


def test_without_a_relay_a_grant_is_not_acknowledged(gateway: Gateway, engine: RecordingEngine) -> None:
    engine.refused.add(c.UpsertPeer)
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_event(e.NoRelays(str(CLIENT)))

    assert sent(gateway) == [m.NoRelays()]
    assert engine.of(c.Grant) == []


@pytest.mark.parametrize("command", [c.UpsertPeer, c.Grant])
def test_a_refused_renewal_leaves_the_earlier_grant_standing(
    gateway: Gateway, engine: RecordingEngine, command: type[c.Command]
) -> None:
    gateway.handle_message(grant(cidr_resource()))
    engine.refused.add(command)
    gateway.handle_message(grant(cidr_resource(), expires_at=None))
    gateway.handle_message(init(m.Authorization(CLIENT, CIDR, EXPIRES_AT + 1)))

    assert engine.last(c.RetainGrants).grants == (
        c.RetainedGrant(str(CLIENT), str(CIDR), EXPIRES_AT + 1 - UNIX_AT_ZERO),
    )


def test_init_revokes_what_it_does_not_list_and_renews_what_it_lists(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_message(grant(dns_resource()))
    gateway.handle_message(init(m.Authorization(CLIENT, NAMED, None)))
    kept = engine.last(c.RetainGrants).grants
    gateway.handle_message(init(m.Authorization(CLIENT, CIDR, None), m.Authorization(CLIENT, NAMED, None)))

    assert kept == (c.RetainedGrant(str(CLIENT), str(NAMED), None),)
    assert [one.resource_id for one in engine.last(c.RetainGrants).grants] == [str(NAMED)]


def test_init_sets_addresses_and_routes_both_tunnel_ranges(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_message(init())
    [configure] = [action for action in drained(gateway) if isinstance(action, Configure)]

    assert engine.last(c.SetAddresses) == c.SetAddresses("100.64.0.1", "fd00:2021:1111::1")
    assert sorted(map(str, configure.tun.routes)) == ["100.64.0.0/11", "fd00:2021:1111::/107"]


def test_a_repeated_init_configures_the_host_once(gateway: Gateway) -> None:
    gateway.handle_message(init())
    gateway.handle_message(init())

    assert sum(isinstance(action, Configure) for action in drained(gateway)) == 1


def test_init_without_relays_removes_none(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_message(init())

    assert engine.last(c.SetRelays) == c.SetRelays(relays=(), removed=(), replace_all=False)


def test_a_revocation_reaches_the_engine_even_for_an_unknown_pair(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(m.RejectAccess(CLIENT, CIDR))

    assert engine.last(c.Revoke) == c.Revoke(str(CLIENT), str(CIDR))


def test_assigned_addresses_are_resolved_translated_and_confirmed(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(grant(dns_resource()))
    drained(gateway)
    gateway.handle_event(assigned())
    [resolve] = drained(gateway)
    assert resolve == Resolve(0, "app.corp.example")
    gateway.handle_resolved(0, frozenset({ip_address("172.21.0.9"), ip_address("172.21.0.8")}))

    assert engine.last(c.Translate).addresses == (
        ("100.96.0.1", "172.21.0.8"),
        ("100.96.0.2", "172.21.0.9"),
        ("100.96.0.3", "172.21.0.8"),
        ("100.96.0.4", "172.21.0.9"),
        *((one, None) for one in PROXY_IPV6),
    )
    assert reported(engine) == "Active"


def test_a_name_without_addresses_is_active_all_the_same(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_message(grant(dns_resource()))
    gateway.handle_event(assigned())
    gateway.handle_resolved(0, frozenset())

    assert reported(engine) == "Active"


def test_a_look_up_that_took_too_long_makes_the_name_inactive(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(grant(dns_resource()))
    gateway.handle_event(assigned())
    gateway.handle_resolved(0, None)

    assert engine.of(c.Translate) == []
    assert reported(engine) == "Inactive"


@pytest.mark.parametrize(
    "event", [assigned("app.other.example"), assigned(resource_id=CIDR)], ids=["foreign name", "not granted"]
)
def test_names_outside_the_grant_are_inactive_at_once(
    gateway: Gateway, engine: RecordingEngine, event: e.ControlPacket
) -> None:
    gateway.handle_message(grant(dns_resource()))
    drained(gateway)
    gateway.handle_event(event)

    assert drained(gateway) == []
    assert reported(engine) == "Inactive"


def test_a_revocation_during_the_look_up_wins(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_message(grant(dns_resource()))
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_event(assigned())
    gateway.handle_message(m.RejectAccess(CLIENT, NAMED))
    gateway.handle_resolved(0, frozenset({ip_address("172.21.0.8")}))

    assert engine.of(c.Translate) == []
    assert reported(engine) == "Inactive"


@pytest.mark.parametrize(
    "proxy_ips",
    [
        ["10.66.6.6", "169.254.169.254", "8.8.8.8", "fd12::1"],
        [*PROXY_IPV4[:3], "10.66.6.6"],
        [*PROXY_IPV4[:3], "100.64.0.9"],
        [*PROXY_IPV4[:3], "100.100.111.1"],
        [*PROXY_IPV6[:3], "fd00:2021:1111:8000:100:100:111:0"],
        [*PROXY_IPV6[:3], "fd00:2021:1111::9"],
        [*PROXY_IPV4[:3], PROXY_IPV4[0]],
        [*PROXY_IPV4[:3], "::ffff:100.96.0.4"],
        [*PROXY_IPV4[:3], "100.96.0.04"],
        PROXY_IPV4[:3],
        (*PROXY_IPV4, PROXY_IPV6[0]),
        [],
    ],
)
def test_a_client_names_no_proxy_addresses_but_those_of_the_plan(
    gateway: Gateway, engine: RecordingEngine, proxy_ips: Sequence[str]
) -> None:
    gateway.handle_message(grant(dns_resource()))
    drained(gateway)
    gateway.handle_event(assigned(proxy_ips=proxy_ips))

    assert drained(gateway) == []
    assert reported(engine) == "Inactive"


def test_a_translation_that_the_engine_refuses_makes_the_name_inactive(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(grant(dns_resource()))
    gateway.handle_event(assigned())
    engine.refused.add(c.Translate)
    gateway.handle_resolved(0, frozenset({ip_address("172.21.0.8")}))

    assert reported(engine) == "Inactive"


def test_special_addresses_that_a_zone_answers_with_count_as_none(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(grant(dns_resource()))
    gateway.handle_event(assigned())
    answers = ["127.0.0.1", "169.254.169.254", "224.0.0.1", "100.64.0.7", "172.21.0.8", "::1", "fe80::1"]
    gateway.handle_resolved(0, frozenset(map(ip_address, answers)))

    translated = engine.last(c.Translate).addresses
    assert {real for _, real in translated} == {"172.21.0.8", None}


def test_one_client_does_not_take_all_look_ups(gateway: Gateway) -> None:
    other = ClientId(DeviceId(UUID(int=9)))
    for one in (CLIENT, other):
        message = grant(dns_resource())
        gateway.handle_message(replace(message, client=replace(message.client, id=one)))
    drained(gateway)
    for index in range(2 * MAX_LOOK_UPS_PER_CLIENT):
        gateway.handle_event(assigned(f"n{index}.corp.example"))
    wanted = drained(gateway)
    gateway.handle_event(replace(assigned(), peer_id=str(other)))
    of_another = drained(gateway)
    gateway.handle_resolved(0, frozenset())
    gateway.handle_event(assigned())

    assert len(wanted) == MAX_LOOK_UPS_PER_CLIENT
    assert of_another == [Resolve(MAX_LOOK_UPS_PER_CLIENT, "app.corp.example")]
    assert drained(gateway) == [Resolve(MAX_LOOK_UPS_PER_CLIENT + 1, "app.corp.example")]


@pytest.mark.parametrize(
    "event",
    [
        e.PeerClosed("", "remote"),
        e.PeerFailed("", "ice_timeout"),
        e.GrantExpired("", str(CIDR)),
        e.ControlPacket("nobody", 0, "{}"),
        e.LocalCandidatesAdded("", ("candidate:a",)),
        e.LocalCandidatesRemoved("", ("candidate:a",)),
        e.HandshakeDone("", 0.1),
        e.PathSelected("", "direct", "", "192.0.2.1:1", None),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_the_engine_says_of_nobody_is_ignored(
    gateway: Gateway, engine: RecordingEngine, event: e.AnyEvent
) -> None:
    gateway.handle_message(grant(cidr_resource()))
    drained(gateway)
    engine.forget()
    gateway.handle_event(event)

    assert (drained(gateway), engine.commands) == ([], [])


def test_a_refused_key_is_not_acknowledged_and_changes_nothing(
    gateway: Gateway, engine: RecordingEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.refused.add(c.UpsertPeer)
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_message(init(m.Authorization(CLIENT, CIDR, None)))

    assert [one for one in sent(gateway) if isinstance(one, m.AuthorizationAcknowledged)] == []
    assert engine.last(c.RetainGrants).grants == ()
    assert [one.message for one in caplog.records] == ["access could not be granted"]


def test_unreadable_assignments_are_ignored(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_event(e.ControlPacket(str(CLIENT), 0, "{"))

    assert engine.commands == []


def test_a_more_specific_name_outranks_an_earlier_wider_one(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    narrow = ResourceId(UUID(int=7))
    gateway.handle_message(grant(dns_resource("**.corp.example")))
    gateway.handle_message(grant(dns_resource("app.corp.example", narrow)))
    ranks = {command.resource_id: command.rank for command in engine.of(c.Grant)}

    assert ranks[str(narrow)] < ranks[str(NAMED)]


def test_a_name_more_costs_the_engine_one_grant_however_many_there_are(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    for number in range(200):
        engine.forget()
        resource_id = ResourceId(UUID(int=100 + number))
        gateway.handle_message(grant(dns_resource(f"n{number * 7919 % 200}.corp.example", resource_id)))
        assert [one.resource_id for one in engine.of(c.Grant)] == [str(resource_id)]


def test_names_that_have_to_be_ranked_anew_reach_the_engine_with_their_new_ranks(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    # Each name comes between the two before it, from their end on.
    numbers = [number for pair in zip(range(40), range(99, 59, -1), strict=True) for number in pair]
    names = [f"{number:02}"[::-1] + ".corp.example" for number in numbers]
    for number, name in enumerate(names):
        gateway.handle_message(grant(dns_resource(name, ResourceId(UUID(int=100 + number)))))
    given = {command.resource_id: command.rank for command in engine.of(c.Grant)}
    ranks = {name: given[str(UUID(int=100 + number))] for number, name in enumerate(names)}

    assert len(engine.of(c.Grant)) > len(names)
    assert sorted(names, key=ranks.__getitem__) == sorted(names, key=lambda name: name[::-1], reverse=True)


def test_changed_filters_reach_every_holder(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_message(m.ResourceUpdated(cidr_resource(WEB)))
    gateway.handle_message(m.ResourceUpdated(dns_resource()))

    assert engine.of(c.UpdateFilters) == [c.UpdateFilters(str(CIDR), (c.Filter("tcp", 443, 443),))]


def test_candidates_wait_for_the_portal_and_cancel_out(gateway: Gateway) -> None:
    gateway.handle_message(grant(cidr_resource()))
    drained(gateway)
    gateway.handle_portal_lost()
    gateway.handle_event(e.LocalCandidatesAdded(str(CLIENT), ("candidate:a", "candidate:b")))
    gateway.handle_event(e.LocalCandidatesRemoved(str(CLIENT), ("candidate:a", "candidate:old")))
    assert sent(gateway) == []
    gateway.handle_joined()

    assert sent(gateway) == [
        m.SetSnownetCapabilities(iceless=False),
        m.BroadcastIceCandidates((CLIENT,), ("candidate:b",)),
        m.BroadcastInvalidatedIceCandidates((CLIENT,), ("candidate:old",)),
    ]


def test_grants_outlive_a_failed_connection_but_not_a_closed_one(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_event(e.PeerFailed(str(CLIENT), "ice_timeout"))
    gateway.handle_message(init(m.Authorization(CLIENT, CIDR, None)))
    after_failure = engine.last(c.RetainGrants).grants
    gateway.handle_event(e.PeerClosed(str(CLIENT), "remote"))
    gateway.handle_message(init(m.Authorization(CLIENT, CIDR, None)))

    assert len(after_failure) == 1
    assert engine.last(c.RetainGrants).grants == ()


def test_a_grant_that_ended_while_the_portal_was_away_is_told_and_its_names_are_inactive(
    gateway: Gateway, engine: RecordingEngine, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_message(grant(dns_resource()))
    with caplog.at_level("INFO"):
        gateway.handle_message(init(m.Authorization(CLIENT, CIDR, None)))
    gateway.handle_event(assigned())

    [ended] = [
        given for line, given in lines(caplog.records) if line == "access revoked while the portal was away"
    ]
    assert ended == {"client_id": str(CLIENT), "resource_id": str(NAMED), "resource": "names"}
    assert reported(engine) == "Inactive"


def test_a_stepped_clock_moves_every_deadline(gateway: Gateway, engine: RecordingEngine) -> None:
    gateway.handle_message(grant(cidr_resource()))
    gateway.handle_clock_step(ClockOffset(UNIX_AT_ZERO + 100))

    assert engine.last(c.RetainGrants).grants[0].expires_deadline_s == EXPIRES_AT - UNIX_AT_ZERO - 100


def test_a_dual_stack_relay_is_one_relay_with_two_addresses(
    gateway: Gateway, engine: RecordingEngine
) -> None:
    relay_id, gone = RelayId(UUID(int=5)), RelayId(UUID(int=6))
    entries = tuple(
        m.TurnRelay(id=relay_id, addr=addr, username="u", password="p", expires_at=2145916800)
        for addr in ("192.0.2.1:3478", "[2001:db8::1]:3478")
    )
    gateway.handle_message(m.RelaysPresence((gone,), entries))

    assert engine.last(c.SetRelays) == c.SetRelays(
        relays=(c.RelayServer(str(relay_id), ("192.0.2.1:3478", "[2001:db8::1]:3478"), "u", "p"),),
        removed=(str(gone),),
    )


SUBJECT = m.Subject(
    actor_id=ActorId(UUID(int=3)),
    actor_name="Ada L.",
    actor_email=None,
    actor_type="account_user",
    auth_provider_id=None,
    ip="192.0.2.9",
    ip_region=None,
    ip_city=None,
    ip_lat=None,
    ip_lon=None,
    user_agent="",
)
WHO = {"client_id": str(CLIENT), "actor": "Ada L."}
WHAT = {"resource_id": str(CIDR), "resource": "net"}


def test_lines_name_actor_and_resource_beside_their_ids(
    gateway: Gateway, engine: RecordingEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    granted = replace(grant(cidr_resource()), subject=SUBJECT)
    gateway.handle_message(granted)
    gateway.handle_event(e.HandshakeDone(str(CLIENT), 0.123456789))
    gateway.handle_event(e.PathSelected(str(CLIENT), "direct", "", "192.0.2.1:1", None))
    gateway.handle_event(e.PeerFailed(str(CLIENT), "ice_timeout"))
    gateway.handle_event(e.GrantExpired(str(CLIENT), str(CIDR)))
    gateway.handle_message(granted)
    gateway.handle_message(m.RejectAccess(CLIENT, CIDR))
    gateway.handle_event(e.PeerClosed(str(CLIENT), "local"))
    engine.refused.add(c.UpsertPeer)
    gateway.handle_message(granted)

    assert lines(caplog.records) == [
        ("access granted", {**WHO, **WHAT}),
        ("connection established", {**WHO, "took_s": 0.123}),
        ("path selected", {**WHO, "path": "direct: the peer answers from an address that it did not signal"}),
        ("connection failed", {**WHO, "reason": "ice_timeout"}),
        ("access expired", {**WHO, **WHAT}),
        ("access granted", {**WHO, **WHAT}),
        ("access revoked", {**WHO, **WHAT}),
        ("connection closed", {**WHO, "by": "local"}),
        ("access could not be granted", {**WHO, **WHAT, "reason": "no relay"}),
    ]


def test_what_has_no_name_here_is_logged_by_its_id(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gateway.handle_message(grant(m.GatewayInternetResource(id=CIDR)))
    gateway.handle_message(m.RejectAccess(CLIENT, NAMED))
    gateway.handle_event(e.RelayUp(str(UUID(int=5)), 12.3456))

    assert lines(caplog.records) == [
        ("access granted", {"client_id": str(CLIENT), **WHAT, "resource": "Internet Resource"}),
        ("access revoked", {"client_id": str(CLIENT), "resource_id": str(NAMED)}),
        ("relay reached", {"relay_id": str(UUID(int=5)), "rtt_ms": 12.3}),
    ]


def test_a_drain_is_told_at_once_and_after_every_join() -> None:
    gateway = Gateway(RecordingEngine(), clock=ClockOffset(UNIX_AT_ZERO))
    gateway.handle_drain()
    assert sent(gateway) == []
    gateway.handle_joined()
    assert m.Draining() in sent(gateway)
    gateway.handle_portal_lost()
    gateway.handle_joined()
    assert m.Draining() in sent(gateway)


def test_one_that_is_joined_tells_of_its_drain(gateway: Gateway) -> None:
    gateway.handle_drain()
    assert sent(gateway) == [m.Draining()]


def test_the_next_process_goes_on_with_flows_to_names(gateway: Gateway, engine: RecordingEngine) -> None:
    flow = c.TranslatedFlow(str(CLIENT), "tcp", ("100.96.0.1", 4_000), ("10.0.0.1", 4_001), is_answered=True)
    legacy = msgspec.Raw(msgspec.json.encode(gateway.bequeath((flow,))))
    assert engine.last(c.Shutdown) == c.Shutdown(goodbye=True), "clients ask for it anew at once"
    Gateway(engine, clock=ClockOffset(UNIX_AT_ZERO)).inherit(legacy, now=0.0)
    assert engine.last(c.InheritFlows) == c.InheritFlows((flow,))
