"""Strangers at real listeners, over TCP on loopback.

Times are tested without waiting in tests/unit/portal/test_protocols.py.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from support.patience import PATIENCE_S
from support.served_portal import served_portal
from wardgate.portal.connection_bounds import MAX_HEAD_BYTES
from wardgate.portal.listening import listen
from wardgate.portal.settings import PortalSettings
from wardgate.portal.strangers import ACCEPTED_AT_ONCE, Gate, Listener

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: portal\r\n\r\n"


class Door:
    """A listener with a gate, and both ends of the connections to it."""

    def __init__(self, stack: ExitStack, **bounds: Any) -> None:
        self._stack = stack
        self._listener = stack.enter_context(listen("127.0.0.1", 0))
        self.counters: Counter[str] = Counter()
        given: dict[str, Any] = {"most": 1000, "most_of_one": 1000, "trusted": (), **bounds}
        self.gate = self._listener.gate = Gate(**given, counters=self.counters)
        self.admitted: list[socket.socket] = []

    def admits(self, address: str = "127.0.0.1") -> bool:
        """Tell whether one more connection is taken; what is not taken must have been closed."""
        caller = self._stack.enter_context(
            socket.create_connection(self._listener.getsockname(), PATIENCE_S, (address, 0))
        )
        try:
            connection, _address = self._listener.accept()
        except BlockingIOError:
            assert caller.recv(1) == b""
            return False
        self.admitted.append(self._stack.enter_context(connection))
        return True


@pytest.fixture
def door() -> Iterator[Callable[..., Door]]:
    with ExitStack() as stack:
        yield lambda **bounds: Door(stack, **bounds)


def test_one_address_has_so_many_connections_and_more_are_closed_at_once(door: Callable[..., Door]) -> None:
    at = door(most_of_one=20)
    assert [at.admits() for _ in range(21)] == [True] * 20 + [False]
    assert at.counters["connections_refused"] == 1
    assert at.admits("127.0.0.2")


def test_connections_that_have_ended_are_not_counted(door: Callable[..., Door]) -> None:
    at = door(most=5, most_of_one=5)
    for _ in range(20):
        assert at.admits()
        at.admitted.pop().close()


def test_connections_that_have_shown_a_good_token_count_in_all_only(door: Callable[..., Door]) -> None:
    at = door(most=10, most_of_one=5)
    for _ in range(10):
        assert at.admits()
        at.gate.prove(at.admitted[-1].fileno())
    assert not at.admits()
    for connection in at.admitted:
        connection.close()
    assert [at.admits() for _ in range(6)] == [True] * 5 + [False]


def test_all_addresses_together_have_so_many_connections(door: Callable[..., Door]) -> None:
    at = door(most=20)
    assert [at.admits(f"127.0.0.{number}") for number in range(1, 22)] == [True] * 20 + [False]


def test_a_trusted_proxy_is_not_one_person(door: Callable[..., Door]) -> None:
    at = door(most_of_one=5, trusted=[ip_network("127.0.0.1/32")])
    assert all(at.admits() for _ in range(50))
    assert [at.admits("127.0.0.2") for _ in range(6)] == [True] * 5 + [False]


def test_a_subscriber_of_ipv6_is_one_whatever_addresses_it_has() -> None:
    gate = Gate(most=100, most_of_one=2, trusted=(), counters=Counter())
    assert gate.admit(1, "2001:db8:0:1::1")
    assert gate.admit(2, "2001:db8:0:1:ffff::2")
    assert not gate.admit(3, "2001:db8:0:1::3")
    assert gate.admit(3, "2001:db8:0:2::1")
    assert gate.admit(4, "::ffff:192.0.2.1")
    assert gate.admit(5, "192.0.2.1")
    assert not gate.admit(6, "192.0.2.1")


async def test_a_head_without_end_is_refused_and_the_next_caller_answered() -> None:
    async with _served() as port:
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEALTH[:-2])
        with pytest.raises(ConnectionError):
            await _write_without_end(writer)
        writer.close()
        assert b" 200 " in await _health(port)


async def test_more_requests_than_may_wait_are_answered_all_the_same() -> None:
    requests = 500
    async with _served() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEALTH * requests)
        for _ in range(requests):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert b"ok" in await reader.readexactly(length)
        writer.close()


async def test_a_crowd_is_let_in_a_few_at_a_time_and_nobody_else_waits_for_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turn, accepted_in = 0, Counter[int]()
    accept = Listener.accept

    def counted(self: Listener) -> tuple[socket.socket, Any]:
        admitted = accept(self)
        accepted_in[turn] += 1
        return admitted

    async with _served() as port:
        monkeypatch.setattr(Listener, "accept", counted)
        with ExitStack() as stack:
            # The kernel takes them all; the event loop stands still meanwhile.
            for _ in range(200):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            while accepted_in.total() < 200:
                await asyncio.sleep(0)
                turn += 1
        assert max(accepted_in.values()) <= ACCEPTED_AT_ONCE


async def test_the_portals_own_listener_has_a_gate() -> None:
    async with _served(max_connections_per_address=1) as port:
        held = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), PATIENCE_S)
        with held:
            assert await _health(port) == b""


@asynccontextmanager
async def _served(**settings: Any) -> AsyncIterator[int]:
    def of(port: int) -> PortalSettings:
        return PortalSettings(external_url=f"http://127.0.0.1:{port}", **settings)

    async with served_portal(of) as (_portal, port):
        yield port


async def _write_without_end(writer: asyncio.StreamWriter) -> None:
    for _ in range(100 * MAX_HEAD_BYTES // 1000):
        writer.write(b"X: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def _health(port: int) -> bytes:
    """Return the first line of an answer, nothing when the connection was closed instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HEALTH)
        return await asyncio.wait_for(reader.readline(), 4 * PATIENCE_S)
    except ConnectionError:
        return b""
    finally:
        writer.close()
