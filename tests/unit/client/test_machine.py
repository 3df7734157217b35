import json
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from statistics import median
from types import FrameType
from uuid import UUID

import dns.message
import dns.rcode
import msgspec
import pytest

from support.log_records import lines
from support.recording_engine import RecordingEngine
from wardgate.client import names
from wardgate.client.machine import Client, ClientAction
from wardgate.client.queries import Answer, AskGateway, AskUpstream
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.dns.proxy_addresses import ProxyAddresses
from wardgate.model.ids import DeviceId, GatewayId, ResourceId, SiteId
from wardgate.peer.machine import Configure, Send
from wardgate.wire import messages as m

GATEWAY = GatewayId(DeviceId(UUID("11111111-1111-4111-8111-111111111111")))
OTHER_GATEWAY = GatewayId(DeviceId(UUID("11111111-1111-4111-8111-222222222222")))
CIDR = ResourceId(UUID("22222222-2222-4222-8222-222222222222"))
NAMED = ResourceId(UUID("33333333-3333-4333-8333-333333333333"))
SITE = m.Site(SiteId(UUID("44444444-4444-4444-8444-444444444444")), "site")
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
SENTINEL = ip_address("100.100.111.1")

CIDR_RESOURCE = m.ClientCidrResource(id=CIDR, name="net", address="10.20.0.0/24", filters=(), sites=(SITE,))
DNS_RESOURCE = m.ClientDnsResource(id=NAMED, name="app", address="*.corp.example", filters=(), sites=(SITE,))


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def client(engine: RecordingEngine) -> Client:
    made = Client(engine)
    made.handle_system_resolvers((ip_address("192.0.2.53"),))
    made.handle_joined()
    made.handle_message(init(CIDR_RESOURCE, DNS_RESOURCE), now=0.0)
    drained(made)
    return made


def init(*resources: m.ClientResource, search_domain: str | None = None) -> m.ClientInit:
    return m.ClientInit(interface=interface(search_domain), resources=resources)


def interface(search_domain: str | None = None, *upstreams: str) -> m.ClientInterface:
    return m.ClientInterface(
        IPv4Address("100.64.0.9"),
        IPv6Address("fd00:2021:1111::9"),
        search_domain,
        tuple(m.UpstreamDo53(one) for one in upstreams),
    )


def created(
    resource_id: ResourceId, gateway_id: GatewayId = GATEWAY, key: str = KEY
) -> m.AuthorizationCreated:
    return m.AuthorizationCreated(
        resource_id=resource_id,
        gateway_id=gateway_id,
        gateway_public_key=key,
        gateway_ipv4=IPv4Address("100.64.0.1"),
        gateway_ipv6=IPv6Address("fd00:2021:1111::1"),
        site_id=SITE.id,
        preshared_key=KEY,
        client_ice_credentials=m.IceCredentials("cccc", "c" * 22),
        gateway_ice_credentials=m.IceCredentials("gggg", "g" * 22),
    )


def domain_status(status: str) -> e.ControlPacket:
    payload = {"resource": str(NAMED), "domain": "app.corp.example", "status": status}
    return e.ControlPacket(str(GATEWAY), 1, json.dumps(payload))


def drained(client: Client) -> list[ClientAction]:
    actions = []
    while (action := client.poll_action()) is not None:
        actions.append(action)
    return actions


def sent(client: Client) -> list[m.Message]:
    return [action.message for action in drained(client) if isinstance(action, Send)]


def intend(client: Client, resource_id: ResourceId, now: float = 1.0) -> None:
    client.handle_event(e.Intent(str(resource_id), "10.20.0.5", "cidr"), now=now)


def connect(
    client: Client, resource_id: ResourceId, gateway_id: GatewayId = GATEWAY, now: float = 1.0
) -> None:
    intend(client, resource_id, now)
    client.handle_message(created(resource_id, gateway_id), now=now)


def query(
    client: Client, query_id: int, name: str, rdtype: str = "A", now: float = 1.0
) -> dns.message.Message:
    message = dns.message.make_query(name, rdtype)
    client.handle_query(query_id, message.to_wire(), sentinel=SENTINEL, is_udp=True, now=now)
    return message


def answers(client: Client) -> dict[int, dns.message.Message | None]:
    return {
        action.query_id: None if action.payload is None else dns.message.from_wire(action.payload)
        for action in drained(client)
        if isinstance(action, Answer)
    }


