"""Many queries to one server, over loopback: ports, ids, and what becomes of each query."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_address

import dns.message
import pytest

from wardgate.net import dns_asker
from wardgate.net.dns_asker import MAX_PORTS, MAX_STRAYS, QUERIES_OF_A_PORT, DnsAsker
from wardgate.net.dns_exchange import Route

LOOPBACK = ip_address("127.0.0.1")
PLAIN = Route(mark=None)


class Server:
    """Keeps what it is asked, by port of origin; answers when told to."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind((str(LOOPBACK), 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def asked(self) -> list[tuple[bytes, int]]:
        """Queries since the last call, and the ports that they came from."""
        found = []
        while True:
            try:
                query, (_, port) = self.socket.recvfrom(4096)
            except BlockingIOError:
                return found
            found.append((query, port))

    def send(self, payload: bytes, port: int) -> None:
        self.socket.sendto(payload, (str(LOOPBACK), port))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    yield made
    made.socket.close()


@pytest.fixture
async def asker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DnsAsker]:
    """However slow the machine is, its time is not over."""
    monkeypatch.setattr(dns_asker, "PORT_S", 1e6)
    monkeypatch.setattr(dns_asker, "AGAIN_S", 1e6)
    made = DnsAsker(timeout_s=1e6)
    yield made
    made.close()
    assert not made._servers, "a port stays open"


def query(number: int = 7, name: str = "app.example") -> bytes:
    return dns.message.make_query(name, "A", id=number).to_wire()


def answer(asked: bytes) -> bytes:
    return dns.message.make_response(dns.message.from_wire(asked)).to_wire()


class Answers(list[tuple[bytes | None, bool]]):
    """What queries were answered with, and whether it is because their time was over."""

    def __init__(self) -> None:
        self._more = asyncio.Event()

    def take(self, payload: bytes | None, timed_out: bool) -> None:
        self.append((payload, timed_out))
        self._more.set()

    async def wait(self, number: int = 1) -> None:
        while len(self) < number:
            self._more.clear()
            await self._more.wait()


