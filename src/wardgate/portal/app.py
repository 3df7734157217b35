"""One portal process: builds the parts over one store and serves them behind one listener.

The first segment of the path decides who answers (`segments`).

Sockets, REST and pages may have a host name each; then each is served there only. Other names are answered
with 404, by REST with 308 to its own (`rest.entrance`).
"""

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import wardgate
from wardgate.portal import jobs
from wardgate.portal.channels import ChannelEndpoint, Journal, Precedence
from wardgate.portal.database.base_store import DATABASE_ERRORS
from wardgate.portal.environment import Environment
from wardgate.portal.geography import Geography
from wardgate.portal.http.asgi import App, Message, Receive, Scope, Send
from wardgate.portal.http.headers import host_of
from wardgate.portal.http.origin import SCOPE_KEY as ORIGIN
from wardgate.portal.http.origin import read_origin, scheme_of
from wardgate.portal.http.security_headers import transport_security
from wardgate.portal.http.traced_request import TracedRequest, TracedUpgrade
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.keys import Keys
from wardgate.portal.rest import application as rest
from wardgate.portal.segments import Part, is_program, part_of
from wardgate.portal.services import Services
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.oidc.conversation import Conversation
from wardgate.portal.snapshot.accounts import Accounts
from wardgate.portal.store import Feed, Store
from wardgate.portal.web.application import build as build_pages
from wardgate.supervision import Supervisor

log = logging.getLogger(__name__)

DATABASE_PATIENCE_S: Final = 2.0
"""How long health and metrics wait for a database that neither answers nor refuses; probes do not wait much longer."""


