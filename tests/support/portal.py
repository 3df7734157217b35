"""A portal in this process, and peers that talk to it as over a WebSocket: the ASGI application is real, only
the socket is not.
"""

import asyncio
import base64
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import wardgate
from support.patience import PATIENCE_S
from support.postgres import postgres_database
from wardgate.portal import credentials, provisioning
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.app import Portal
from wardgate.portal.bus import EncodingBus
from wardgate.portal.environment import Environment, SystemClock
from wardgate.portal.keys import Keys
from wardgate.portal.mail.message import Mailer
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import PostgresServer
from wardgate.wire.dialect import PeerKind
from wardgate.wire.frames import Framing
from wardgate.wire.user_agent import build_user_agent

_HOST = {
    "os_name": "Debian",
    "os_version": "12.0.0",
    "arch": "x86_64",
    "kernel": "6.8.0",
    "product_version": wardgate.__version__,
}
CLIENT_AGENT = build_user_agent(PeerKind.CLIENT, **_HOST)
GATEWAY_AGENT = build_user_agent(PeerKind.GATEWAY, **_HOST)
RELAY_AGENT = build_user_agent(PeerKind.RELAY, **_HOST)


HEARTBEAT_S = 20.0


@contextlib.asynccontextmanager
async def portal_running(
    settings: PortalSettings | None = None,
    environment: Environment | None = None,
    *,
    mailer: Mailer | None = None,
) -> AsyncIterator[Portal]:
    """Run a portal on a store in memory, or on PostgreSQL where the run says `--database=postgres` and time is real.

    Connects are not rate-limited unless `settings` say so.
    """
    settings = settings or PortalSettings(connect_capacity=1000.0)
    async with contextlib.AsyncExitStack() as stack:
        is_free = environment is None and settings.database_url is None
        if is_free and os.environ["WARDGATE_TESTS_DATABASE"] == "postgres":
            url = await stack.enter_async_context(postgres_database())
            settings = replace(settings, database_url=PostgresServer(url))
        if environment is None:
            environment = replace(Environment.of_this_process(mailer=mailer), bus=EncodingBus())
        portal = await Portal.open(settings, Keys.derive(b"k" * 32), environment)
        stack.push_async_callback(portal.close)
        async with portal.running():
            yield portal


class HeldClock(SystemClock):
    """The machine's wall time, and seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.at_s = 1000.0

    def monotonic(self) -> float:
        return self.at_s


@contextlib.asynccontextmanager
async def portal_with_held_clock() -> AsyncIterator[tuple[Portal, HeldClock]]:
    """Run a portal with the rate limits that the product ships; what was taken comes back when the test moves
    the clock.
    """
    clock = HeldClock()
    environment = replace(Environment.of_this_process(), clock=clock, bus=EncodingBus())
    async with portal_running(PortalSettings(), environment) as portal:
        yield portal, clock


@dataclass(slots=True)
class World:
    """One account with a user, a site, a CIDR resource and the policy that grants it, and a token for each
    kind of peer.
    """

    portal: Portal
    account_id: UUID
    actor: Actor
    group: Group
    membership: Membership
    site: Site
    resource: Resource
    policy: Policy
    client_token: str
    client_token_id: UUID
    gateway_token: str
    gateway_token_id: UUID
    relay_token: str
    operator_token: str

    def client(self, **options: Any) -> "Peer":
        options.setdefault("external_id", "client-1")
        user_agent = options.pop("user_agent", CLIENT_AGENT)
        token = options.pop("token", self.client_token)
        return Peer(self.portal, "client", token, user_agent, **options)

    def gateway(self, **options: Any) -> "Peer":
        options.setdefault("external_id", "gateway-1")
        user_agent = options.pop("user_agent", GATEWAY_AGENT)
        return Peer(self.portal, "gateway", self.gateway_token, user_agent, **options)

    def relay(self, **options: Any) -> "Peer":
        return Peer(self.portal, "relay", self.relay_token, RELAY_AGENT, **options)


async def make_world(portal: Portal, slug: str = "acme") -> World:
    """Provision an account as `wardgate init` does, then everything that one grant needs."""
    services = portal.services
    async with services.store.writing() as tx:
        made = await provisioning.provision(tx, name=slug, slug=slug, admin_email=f"admin@{slug}.example")
        account_id, tables, new_id = made.account.id, tx.of(made.account.id), tx.new_id
        actor = await tables.actors.insert(
            Actor(
                id=new_id(), account_id=account_id, type="account_user", name="Ada", email="ada@example.org"
            )
        )
        group = await tables.groups.insert(Group(id=new_id(), account_id=account_id, name="Engineering"))
        membership = await tables.memberships.insert(
            Membership(id=new_id(), account_id=account_id, actor_id=actor.id, group_id=group.id)
        )
        site = await tables.sites.insert(Site(id=new_id(), account_id=account_id, name="Berlin"))
        resource = await tables.resources.insert(
            Resource(
                id=new_id(),
                account_id=account_id,
                type="cidr",
                name="net",
                address="10.20.0.0/16",
                site_id=site.id,
            )
        )
        policy = await tables.policies.insert(
            Policy(id=new_id(), account_id=account_id, group_id=group.id, resource_id=resource.id)
        )
        issue = partial(credentials.issue, transaction=tx, keys=services.keys)
        expires_at = tx.now + timedelta(days=7)
        client = await issue(
            tables.client_tokens, account_id=account_id, actor_id=actor.id, expires_at=expires_at
        )
        gateway = await issue(tables.gateway_tokens, account_id=account_id, site_id=site.id)
        relay = await issue(tx.relay_tokens, name="r")
        operator = await issue(tx.operator_tokens, name="o")
    return World(
        portal, account_id, actor, group, membership, site, resource, policy,
        client.text, client.id, gateway.text, gateway.id, relay.text, operator.text,
    )  # fmt: skip


@dataclass(slots=True)
class Refusal:
    """An upgrade that was answered with HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        return json.loads(self.body).get("code") if self.body else None


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


