"""How frames leave where the server offers a way past ASGI, as ours does: together, in order, and never twice."""

from collections.abc import Sequence
from typing import Any

import pytest

from support.portal import Peer, World
from wardgate.portal.channels.endpoint import TRANSPORT_EXTENSION, WRITTEN_AT_ONCE


class Socket:
    """A `Transport` whose far end is a `Peer`; each element of `written` left by one call."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.written: list[list[str]] = []
        self.may_write = True
        self.is_broken = False

    def is_gone(self) -> bool:
        return False

    def unsent_bytes(self) -> int:
        return 0

    def has_unread(self) -> bool:
        return False

    def is_writable(self) -> bool:
        return self.may_write

    def write(self, texts: Sequence[str]) -> None:
        if self.is_broken:
            raise RuntimeError("broken")
        self.written.append(list(texts))
        for text in texts:
            self._peer.take({"type": "websocket.send", "text": text})

    def fail(self, code: int) -> None: ...


def _socket_of(peer: Peer) -> Socket:
    socket = Socket(peer)
    peer.extensions[TRANSPORT_EXTENSION] = socket
    return socket


async def test_answers_that_are_ready_at_once_leave_together_in_order_and_a_bounded_piece_at_a_time(
    world: World,
) -> None:
    peer = world.client()
    socket = _socket_of(peer)
    async with peer as client:
        await client.join()
        before = len(socket.written)
        sent = [client.send("heartbeat", {}, topic="phoenix") for _ in range(600)]
        answers = [await client.receive("phx_reply") for _ in sent]
        assert [one["ref"] for one in answers] == sent
        pieces = socket.written[before:]
        assert len(pieces) < 10
        longest = max(len(text) for piece in pieces for text in piece)
        assert all(sum(map(len, piece)) < WRITTEN_AT_ONCE + longest for piece in pieces)


async def test_what_the_network_does_not_take_at_once_is_written_later_in_the_same_order(
    world: World,
) -> None:
    peer = world.client()
    socket = _socket_of(peer)
    async with peer as client:
        await client.join()
        answers: list[dict[str, Any]] = []
        sent: list[int] = []
        for may_write in (False, True, False, True):
            socket.may_write = may_write
            sent += [client.send("heartbeat", {}, topic="phoenix") for _ in range(3)]
            answers += [await client.receive("phx_reply") for _ in range(3)]
        assert [one["ref"] for one in answers] == sent
        assert sum(map(len, socket.written)) == 2 + 6  # the join's answer and init; half of the heartbeats


async def test_a_socket_that_cannot_be_written_to_ends_its_own_connection_only(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    peer = world.client()
    socket = _socket_of(peer)
    async with peer as client, world.gateway() as other:
        await client.join()
        await other.join()
        socket.is_broken = True
        client.send("heartbeat", {}, topic="phoenix")
        with pytest.raises(AssertionError, match="without a word"):
            await client.receive()
        assert await other.is_quiet()
    assert world.portal.services.counters["channel_crashes"] == 1
    assert "a control channel's pump failed" in caplog.text
