from ipaddress import ip_address
from uuid import UUID

import msgspec
import pytest

from support.log_records import lines
from support.recording_engine import RecordingEngine
from unit.client.builders import (
    CIDR,
    CIDR_RESOURCE,
    CLOCK,
    DNS_RESOURCE,
    GATEWAY,
    KEY,
    NAMED,
    OTHER_GATEWAY,
    SITE,
    answers,
    connect,
    created,
    drained,
    init,
    intend,
    query,
    sent,
)
from wardgate.client.machine import Client
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.model.ids import ResourceId
from wardgate.peer.machine import Configure
from wardgate.peer.status import Why
from wardgate.wire import messages as m

OTHER = ResourceId(UUID("55555555-5555-4555-8555-555555555555"))


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


def test_a_search_domain_outside_ascii_reaches_the_host_as_resolvers_append_it(
    engine: RecordingEngine,
) -> None:
    client = Client(engine, clock=CLOCK)
    client.handle_message(init(search_domain="Bücher.example"), now=0.0)
    client.handle_message(init(search_domain="*bü.example"), now=0.0)
    domains = [action.search_domain for action in drained(client) if isinstance(action, Configure)]
    assert domains == ["xn--bcher-kva.example", None]


def test_a_resource_that_moves_to_another_gateway_leaves_the_first(
    client: Client, engine: RecordingEngine
) -> None:
    connect(client, CIDR)
    connect(client, CIDR, OTHER_GATEWAY, now=9.0)
    drained(client)
    client.handle_event(e.PeerClosed(str(GATEWAY), "local"), now=9.1)

    assert engine.of(c.Deauthorize) == []
    assert engine.last(c.Authorize).peer_id == str(OTHER_GATEWAY)


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
    client = Client(engine, clock=CLOCK)
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
        client = Client(engine, clock=CLOCK, is_internet_active=is_active)
        client.handle_message(init(resource), now=0.0)
        routed[is_active] = [route.prefix for route in engine.last(c.SetRoutes).routes]

    assert routed == {False: [], True: ["0.0.0.0/0", "::/0"]}


def test_a_network_change_drops_every_gateway_and_adopts_the_key(
    client: Client, engine: RecordingEngine
) -> None:
    connect(client, CIDR)
    query(client, 1, "example.org")
    drained(client)
    client.handle_reset(KEY, now=0.0)

    assert engine.last(c.ResetNetwork) == c.ResetNetwork(KEY)
    assert set(answers(client)) == {1}
    intend(client, CIDR, now=1.1)
    assert sent(client) == [m.RequestAuthorization(CIDR, (GATEWAY,))]


def test_what_was_in_use_when_the_network_changed_is_asked_for_without_a_packet(client: Client) -> None:
    """A download receives only: its program would wait for ever."""
    connect(client, CIDR)
    drained(client)
    client.handle_reset(KEY, in_use={str(GATEWAY)}, now=0.0)
    client.handle_portal_lost()
    client.handle_reset(KEY, now=0.0)  # once more, before the portal was there
    client.handle_joined()
    drained(client)  # it has not been told yet what may be asked for
    client.handle_message(init(CIDR_RESOURCE), now=2.0)
    assert sent(client) == [m.RequestAuthorization(CIDR, (GATEWAY,))]
    client.handle_message(init(CIDR_RESOURCE), now=9.0)
    assert not sent(client), "once"


def test_what_was_not_in_use_or_is_gone_waits_for_a_packet(client: Client) -> None:
    connect(client, CIDR)
    drained(client)
    client.handle_reset(KEY, now=0.0)
    client.handle_message(init(CIDR_RESOURCE), now=2.0)
    assert not sent(client)
    connect(client, CIDR, now=3.0)
    drained(client)
    client.handle_reset(KEY, in_use={str(GATEWAY)}, now=0.0)
    client.handle_message(init(DNS_RESOURCE), now=4.0)
    assert not sent(client)


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
        (
            "path selected",
            {**gateway, "path": "direct: the peer answers from an address that it did not signal"},
        ),
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


def test_what_a_person_is_told_follows_from_refusal_to_grant_to_path(client: Client) -> None:
    def why(target: str) -> Why:
        try:
            return client.why(ip_address(target), protocol="tcp", port=443, now=9.0)
        except ValueError:
            return client.why(target, protocol="tcp", port=443, now=9.0)

    assert why("10.20.0.5").outcome == "no answer"
    assert why("192.0.2.1").outcome == why("wiki.elsewhere.example").outcome == "no resource"
    named = why("app.corp.example").resource
    assert named is not None
    assert (named.name, named.kind, named.address) == ("app", "dns", "*.corp.example")
    query(client, 1, "app.corp.example")
    by_address = why("100.96.0.1")
    assert (by_address.name, by_address.resource) == ("app.corp.example", named)

    client.ask_access(str(CIDR), ip_address("10.20.0.5"), now=1.0)
    assert sent(client) == [m.RequestAuthorization(CIDR)]
    client.handle_message(
        m.AuthorizationCreationFailed(CIDR, "forbidden", violated_properties=("remote_ip",)), now=1.0
    )
    refused = why("10.20.0.5")
    assert (refused.outcome, refused.reason, refused.violated) == ("refused", "forbidden", ("remote_ip",))

    client.ask_access(str(CIDR), ip_address("10.20.0.5"), now=4.0)
    assert why("10.20.0.5").outcome == "no answer", "the old refusal is not told as the new answer"
    client.handle_message(created(CIDR), now=4.0)
    path = e.PathSelected(str(GATEWAY), "direct", "192.0.2.1:1", "192.0.2.2:2", None)
    client.handle_event(path, now=5.0)
    client.handle_event(e.HandshakeDone(str(GATEWAY), 0.1), now=5.0)
    granted = why("10.20.0.5")
    assert granted.outcome == "authorized"
    assert granted.connection is not None
    assert (granted.connection.path, granted.connection.is_established) == ("direct", True)
    (net, _) = sorted(client.shown_resources(now=5.0), key=lambda one: one.name, reverse=True)
    assert (net.state, net.gateway_id, net.refusal) == ("online", str(GATEWAY), None)


