"""A message as bytes (RFC 5322, MIME). Its own id names it for ever: a repeated delivery is the same message
to whoever gets it twice.

Recipients stand in the envelope only (portal-domain §14: blind copies), hence the empty group in `To`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Final, Protocol

NOBODY_NAMED: Final = "undisclosed-recipients:;"

_ADDRESS: Final = re.compile(r"[^\s@<>(),;:\\\"\x00-\x20\x7f-\U0010ffff]+@[A-Za-z0-9.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class MailMessage:
    """What is sent, less its recipients.

    Attributes:
        id: the value of `Message-ID` without angle brackets.
        sender: the value of `From`: an address, or a name with an address.
    """

    id: str
    sender: str
    subject: str
    text: str
    html: str
    written_at: datetime

    def encode(self) -> bytes:
        """Write the message.

        Raises:
            ValueError: a header would have more than one line.
        """
        message = EmailMessage(policy=SMTP)
        message["From"] = self.sender
        message["To"] = NOBODY_NAMED
        message["Subject"] = self.subject
        message["Date"] = format_datetime(self.written_at)
        message["Message-ID"] = f"<{self.id}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
        message.set_content(self.text)
        message.add_alternative(self.html, subtype="html")
        # The library would draw one from a source of randomness of its own.
        message.set_boundary(f"part-{re.sub('[^0-9A-Za-z]', '-', self.id)[:50]}")
        return message.as_bytes()

    @property
    def envelope_sender(self) -> str:
        """The address to which a server reports failures."""
        return parseaddr(self.sender)[1]


class Mailer(Protocol):
    """The way to a mail server."""

    async def send(self, message: MailMessage, recipients: Sequence[str]) -> Mapping[str, "Refusal"]:
        """Hand a message over; returns the recipients that the server did not take. All others are the
        server's business now.

        Raises:
            OSError: nothing was handed over: the server could not be reached, or refused us or the message.
        """


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a server said to one recipient: a reply code (RFC 5321 §4.2).

    Its words are left out: they repeat the address.
    """

    code: int

    @property
    def is_permanent(self) -> bool:
        """Greylisting and full mailboxes pass: such a refusal is worth another try."""
        return self.code >= 500


def is_deliverable(address: str) -> bool:
    """Tell whether an address can stand in an envelope: one `@`, printable ASCII, no blanks, no brackets."""
    return len(address) <= 254 and _ADDRESS.fullmatch(address) is not None


def is_sender(text: str) -> bool:
    """Tell whether a text can stand in `From`: an address, or a name with an address in angle brackets."""
    _name, address = parseaddr(text)
    return (
        text.isprintable() and is_deliverable(address) and (text == address or text.endswith(f"<{address}>"))
    )


def domain_of(sender: str) -> str:
    """Return the domain of a `From`, for message ids."""
    return parseaddr(sender)[1].rpartition("@")[2]
