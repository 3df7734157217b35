"""A small HTTP server on loopback, with TLS or without, whose answers a test writes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from support.certificates import write_certificate


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it arrived; `sni` is the name of the TLS handshake, names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    sni: str | None

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered; `parts` are sent one after another, so that a body may be slow."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None


Answering = Callable[[Asked], Reply | Awaitable[Reply]]


class HttpsServer:
    """Serves one request per connection; `answering` may be replaced at any time.

    Attributes:
        asked: the requests so far.
    """

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.asked: list[Asked] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            asked = await self._read(reader, writer)
            self.asked.append(asked)
            reply = self.answering(asked)
            if not isinstance(reply, Reply):
                reply = await reply
            headers = {"content-length": str(len(reply.body)), "connection": "close", **reply.headers}
            lines = [f"HTTP/1.1 {reply.status} x", *(f"{name}: {text}" for name, text in headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
            await writer.drain()
            if reply.more is not None:
                await reply.more(writer)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, target, _ = first.split(" ")
        tls = writer.get_extra_info("ssl_object")
        return Asked(method, target, headers, body, None if tls is None else tls.context.sni)  # type: ignore[union-attr]


@contextlib.asynccontextmanager
async def https_server(
    answering: Answering, folder: Path | None, *, name: str = "idp.test", host: str = "127.0.0.1"
) -> AsyncIterator[HttpsServer]:
    """Serve with a certificate for `name` and 127.0.0.1, written to `folder`/ca.pem; without a folder, in clear."""
    server = HttpsServer(answering)
    # A client that has heard enough does not say goodbye; nobody waits for it.
    tls = {} if folder is None else {"ssl": _context(folder, name), "ssl_shutdown_timeout": 0.05}
    async with await asyncio.start_server(server.handle, host, 0, **tls) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


class _NotingContext(ssl.SSLContext):
    sni: str | None = None


def _context(folder: Path, name: str) -> ssl.SSLContext:
    write_certificate(folder / "ca.pem", folder / "key.pem", name=name)
    context = _NotingContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")

    def note(_socket: object, named: str | None, _context: object) -> None:
        context.sni = named

    context.sni_callback = note
    return context