class Portal:
    """The ASGI application of one process. Run it inside `async with portal.running():`.

    Attributes:
        supervisor: keeps the background work going; when it gives up, the process is to end.
        precedence: knows the moments in which nobody asks.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        services.feed.on_delivery = services.metrics.feed_lag_s.observe
        services.accounts.on_loss = self._count_failure
        self.precedence = Precedence(services.environment.clock)
        self.journal = Journal(services, self.precedence)
        self.channels = ChannelEndpoint(services, self.journal, self.precedence)
        self._rest: App = rest.build(services)
        self._web: App = build_pages(services)
        self._answers = functools.cache(services.metrics.requests.labels)  # looking one up takes its lock
        self._hosts = _hosts_of(services.settings)
        self._is_running = False
        self._is_draining = False
        self.supervisor = Supervisor(services.environment.clock, self._count_failure)

    @classmethod
    async def open(
        cls,
        settings: PortalSettings,
        keys: Keys,
        environment: Environment,
        *,
        database_must_exist: bool = False,
    ) -> "Portal":
        """Open the store and build all parts.

        Args:
            database_must_exist: refuse a database that has never been Wardgate's: the portal would know nobody.

        Raises:
            Unusable: the database cannot be used.
        """
        store = await Store.open(settings.database, environment, must_exist=database_must_exist)
        feed = Feed(store, environment)
        accounts = Accounts(store, feed, environment)
        geography = Geography(settings.geoip_database)
        conversation = Conversation(environment, redirect_uri=settings.oidc_redirect_uri)
        return cls(
            Services(settings, environment, keys, store, feed, accounts, conversation, geography=geography)
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the background work of the process; what the journal holds is written before the store is closed."""
        services, environment = self.services, self.services.environment
        keep = self.supervisor.keep
        keep(services.feed.run, name="feed")
        keep(services.accounts.run, name="accounts")
        keep(self.journal.run, name="journal")
        keep(lambda: jobs.Runner(services, jobs.KINDS).run(), name="jobs")
        if services.geography.database_state is not None:
            keep(lambda: services.geography.watch(environment.clock, environment.executor), name="geography")
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False
            await self.supervisor.close()
            await services.accounts.close()
            await self.journal.flush()
            services.feed.close()

    async def close(self) -> None:
        """Close the store; after `running`. A simulated restart keeps it instead."""
        await self.services.store.close()

    def drain(self) -> None:
        """Answer `/readyz` with 503 from now on: no new traffic, please."""
        self._is_draining = True

    async def export_metrics(self) -> bytes:
        """Write the metrics of this process in Prometheus' text format."""
        services = self.services
        jobs_by_state: dict[str, int] = {}
        # Without a database the rest is wanted all the more.
        with contextlib.suppress(*DATABASE_ERRORS):
            async with (
                asyncio.timeout(DATABASE_PATIENCE_S),
                services.store.reading(is_long=True) as transaction,
            ):
                jobs_by_state = await JobQueue(transaction).counts()
        geoip = services.geography.database_state
        return services.metrics.export(
            services.counters,
            self.channels.counts(),
            jobs_by_state,
            None if geoip is None else geoip.built_at,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        is_upgrade = scope["type"] == "websocket"
        part = part_of(scope["path"], is_upgrade=is_upgrade, is_program=is_program(scope["headers"]))
        record = self.services.spans.record
        clock = self.services.environment.clock
        if record is None or part is Part.HEALTH:
            await self._handle(part, scope, receive, send)
            return
        if is_upgrade:
            await self._handle(part, scope, receive, TracedUpgrade(scope, send, clock, record).send)
            return
        traced = TracedRequest(scope, send, clock)
        try:
            await self._handle(part, scope, receive, traced.send)
        finally:
            traced.end(record, part.value)

    async def _handle(self, part: Part, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self.services.settings
        send = self._counted(part, send)
        if part is Part.HEALTH:
            # Probes come by address: health answers whatever the host is called.
            await self._health(scope, send)
            return
        origin = read_origin(scope, settings.trusted_proxies, self.services.geography)
        if origin.region in settings.country_code_blocklist:
            await self._forbid(scope, receive, send)
            return
        if self._hosts is not None and part is not Part.REST and host_of(scope) != self._hosts[part]:
            await self._not_here(scope, receive, send)
            return
        scope = {**scope, "scheme": scheme_of(scope, settings.trusted_proxies), ORIGIN: origin}
        match part:
            case Part.UPGRADE:
                await self.channels(scope, receive, send)
            case Part.REST:
                await self._rest(scope, receive, send)
            case Part.WEB:
                await self._web(scope, receive, send)

    def _counted(self, part: Part, send: Send) -> Send:
        counted = self._answers

        async def counting(message: Message) -> None:
            kind = message["type"]
            if kind == "websocket.accept":
                counted(part.value, "101").inc()
            elif kind in ("http.response.start", "websocket.http.response.start"):
                counted(part.value, str(message["status"])).inc()
            await send(message)

        return counting

    async def _forbid(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer who comes from a blocked country (rest-api §1, step 4); nothing else is looked at."""
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
        await self._answer(scope, send, HTTPStatus.FORBIDDEN, b"Forbidden", b"text/plain")

    async def _not_here(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.channels.refuse_unknown(scope, receive, send)
        else:
            await self._answer_json(scope, send, HTTPStatus.NOT_FOUND, {"title": "Not Found", "status": 404})

    async def _health(self, scope: Scope, send: Send) -> None:
        status = "ok"
        if scope["path"].startswith("/readyz"):
            if self._is_draining:
                status = "draining"
            elif not self._is_running:
                status = "starting"
            elif self.supervisor.failing:
                status = "failing"
            elif not await self._has_database():
                status = "database_unavailable"
            else:
                status = "ready"
        code = HTTPStatus.OK if status in ("ok", "ready") else HTTPStatus.SERVICE_UNAVAILABLE
        await self._answer_json(scope, send, code, {"status": status, "version": wardgate.__version__})

    def _count_failure(self) -> None:
        self.services.counters["background_failures"] += 1

    async def _has_database(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DATABASE_PATIENCE_S):
                return await self.services.store.is_available()
        return False

    async def _answer_json(
        self, scope: Scope, send: Send, status: HTTPStatus, content: dict[str, Any]
    ) -> None:
        await self._answer(scope, send, status, json.dumps(content).encode(), b"application/json")

    async def _answer(
        self, scope: Scope, send: Send, status: HTTPStatus, body: bytes, content_type: bytes
    ) -> None:
        prefix = "websocket." if scope["type"] == "websocket" else ""
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        headers += transport_security(is_secure=self.services.settings.is_secure)
        await send({"type": f"{prefix}http.response.start", "status": int(status), "headers": headers})
        await send({"type": f"{prefix}http.response.body", "body": body})


def _hosts_of(settings: PortalSettings) -> Mapping[Part, str] | None:
    hosts = settings.hosts
    if hosts is None:
        return None
    return {Part.UPGRADE: hosts.sockets, Part.WEB: hosts.web}