def test_an_intent_asks_the_portal_once_in_two_seconds(client: Client) -> None:
    for now in (1.0, 2.9, 3.0):
        intend(client, CIDR, now)

    assert sent(client) == [m.RequestAuthorization(CIDR)] * 2


def test_nothing_is_asked_while_the_portal_is_away(client: Client) -> None:
    client.handle_portal_lost()
    intend(client, CIDR)

    assert sent(client) == []


def test_a_grant_brings_the_peer_then_the_resource(client: Client, engine: RecordingEngine) -> None:
    engine.forget()
    connect(client, CIDR)

    assert [type(command) for command in engine.commands] == [c.UpsertPeer, c.Authorize]
    peer = engine.last(c.UpsertPeer)
    assert (peer.role, peer.local_ice.username, peer.remote_ice.username) == ("controlling", "cccc", "gggg")
    assert engine.last(c.Authorize) == c.Authorize(str(CIDR), str(GATEWAY), ("10.20.0.0/24",))


def test_a_grant_nobody_asked_for_is_ignored(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(created(CIDR), now=1.0)

    assert engine.of(c.UpsertPeer) == []


def test_without_a_relay_a_grant_is_lost_and_the_next_packet_asks_at_once(
    client: Client, engine: RecordingEngine
) -> None:
    engine.refused.add(c.UpsertPeer)
    connect(client, CIDR, now=1.0)
    client.handle_event(e.NoRelays(str(GATEWAY)), now=1.0)
    intend(client, CIDR, now=1.1)

    assert engine.of(c.Authorize) == []
    assert sent(client) == [m.RequestAuthorization(CIDR), m.NoRelays(), m.RequestAuthorization(CIDR)]


def test_a_second_resource_names_the_gateway_it_already_has(client: Client) -> None:
    connect(client, CIDR)
    drained(client)
    intend(client, NAMED)

    assert sent(client) == [m.RequestAuthorization(NAMED, (GATEWAY,))]


def test_a_failed_gateway_is_forgotten_and_asked_for_again(client: Client) -> None:
    connect(client, CIDR)
    client.handle_event(e.PeerFailed(str(GATEWAY), "ice_timeout"), now=2.0)
    drained(client)
    intend(client, CIDR, now=2.1)

    assert sent(client) == [m.RequestAuthorization(CIDR, (GATEWAY,))]


def test_a_removed_resource_loses_its_access_and_its_route(client: Client, engine: RecordingEngine) -> None:
    connect(client, CIDR)
    client.handle_message(m.ResourceDeleted(CIDR), now=2.0)

    assert engine.last(c.Deauthorize) == c.Deauthorize(str(CIDR))
    assert engine.last(c.SetRoutes).routes == ()


def test_a_new_name_of_a_resource_keeps_its_access(client: Client, engine: RecordingEngine) -> None:
    connect(client, CIDR)
    renamed = m.ClientCidrResource(
        id=CIDR, name="other", address="10.20.0.0/24", filters=(), sites=(m.Site(SITE.id, "renamed"),)
    )
    client.handle_message(m.ResourceCreatedOrUpdated(renamed), now=2.0)

    assert engine.of(c.Deauthorize) == []


def test_changed_filters_need_a_new_grant(client: Client, engine: RecordingEngine) -> None:
    connect(client, CIDR)
    narrowed = m.ClientCidrResource(
        id=CIDR, name="net", address="10.20.0.0/24", filters=(m.Filter("icmp"),), sites=(SITE,)
    )
    client.handle_message(m.ResourceCreatedOrUpdated(narrowed), now=2.0)

    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(CIDR))]
    assert engine.last(c.SetRoutes).routes[0].filters == (c.Filter("icmp"),)


def test_init_reconciles_the_resources(client: Client, engine: RecordingEngine) -> None:
    connect(client, CIDR)
    client.handle_message(init(DNS_RESOURCE), now=2.0)

    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(CIDR))]


def test_a_query_for_a_resource_routes_its_proxy_addresses(client: Client, engine: RecordingEngine) -> None:
    query(client, 1, "app.corp.example")
    [added] = engine.of(c.AddRoutes)

    assert len(added.routes) == 8
    assert added.routes[0] == c.Route("100.96.0.1/32", str(NAMED), "dns")
    answer = answers(client)[1]
    assert answer is not None
    assert len(answer.answer[0]) == 4


