"""Names and DNS queries through the whole machine."""

import json
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from statistics import median
from types import FrameType
from uuid import UUID

import dns.message
import dns.rcode
import msgspec
import pytest

from support.recording_engine import RecordingEngine
from unit.client.builders import (
    CLOCK,
    DNS_RESOURCE,
    GATEWAY,
    NAMED,
    SENTINEL,
    SITE,
    answers,
    connect,
    created,
    domain_status,
    drained,
    init,
    interface,
    query,
    sent,
)
from wardgate.client import names
from wardgate.client.machine import Client
from wardgate.client.queries import AskGateway, AskUpstream
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.dns.proxy_addresses import ProxyAddresses
from wardgate.model.ids import ResourceId
from wardgate.wire import messages as m


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
        client = Client(engine, clock=CLOCK)
        client.handle_joined()
        client.handle_message(init(*listed), now=0.0)
        query(client, 1, "app.corp.example")
        ranks = {route.resource_id: route.rank for route in engine.last(c.AddRoutes).routes}
        assert ranks == {str(narrow.id): 0, str(NAMED): 1}
        drained(client)
        query(client, 2, "app.corp.example", "TXT")
        assert sent(client) == [m.RequestAuthorization(narrow.id)]


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


@pytest.mark.parametrize("is_on_its_way", [False, True])
@pytest.mark.parametrize("kind", ["A", "TXT"])
def test_a_name_that_becomes_ours_is_not_answered_by_what_an_upstream_said(
    client: Client, is_on_its_way: bool, kind: str
) -> None:
    message = query(client, 1, "wiki.example.org", kind)
    reply = dns.message.make_response(message)
    data = {"A": "192.0.2.80", "TXT": '"public"'}[kind]
    reply.answer.append(dns.rrset.from_text("wiki.example.org.", 60, "IN", kind, data))
    wiki = m.ClientDnsResource(
        id=ResourceId(UUID(int=77)), name="wiki", address="*.example.org", filters=(), sites=(SITE,)
    )
    created_first = m.ResourceCreatedOrUpdated(wiki)
    if is_on_its_way:
        client.handle_message(created_first, now=1.0)
    client.handle_answer(1, reply.to_wire(), now=1.0)
    if not is_on_its_way:
        client.handle_message(created_first, now=1.0)
    drained(client)
    query(client, 2, "wiki.example.org", kind, now=11.0)
    if kind == "TXT":
        assert sent(client) == [m.RequestAuthorization(wiki.id)]
    else:
        found = answers(client)[2]
        assert found is not None
        assert "100.96.0." in found.to_text()


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
    made = Client(engine, clock=CLOCK)
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


def test_the_300th_name_costs_what_the_10th_did(
    engine: RecordingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "ProxyAddresses", partial(ProxyAddresses, max_names=150))
    client = Client(engine, clock=CLOCK)
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


def asked_again(client: Client, name: str, now: float = 1.0) -> dns.message.Message | None:
    answer = client.answer_again(dns.message.make_query(name, "A").to_wire(), is_udp=True, now=now)
    return None if answer is None else dns.message.from_wire(answer)


def test_a_query_asked_again_gets_its_answer_at_once_and_its_gateway_resolves_anew(
    client: Client, engine: RecordingEngine
) -> None:
    connect(client, NAMED)
    query(client, 1, "app.corp.example")
    client.handle_event(domain_status("Active"), now=1.0)
    first = answers(client)[1]
    engine.forget()
    again = asked_again(client, "app.corp.example", now=9.0)

    assert first is not None
    assert again is not None
    assert again.answer == first.answer
    assert len(engine.of(c.SendControlPacket)) == 1


def test_an_answer_is_not_given_again_once_the_resource_is_gone_or_has_one_family(client: Client) -> None:
    query(client, 1, "app.corp.example")
    assert asked_again(client, "app.corp.example") is not None
    client.handle_message(m.ResourceDeleted(NAMED), now=1.0)
    assert asked_again(client, "app.corp.example") is None


def test_a_foreign_answer_is_given_again_for_as_long_as_its_ttl_reads_the_same(client: Client) -> None:
    message = query(client, 1, "example.org")
    reply = dns.message.make_response(message)
    reply.answer.append(dns.rrset.from_text("example.org.", 60, "IN", "A", "192.0.2.80"))
    client.handle_answer(1, reply.to_wire(), now=1.0)
    assert (
        asked_again(client, "example.org", now=1.2) is None
    )  # an upstream's own answer is not kept in bytes
    query(client, 2, "example.org", now=1.2)

    again = asked_again(client, "example.org", now=1.9)
    assert again is not None
    assert again.answer[0].ttl == 60
    assert asked_again(client, "example.org", now=2.0) is None


def test_a_forgotten_name_is_not_answered_with_the_addresses_it_had(small: Client) -> None:
    for number in range(16):
        query(small, number, f"n{number}.corp.example")
    assert asked_again(small, "n1.corp.example") is not None
    query(small, 16, "n16.corp.example")

    assert asked_again(small, "n0.corp.example") is None


def test_a_name_that_is_asked_for_again_is_kept(small: Client, engine: RecordingEngine) -> None:
    for number in range(16):
        query(small, number, f"n{number}.corp.example")
    asked_again(small, "n0.corp.example")
    query(small, 16, "n16.corp.example")

    [removed] = engine.of(c.RemoveRoutes)
    assert removed.routes[0].prefix == "100.96.0.5/32", "n1 is the one that nobody asked for since"
