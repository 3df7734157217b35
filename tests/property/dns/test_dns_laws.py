import dns.message
from hypothesis import given
from hypothesis import strategies as st

from wardgate.dns.plain_query import read_query
from wardgate.dns.proxy_addresses import ADDRESSES_PER_NAME, ProxyAddresses, is_sentinel
from wardgate.dns.stub_resolver import (
    MAX_UDP_ANSWER,
    Answered,
    Malformed,
    StubResolver,
    cut_to_udp,
    encode_answer,
    parse_query,
    text_of,
)
from wardgate.model.addresses import PROXY_IPV4, PROXY_IPV6

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)


@given(st.lists(NAMES, max_size=60))
def test_no_two_names_share_an_address_and_all_lie_in_the_pools(names: list[str]) -> None:
    addresses = ProxyAddresses()
    drawn = {name: addresses.assign(name) for name in names}
    everything = [one for proxies in drawn.values() for one in (*proxies.ipv4, *proxies.ipv6)]

    assert len(everything) == len(set(everything)) == 2 * ADDRESSES_PER_NAME * len(drawn)
    assert all(
        one in (PROXY_IPV4 if one.version == 4 else PROXY_IPV6) and not is_sentinel(one) for one in everything
    )
    assert all(addresses.name_of(one) == name for name, proxies in drawn.items() for one in proxies.ipv4)


@given(st.binary(max_size=600))
def test_any_datagram_is_answered_or_refused_but_never_breaks_the_resolver(datagram: bytes) -> None:
    resolver = StubResolver(ProxyAddresses())
    try:
        query = parse_query(datagram)
    except Malformed:
        return
    outcome = resolver.resolve(query)
    if isinstance(outcome, Answered):
        assert len(encode_answer(outcome.message, is_udp=True)) <= MAX_UDP_ANSWER


@given(NAMES, st.sampled_from(["A", "AAAA", "TXT", "HTTPS"]), st.integers(0, 40))
def test_what_leaves_over_udp_fits(name: str, rdtype: str, records: int) -> None:
    answer = dns.message.make_response(dns.message.make_query(name, rdtype, use_edns=0))
    if records and rdtype == "TXT":
        texts = (f'"{"y" * 100}{number}"' for number in range(records))
        answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", "TXT", *texts))

    assert len(cut_to_udp(answer.to_wire(max_size=65535))) <= MAX_UDP_ANSWER


QUERIES = st.builds(
    lambda name, rdtype, edns, flags: dns.message.make_query(
        name, rdtype, use_edns=edns, flags=flags
    ).to_wire(),
    NAMES,
    st.sampled_from(["A", "AAAA", "TXT", "HTTPS"]),
    st.sampled_from([None, 0]),
    st.integers(0, 0xFFFF),
)
SPOILED = st.builds(
    lambda wire, at, byte: wire[: at % len(wire)] + bytes((byte,)) + wire[at % len(wire) + 1 :],
    QUERIES,
    st.integers(0, 600),
    st.integers(0, 255),
)


@given(st.one_of(st.binary(max_size=60), QUERIES, SPOILED))
def test_what_is_read_without_the_library_is_what_the_library_reads(datagram: bytes) -> None:
    read = read_query(datagram)
    if read is None:
        return
    query = parse_query(datagram)
    assert (read.id, read.name, read.rdtype) == (
        query.id,
        text_of(query.question[0].name),
        query.question[0].rdtype,
    )