def test_the_most_specific_resource_comes_first_wherever_the_portal_lists_it(
    engine: RecordingEngine,
) -> None:
    narrow = m.ClientDnsResource(
        id=ResourceId(UUID(int=1)), name="app", address="app.corp.example", filters=(), sites=(SITE,)
    )
    for listed in ((DNS_RESOURCE, narrow), (narrow, DNS_RESOURCE)):
        client = Client(engine)
        client.handle_joined()
        client.handle_message(init(*listed), now=0.0)
        query(client, 1, "app.corp.example")
        ranks = {route.resource_id: route.rank for route in engine.last(c.AddRoutes).routes}
        assert ranks == {str(narrow.id): 0, str(NAMED): 1}
        drained(client)
        query(client, 2, "app.corp.example", "TXT")
        assert sent(client) == [m.RequestAuthorization(narrow.id)]


def test_a_search_domain_outside_ascii_reaches_the_host_as_resolvers_append_it(
    engine: RecordingEngine,
) -> None:
    client = Client(engine)
    client.handle_message(init(search_domain="Bücher.example"), now=0.0)
    client.handle_message(init(search_domain="*bü.example"), now=0.0)
    domains = [action.search_domain for action in drained(client) if isinstance(action, Configure)]
    assert domains == ["xn--bcher-kva.example", None]


def test_names_known_before_the_grant_are_held_and_announced_before_it_is_in_force(
    client: Client, engine: RecordingEngine
) -> None:
    query(client, 1, "app.corp.example")
    engine.forget()
    connect(client, NAMED)

    assert [type(command) for command in engine.commands] == [
        c.UpsertPeer,
        c.HoldName,
        c.SendControlPacket,
        c.Authorize,
    ]
    payload = json.loads(engine.last(c.SendControlPacket).payload)
    assert (payload["resource"], payload["domain"], len(payload["proxy_ips"])) == (
        str(NAMED),
        "app.corp.example",
        8,
    )
    assert engine.last(c.Authorize).addresses == engine.last(c.HoldName).proxy_ips


def test_a_name_asked_for_after_the_grant_joins_it(client: Client, engine: RecordingEngine) -> None:
    query(client, 1, "app.corp.example")
    connect(client, NAMED)
    engine.forget()
    query(client, 2, "second.corp.example")

    assert [type(command) for command in engine.commands] == [
        c.AddRoutes,
        c.HoldName,
        c.SendControlPacket,
        c.Authorize,
    ]
    assert engine.last(c.Authorize).addresses[0] == "100.96.0.5", "only what is new"
    assert len(engine.last(c.Authorize).addresses) == 8


def test_the_gateways_word_releases_the_name(client: Client, engine: RecordingEngine) -> None:
    query(client, 1, "app.corp.example")
    connect(client, NAMED)
    status = json.dumps({"resource": str(NAMED), "domain": "app.corp.example", "status": "Active"})
    client.handle_event(e.ControlPacket(str(GATEWAY), 1, status), now=2.0)

    assert engine.last(c.ReleaseName).flush is True


def test_a_resource_that_moves_to_another_gateway_leaves_the_first(
    client: Client, engine: RecordingEngine
) -> None:
    connect(client, CIDR)
    connect(client, CIDR, OTHER_GATEWAY, now=9.0)
    drained(client)
    client.handle_event(e.PeerClosed(str(GATEWAY), "local"), now=9.1)

    assert engine.of(c.Deauthorize) == []
    assert engine.last(c.Authorize).peer_id == str(OTHER_GATEWAY)


def test_a_foreign_name_goes_to_the_hosts_resolver_outside_the_tunnel(client: Client) -> None:
    message = query(client, 1, "example.org")
    [ask] = drained(client)
    assert isinstance(ask, AskUpstream)
    assert (ask.in_tunnel, str(ask.upstream.address)) == (False, "192.0.2.53")  # type: ignore[union-attr]
    reply = dns.message.make_response(message)
    client.handle_answer(1, reply.to_wire(), now=1.1)

    assert answers(client)[1] == reply


def test_a_custom_resolver_inside_a_resource_is_asked_through_the_tunnel(client: Client) -> None:
    client.handle_message(m.ConfigChanged(interface(None, "10.20.0.53")), now=1.0)
    drained(client)
    client.handle_query(
        1,
        dns.message.make_query("example.org", "A").to_wire(),
        sentinel=client.sentinels[0],
        is_udp=True,
        now=1.0,
    )
    [ask] = drained(client)

    assert isinstance(ask, AskUpstream)
    assert ask.in_tunnel