@dataclass(slots=True)
class _Wire:
    to_portal: "asyncio.Queue[dict[str, Any]]" = field(default_factory=asyncio.Queue)
    from_portal: "asyncio.Queue[dict[str, Any]]" = field(default_factory=asyncio.Queue)


class Peer:
    """A peer of the portal: `async with world.client() as client:` connects; `join` joins."""

    def __init__(
        self,
        portal: Portal,
        kind: str,
        token: str | None,
        user_agent: str,
        *,
        external_id: str | None = None,
        generation: int = 2,
        key: bytes | None = None,
        remote_ip: str = "192.0.2.7",
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        path: str | None = None,
        framing: Framing = Framing.OBJECT,
    ) -> None:
        self._app = portal
        self._framing = framing
        self.kind = kind
        self.public_key = base64.b64encode(key or portal.services.environment.rng.randbytes(32)).decode()
        version = "/v2" if generation == 2 and kind != "relay" else ""
        self._path = path or f"/{kind}{version}/websocket"
        base: dict[str, str] = {"ipv4": "198.51.100.7", "port": "3478"} if kind == "relay" else {
            "external_id": external_id or kind, "name": kind, "public_key": self.public_key
        }  # fmt: skip
        if framing is not Framing.OBJECT:
            base["vsn"] = framing.value
        self._query = urlencode({**base, **(query or {})})
        sent = {"user-agent": user_agent, **(headers or {})}
        if token is not None:
            sent["x-authorization"] = f"Bearer {token}"
        self._headers = sent
        self._remote_ip = remote_ip
        self._wire = _Wire()
        self._task: asyncio.Task[None] | None = None
        self._ref = 0
        self.frames: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.extensions: dict[str, Any] = {"websocket.http.response": {}}

    async def __aenter__(self) -> "Peer":
        scope = {
            "type": "websocket",
            "path": self._path,
            "query_string": self._query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in self._headers.items()],
            "client": (self._remote_ip, 40000),
            "extensions": self.extensions,
        }
        self._wire.to_portal.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(
            self._app(scope, self._wire.to_portal.get, self._take)  # type: ignore[arg-type]
        )
        first = await self._next_event()
        if first["type"] == "websocket.http.response.start":
            body = await self._next_event()
            headers = {name.decode(): value.decode() for name, value in first["headers"]}
            await self._task
            raise Refused(Refusal(first["status"], headers, body["body"]))
        assert first["type"] == "websocket.accept", first
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._wire.to_portal.put_nowait({"type": "websocket.disconnect", "code": 1005})
        if self._task is not None:
            await asyncio.wait_for(self._task, PATIENCE_S)

    async def join(self, payload: Any = None) -> dict[str, Any]:
        """Join and return the payload of `init`."""
        ref = self.send("phx_join", payload)
        reply = await self.receive("phx_reply")
        assert reply["ref"] == ref
        assert reply["payload"] == {"status": "ok", "response": {}}
        init = await self.receive("init")
        result: dict[str, Any] = init["payload"]
        return result

    def send(self, event: str, payload: Any = None, *, topic: str | None = None) -> int:
        """Send a frame and return its ref."""
        ref, self._ref = self._ref, self._ref + 1
        self.send_text(self._framing.encode(topic or self.kind, event, payload, ref=ref, join_ref="1"))
        return ref

    def send_text(self, text: str) -> None:
        self._wire.to_portal.put_nowait({"type": "websocket.receive", "text": text})

    def send_binary(self, data: bytes) -> None:
        self._wire.to_portal.put_nowait({"type": "websocket.receive", "bytes": data})

    @property
    def waiting_frames(self) -> int:
        """How many frames of this peer the portal has not read yet."""
        return self._wire.to_portal.qsize()

    def take_back(self) -> int:
        """Take back the frames that the portal has not read yet, and return how many they are."""
        count = self.waiting_frames
        for _ in range(count):
            self._wire.to_portal.get_nowait()
        return count

    async def receive(self, event: str | None = None) -> dict[str, Any]:
        """Return the next frame, which must be of this event if one is named."""
        got = await self._next_event()
        assert got["type"] == "websocket.send", got
        frame = self._keep(got["text"])
        assert event is None or frame["event"] == event, frame
        return frame

    async def receive_until(self, event: str) -> dict[str, Any]:
        """Return the next frame of this event, whatever comes before it."""
        while True:
            frame = await self.receive()
            if frame["event"] == event:
                return frame

    async def receive_or_close(self) -> dict[str, Any] | None:
        """Return the next frame, none when the portal closes the socket instead."""
        got = await self._next_event()
        if got["type"] == "websocket.close":
            self.close_code = got["code"]
            return None
        return self._keep(got["text"])

    async def receive_close(self) -> int:
        """Return the close code, whatever frames come before it."""
        while True:
            got = await self._next_event()
            if got["type"] == "websocket.close":
                self.close_code = got["code"]
                return got["code"]  # type: ignore[no-any-return]
            self._keep(got["text"])

    async def news(self) -> list[dict[str, Any]]:
        """Return what the portal has to say already: all frames before a heartbeat's answer, or before the close."""
        ref = self.send("heartbeat", {}, topic="phoenix")
        frames = []
        while (frame := await self.receive_or_close()) is not None:
            if frame["event"] == "phx_reply" and frame["ref"] == ref:
                break
            frames.append(frame)
        return frames

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Send heartbeats as published peers do, so that the portal does not take the peer for gone."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                await self.news()

        beats = asyncio.create_task(beat())
        try:
            yield
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)

    async def is_quiet(self) -> bool:
        """Tell whether nothing more comes of what was sent so far: a heartbeat's answer is the next frame."""
        ref = self.send("heartbeat", {}, topic="phoenix")
        frame = await self.receive()
        return frame["event"] == "phx_reply" and frame["ref"] == ref

    def _keep(self, text: str) -> dict[str, Any]:
        """Parse a frame, whichever form it has, and note it."""
        got = json.loads(text)
        names = ("join_ref", "ref", "topic", "event", "payload")
        frame: dict[str, Any] = got if self._framing is Framing.OBJECT else dict(zip(names, got, strict=True))
        self.frames.append(frame)
        return frame

    async def _next_event(self) -> dict[str, Any]:
        assert self._task is not None
        getting = asyncio.create_task(self._wire.from_portal.get())
        try:
            await asyncio.wait((getting, self._task), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
        finally:
            getting.cancel()
        if self._task.done():
            self._task.result()
            raise AssertionError("the portal ended the connection without a word")
        raise AssertionError(f"nothing came for {PATIENCE_S} s; so far: {[f['event'] for f in self.frames]}")

    def take(self, event: dict[str, Any]) -> None:
        """Take an event of the portal; for what carries frames past ASGI."""
        self._wire.from_portal.put_nowait(event)

    async def _take(self, event: dict[str, Any]) -> None:
        self.take(event)
