"""A name server that lies, over real sockets, to those who ask it for us: the resolver by which a gateway finds where a
DNS resource is, what a gateway forwards for its clients, and the client's stub resolver.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from support.free_port import free_port
from support.process_parts import HostedParts, client_process, gateway_process
from unit.client.builders import SENTINEL, interface
from wardgate.dns.message_cost import MAX_RECORDS
from wardgate.dns.stub_resolver import MAX_UDP_ANSWER
from wardgate.dns.upstream_answers import MAX_ADDRESSES
from wardgate.gateway.process import MAX_UDP_ANSWER as MAX_FORWARDED
from wardgate.model.addresses import IpAddress
from wardgate.net import dns_exchange
from wardgate.net.dns_asker import DnsAsker, Waiting
from wardgate.net.dns_exchange import Route
from wardgate.net.dns_listener import Query
from wardgate.net.name_lookup import NameLookup, NameServers, NoServerHelped
from wardgate.wire import messages as m
from wardgate.wire.control_channel import Joined, Received

HOST = ipaddress.ip_address("127.0.0.1")
GOOD, FORGED = "192.0.2.80", "192.0.2.66"
NAME = "app.example."

Lies = Callable[[dns.message.Message, bool], list[bytes]]
"""What is sent upon a query, over UDP or not."""


class NameServer:
    """On UDP and TCP of one port; `asked` counts its queries."""

    def __init__(self) -> None:
        self.port = free_port()
        self.asked = 0
        self.lies: Lies = lambda _query, _is_udp: []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        server = self

        class Datagrams(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr: Any) -> None:
                for answer in server.answers(data, is_udp=True):
                    self.transport.sendto(answer, addr)

        self._datagrams, _ = await loop.create_datagram_endpoint(Datagrams, (str(HOST), self.port))
        self._stream = await asyncio.start_server(self._converse, str(HOST), self.port)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        for answer in self.answers(await reader.readexactly(length), is_udp=False):
            writer.write(len(answer).to_bytes(2, "big") + answer)
        await writer.drain()
        writer.close()

    def answers(self, query: bytes, *, is_udp: bool) -> list[bytes]:
        self.asked += 1
        return self.lies(dns.message.from_wire(query), is_udp)

    async def close(self) -> None:
        self._datagrams.close()
        self._stream.close()
        await self._stream.wait_closed()


class Askers:
    """The product's three, all of which know that name server only."""

    def __init__(self, hosts: Path) -> None:
        self.lookup = NameLookup(self._servers, hosts=hosts)
        gateway, _ = gateway_process(HostedParts())
        gateway._servers = NameServers(self._servers)
        client, link = client_process(HostedParts())
        link.handle(Joined())
        link.handle(Received(m.ClientInit(interface=interface(None, str(HOST)), resources=())))
        self._answer = {"client": client._answer_query, "gateway": gateway._answer_query}
        self.counts = {"client": client.counts, "gateway": gateway.counts}

    async def _servers(self) -> tuple[IpAddress, ...]:
        return (HOST,)

    async def addresses(self) -> set[str]:
        """What a gateway would translate to."""
        return set(map(str, await self.lookup.addresses(NAME)))

    async def ask(self, who: str, *, is_udp: bool = True) -> bytes | None:
        query = dns.message.make_query(NAME, "A", id=7)
        return await self._answer[who](Query(SENTINEL, query.to_wire(), is_udp))


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServer]:
    made = NameServer()
    await made.start()

    real, real_ask = dns_exchange.exchange, DnsAsker.ask

    async def exchange(query: bytes, asked: IpAddress, *_port: int, **options: Any) -> bytes:
        return await real(query, asked, made.port, **{**options, "route": Route(mark=None)})

    def ask(asker: DnsAsker, query: bytes, asked: IpAddress, *_port: int, **options: Any) -> Waiting:
        return real_ask(asker, query, asked, made.port, **{**options, "route": Route(mark=None)})

    monkeypatch.setattr("wardgate.net.name_lookup.exchange", exchange)
    monkeypatch.setattr("wardgate.client.process.exchange", exchange)

    monkeypatch.setattr(DnsAsker, "ask", ask)
    yield made
    await made.close()


@pytest.fixture
def askers(tmp_path: Path) -> Askers:
    return Askers(tmp_path / "hosts")


both = pytest.mark.parametrize("who", ["client", "gateway"])


def answer(query: dns.message.Message, *records: tuple[str, str, str]) -> dns.message.Message:
    """Each record is owner, type and data."""
    made = dns.message.make_response(query)
    for owner, kind, data in records:
        made.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, data))
    return made


def truth(query: dns.message.Message, address: str = GOOD) -> bytes:
    is_a = query.question[0].rdtype == dns.rdatatype.A
    return answer(query, *([(NAME, "A", address)] if is_a else [])).to_wire()


def other_id(query: dns.message.Message) -> bytes:
    forged = dns.message.from_wire(truth(query, FORGED))
    forged.id = query.id ^ 1
    return forged.to_wire()


def other_question(name: str, kind: str = "A") -> Callable[[dns.message.Message], bytes]:
    """The right id, and an answer about something else."""

    def forged(query: dns.message.Message) -> bytes:
        asked = dns.message.make_query(name, kind, id=query.id)
        return answer(asked, (NAME, "A", FORGED), (name, "A", FORGED)).to_wire()

    return forged


def reflected(query: dns.message.Message) -> bytes:
    return query.to_wire()


FORGERIES = [other_id, other_question("evil.example."), other_question("app.example.evil."), lambda _: b"\0"]


