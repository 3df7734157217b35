"""One portal process: builds the parts over one store and serves them behind one listener.

The first segment of the path decides who answers; the table is also the list of slugs that no account may take.

    client, gateway, relay     control channels (WebSocket)
    healthz, readyz            health
    what REST names            REST API
    everything else            pages
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

import wardgate
from wardgate.portal import jobs, rest, web
from wardgate.portal.channels import ChannelEndpoint, Journal
from wardgate.portal.channels.endpoint import SEGMENTS as CHANNEL_SEGMENTS
from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.services import Services
from wardgate.portal.settings import PortalSettings
from wardgate.portal.snapshot import Accounts
from wardgate.portal.store import Feed, Store

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH_SEGMENTS: Final = frozenset({"healthz", "readyz"})
RESERVED_SLUGS: Final = CHANNEL_SEGMENTS | HEALTH_SEGMENTS | rest.SEGMENTS | web.SEGMENTS


class Portal:
    """The ASGI application of one process. Run it inside `async with portal.running():`."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.journal = Journal(services)
        self.channels = ChannelEndpoint(services, self.journal)
        self._rest: App = rest.build(services)
        self._web: App = web.build(services)
        self._is_running = False
        self._is_draining = False

    @classmethod
    async def open(cls, settings: PortalSettings, keys: Keys, environment: Environment) -> "Portal":
        """Open the store and build all parts.

        Raises:
            Unusable: the database cannot be used.
        """
        store = await Store.open(settings.database, environment)
        feed = Feed(store, environment)
        return cls(Services(settings, environment, keys, store, feed, Accounts(store, feed, environment)))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the background work of the process; what the journal holds is written before the store is closed."""
        services = self.services
        tasks = [
            asyncio.create_task(services.feed.run(), name="feed"),
            asyncio.create_task(services.accounts.run(), name="accounts"),
            asyncio.create_task(self.journal.run(), name="journal"),
            asyncio.create_task(jobs.run(services), name="jobs"),
        ]
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await services.accounts.close()
            await self.journal.flush()
            services.feed.close()

    async def close(self) -> None:
        """Close the store; after `running`. A simulated restart keeps it instead."""
        await self.services.store.close()

    def drain(self) -> None:
        """Answer `/readyz` with 503 from now on: no new traffic, please."""
        self._is_draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.channels(scope, receive, send)
            return
        segment = scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
        if segment in HEALTH_SEGMENTS:
            await self._health(segment, send)
        elif segment in rest.SEGMENTS:
            await self._rest(scope, receive, send)
        else:
            await self._web(scope, receive, send)

    async def _health(self, segment: str, send: Send) -> None:
        status = "ok"
        if segment == "readyz":
            if self._is_draining:
                status = "draining"
            elif not self._is_running:
                status = "starting"
            elif not await self.services.store.is_available():
                status = "database_unavailable"
            else:
                status = "ready"
        body = json.dumps({"status": status, "version": wardgate.__version__}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        code = 200 if status in ("ok", "ready") else 503
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": body})