def test_a_silent_upstream_is_silence_over_udp_and_a_broken_one_servfail(client: Client) -> None:
    query(client, 1, "example.org")
    query(client, 2, "example.org")
    client.handle_answer(1, None, timed_out=True, now=6.0)
    client.handle_answer(2, None, now=6.0)
    replies = answers(client)

    assert replies[1] is None
    assert replies[2] is not None
    assert replies[2].rcode() == dns.rcode.SERVFAIL


def test_upstream_answers_are_cached(client: Client) -> None:
    message = query(client, 1, "example.org")
    reply = dns.message.make_response(message)
    reply.answer.append(dns.rrset.from_text("example.org.", 60, "IN", "A", "192.0.2.80"))
    client.handle_answer(1, reply.to_wire(), now=1.0)
    drained(client)
    query(client, 2, "example.org", now=11.0)
    cached = answers(client)[2]

    assert cached is not None
    assert cached.answer[0].ttl == 50


def test_a_text_query_waits_for_the_grant_and_then_goes_to_the_gateway(client: Client) -> None:
    query(client, 1, "app.corp.example", "TXT")
    assert sent(client) == [m.RequestAuthorization(NAMED)]
    client.handle_message(created(NAMED), now=1.2)
    [ask] = [action for action in drained(client) if isinstance(action, AskGateway)]

    assert (ask.query_id, str(ask.server)) == (1, "100.64.0.1")


def test_a_refused_grant_fails_the_queries_that_waited(client: Client) -> None:
    query(client, 1, "app.corp.example", "TXT")
    client.handle_message(m.AuthorizationCreationFailed(NAMED, "forbidden", ("remote_ip",)), now=1.2)
    reply = answers(client)[1]

    assert reply is not None
    assert reply.rcode() == dns.rcode.SERVFAIL


def test_an_offline_site_is_shown_for_five_minutes(client: Client) -> None:
    intend(client, CIDR)
    client.handle_message(m.AuthorizationCreationFailed(CIDR, "offline"), now=1.0)

    assert {one.state for one in client.status(now=300.0)} == {"offline"}
    assert {one.state for one in client.status(now=302.0)} == {"unknown"}


def test_an_established_gateway_brings_its_site_online(client: Client) -> None:
    connect(client, CIDR)
    client.handle_event(e.HandshakeDone(str(GATEWAY), 0.2), now=2.0)

    assert {one.state for one in client.status(now=2.0)} == {"online"}


def test_the_tunnel_is_configured_with_routes_sentinels_and_search_domain(engine: RecordingEngine) -> None:
    client = Client(engine)
    client.handle_system_resolvers((ip_address("192.0.2.53"),))
    client.handle_message(init(CIDR_RESOURCE, search_domain="corp.example"), now=0.0)
    [configure] = [action for action in drained(client) if isinstance(action, Configure)]

    assert configure.search_domain == "corp.example"
    assert configure.tun.sentinels == ("100.100.111.1",)
    assert {"10.20.0.0/24", "100.64.0.0/11", "100.96.0.0/11"} <= {
        str(route) for route in configure.tun.routes
    }
    assert "0.0.0.0/0" not in {str(route) for route in configure.tun.routes}


def test_an_unchanged_init_configures_nothing_again(client: Client) -> None:
    client.handle_message(init(CIDR_RESOURCE, DNS_RESOURCE), now=5.0)

    assert [action for action in drained(client) if isinstance(action, Configure)] == []


def test_the_internet_resource_needs_the_local_switch(engine: RecordingEngine) -> None:
    resource = m.ClientInternetResource(id=CIDR, sites=(SITE,))
    routed = {}
    for is_active in (False, True):
        client = Client(engine, is_internet_active=is_active)
        client.handle_message(init(resource), now=0.0)
        routed[is_active] = [route.prefix for route in engine.last(c.SetRoutes).routes]

    assert routed == {False: [], True: ["0.0.0.0/0", "::/0"]}


def test_a_network_change_drops_every_gateway_and_adopts_the_key(
    client: Client, engine: RecordingEngine
) -> None:
    connect(client, CIDR)
    query(client, 1, "example.org")
    drained(client)
    client.handle_reset(KEY)

    assert engine.last(c.ResetNetwork) == c.ResetNetwork(KEY)
    assert set(answers(client)) == {1}
    intend(client, CIDR, now=1.1)
    assert sent(client) == [m.RequestAuthorization(CIDR, (GATEWAY,))]