@pytest.mark.parametrize("forged", FORGERIES)
async def test_a_forged_answer_that_comes_first_loses_against_the_true_one(
    server: NameServer, askers: Askers, forged: Callable[[dns.message.Message], bytes]
) -> None:
    server.lies = lambda query, _: [forged(query), forged(query), truth(query)]
    assert await askers.addresses() == {GOOD}
    for who in ("client", "gateway"):
        told = await askers.ask(who)
        assert told is not None
        assert GOOD in dns.message.from_wire(told).to_text()
        assert FORGED not in dns.message.from_wire(told).to_text()


@pytest.mark.parametrize("forged", [*FORGERIES, reflected])
async def test_who_gets_nothing_but_forgeries_is_told_nothing_of_them(
    server: NameServer, askers: Askers, forged: Callable[[dns.message.Message], bytes]
) -> None:
    server.lies = lambda query, _: 20 * [forged(query)]
    with pytest.raises(NoServerHelped):
        await askers.addresses()
    for who in ("client", "gateway"):
        told = await askers.ask(who)
        assert told is not None
        assert (dns.message.from_wire(told).rcode(), FORGED in str(told)) == (dns.rcode.SERVFAIL, False)
        assert (askers.counts[who]()["dns_forwarded"], askers.counts[who]()["dns_unanswered"]) == (1, 1)
    # Over TCP there is no second answer to wait for.
    for who in ("client", "gateway"):
        told = await askers.ask(who, is_udp=False)
        assert told is not None
        assert dns.message.from_wire(told).rcode() == dns.rcode.SERVFAIL


NOWHERE = "to nowhere, and somebody else's address"
CHAINS = {
    "to itself": [(NAME, "CNAME", NAME)],
    "round": [(NAME, "CNAME", "b.example."), ("b.example.", "CNAME", NAME)],
    "long": [
        *[(f"n{at}.example.", "CNAME", f"n{at + 1}.example.") for at in range(40)],
        (NAME, "CNAME", "n0.example."),
        ("n40.example.", "A", FORGED),
    ],
    NOWHERE: [
        (NAME, "CNAME", "b.example."),
        ("evil.example.", "A", FORGED),
    ],
}


@pytest.mark.parametrize("chain", CHAINS)
async def test_aliases_that_lead_nowhere_give_no_address_and_end_the_search(
    server: NameServer, askers: Askers, chain: str
) -> None:
    server.lies = lambda query, _: [answer(query, *CHAINS[chain]).to_wire()]
    if chain == NOWHERE:
        assert await askers.addresses() == set()
    else:
        with pytest.raises(NoServerHelped):
            await askers.addresses()
    assert server.asked == 2, "A and AAAA, once: it is not asked along the chain"


@both
async def test_aliases_that_go_round_are_passed_on_as_they_came_and_not_kept(
    server: NameServer, askers: Askers, who: str
) -> None:
    server.lies = lambda query, _: [answer(query, *CHAINS["round"]).to_wire()]
    for times in (1, 2):
        told = await askers.ask(who)
        assert told is not None
        assert len(dns.message.from_wire(told).answer) == 2
        assert server.asked == times


def many(query: dns.message.Message, number: int) -> bytes:
    made = dns.message.make_response(query)
    if query.question[0].rdtype == dns.rdatatype.A:
        addresses = [f"198.51.{at >> 8}.{at & 255}" for at in range(number)]
        made.answer.append(dns.rrset.from_text(NAME, 60, "IN", "A", *addresses))
    return made.to_wire(max_size=65535)


def cut(query: dns.message.Message, is_udp: bool, number: int) -> list[bytes]:
    """What does not fit is asked for over TCP."""
    if not is_udp:
        return [many(query, number)]
    short = dns.message.make_response(query)
    short.flags |= dns.flags.TC
    return [short.to_wire()]


async def test_of_a_large_answer_some_addresses_are_taken_and_of_a_huge_one_none(
    server: NameServer, askers: Askers
) -> None:
    server.lies = lambda query, is_udp: cut(query, is_udp, MAX_RECORDS - 1)
    assert len(await askers.addresses()) == MAX_ADDRESSES


async def test_a_huge_answer_is_not_read(server: NameServer, askers: Askers) -> None:
    server.lies = lambda query, is_udp: cut(query, is_udp, 4_000)
    with pytest.raises(NoServerHelped, match="records"):
        await askers.addresses()


@both
async def test_a_huge_answer_is_passed_on_unread_and_cut_for_who_asked_over_udp(
    server: NameServer, askers: Askers, who: str
) -> None:
    server.lies = lambda query, _: [many(query, 4_000)]  # 64 KB in one datagram, too
    over_tcp, over_udp = await askers.ask(who, is_udp=False), await askers.ask(who)
    assert over_tcp is not None
    assert over_udp is not None
    assert len(over_tcp) > 64_000
    assert len(over_udp) < min(MAX_UDP_ANSWER, MAX_FORWARDED)
    short = dns.message.from_wire(over_udp)
    assert (bool(short.flags & dns.flags.TC), short.answer) == (True, [])


@both
@pytest.mark.parametrize("spoil", [lambda good: good[:-3], lambda good: good[:6] + b"\0\2" + good[8:]])
async def test_an_answer_that_contradicts_itself_is_a_failure(
    server: NameServer, askers: Askers, who: str, spoil: Callable[[bytes], bytes]
) -> None:
    server.lies = lambda query, _: [spoil(answer(query, (NAME, "A", FORGED)).to_wire())]
    told = await askers.ask(who)
    assert told is not None
    assert dns.message.from_wire(told).rcode() == dns.rcode.SERVFAIL
    with pytest.raises(NoServerHelped):
        await askers.addresses()
