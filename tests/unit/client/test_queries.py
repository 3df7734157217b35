"""Queries between programs, name servers and gateways."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

import dns.message
import dns.rcode
import pytest

from wardgate.client.queries import MAX_SITE_QUERIES, Answer, AskGateway, AskUpstream, Queries, QueryAction
from wardgate.dns.recent_answers import RecentAnswers
from wardgate.model.ids import ResourceId
from wardgate.wire import messages as m

SITE = ResourceId(UUID(int=1))
OTHER_SITE = ResourceId(UUID(int=2))
SENTINEL = ip_address("100.100.111.1")
SYSTEM = ip_address("192.0.2.53")

Fixture = tuple[Queries, list[QueryAction]]


@pytest.fixture
def queries() -> Fixture:
    emitted: list[QueryAction] = []
    made = Queries(emitted.append, RecentAnswers())
    made.set_upstreams(interface(), system=(SYSTEM,))
    return made, emitted


def interface(*upstreams: str) -> m.ClientInterface:
    return m.ClientInterface(
        IPv4Address("100.64.0.9"),
        IPv6Address("fd00:2021:1111::9"),
        upstream_do53=tuple(m.UpstreamDo53(one) for one in upstreams),
    )


def begin(
    queries: Queries,
    query_id: int,
    name: str = "example.org",
    *,
    is_udp: bool = True,
    sentinel: object = SENTINEL,
) -> dns.message.Message | None:
    payload = dns.message.make_query(name, "A", id=query_id).to_wire()
    return queries.begin(query_id, payload, sentinel=ip_address(str(sentinel)), is_udp=is_udp, now=1.0)


def codes(emitted: list[QueryAction]) -> dict[int, dns.rcode.Rcode | None]:
    return {
        one.query_id: None if one.payload is None else dns.message.from_wire(one.payload).rcode()
        for one in emitted
        if isinstance(one, Answer)
    }


@pytest.mark.parametrize(
    ("is_udp", "timed_out", "code"),
    [
        (True, True, None),
        (True, False, dns.rcode.SERVFAIL),
        (False, True, dns.rcode.SERVFAIL),
        (False, False, dns.rcode.SERVFAIL),
    ],
)
def test_only_a_program_that_retries_by_itself_gets_silence(
    queries: Fixture, is_udp: bool, timed_out: bool, code: dns.rcode.Rcode | None
) -> None:
    ours, emitted = queries
    begin(ours, 1, is_udp=is_udp)
    ours.handle_answer(1, None, timed_out=timed_out, now=6.0)
    ours.handle_answer(1, None, timed_out=timed_out, now=6.0)

    assert codes(emitted) == {1: code}
    assert len(emitted) == 1, "an answer comes once"


def test_the_answer_to_another_question_is_a_failure(queries: Fixture) -> None:
    ours, emitted = queries
    begin(ours, 1)
    foreign = dns.message.make_response(dns.message.make_query("other.org", "A", id=1))
    ours.handle_answer(1, foreign.to_wire(), timed_out=False, now=1.0)

    assert codes(emitted) == {1: dns.rcode.SERVFAIL}


@pytest.mark.parametrize(("carries", "in_tunnel"), [(True, True), (False, False)])
def test_a_custom_name_server_is_asked_where_the_tunnel_leads_to_it(
    queries: Fixture, carries: bool, in_tunnel: bool
) -> None:
    ours, emitted = queries
    ours.set_upstreams(interface("10.20.0.53"), system=(SYSTEM,))
    begin(ours, 1, sentinel=ours.sentinels[0])
    ours.ask_upstream(1, carries=lambda server: carries and str(server) == "10.20.0.53")

    [ask] = emitted
    assert isinstance(ask, AskUpstream)
    assert ask.in_tunnel is in_tunnel


def test_a_sentinel_that_is_no_longer_in_use_fails_the_query(queries: Fixture) -> None:
    ours, emitted = queries
    begin(ours, 1, sentinel="100.100.111.9")
    ours.ask_upstream(1, carries=lambda _server: True)

    assert codes(emitted) == {1: dns.rcode.SERVFAIL}


def test_a_gateway_is_asked_in_the_family_of_the_sentinel(queries: Fixture) -> None:
    ours, emitted = queries
    ipv4, ipv6 = ip_address("100.64.0.1"), ip_address("fd00:2021:1111::1")
    for query_id, sentinel in ((1, SENTINEL), (2, ip_address("fd00:2021:1111:8000:100:100:111:0"))):
        begin(ours, query_id, sentinel=sentinel)
        ours.ask_gateway(query_id, ipv4=ipv4, ipv6=ipv6)

    assert [one.server for one in emitted if isinstance(one, AskGateway)] == [ipv4, ipv6]


def test_of_too_many_that_wait_for_a_site_the_oldest_fails(queries: Fixture) -> None:
    ours, emitted = queries
    for query_id in range(MAX_SITE_QUERIES + 1):
        begin(ours, query_id)
        ours.wait_for(SITE, query_id)

    assert codes(emitted) == {0: dns.rcode.SERVFAIL}
    assert ours.take_waiting(SITE) == tuple(range(1, MAX_SITE_QUERIES + 1))
    assert ours.take_waiting(SITE) == ()


def test_a_refused_resource_fails_its_own_queries_only(queries: Fixture) -> None:
    ours, emitted = queries
    for query_id, site in ((1, SITE), (2, OTHER_SITE)):
        begin(ours, query_id)
        ours.wait_for(site, query_id)
    ours.fail_waiting(SITE)
    assert codes(emitted) == {1: dns.rcode.SERVFAIL}
    ours.fail_all()
    assert codes(emitted) == dict.fromkeys((1, 2), dns.rcode.SERVFAIL)
    assert ours.take_waiting(OTHER_SITE) == ()


@pytest.mark.parametrize("upstreams", [("198.51.100.53",), ()], ids=["others", "the same"])
def test_cached_answers_are_those_of_the_present_name_servers(
    queries: Fixture, upstreams: tuple[str, ...]
) -> None:
    ours, emitted = queries
    query = begin(ours, 1)
    assert query is not None
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text("example.org.", 60, "IN", "A", "192.0.2.80"))
    ours.handle_answer(1, reply.to_wire(), timed_out=False, now=1.0)
    ours.set_upstreams(interface(*upstreams), system=(SYSTEM,))

    assert (begin(ours, 2) is None) is (upstreams == ())
    assert len(emitted) == (2 if upstreams == () else 1)


def test_what_a_former_name_server_answers_late_is_passed_on_and_not_kept(queries: Fixture) -> None:
    ours, emitted = queries
    query = begin(ours, 1)
    assert query is not None
    ours.set_upstreams(interface("198.51.100.53"), system=(SYSTEM,))
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text("example.org.", 60, "IN", "A", "192.0.2.80"))
    ours.handle_answer(1, reply.to_wire(), timed_out=False, now=1.0)

    assert codes(emitted) == {1: dns.rcode.NOERROR}
    assert begin(ours, 2) is not None
