"""The portal behind its real server: a foreign WebSocket library as the peer, real TCP."""

import asyncio
import base64
import contextlib
import gc
import json
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support.patience import PATIENCE_S
from support.portal import CLIENT_AGENT, GATEWAY_AGENT, RELAY_AGENT, World, make_world
from support.served_portal import served_portal
from wardgate.portal.app import Portal
from wardgate.portal.channels.client_context import ClientContext
from wardgate.portal.channels.client_session import ClientSession
from wardgate.portal.channels.session import MAX_FRAME_BYTES
from wardgate.portal.listening import listen
from wardgate.portal.protocols import ChannelProtocol, HttpProtocol
from wardgate.portal.settings import PortalSettings


class Served(NamedTuple):
    url: str
    portal: Portal
    stop: asyncio.Event


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    def settings(port: int) -> PortalSettings:
        return PortalSettings(external_url=f"http://127.0.0.1:{port}", connect_capacity=100.0)

    stop = asyncio.Event()
    async with served_portal(settings, stop=stop) as (portal, port):
        yield Served(f"127.0.0.1:{port}", portal, stop)


async def test_what_a_connection_was_goes_with_its_end_and_without_the_collector_of_garbage(
    served: Served,
) -> None:
    world = await make_world(served.portal)
    gc.collect()
    gc.disable()
    try:
        async with _peer(served.url, "client", world.client_token, CLIENT_AGENT) as client:
            await _join(client, "client")
            assert _of_connections()["ClientSession"] == 1
        async with asyncio.timeout(PATIENCE_S):
            while left := _of_connections():  # noqa: ASYNC110 - what has gone tells nobody
                await asyncio.sleep(0.01)
        assert not left
    finally:
        gc.enable()


async def test_a_peer_that_answers_our_close_is_let_go_at_once(served: Served) -> None:
    world = await make_world(served.portal)
    async with _peer(served.url, "client", world.client_token, CLIENT_AGENT) as client:
        await _join(client, "client")
        (pump,) = served.portal.channels._pumps
        protocol = pump._transport
        assert isinstance(protocol, ChannelProtocol)
        protocol.close_timeout = 10 * PATIENCE_S
        await served.portal.channels.drain()
        await asyncio.wait_for(client.wait_closed(), PATIENCE_S)
        assert client.close_code == 1012


async def test_a_gateway_and_a_client_are_authorised_end_to_end(served: Served) -> None:
    url, portal = served.url, served.portal
    world = await make_world(portal)
    async with (
        _peer(url, "relay", world.relay_token, RELAY_AGENT) as relay,
        _peer(url, "gateway", world.gateway_token, GATEWAY_AGENT) as gateway,
        _peer(url, "client", world.client_token, CLIENT_AGENT) as client,
    ):
        await _join(relay, "relay", {"stamp_secret": "ab" * 32})
        assert (await _join(gateway, "gateway"))["relays"][0]["addr"] == "198.51.100.7:3478"
        assert (await _join(client, "client"))["relays"][0]["addr"] == "198.51.100.7:3478"
        await _send(client, "client", "request_authorization", {"resource_id": str(world.resource.id)}, ref=1)
        create = await _receive(gateway)
        assert create["event"] == "create_authorization"
        await _send(gateway, "gateway", "authorization_created", {"ref": create["payload"]["ref"]}, ref=1)
        created = await _receive(client)
        assert created["event"] == "authorization_created"
        assert created["payload"]["preshared_key"] == create["payload"]["client"]["preshared_key"]


