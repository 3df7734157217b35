"""The way to a mail server over SMTP (RFC 5321)."""

import ssl
from collections.abc import Mapping, Sequence
from typing import Final

import aiosmtplib

from wardgate.portal.mail.message import MailMessage, Refusal, domain_of
from wardgate.portal.mail.server import SmtpServer, Tls

TIMEOUT_S: Final = 30.0  # of every step; the job's retries are for servers that take longer


class SmtpMailer:
    """Hands messages to one server, over a new connection each: notifications are few."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def send(self, message: MailMessage, recipients: Sequence[str]) -> Mapping[str, Refusal]:
        """See `Mailer`."""
        # Before the sender's parts are read: CPython 3.11.2 finds no address where a sender has two lines, 3.11.7 one.
        encoded = message.encode()
        try:
            async with self._client(domain_of(message.sender)) as client:
                refused, _ = await client.sendmail(message.envelope_sender, list(recipients), encoded)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: Refusal(one.code) for one in error.recipients}
        except aiosmtplib.SMTPResponseException as error:
            raise OSError(f"the mail server refused: {error.code} {_one_line(error.message)}") from error
        except aiosmtplib.SMTPException as error:
            raise OSError(_one_line(str(error))) from error
        return {address: Refusal(answer.code) for address, answer in refused.items()}

    def _client(self, called: str) -> aiosmtplib.SMTP:
        server = self._server
        start_tls = {Tls.REQUIRED: True, Tls.IF_OFFERED: None}.get(server.tls, False)
        context = None
        if server.tls is not Tls.NONE:
            context = ssl.create_default_context(cafile=server.ca_file)
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.tls is Tls.AT_ONCE,
            start_tls=start_tls,
            tls_context=context,
            local_hostname=called,  # the library would ask the resolver, and wait for it
            timeout=TIMEOUT_S,
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:255]