async def told(asker: DnsAsker, server: Server, payload: bytes) -> tuple[bytes, int]:
    """Ask, have it answered, and return what went out and its port."""
    answers = Answers()
    asker.ask(payload, LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    ((sent, port),) = server.asked()
    server.send(answer(sent), port)
    await answers.wait()
    assert answers == [(answer(payload), False)], "the answer has the id that the program chose"
    return sent, port


async def test_queries_one_after_the_other_leave_by_ports_and_with_ids_of_their_own(
    server: Server, asker: DnsAsker
) -> None:
    sent = [await told(asker, server, query()) for _ in range(20)]
    assert len({port for _, port in sent}) > 15
    assert len({asked[:2] for asked, _ in sent}) > 15
    assert not asker._servers, "no port is open that nobody waits at"


async def test_many_at_once_share_a_few_ports_each_for_so_many_queries(
    server: Server, asker: DnsAsker
) -> None:
    answers = Answers()
    number = MAX_PORTS * QUERIES_OF_A_PORT + 100
    asked: list[tuple[bytes, int]] = []
    for at in range(number):
        payload = query(at, f"n{at}.example")
        asker.ask(payload, LOOPBACK, server.port, route=PLAIN, answered=answers.take)
        asked += server.asked()
    assert len(asker) == len(asked) == number
    used = Counter(port for _, port in asked)
    assert max(used.values()) <= QUERIES_OF_A_PORT
    assert MAX_PORTS < len(used) <= MAX_PORTS + number // QUERIES_OF_A_PORT
    assert len({(port, one[:2]) for one, port in asked}) == number
    for one, port in asked:
        server.send(answer(one), port)
        await asyncio.sleep(0)
    await answers.wait(number)
    assert {payload for payload, _ in answers} == {
        answer(query(at, f"n{at}.example")) for at in range(number)
    }


async def test_a_port_takes_no_new_query_when_its_time_is_over_or_the_network_has_changed(
    server: Server, asker: DnsAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers()

    def ports(name: str) -> set[int]:
        for at in range(3 * MAX_PORTS):
            asker.ask(
                query(at, f"{name}{at}.example"), LOOPBACK, server.port, route=PLAIN, answered=answers.take
            )
        return {port for _, port in server.asked()}

    first = ports("a")
    assert len(first) == MAX_PORTS
    assert ports("b") <= first
    asker.renew_ports()
    assert first.isdisjoint(ports("c"))
    asker.renew_ports()
    monkeypatch.setattr(dns_asker, "PORT_S", 0.0)
    assert len(ports("d")) == 3 * MAX_PORTS


async def test_the_same_query_joins_the_one_under_way(
    server: Server, asker: DnsAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers()
    for number in (7, 8):
        asker.ask(query(number), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    ((sent, port),) = server.asked()
    monkeypatch.setattr(dns_asker, "AGAIN_S", 0.0)
    asker.ask(query(9), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    assert server.asked() == [(sent, port)], "it goes out again as it was"
    server.send(answer(sent), port)
    await answers.wait(3)
    assert answers == [(answer(query(number)), False) for number in (7, 8, 9)]


Forge = Callable[[bytes], bytes]
STRAYS: list[Forge] = [
    lambda sent: bytes((sent[0] ^ 1, *answer(sent)[1:])),
    lambda sent: answer(sent[:2] + query(name="evil.example")[2:]),
    lambda sent: sent,
    lambda sent: b"",
]


@pytest.mark.parametrize("forge", STRAYS)
async def test_so_many_strays_are_passed_over_and_one_more_ends_all_that_wait_at_the_port(
    server: Server, asker: DnsAsker, forge: Forge
) -> None:
    answers = Answers()
    asker.ask(query(), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    ((sent, port),) = server.asked()
    for _ in range(MAX_STRAYS):
        server.send(forge(sent), port)
    server.send(answer(sent), port)
    await answers.wait()
    assert answers == [(answer(query()), False)]

    answers.clear()
    asker.ask(query(), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    ((sent, port),) = server.asked()
    for _ in range(MAX_STRAYS + 1):
        server.send(forge(sent), port)
    await answers.wait()
    assert answers == [(None, False)]


async def test_a_query_that_is_too_long_harms_no_other(
    server: Server, asker: DnsAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_asker, "MAX_PORTS", 1)
    answers = Answers()
    too_long = query(name="long") + bytes(65_600)
    for _ in range(2):
        with pytest.raises(OSError, match="too long"):
            asker.ask(too_long, LOOPBACK, server.port, route=PLAIN, answered=answers.take)
        if not asker._servers:  # no port stays open for it
            asker.ask(query(), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    ((sent, port),) = server.asked()
    server.send(answer(sent), port)
    await answers.wait()
    assert answers == [(answer(query()), False)]


async def test_after_a_change_of_the_network_the_same_query_goes_out_anew(
    server: Server, asker: DnsAsker
) -> None:
    answers = Answers()
    asker.ask(query(7), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    asker.renew_ports()
    asker.ask(query(8), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    (first, second) = server.asked()
    assert first[1] != second[1]
    server.send(answer(second[0]), second[1])
    await answers.wait()
    server.send(answer(first[0]), first[1])
    await answers.wait(2)
    assert answers == [(answer(query(number)), False) for number in (8, 7)]


async def test_a_task_gets_its_answer_and_leaves_nothing_when_it_is_cancelled(
    server: Server, asker: DnsAsker
) -> None:
    def asks(number: int) -> asyncio.Task[bytes]:
        return asyncio.create_task(asker.exchange(query(number), LOOPBACK, server.port, route=PLAIN))

    stays, leaves = asks(7), asks(8)
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])
    ((sent, port),) = server.asked()
    server.send(answer(sent), port)
    assert await stays == answer(query(7))

    alone = asks(9)
    await asyncio.sleep(0)
    alone.cancel()
    await asyncio.wait([alone])
    assert (len(asker), asker._timer, asker._servers) == (0, None, {})


async def test_answers_that_come_twice_are_no_strays(
    server: Server, asker: DnsAsker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_asker, "MAX_PORTS", 1)
    answers = Answers()
    for name in ("one", "two"):
        asker.ask(query(name=name), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    (first, port), (second, _) = server.asked()
    for _ in range(2 + MAX_STRAYS):
        server.send(answer(first), port)
    server.send(answer(second), port)
    await answers.wait(2)
    assert answers == [(answer(query(name=name)), False) for name in ("one", "two")]


async def test_silence_ends_with_the_time_and_the_timer_with_the_last_query(server: Server) -> None:
    asker = DnsAsker(timeout_s=0.01)
    answers = Answers()
    for name in ("one", "two"):
        asker.ask(query(name=name), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    await answers.wait(2)
    assert answers == [(None, True), (None, True)]
    assert (len(asker), asker._timer, asker._servers) == (0, None, {})


async def test_a_server_that_is_not_there_is_told_at_once(server: Server, asker: DnsAsker) -> None:
    answers = Answers()
    server.socket.close()
    asker.ask(query(), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    await answers.wait()
    assert answers == [(None, False)]
    with pytest.raises(OSError, match="assign"):  # no such address of ours
        asker.ask(
            query(), ip_address("255.255.255.255"), 53, route=Route("192.0.2.1", None), answered=answers.take
        )


async def test_who_waits_when_all_ends_is_told(server: Server) -> None:
    asker = DnsAsker()
    answers = Answers()
    asker.ask(query(), LOOPBACK, server.port, route=PLAIN, answered=answers.take)
    asker.close()
    assert answers == [(None, False)]
    assert (len(asker), asker._timer) == (0, None)