async def test_a_portal_that_is_asked_to_stop_says_so_and_how_many_channels_it_closes(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = await make_world(served.portal)
    async with _peer(served.url, "client", world.client_token, CLIENT_AGENT) as client:
        await _join(client, "client")
        served.stop.set()
        await asyncio.wait_for(client.wait_closed(), PATIENCE_S)
        assert client.close_code == 1012
    (said,) = [one for one in caplog.records if one.getMessage().startswith("portal stops")]
    assert vars(said)["channels"] == 1


async def test_a_refused_upgrade_has_a_problem_document(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await _peer(served.url, "client", "nonsense", CLIENT_AGENT).__aenter__()
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["code"] == "invalid_token"
    assert refused.value.response.headers["content-type"] == "application/problem+json"


async def test_stopping_closes_every_channel_with_1012(served: Served) -> None:
    url, portal = served.url, served.portal
    world = await make_world(portal)
    async with _peer(url, "client", world.client_token, CLIENT_AGENT) as client:
        await _join(client, "client")
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"http://{url}/readyz")).json()["status"] == "ready"
        served.stop.set()
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(client.recv(), PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 4 * MAX_FRAME_BYTES])
async def test_a_frame_that_is_too_big_closes_with_1009(served: Served, size: int) -> None:
    url, portal = served.url, served.portal
    world = await make_world(portal)
    async with (
        _peer(url, "client", world.client_token, CLIENT_AGENT) as client,
        _peer(url, "gateway", world.gateway_token, GATEWAY_AGENT) as other,
    ):
        await _join(client, "client")
        await _join(other, "gateway")
        await client.send("x" * size)
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(client.recv(), PATIENCE_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        await _send(other, "phoenix", "heartbeat", {}, ref=9)
        assert (await _receive(other))["ref"] == 9
    assert portal.services.counters["frames_too_big"] == 1


async def test_a_reader_that_stops_is_closed_and_its_socket_freed(served: Served) -> None:
    url, portal = served.url, served.portal
    world = await make_world(portal)
    raw = socket.create_connection(tuple(url.split(":")), timeout=PATIENCE_S)  # type: ignore[arg-type]
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(raw, _upgrade(url, world))
    assert b" 101 " in await asyncio.wait_for(loop.sock_recv(raw, 4096), PATIENCE_S)

    async def ask_without_reading() -> None:
        beat = _masked(
            b'{"topic":"nowhere","event":"'
            + b"x" * 60_000
            + b'","payload":{},"ref":"'
            + b"y" * 60_000
            + b'"}'
        )
        while True:
            await loop.sock_sendall(raw, beat)

    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(ask_without_reading(), PATIENCE_S)
    assert portal.services.counters["closed_slow_reader"] == 1
    async with asyncio.timeout(PATIENCE_S):
        while portal.channels.counts()["client"]:  # noqa: ASYNC110 - the socket's end has no event
            await asyncio.sleep(0.01)
    raw.close()


def _of_connections() -> Counter[str]:
    """Count what the portal of this process has of connections."""
    kinds = (ClientSession, ClientContext, ChannelProtocol, HttpProtocol)
    return Counter(
        next(kind.__name__ for kind in kinds if isinstance(found, kind))
        for found in gc.get_objects()
        if isinstance(found, kinds)
    )


def _peer(url: str, kind: str, token: str, user_agent: str) -> connect:
    version = "" if kind == "relay" else "/v2"
    query = {"ipv4": "198.51.100.7", "port": "3478"} if kind == "relay" else {
        "external_id": kind, "name": kind, "public_key": base64.b64encode(kind.ljust(32).encode()).decode()
    }  # fmt: skip
    return connect(
        f"ws://{url}/{kind}{version}/websocket?{urlencode(query)}",
        additional_headers={"X-Authorization": f"Bearer {token}"},
        user_agent_header=user_agent,
        compression=None,
        proxy=None,
        close_timeout=None,
    )


async def _join(peer: ClientConnection, topic: str, payload: Any = None) -> dict[str, Any]:
    await _send(peer, topic, "phx_join", payload, ref=0)
    assert (await _receive(peer))["payload"] == {"status": "ok", "response": {}}
    init = await _receive(peer)
    assert init["event"] == "init"
    return init["payload"]  # type: ignore[no-any-return]


async def _send(peer: ClientConnection, topic: str, event: str, payload: Any, *, ref: int) -> None:
    await peer.send(json.dumps({"topic": topic, "event": event, "payload": payload, "ref": ref}))


async def _receive(peer: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(peer.recv(), PATIENCE_S))  # type: ignore[no-any-return]


def _upgrade(url: str, world: World) -> bytes:
    key = base64.b64encode(b"k" * 32).decode()
    query = urlencode({"external_id": "raw", "public_key": key})
    return (
        f"GET /client/v2/websocket?{query} HTTP/1.1\r\nHost: {url}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(b'n' * 16).decode()}\r\n"
        f"User-Agent: {CLIENT_AGENT}\r\nX-Authorization: Bearer {world.client_token}\r\n\r\n"
    ).encode()


def _masked(payload: bytes) -> bytes:
    """Frame a text message as a client does; a mask of zeros leaves it as it is (RFC 6455 §5.3)."""
    return b"\x81\xff" + len(payload).to_bytes(8, "big") + b"\0\0\0\0" + payload


async def test_small_answers_are_not_held_back_until_the_caller_acknowledges() -> None:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def take(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        accepted.set_result(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    async with await asyncio.start_server(take, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await asyncio.wait_for(accepted, PATIENCE_S) != 0
        writer.close()
