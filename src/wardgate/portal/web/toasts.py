"""A short message that the next page shows: after a form, the browser is sent elsewhere, and the cookie tells there
what has happened. It is signed, so that no other site can put words into the portal's mouth.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, get_args

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.services import Services

Tone = Literal["good", "caution", "bad", "neutral"]

MAX_CHARS: Final = 400
_LIFETIME: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Toast:
    """`undo` is the address of a form without fields that takes back what the message tells of; "" for none."""

    text: str
    tone: Tone
    undo: str = ""


class Toasts:
    """Puts messages into cookies and takes them out."""

    def __init__(self, services: Services) -> None:
        self._cookie = SignedCookie(services.keys.cookies, "toast", is_secure=services.settings.is_secure)
        self._clock = services.environment.clock

    def put(self, response: Response, text: str, tone: Tone, undo: str = "") -> None:
        value = [text[:MAX_CHARS], tone, undo]
        self._cookie.set(response, value, lifetime=_LIFETIME, now=self._clock.now())

    def find(self, request: Request) -> Toast | None:
        """Return the message that the request brings, if we signed it."""
        match self._cookie.read(request, now=self._clock.now()):
            case [str(text), tone, str(undo)] if tone in get_args(Tone):
                return Toast(text, tone, undo)
        return None

    def clear(self, response: Response) -> None:
        self._cookie.clear(response)
