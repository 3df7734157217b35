"""Serving a portal on a socket: uvicorn, TLS by files that may change, an orderly end (every control channel
closed with 1012).
"""

import asyncio
import contextlib
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable
from typing import Final

import uvicorn

from wardgate.portal import plain_http
from wardgate.portal.acme import AcmeCertificate
from wardgate.portal.app import Portal
from wardgate.portal.channels.session import MAX_FRAME_BYTES
from wardgate.portal.http.asgi import Receive, Scope, Send
from wardgate.portal.metrics import CONTENT_TYPE
from wardgate.portal.protocols import protocols
from wardgate.portal.settings import PortalSettings
from wardgate.portal.strangers import ACCEPTED_AT_ONCE, Gate, Listener
from wardgate.portal.tls import Certificate

log = logging.getLogger(__name__)

DRAIN_S: Final = 30.0  # protocol §1.9, point 10

_RESERVED_DESCRIPTORS: Final = 128
"""For the database, files, name look-ups and the outside."""

_IRRELEVANT: Final = (
    "ASGI callable returned without completing handshake",
    "Invalid HTTP request received",
    "Unsupported upgrade request",
    "Invalid UTF-8 sequence received",
)


class BackgroundFailed(Exception):
    """Work that must not end has failed too often in a row."""


async def serve(
    portal: Portal,
    listener: Listener,
    *,
    plain: Listener | None = None,
    metrics: socket.socket | None = None,
    on_ready: Callable[[], None],
    until: asyncio.Event,
) -> None:
    """Serve until the event is set, then drain: 503 on `/readyz`, 1012 to every channel, open requests finished.

    Args:
        listener: bound and listening; see `listening`.
        plain: a listener beside it, for plain HTTP, which leads to HTTPS and proves names to an ACME server.
        metrics: the address of a second listener on loopback for metrics; None if they are not served.
        on_ready: called once, when the portal answers.

    Raises:
        CertificateUnusable, OrderFailed: the message says why.
        BackgroundFailed: the process had better be started again.
    """
    settings = portal.services.settings
    logging.getLogger("uvicorn.error").addFilter(_is_relevant)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(portal.close)
        acme = _acme(portal)
        certificate = _certificate(settings)
        listener.gate = gate = _gate(portal)
        config = _config(portal, certificate, gate)
        config.load()
        await stack.enter_async_context(portal.running())
        await portal.channels.rehearse()
        if metrics is not None:
            await stack.enter_async_context(_metrics_served(portal, metrics))
        if plain is not None:
            plain.gate = gate
            await stack.enter_async_context(_plain_http_served(portal, acme, plain, gate))
        if acme is not None:
            portal.supervisor.keep(acme.keep_valid, name="acme")
        if certificate is not None:
            clock = portal.services.environment.clock
            portal.supervisor.keep(lambda: certificate.watch(clock), name="certificate")
        server = _Server(config, portal, on_ready)
        serving = await stack.enter_async_context(_served(server, listener))
        stopping = asyncio.create_task(until.wait())
        giving_up = asyncio.create_task(portal.supervisor.has_given_up.wait())
        await asyncio.wait((serving, stopping, giving_up), return_when=asyncio.FIRST_COMPLETED)
        for waiting in (stopping, giving_up):
            waiting.cancel()
    if portal.supervisor.has_given_up.is_set():
        raise BackgroundFailed(
            "background work of the portal fails again and again; the log above says which"
        )


class _Server(uvicorn.Server):
    """uvicorn, with word to the portal when it is ready and when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, portal: Portal, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._portal = portal
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        channels = sum(self._portal.channels.counts().values())
        log.info("portal stops: tunnels go on, peers come to the next one", extra={"channels": channels})
        self._portal.drain()
        for server in self.servers:
            server.close()
        await self._portal.channels.drain()
        await super().shutdown(sockets=sockets)


def _acme(portal: Portal) -> AcmeCertificate | None:
    settings, environment = portal.services.settings, portal.services.environment
    if settings.acme is None or settings.tls_certificate is None:
        return None
    acme = AcmeCertificate(
        settings.acme, settings.tls_certificate, clock=environment.clock, rng=environment.rng
    )
    acme.prepare()
    return acme


def _certificate(settings: PortalSettings) -> Certificate | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_certificate, settings.tls_key)


def _gate(portal: Portal) -> Gate:
    settings = portal.services.settings
    descriptors, _most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Gate(
        most=settings.max_connections or max(descriptors - _RESERVED_DESCRIPTORS, _RESERVED_DESCRIPTORS),
        most_of_one=settings.max_connections_per_address,
        trusted=settings.trusted_proxies,
        counters=portal.services.counters,
    )


def _config(portal: Portal, certificate: Certificate | None, gate: Gate) -> uvicorn.Config:
    http_protocol, channel_protocol = protocols(gate)
    return uvicorn.Config(
        portal,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=http_protocol,
        ws=channel_protocol,
        # The session closes what is above its own limit and counts it; this one only bounds memory.
        ws_max_size=2 * MAX_FRAME_BYTES,
        # Peers send heartbeats of their own; answering pings is enough.
        ws_ping_interval=None,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=int(DRAIN_S),
        backlog=ACCEPTED_AT_ONCE,
        ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
    )


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drop uvicorn's complaints about strangers, and the one that follows every upgrade answered with HTTP."""
    return not record.getMessage().startswith(_IRRELEVANT)


@contextlib.asynccontextmanager
async def _plain_http_served(
    portal: Portal, acme: AcmeCertificate | None, listener: Listener, gate: Gate
) -> AsyncIterator[None]:
    app = plain_http.build(portal.services.settings.external_url, {} if acme is None else acme.proofs)
    http_protocol, _channels = protocols(gate)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http=http_protocol,
            ws="none",
            backlog=ACCEPTED_AT_ONCE,
        )
    )
    async with _served(server, listener):
        yield


@contextlib.asynccontextmanager
async def _metrics_served(portal: Portal, listener: socket.socket) -> AsyncIterator[None]:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, body = 404, b""
        if scope["path"] in ("/", "/metrics"):
            status, body = 200, await portal.export_metrics()
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    async with _served(server, listener):
        yield


@contextlib.asynccontextmanager
async def _served(server: uvicorn.Server, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Run a server beside the block. uvicorn's signal handling is off: it would raise the signal again at the end."""
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield task
    finally:
        server.should_exit = True
        await task
