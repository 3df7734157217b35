"""A mail server within the process: keeps what it is handed, and refuses what it is told to."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from support.patience import PATIENCE_S
from wardgate.portal.mail.message import MailMessage, Refusal


@dataclass(frozen=True, slots=True)
class Received:
    message: MailMessage
    recipients: tuple[str, ...]


@dataclass(slots=True)
class Letterbox:
    """A `Mailer`. `refused`: address → reply code; `is_down`: nothing can be handed over."""

    refused: dict[str, int] = field(default_factory=dict)
    is_down: bool = False
    taken: list[Received] = field(default_factory=list)
    _unread: "asyncio.Queue[Received]" = field(default_factory=asyncio.Queue)

    async def send(self, message: MailMessage, recipients: Sequence[str]) -> Mapping[str, Refusal]:
        if self.is_down:
            raise ConnectionRefusedError("the mail server is down")
        refusals = {one: Refusal(self.refused[one]) for one in recipients if one in self.refused}
        accepted = tuple(one for one in recipients if one not in refusals)
        if accepted:
            received = Received(message, accepted)
            self.taken.append(received)
            self._unread.put_nowait(received)
        return refusals

    async def receive(self) -> Received:
        """Return the next message, in the order of arrival."""
        return await asyncio.wait_for(self._unread.get(), PATIENCE_S)
