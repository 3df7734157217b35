"""How frames leave where the server offers a way past ASGI, as ours does: together, in order, and never twice."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from support.portal import Peer, World
from wardgate.portal.channels.claims import Claim
from wardgate.portal.channels.endpoint import TRANSPORT_EXTENSION, WRITTEN_AT_ONCE
from wardgate.portal.channels.session import ALLOWANCES, Session
from wardgate.wire.dialect import PeerKind


class Socket:
    """A `Transport` whose far end is a `Peer`; each element of `written` left by one call."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.take: Callable[[str], bool]
        self.written: list[list[str]] = []
        self.may_write = True
        self.is_broken = False

    def is_gone(self) -> bool:
        return False

    def unsent_bytes(self) -> int:
        return 0

    def has_unread(self) -> bool:
        return False

    def hand_over(self, take: Callable[[str], bool]) -> None:
        self.take = take

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


async def test_a_request_that_is_handed_over_reaches_the_gateway_before_anything_is_written_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking, reached = world.client(), world.gateway()
    client_socket, gateway_socket = _socket_of(asking), _socket_of(reached)
    written_before: list[str] = []

    def write_grant(_claim: Claim, _done: object) -> None:
        written_before.extend(gateway_socket.written[-1])

    async with asking as client, reached as gateway:
        await gateway.join()
        await client.join()
        monkeypatch.setattr(world.portal.journal, "write_grant", write_grant)
        payload = {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        # Without a turn of the loop in between.
        assert client_socket.take(_text("client", "request_authorization", payload))
        (told,) = map(msgspec.json.decode, written_before)
        assert told["event"] == "create_authorization"
        create = await gateway.receive("create_authorization")
        assert create["payload"] == told["payload"]


async def test_what_waits_for_a_gateway_leaves_before_what_is_urgent_and_once(world: World) -> None:
    asking, reached = world.client(), world.gateway()
    client_socket, gateway_socket = _socket_of(asking), _socket_of(reached)
    async with asking as client, reached as gateway:
        await gateway.join()
        await client.join()
        before = len(gateway_socket.written)
        assert gateway_socket.take(_text("phoenix", "heartbeat", {}, ref=77))
        payload = {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        assert client_socket.take(_text("client", "request_authorization", payload))
        answer, create = [await gateway.receive() for _ in range(2)]
        assert (answer["ref"], create["event"]) == (77, "create_authorization")
        assert await gateway.is_quiet()
        assert [len(texts) for texts in gateway_socket.written[before:]] == [2, 1]  # 1: of `is_quiet`


async def test_a_frame_of_a_peer_that_has_said_too_much_is_not_handed_over_but_read_later(
    world: World,
) -> None:
    peer = world.client()
    socket = _socket_of(peer)
    async with peer as client:
        await client.join()
        capacity, _refill_per_s = ALLOWANCES[PeerKind.CLIENT]
        taken = 0
        while socket.take(_text("client", "unheard_of", {})):
            taken += 1
            assert taken <= capacity
        assert taken >= capacity / 2
        sent = client.send("heartbeat", {}, topic="phoenix")
        assert (await client.receive("phx_reply"))["ref"] == sent


async def test_a_frame_that_is_handed_over_and_breaks_the_pump_ends_its_own_connection_only(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = world.client()
    socket = _socket_of(peer)

    def broken(_session: Session, _text: str) -> None:
        raise RuntimeError("broken")

    async with peer as client, world.gateway() as other:
        await client.join()
        await other.join()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "handle_text", broken)
            assert socket.take("{}")
        assert not socket.take("{}")  # it ends
        with pytest.raises(AssertionError, match="without a word"):
            await client.receive()
        assert await other.is_quiet()
    assert world.portal.services.counters["channel_crashes"] == 1


def _text(topic: str, event: str, payload: dict[str, Any], *, ref: int = 1) -> str:
    return msgspec.json.encode({"topic": topic, "event": event, "payload": payload, "ref": ref}).decode()