def test_candidates_of_a_gateway_without_connection_are_not_kept(
    client: Client, engine: RecordingEngine
) -> None:
    client.handle_message(m.GatewayIceCandidates(GATEWAY, ("candidate:a",)), now=1.0)
    connect(client, CIDR)
    client.handle_message(m.GatewayIceCandidates(GATEWAY, ("candidate:b",)), now=1.0)

    assert engine.of(c.AddRemoteCandidates) == [c.AddRemoteCandidates(str(GATEWAY), ("candidate:b",))]


def test_prohibited_access_asks_again(client: Client) -> None:
    connect(client, CIDR, now=1.0)
    drained(client)
    client.handle_event(e.AccessProhibited(str(GATEWAY), str(CIDR)), now=5.0)

    assert sent(client) == [m.RequestAuthorization(CIDR, (GATEWAY,))]


def test_access_that_stays_prohibited_asks_once_in_ten_seconds(client: Client) -> None:
    connect(client, CIDR, now=1.0)
    drained(client)
    for now in (5.0, 6.0, 14.9, 15.0):
        client.handle_event(e.AccessProhibited(str(GATEWAY), str(CIDR)), now=now)
        client.handle_message(created(CIDR), now=now)

    assert len(sent(client)) == 2


def test_prohibited_access_while_the_portal_is_away_is_asked_for_when_it_is_back(client: Client) -> None:
    connect(client, CIDR, now=1.0)
    drained(client)
    client.handle_portal_lost()
    client.handle_event(e.AccessProhibited(str(GATEWAY), str(CIDR)), now=5.0)
    client.handle_joined()
    drained(client)
    client.handle_event(e.AccessProhibited(str(GATEWAY), str(CIDR)), now=6.0)

    assert sent(client) == [m.RequestAuthorization(CIDR, (GATEWAY,))]


def test_a_name_that_its_gateway_no_longer_serves_asks_again_and_is_announced_on_the_new_grant(
    client: Client, engine: RecordingEngine
) -> None:
    query(client, 1, "app.corp.example")
    connect(client, NAMED)
    client.handle_event(domain_status("Active"), now=1.5)
    query(client, 2, "app.corp.example", now=20.0)
    drained(client)
    client.handle_event(domain_status("Inactive"), now=20.1)
    assert sent(client) == [m.RequestAuthorization(NAMED, (GATEWAY,))]

    engine.forget()
    client.handle_message(created(NAMED), now=20.2)

    assert [type(command) for command in engine.commands] == [
        c.UpsertPeer,
        c.HoldName,
        c.SendControlPacket,
        c.Authorize,
    ]


def test_a_name_that_cannot_be_served_at_all_does_not_go_round_without_traffic(client: Client) -> None:
    query(client, 1, "app.corp.example")
    connect(client, NAMED)
    client.handle_event(domain_status("Inactive"), now=2.0)
    query(client, 2, "app.corp.example", now=20.0)
    client.handle_event(domain_status("Inactive"), now=20.1)
    client.handle_message(created(NAMED), now=20.2)
    drained(client)
    client.handle_event(domain_status("Inactive"), now=40.0)

    assert sent(client) == []


def test_what_is_no_query_is_answered_with_silence(client: Client) -> None:
    client.handle_query(1, b"junk", sentinel=SENTINEL, is_udp=True, now=1.0)

    assert answers(client) == {1: None}


def test_a_new_name_is_matched_and_authorised_alone(client: Client, engine: RecordingEngine) -> None:
    connect(client, NAMED)
    for number in range(30):
        engine.forget()
        query(client, number, f"n{number}.corp.example")
        drained(client)
        [grant] = engine.of(c.Authorize)
        assert len(grant.addresses) == 8, "the addresses of the names before are authorised already"
        assert len(engine.commands) == 4, "routes, hold, announcement, authorization"

    engine.forget()
    query(client, 300, "n7.corp.example", now=1.5)
    assert engine.commands == [], "a known name costs nothing before its next announcement is due"


