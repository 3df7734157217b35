from uuid import UUID

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from wardgate.dns.proxy_addresses import ProxyAddresses
from wardgate.dns.stub_resolver import (
    Answered,
    AskSite,
    Malformed,
    NameRule,
    Recurse,
    StubResolver,
    cut_to_udp,
    encode_answer,
    parse_query,
)
from wardgate.model.ids import ResourceId
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import IpStack

WIDE = ResourceId(UUID(int=1))
NARROW = ResourceId(UUID(int=2))


def resolver(stack: IpStack = IpStack.DUAL) -> StubResolver:
    made = StubResolver(ProxyAddresses())
    made.set_rules(
        (
            NameRule(NARROW, NamePattern.parse("app.corp.example"), stack),
            NameRule(WIDE, NamePattern.parse("**.corp.example"), stack),
        )
    )
    return made


def ask(name: str, rdtype: str, made: StubResolver | None = None) -> object:
    query = parse_query(dns.message.make_query(name, rdtype).to_wire())
    return (made or resolver()).resolve(query)


def records(outcome: object) -> list[str]:
    assert isinstance(outcome, Answered)
    return [record.to_text() for rrset in outcome.message.answer for record in rrset]


def test_a_matching_name_gets_four_proxy_addresses_with_one_second() -> None:
    outcome = ask("APP.corp.example", "A")

    assert records(outcome) == ["100.96.0.1", "100.96.0.2", "100.96.0.3", "100.96.0.4"]
    assert isinstance(outcome, Answered)
    assert outcome.name == "app.corp.example"
    assert outcome.message.answer[0].ttl == 1


def test_aaaa_of_the_same_name_comes_from_the_same_draw() -> None:
    made = resolver()
    ask("app.corp.example", "A", made)

    assert len(records(ask("app.corp.example", "AAAA", made))) == 4
    assert records(ask("other.corp.example", "A", made))[0] == "100.96.0.5"


def test_a_family_that_no_matching_resource_has_is_empty() -> None:
    outcome = ask("app.corp.example", "AAAA", resolver(IpStack.IPV4_ONLY))

    assert records(outcome) == []
    assert isinstance(outcome, Answered)
    assert outcome.message.rcode() == dns.rcode.NOERROR


def test_https_of_a_matching_name_is_empty() -> None:
    assert records(ask("app.corp.example", "HTTPS")) == []


@pytest.mark.parametrize("rdtype", ["SRV", "TXT"])
def test_srv_and_txt_go_to_the_site_of_the_most_specific_resource(rdtype: str) -> None:
    assert ask("app.corp.example", rdtype) == AskSite(NARROW)
    assert ask("other.corp.example", rdtype) == AskSite(WIDE)


@pytest.mark.parametrize(
    ("name", "rdtype"), [("example.com", "A"), ("app.corp.example", "MX"), ("corp.test", "TXT")]
)
def test_what_is_not_ours_goes_to_an_upstream(name: str, rdtype: str) -> None:
    assert ask(name, rdtype) == Recurse()


def test_a_reverse_query_for_a_proxy_address_names_it() -> None:
    made = resolver()
    ask("app.corp.example", "A", made)

    assert records(ask("1.0.96.100.in-addr.arpa", "PTR", made)) == ["app.corp.example."]
    assert ask("99.0.96.100.in-addr.arpa", "PTR", made) == Recurse()
    assert ask("nonsense.in-addr.arpa", "PTR", made) == Recurse()


def test_the_canary_does_not_exist() -> None:
    outcome = ask("use-application-dns.net", "A")

    assert isinstance(outcome, Answered)
    assert outcome.message.rcode() == dns.rcode.NXDOMAIN


def test_a_synthesised_answer_copies_id_and_rd_and_claims_nothing_else() -> None:
    query = dns.message.make_query("app.corp.example", "A", use_edns=0)
    outcome = resolver().resolve(parse_query(query.to_wire()))
    assert isinstance(outcome, Answered)
    answer = dns.message.from_wire(encode_answer(outcome.message, is_udp=True))

    assert answer.id == query.id
    assert answer.flags == dns.flags.QR | dns.flags.RD
    assert answer.opt is None


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0" * 11,
        dns.message.make_response(dns.message.make_query("a.example", "A")).to_wire(),
        dns.message.Message(id=1).to_wire(),
        b"\0\1\0\0\0\1\0\0\0\0\0\0" + b"\3app\xc0\4" + b"\0\1\0\1",
    ],
    ids=["empty", "short", "a response", "no question", "a name by a pointer"],
)
def test_what_is_no_query_with_one_question_is_malformed(datagram: bytes) -> None:
    with pytest.raises(Malformed):
        parse_query(datagram)


def test_a_large_answer_over_udp_keeps_header_and_question_only() -> None:
    query = dns.message.make_query("big.example", "TXT", use_edns=0)
    answer = dns.message.make_response(query)
    answer.answer.append(
        dns.rrset.from_text("big.example.", 60, "IN", "TXT", *(f'"{"x" * 200}{n}"' for n in range(10)))
    )
    cut = dns.message.from_wire(cut_to_udp(answer.to_wire(max_size=65535)))

    assert cut.flags & dns.flags.TC
    assert cut.question == query.question
    assert (cut.answer, cut.opt) == ([], None)


def test_a_small_answer_over_udp_passes_unchanged() -> None:
    answer = dns.message.make_response(dns.message.make_query("a.example", "A", use_edns=0)).to_wire()

    assert cut_to_udp(answer) == answer


def test_an_ipv6_only_resource_has_no_ipv4_answer() -> None:
    outcome = ask("app.corp.example", "A", only(IpStack.IPV6_ONLY))

    assert records(outcome) == []
    assert isinstance(outcome, Answered)
    assert outcome.name == "app.corp.example"
    assert len(records(ask("app.corp.example", "AAAA", only(IpStack.IPV6_ONLY)))) == 4


def test_an_ipv4_only_resource_has_no_ipv6_answer() -> None:
    assert records(ask("app.corp.example", "AAAA", only(IpStack.IPV4_ONLY))) == []
    assert len(records(ask("app.corp.example", "A", only(IpStack.IPV4_ONLY)))) == 4


def only(stack: IpStack) -> StubResolver:
    made = StubResolver(ProxyAddresses())
    made.set_rules((NameRule(NARROW, NamePattern.parse("app.corp.example"), stack),))
    return made


def test_a_resource_typed_outside_ascii_meets_the_question_on_the_wire() -> None:
    made = StubResolver(ProxyAddresses())
    made.set_rules((NameRule(NARROW, NamePattern.parse("**.Bücher.example")),))

    assert len(records(ask("shop.xn--bcher-kva.example", "A", made))) == 4
