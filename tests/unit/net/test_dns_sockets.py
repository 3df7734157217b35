"""Listener, exchange and look-up against each other, over loopback."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from support.free_port import free_port
from wardgate.dns.upstream_answers import FAILURE_S
from wardgate.model.addresses import IpAddress
from wardgate.net import dns_listener, name_lookup
from wardgate.net.dns_asker import DnsAsker
from wardgate.net.dns_exchange import Route, exchange
from wardgate.net.dns_listener import MAX_TCP_CONNECTIONS, DnsListener, Query
from wardgate.net.name_lookup import NameLookup, NameServers, NoServerHelped

PLAIN = Route(mark=None)
LOOPBACK = ip_address("127.0.0.1")


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


async def asked(
    port: int, query: bytes, *, is_udp: bool, timeout_s: float = 60.0, route: Route = PLAIN
) -> bytes:
    if is_udp:
        return await DnsAsker(timeout_s=timeout_s).exchange(query, LOOPBACK, port, route=route)
    return await exchange(query, LOOPBACK, port, route=route, timeout_s=timeout_s)


@pytest.mark.parametrize("is_udp", [True, False])
async def test_a_query_is_answered_over_either_transport(is_udp: bool) -> None:
    port = free_port()
    listener = DnsListener(zone, port=port)
    await listener.listen(("127.0.0.1",))
    query = dns.message.make_query("app.example", "A")
    try:
        answer = dns.message.from_wire(await asked(port, query.to_wire(), is_udp=is_udp))
    finally:
        await listener.close()

    assert query.is_response(answer)
    assert bool(answer.flags & dns.flags.TC) is is_udp


@pytest.mark.parametrize("is_udp", [True, False])
async def test_what_is_known_at_once_asks_nobody(is_udp: bool) -> None:
    async def nobody(_: Query) -> bytes | None:
        raise AssertionError("asked")

    def at_once(query: Query) -> bytes | None:
        return dns.message.make_response(dns.message.from_wire(query.payload)).to_wire()

    port = free_port()
    listener = DnsListener(nobody, at_once=at_once, port=port)
    await listener.listen(("127.0.0.1",))
    query = dns.message.make_query("app.example", "A")
    try:
        answer = await asked(port, query.to_wire(), is_udp=is_udp)
    finally:
        await listener.close()

    assert query.is_response(dns.message.from_wire(answer))


async def test_silence_is_a_timeout() -> None:
    port = free_port()
    listener = DnsListener(zone, port=port)
    await listener.listen(("127.0.0.1",))
    query = dns.message.make_query("silent.example", "A").to_wire()
    try:
        with pytest.raises(TimeoutError):
            await asked(port, query, is_udp=True, timeout_s=0.1)
        with pytest.raises(ConnectionError):
            await asked(port, query, is_udp=False)
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
        assert probe.getsockname() == ("127.0.0.1", port)
    await listener.close()


async def test_a_look_up_falls_back_to_tcp_and_remembers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    questions: list[tuple[str, bool]] = []

    async def served(_: NameServers, query: bytes, server: IpAddress, *, is_udp: bool) -> bytes:
        questions.append((dns.message.from_wire(query).question[0].to_text().split()[-1], is_udp))
        answer = await zone(Query(server, query, is_udp))
        assert answer is not None
        return answer

    async def servers() -> tuple[IpAddress, ...]:
        return (LOOPBACK,)

    monkeypatch.setattr(NameServers, "_exchange", served)
    lookup = NameLookup(servers, hosts=tmp_path / "hosts")
    first = await lookup.addresses("app.example")
    again = await lookup.addresses("app.example")

    assert first == again == frozenset({ip_address("192.0.2.80")})
    assert questions.count(("A", False)) == 1
    assert await lookup.addresses("missing.example") == frozenset()


async def test_the_hosts_file_comes_first_and_addresses_stand_for_themselves(tmp_path: Path) -> None:
    async def none() -> tuple[IpAddress, ...]:
        return ()

    hosts = tmp_path / "hosts"
    hosts.write_text("# comment\n192.0.2.1 portal Portal.example # x\n2001:db8::1 portal\nbroken portal\n")
    lookup = NameLookup(none, hosts=hosts)

    assert await lookup.addresses("PORTAL") == frozenset({ip_address("192.0.2.1"), ip_address("2001:db8::1")})
    assert await lookup.addresses("[2001:db8::9]") == frozenset({ip_address("2001:db8::9")})
    with pytest.raises(NoServerHelped):
        await lookup.addresses("other")


FIRST, SECOND = ip_address("192.0.2.1"), ip_address("192.0.2.2")
Spoil = Callable[[dns.message.Message], bytes]


def rcode(text: str) -> Spoil:
    def spoil(query: dns.message.Message) -> bytes:
        answer = dns.message.make_response(query)
        answer.set_rcode(dns.rcode.from_text(text))
        return answer.to_wire()

    return spoil


def silence(_query: dns.message.Message) -> bytes:
    raise TimeoutError


def address(query: dns.message.Message) -> bytes:
    answer = dns.message.make_response(query)
    if query.question[0].rdtype == dns.rdatatype.A:
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.80"))
    return answer.to_wire()


class Servers:
    """Two name servers, the first of which misbehaves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: Spoil, second: Spoil = address) -> None:
        self.behaviour = {FIRST: first, SECOND: second}
        self.asked: list[IpAddress] = []
        monkeypatch.setattr(
            NameServers,
            "_exchange",
            lambda _, query, server, **_options: self._exchange(query, server),
        )

    async def addresses(self) -> tuple[IpAddress, ...]:
        return tuple(self.behaviour)

    async def _exchange(self, query: bytes, server: IpAddress) -> bytes:
        self.asked.append(server)
        return self.behaviour[server](dns.message.from_wire(query))


