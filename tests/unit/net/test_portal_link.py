"""The link against a WebSocket server on loopback, with the wire's own channel and refusals."""

import asyncio
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from support.patience import PATIENCE_S
from wardgate.connect.portal_session import PortalSession
from wardgate.model.addresses import IpAddress
from wardgate.net.portal_link import Decisions, Dial, PortalLink, PortalRefused, PortalUnreachable
from wardgate.wire import messages as m
from wardgate.wire.control_channel import ChannelEvent, Joined, Lost, Received
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect
from wardgate.wire.upgrade import parse_refusal, problem_document


class Portal:
    """Accepts joins; says `greeting` after each; closes when told to."""

    def __init__(self) -> None:
        self.received: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: list[ServerConnection] = []
        self.refusals: list[tuple[int, str]] = []
        self.changed = asyncio.Condition()

    async def serve(self) -> Server:
        return await serve(self._converse, "127.0.0.1", 0, process_request=self._admit)

    async def until(self, is_so: "asyncio.Future[bool] | object") -> None:
        assert callable(is_so)
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(is_so)

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append({name.lower(): value for name, value in request.headers.raw_items()})
        if not self.refusals:
            return None
        status, code = self.refusals.pop(0)
        response = connection.respond(HTTPStatus(status), "")
        response.headers["Retry-After"] = "0"
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/problem+json"
        body = problem_document(status, code, "no such token")
        del response.headers["Content-Length"]
        response.headers["Content-Length"] = str(len(body))
        return Response(response.status_code, response.reason_phrase, response.headers, body)

    async def _converse(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for text in connection:
            frame = json.loads(text)
            self.received.append(frame)
            if frame["event"] == "phx_join":
                reply = {"status": "ok", "response": {}}
                await connection.send(
                    json.dumps(
                        {"topic": "gateway", "event": "phx_reply", "payload": reply, "ref": frame["ref"]}
                    )
                )
            async with self.changed:
                self.changed.notify_all()


class Peer:
    def __init__(self, port: int, *, attempts: int = 10) -> None:
        self.events: list[ChannelEvent] = []
        self.seen = asyncio.Condition()
        self.session = PortalSession(
            Dialect(PeerKind.GATEWAY), reconnect=Reconnect(budget_s=None, rng=random.Random(7))
        )
        self._attempts_left = attempts
        self.error: Exception | None = None
        self.looked_up: Callable[[], None] | None = None
        self.link: PortalLink[ChannelEvent] = PortalLink(
            Decisions(
                dial=lambda: Dial(
                    f"ws://portal.test:{port}/gateway/v2/websocket?external_id=x",
                    (("User-Agent", "Test/1 gateway/1.0.0"), ("X-Authorization", "Bearer secret")),
                ),
                open_channel=self.session.open_channel,
                look_up=self._look_up,
                read_refusal=lambda status, headers, body: parse_refusal(
                    status, headers, body, now=datetime(2026, 1, 1, tzinfo=UTC)
                ),
                next_delay_s=self._next_delay_s,
                handle=self._handle,
            ),
            mark=None,
        )

    async def until(self, kind: type[ChannelEvent], count: int = 1) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while sum(isinstance(event, kind) for event in self.events) < count:
                async with self.seen:
                    await self.seen.wait()

    async def _look_up(self, name: str) -> Iterable[IpAddress]:
        assert name == "portal.test"
        if self.looked_up is not None:
            self.looked_up()
        return (ip_address("127.0.0.1"),)

    def _next_delay_s(self, retry_after_s: float | None) -> float | None:
        self._attempts_left -= 1
        return 0.0 if self._attempts_left > 0 else None

    def _handle(self, event: ChannelEvent) -> None:
        if self.error is not None:
            raise self.error
        self.events.append(event)
        self._notifying = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self.seen:
            self.seen.notify_all()


async def test_a_link_joins_sends_and_comes_back_after_a_loss() -> None:
    portal = Portal()
    async with await portal.serve() as server:
        peer = Peer(server.sockets[0].getsockname()[1])
        running = asyncio.create_task(peer.link.run())
        await peer.until(Joined)
        peer.session.send(m.NoRelays())
        peer.link.flush()
        await portal.until(lambda: any(frame["event"] == "no_relays" for frame in portal.received))
        await portal.connections[0].close(1012)
        await peer.until(Joined, 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert [type(event) for event in peer.events] == [Joined, Lost, Joined]
    assert portal.headers[0]["x-authorization"] == "Bearer secret"
    assert portal.headers[0]["user-agent"] == "Test/1 gateway/1.0.0"
    assert "sec-websocket-extensions" not in portal.headers[0]


async def test_messages_of_the_portal_arrive_decoded() -> None:
    portal = Portal()
    async with await portal.serve() as server:
        peer = Peer(server.sockets[0].getsockname()[1])
        running = asyncio.create_task(peer.link.run())
        await peer.until(Joined)
        push = {"topic": "gateway", "event": "relays_presence", "ref": None}
        await portal.connections[0].send(
            json.dumps({**push, "payload": {"disconnected_ids": [], "connected": []}})
        )
        await peer.until(Received)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert peer.events[1] == Received(m.RelaysPresence((), ()))


async def test_a_reconnect_drops_the_connection_and_dials_at_once() -> None:
    portal = Portal()
    async with await portal.serve() as server:
        peer = Peer(server.sockets[0].getsockname()[1], attempts=0)
        running = asyncio.create_task(peer.link.run())
        await peer.until(Joined)
        peer.link.reconnect()
        await peer.until(Joined, 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert len(portal.connections) == 2


async def test_what_the_handler_of_events_raises_ends_the_link() -> None:
    portal = Portal()
    async with await portal.serve() as server:
        peer = Peer(server.sockets[0].getsockname()[1])
        peer.error = ValueError("no use for it")
        with pytest.raises(ValueError, match="no use for it"):
            await asyncio.wait_for(peer.link.run(), PATIENCE_S)


async def test_a_reconnect_while_dialling_ends_the_connection_that_comes_of_it() -> None:
    portal = Portal()
    async with await portal.serve() as server:
        peer = Peer(server.sockets[0].getsockname()[1], attempts=0)
        peer.looked_up = peer.link.reconnect
        running = asyncio.create_task(peer.link.run())
        await peer.until(Lost)
        peer.looked_up = None
        await peer.until(Joined)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert len(portal.headers) > 1


class _Alarm:
    """A channel that is lost when its time has come, which moves on once."""

    def __init__(self, due_at: float) -> None:
        self._due_at: float | None = due_at
        self._moves = 1
        self.said = ["hello"]

    def handle_frame(self, frame: str, *, now: float) -> None: ...
    def handle_closed(self, *, detail: str = "") -> None:
        self._due_at = None

    def handle_timeout(self, *, now: float) -> None:
        if self._due_at is not None and now >= self._due_at:
            self._due_at = now + 0.05 if self._moves else None
            self._moves -= 1
            self.said.append("still there")

    def poll_transmit(self) -> str | None:
        return self.said.pop(0) if self.said else None

    def poll_event(self) -> ChannelEvent | None:
        return None

    def poll_timeout(self) -> float | None:
        return self._due_at


async def test_what_is_due_is_done_without_a_word_of_the_portal() -> None:
    heard: list[str | bytes] = []

    async def listen(connection: ServerConnection) -> None:
        heard.extend([text async for text in connection])

    async with await serve(listen, "127.0.0.1", 0) as server:
        peer = Peer(server.sockets[0].getsockname()[1], attempts=1)
        link = PortalLink(
            replace(peer.link._decisions, open_channel=lambda now: _Alarm(now + 0.05)), mark=None
        )
        with pytest.raises(PortalUnreachable, match="the channel was lost"):
            await asyncio.wait_for(link.run(), PATIENCE_S)
    assert heard == ["hello", "still there", "still there"]


async def test_a_refused_token_ends_the_link_with_the_portals_words() -> None:
    portal = Portal()
    portal.refusals = [(401, "invalid_token")]
    async with await portal.serve() as server:
        with pytest.raises(PortalRefused, match="no such token"):
            await Peer(server.sockets[0].getsockname()[1]).link.run()


async def test_any_other_refusal_is_tried_again() -> None:
    portal = Portal()
    portal.refusals = [(503, "rate_limit"), (404, "not_found")]
    async with await portal.serve() as server:
        peer = Peer(server.sockets[0].getsockname()[1])
        running = asyncio.create_task(peer.link.run())
        await peer.until(Joined)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert len(portal.headers) == 3


async def test_a_used_up_budget_says_what_the_last_attempt_met() -> None:
    portal = Portal()
    portal.refusals = [(404, "not_found")] * 3
    async with await portal.serve() as server:
        with pytest.raises(PortalUnreachable, match="answered HTTP 404"):
            await Peer(server.sockets[0].getsockname()[1], attempts=3).link.run()
        port = server.sockets[0].getsockname()[1]
    with pytest.raises(PortalUnreachable, match="refused"):
        await Peer(port, attempts=2).link.run()


async def test_a_conflict_names_both_causes() -> None:
    portal = Portal()
    portal.refusals = [(409, "conflict")] * 2
    async with await portal.serve() as server:
        with pytest.raises(PortalUnreachable, match=r"HTTP 409: .*started twice .*cloned image .*--id"):
            await Peer(server.sockets[0].getsockname()[1], attempts=2).link.run()


@pytest.mark.parametrize(
    ("scheme", "said", "cure"),
    [
        ("wss", b"HTTP/1.1 400 Bad Request\r\n\r\n", "write ws://"),
        ("ws", b"\x15\x03\x01\x00\x02\x02\x46", "write wss://"),  # a TLS alert
    ],
)
async def test_tls_where_there_is_none_and_none_where_it_is_are_told_with_their_cure(
    scheme: str, said: bytes, cure: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(said)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        complaint = await _complaint(f"{scheme}://127.0.0.1:{port}/")
    assert cure in complaint


async def _complaint(url: str) -> str:
    async def look_up(_name: str) -> list[IpAddress]:
        return [ip_address("127.0.0.1")]

    def never(*_: object) -> None:
        raise AssertionError("there is no connection")

    session = PortalSession(
        Dialect(PeerKind.GATEWAY), reconnect=Reconnect(budget_s=None, rng=random.Random(1))
    )
    link = PortalLink(
        Decisions(
            dial=lambda: Dial(url, ()),
            open_channel=session.open_channel,
            look_up=look_up,
            read_refusal=lambda status, headers, body: parse_refusal(
                status, headers, body, now=datetime.now(UTC)
            ),
            next_delay_s=lambda _retry_after_s: None,
            handle=never,
        ),
        mark=None,
    )
    with pytest.raises(PortalUnreachable) as raised:
        await link.run()
    return str(raised.value)
