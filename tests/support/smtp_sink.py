"""A mail server (aiosmtpd) on loopback that keeps what it takes."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from wardgate.portal.mail.server import SmtpServer
from wardgate.portal.mail.smtp import SmtpMailer


@dataclass
class Sink:
    """What the server took, and what it says to recipients and to the message."""

    port: int = 0
    taken: list[Envelope] = field(default_factory=list)
    to_recipient: dict[str, str] = field(default_factory=dict)
    to_message: str = "250 taken"
    hosts: list[str] = field(default_factory=list)
    was_encrypted: list[bool] = field(default_factory=list)
    on_message: Callable[[], None] = lambda: None

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.to_recipient.get(address, "250 ok")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.hosts.append(str(session.host_name))
        self.was_encrypted.append(
            session.ssl is not None or bool(server.transport.get_extra_info("sslcontext"))
        )
        if self.to_message.startswith("2"):
            self.taken.append(envelope)
            self.on_message()
        return self.to_message


@contextlib.asynccontextmanager
async def serving(sink: Sink, *, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Sink]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(sink, loop=loop, hostname="sink.example", **options), "127.0.0.1", 0, ssl=tls
    )
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()


def mailer(sink: Sink, scheme: str = "smtp", user: str = "", options: str = "") -> SmtpMailer:
    return SmtpMailer(SmtpServer.parse(f"{scheme}://{user}127.0.0.1:{sink.port}{options}"))