@pytest.mark.parametrize(
    "first",
    [
        rcode("SERVFAIL"),
        rcode("REFUSED"),
        rcode("NOTIMP"),
        silence,
        lambda query: b"garbage",
        lambda query: b"",
        lambda query: query.to_wire(),
        lambda query: address(dns.message.make_query("evil.example", "A", id=query.id)),
        lambda query: address(query)[:-1],
    ],
)
async def test_where_one_name_server_fails_the_next_is_asked(
    first: Spoil, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    servers = Servers(monkeypatch, first)
    lookup = NameLookup(servers.addresses, hosts=tmp_path / "hosts")

    assert await lookup.addresses("app.example") == frozenset({ip_address("192.0.2.80")})

    query = dns.message.make_query("app.example", "TXT")
    forwarded = await NameServers(servers.addresses).ask(query, query.to_wire(), is_udp=True)
    assert dns.message.from_wire(forwarded).rcode() == dns.rcode.NOERROR


async def test_a_denial_of_the_name_ends_the_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    servers = Servers(monkeypatch, rcode("NXDOMAIN"))
    assert (
        await NameLookup(servers.addresses, hosts=tmp_path / "hosts").addresses("app.example") == frozenset()
    )
    assert set(servers.asked) == {FIRST}


async def test_a_failure_of_all_is_told_apart_from_a_name_without_addresses_and_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    servers = Servers(monkeypatch, rcode("SERVFAIL"), rcode("REFUSED"))
    lookup = NameLookup(servers.addresses, hosts=tmp_path / "hosts")
    with pytest.raises(NoServerHelped):
        await lookup.addresses("app.example")
    asked = len(servers.asked)
    with pytest.raises(NoServerHelped):  # within five seconds nobody is asked again
        await lookup.addresses("app.example")
    assert len(servers.asked) == asked

    later = asyncio.get_running_loop().time() + FAILURE_S
    monkeypatch.setattr(name_lookup, "_now", lambda: later)
    servers.behaviour[FIRST] = address
    assert await lookup.addresses("app.example") == frozenset({ip_address("192.0.2.80")})


async def test_a_family_that_fails_does_not_hide_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def only_ipv4(query: dns.message.Message) -> bytes:
        return address(query) if query.question[0].rdtype == dns.rdatatype.A else rcode("SERVFAIL")(query)

    servers = Servers(monkeypatch, only_ipv4, only_ipv4)
    lookup = NameLookup(servers.addresses, hosts=tmp_path / "hosts")
    assert await lookup.addresses("app.example") == frozenset({ip_address("192.0.2.80")})


async def test_only_silence_is_worth_a_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers(monkeypatch, silence, rcode("SERVFAIL"))
    query = dns.message.make_query("app.example", "A")
    with pytest.raises(NoServerHelped):
        await NameServers(servers.addresses).ask(query, query.to_wire(), is_udp=True)
    assert servers.asked == [FIRST, SECOND, FIRST]


async def until(condition: Callable[[], bool]) -> None:
    """The loop has a socket to read from, which no event of ours tells of."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Stuck:
    """A handler that answers nobody but one source until it is told to."""

    def __init__(self, served: str) -> None:
        self.served = served
        self.waiting = 0
        self.go = asyncio.Event()

    async def answer(self, query: Query) -> bytes | None:
        if query.source != self.served:
            self.waiting += 1
            await self.go.wait()
            self.waiting -= 1
        return await zone(query)


async def asked_from(source: str, port: int, *, is_udp: bool) -> bytes:
    query = dns.message.make_query("app.example", "AAAA").to_wire()
    return await asked(port, query, is_udp=is_udp, route=Route(source=source, mark=None))


@pytest.mark.parametrize("is_udp", [True, False])
async def test_a_client_that_floods_leaves_room_for_the_next(
    is_udp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_listener, "MAX_QUERIES", 20)
    port, stuck = free_port(), Stuck(served="127.0.0.3")
    listener = DnsListener(stuck.answer, port=port)
    await listener.listen(("127.0.0.1",))
    query = dns.message.make_query("app.example", "A").to_wire()
    with contextlib.ExitStack() as sockets:
        for _ in range(60):  # each from a port of its own: a share is a client's
            flood = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            flood.bind(("127.0.0.2", 0))
            flood.sendto(query, ("127.0.0.1", port))
        try:
            await until(lambda: listener.counts()["dns_refused"] + stuck.waiting == 60)
            assert stuck.waiting == 10
            assert await asked_from("127.0.0.3", port, is_udp=is_udp)
        finally:
            stuck.go.set()
            await listener.close()


async def test_connections_of_one_client_are_bounded_and_leave_the_others_theirs() -> None:
    port = free_port()
    listener = DnsListener(zone, port=port)
    await listener.listen(("127.0.0.1",))
    held = [
        await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        for _ in range(MAX_TCP_CONNECTIONS)
    ]
    try:
        one_more, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        held.append((one_more, writer))
        query = dns.message.make_query("app.example", "AAAA").to_wire()
        writer.write(len(query).to_bytes(2, "big") + query)
        with contextlib.suppress(ConnectionError):  # closed before the query came
            assert await one_more.read(1) == b"", "it is closed, and nothing is answered"
        assert await asked_from("127.0.0.3", port, is_udp=False)
    finally:
        for _, writer in held:
            writer.close()
        await listener.close()


async def test_pipelined_queries_are_answered_one_at_a_time() -> None:
    port, stuck = free_port(), Stuck(served="")
    listener = DnsListener(stuck.answer, port=port)
    await listener.listen(("127.0.0.1",))
    query = dns.message.make_query("app.example", "AAAA").to_wire()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write((len(query).to_bytes(2, "big") + query) * 20)
        await until(lambda: stuck.waiting > 0)
        assert stuck.waiting == 1
        stuck.go.set()
        for _ in range(20):
            assert await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
        await listener.close()


@pytest.mark.parametrize("sent", [b"", b"\0\xff\1"])
async def test_an_idle_connection_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_listener, "_TCP_IDLE_S", 0.01)
    port = free_port()
    listener = DnsListener(zone, port=port)
    await listener.listen(("127.0.0.1",))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        with contextlib.suppress(ConnectionError):  # closed before this came
            assert await reader.read() == b""
    finally:
        writer.close()
        await listener.close()