def test_of_networks_that_overlap_the_longest_prefix_is_told_first_and_filters_are_looked_at(
    client: Client,
) -> None:
    only_ssh = m.Filter(protocol="tcp", port_range_start=22, port_range_end=22)
    narrow = m.ClientCidrResource(
        id=OTHER, name="host", address="10.20.0.5/32", filters=(only_ssh,), sites=(SITE,)
    )
    client.handle_message(m.ResourceCreatedOrUpdated(narrow), now=1.0)

    def told(port: int | None, protocol: str = "tcp") -> tuple[str, bool, tuple[str, ...]]:
        why = client.why(ip_address("10.20.0.5"), protocol=protocol, port=port, now=1.0)
        assert why.resource is not None
        return why.resource.name, why.is_filtered, why.others

    assert told(22) == ("host", False, ("net",))
    assert told(80) == ("net", False, ("host",))
    client.handle_message(m.ResourceDeleted(CIDR), now=1.0)
    assert told(80) == ("host", True, ())
    assert told(22, "udp") == ("host", True, ())


def goodbye(client: Client, *, in_use: bool, now: float) -> None:
    client.handle_event(e.PeerClosed(str(GATEWAY), "remote", in_use=in_use), now=now)


def test_a_gateway_in_use_that_says_goodbye_is_asked_for_until_it_is_back(client: Client) -> None:
    connect(client, CIDR)
    drained(client)
    goodbye(client, in_use=True, now=2.0)
    request = m.RequestAuthorization(CIDR, (GATEWAY,))
    assert sent(client) == [request], "a program that only receives sends no packet that asks"
    for now in (2.01, 2.26):
        client.handle_message(m.AuthorizationCreationFailed(CIDR, "offline"), now=now)
        assert client.poll_timeout() == now + 0.25
        client.handle_timeout(now=now + 0.24)
        assert not sent(client)
        client.handle_timeout(now=now + 0.25)
        assert sent(client) == [request]
    client.handle_message(created(CIDR), now=2.6)
    assert client.poll_timeout() is None


def test_a_gateway_that_stays_away_is_asked_for_by_packets_only(client: Client) -> None:
    connect(client, CIDR)
    drained(client)
    goodbye(client, in_use=True, now=2.0)
    asked, now = 0, 2.0
    while asked < 1_000 and sent(client):
        asked += 1
        client.handle_message(m.AuthorizationCreationFailed(CIDR, "offline"), now=now)
        now += 0.25
        client.handle_timeout(now=now)
    assert 70 <= asked <= 80, "four times a second, for 20 s"
    assert client.poll_timeout() is None


@pytest.mark.parametrize("reason", ["forbidden", "not_found"])
def test_what_is_refused_is_not_asked_for_again(client: Client, reason: str) -> None:
    connect(client, CIDR)
    goodbye(client, in_use=True, now=2.0)
    drained(client)
    client.handle_message(m.AuthorizationCreationFailed(CIDR, reason), now=2.1)
    assert client.poll_timeout() is None


def test_a_quiet_gateway_that_says_goodbye_waits_for_a_packet(client: Client) -> None:
    connect(client, CIDR)
    drained(client)
    goodbye(client, in_use=False, now=2.0)
    assert not sent(client)


def test_the_next_process_knows_names_and_asks_for_what_was_in_use(
    client: Client, engine: RecordingEngine
) -> None:
    client.handle_message(init(CIDR_RESOURCE, DNS_RESOURCE), now=0.0)
    query(client, 1, "app.corp.example")
    connect(client, CIDR)
    routes = engine.last(c.AddRoutes).routes
    legacy = msgspec.Raw(msgspec.json.encode(client.bequeath({str(GATEWAY)})))
    assert engine.last(c.Shutdown) == c.Shutdown(goodbye=False)

    successor = Client(engine, clock=CLOCK)
    successor.inherit(legacy, now=0.0)
    successor.handle_joined()
    successor.handle_timeout(now=0.0)  # before it is known what may be asked for
    drained(successor)
    successor.handle_message(init(CIDR_RESOURCE, DNS_RESOURCE), now=0.1)
    assert sent(successor) == [m.RequestAuthorization(CIDR)]
    assert set(routes) <= set(engine.last(c.SetRoutes).routes)
    query(successor, 2, "app.corp.example")
    assert engine.of(c.AddRoutes) == [c.AddRoutes(routes)], "the name has the addresses that it had"


@pytest.mark.parametrize(
    "legacy", [b'{"resources":["no id"]}', b'{"names":[["a",["1.2.3.4.5"],[]]]}', b"[]", b"null"]
)
def test_a_legacy_that_is_not_understood_is_an_error(client: Client, legacy: bytes) -> None:
    with pytest.raises((ValueError, msgspec.DecodeError)):
        client.inherit(msgspec.Raw(legacy), now=0.0)


def test_only_proxy_addresses_are_inherited(client: Client, engine: RecordingEngine) -> None:
    client.inherit(msgspec.Raw(b'{"names":[["app.corp.example",["10.0.0.1"],[]]]}'), now=0.0)
    client.handle_message(init(DNS_RESOURCE), now=0.0)
    query(client, 1, "app.corp.example")
    assert engine.last(c.AddRoutes).routes[0].prefix == "100.96.0.1/32"