@pytest.fixture
def small(engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that knows 16 names at most."""
    monkeypatch.setattr(names, "ProxyAddresses", partial(ProxyAddresses, max_names=16))
    made = Client(engine)
    made.handle_joined()
    made.handle_message(init(DNS_RESOURCE), now=0.0)
    return made


def test_names_are_bounded_and_the_ones_asked_for_longest_ago_make_room(
    small: Client, engine: RecordingEngine
) -> None:
    query(small, 0, "kept.corp.example")
    for number in range(1, 16):
        query(small, number, f"n{number}.corp.example")
    query(small, 16, "kept.corp.example")
    engine.forget()
    query(small, 17, "last.corp.example")

    [added], [removed] = engine.of(c.AddRoutes), engine.of(c.RemoveRoutes)
    assert added.routes[0].prefix == "100.96.0.65/32"
    assert len(removed.routes) == 8
    assert removed.routes[0] == c.RemovedRoute("100.96.0.5/32", str(NAMED), "dns"), (
        "nobody asked for n1 since"
    )

    drained(small)
    query(small, 18, "n1.corp.example")
    answer = answers(small)[18]
    assert answer is not None
    assert "100.96.0.5" not in answer.answer[0].to_text(), "its old addresses stay in quarantine"


def test_a_forgotten_name_leaves_its_gateway_nothing_to_hold(small: Client, engine: RecordingEngine) -> None:
    connect(small, NAMED)
    for number in range(17):
        query(small, number, f"n{number}.corp.example")

    released = [command.proxy_ips[0] for command in engine.of(c.ReleaseName)]
    assert released == ["100.96.0.1"]


def test_lines_name_resource_and_site_beside_their_ids(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    connect(client, CIDR)
    client.handle_event(e.HandshakeDone(str(GATEWAY), 0.123456789), now=1.2)
    client.handle_event(e.PathSelected(str(GATEWAY), "direct", "", "192.0.2.1:1", None), now=1.2)
    client.handle_event(e.PeerClosed(str(GATEWAY), "remote"), now=2.0)
    client.handle_message(m.AuthorizationCreationFailed(NAMED, "forbidden", ("remote_ip",)), now=3.0)

    gateway = {"gateway_id": str(GATEWAY), "site": "site"}
    assert lines(caplog.records) == [
        ("access granted", {"resource_id": str(CIDR), "resource": "net", **gateway}),
        ("connection established", {**gateway, "took_s": 0.123}),
        ("path selected", {**gateway, "path": "direct"}),
        ("connection closed", {**gateway, "by": "remote"}),
        (
            "access refused",
            {
                "resource_id": str(NAMED),
                "resource": "app",
                "reason": "forbidden",
                "violated_properties": ["remote_ip"],
            },
        ),
    ]


def test_what_has_no_name_here_is_logged_by_its_id(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    client.handle_message(m.AuthorizationCreationFailed(ResourceId(UUID(int=1)), "not_found"), now=1.0)
    client.handle_event(e.PeerClosed(str(OTHER_GATEWAY), "remote"), now=1.0)

    assert lines(caplog.records) == [
        (
            "access refused",
            {"resource_id": str(UUID(int=1)), "reason": "not_found", "violated_properties": []},
        ),
        ("connection closed", {"gateway_id": str(OTHER_GATEWAY), "by": "remote"}),
    ]


def test_the_300th_name_costs_what_the_10th_did(
    engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "ProxyAddresses", partial(ProxyAddresses, max_names=150))
    client = Client(engine)
    client.handle_joined()
    client.handle_message(init(DNS_RESOURCE), now=0.0)
    connect(client, NAMED)
    spent = {10: list[tuple[int, int, int]](), 300: list[tuple[int, int, int]]()}
    for number in range(1, 306):
        engine.forget()
        message = dns.message.make_query(f"n{number:04}.corp.example", "A").to_wire()
        handle = partial(
            client.handle_query, number, message, sentinel=SENTINEL, is_udp=True, now=number / 100
        )
        first = 10 if number < 16 else 300
        if first <= number:
            spent[first].append(cost_of(handle, engine))
        else:
            handle()
        drained(client)

    # Medians, since tables grow by leaps.
    few, many = (tuple(map(median, zip(*spent[first], strict=True))) for first in (10, 300))
    assert 0 < many[0] < 2 * few[0], "bytes handed over; the name that makes room is among them"
    assert 0 < many[1] < 2 * few[1], "functions called"
    assert 0 < many[2] < 2 * few[2], "memory taken at once"


def cost_of(handle: Callable[[], None], engine: RecordingEngine) -> tuple[int, int, int]:
    """The bytes of the commands that follow, the calls made, and the bytes of memory taken at once."""
    calls = 0

    def count(_frame: FrameType, _event: str, _arg: object) -> None:
        nonlocal calls
        calls += 1

    tracemalloc.start()
    sys.setprofile(count)
    handle()
    sys.setprofile(None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sum(len(msgspec.json.encode(command)) for command in engine.commands), calls, peak
