"""Listener, exchange and look-up against each other, over loopback."""

import asyncio
import socket
from ipaddress import ip_address
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from wardgate.model.addresses import IpAddress
from wardgate.net import name_lookup
from wardgate.net.dns_exchange import Route, exchange
from wardgate.net.dns_listener import DnsListener, Query
from wardgate.net.name_lookup import NameLookup

PLAIN = Route(mark=None)
LOOPBACK = ip_address("127.0.0.1")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def zone(query: Query) -> bytes | None:
    message = dns.message.from_wire(query.payload)
    answer = dns.message.make_response(message)
    question = message.question[0]
    if question.name.to_text() == "silent.example.":
        return None
    if question.name.to_text() != "app.example.":
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif question.rdtype == dns.rdatatype.A:
        if query.is_udp:
            answer.flags |= dns.flags.TC
        else:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "192.0.2.80"))
    return answer.to_wire()


@pytest.mark.parametrize("is_udp", [True, False])
async def test_a_query_is_answered_over_either_transport(is_udp: bool) -> None:
    port = free_port()
    listener = DnsListener(zone, port=port)
    await listener.listen(("127.0.0.1",))
    query = dns.message.make_query("app.example", "A")
    try:
        answer = dns.message.from_wire(
            await exchange(query.to_wire(), LOOPBACK, port, is_udp=is_udp, route=PLAIN)
        )
    finally:
        await listener.close()

    assert query.is_response(answer)
    assert bool(answer.flags & dns.flags.TC) is is_udp


async def test_silence_is_a_timeout() -> None:
    port = free_port()
    listener = DnsListener(zone, port=port)
    await listener.listen(("127.0.0.1",))
    query = dns.message.make_query("silent.example", "A").to_wire()
    try:
        with pytest.raises(TimeoutError):
            await exchange(query, LOOPBACK, port, is_udp=True, route=PLAIN, timeout_s=0.1)
        with pytest.raises(ConnectionError):
            await exchange(query, LOOPBACK, port, is_udp=False, route=PLAIN, timeout_s=5.0)
    finally:
        await listener.close()


async def test_an_address_no_longer_served_is_released() -> None:
    port = free_port()
    listener = DnsListener(zone, port=port)
    await listener.listen(("127.0.0.1", "127.0.0.2"))
    await listener.listen(("127.0.0.2",))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        await asyncio.sleep(0)
        probe.bind(("127.0.0.1", port))
    await listener.close()


async def test_a_look_up_falls_back_to_tcp_and_remembers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, bool]] = []

    async def served(query: bytes, server: IpAddress, **options: object) -> bytes:
        is_udp = options["is_udp"] is True
        asked.append((dns.message.from_wire(query).question[0].to_text().split()[-1], is_udp))
        answer = await zone(Query(server, query, is_udp))
        assert answer is not None
        return answer

    async def servers() -> tuple[IpAddress, ...]:
        return (LOOPBACK,)

    monkeypatch.setattr(name_lookup, "exchange", served)
    lookup = NameLookup(servers, hosts=tmp_path / "hosts")
    first = await lookup.addresses("app.example")
    again = await lookup.addresses("app.example")

    assert first == again == frozenset({ip_address("192.0.2.80")})
    assert asked.count(("A", False)) == 1
    assert await lookup.addresses("missing.example") == frozenset()


async def test_the_hosts_file_comes_first_and_addresses_stand_for_themselves(tmp_path: Path) -> None:
    async def none() -> tuple[IpAddress, ...]:
        return ()

    hosts = tmp_path / "hosts"
    hosts.write_text("# comment\n192.0.2.1 portal Portal.example # x\n2001:db8::1 portal\nbroken portal\n")
    lookup = NameLookup(none, hosts=hosts)

    assert await lookup.addresses("PORTAL") == frozenset({ip_address("192.0.2.1"), ip_address("2001:db8::1")})
    assert await lookup.addresses("[2001:db8::9]") == frozenset({ip_address("2001:db8::9")})
    assert await lookup.addresses("other") == frozenset()
