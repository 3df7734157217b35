"""What a sign-in is for, and the four parameters that it carries from step to step (identity §2): `as`, `state`,
`nonce`, `redirect_to`. Nothing else that a browser sends survives.

A flow is what a stranger's link says. So each value is held to the characters and the length that its use can
bear: the state goes into a deep link, the nonce into a bearer token, `redirect_to` into a `Location`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import unquote, urlencode
from uuid import UUID

MAX_REDIRECT_CHARS: Final = 2000

_NONCE: Final = re.compile(r"[A-Za-z0-9+/=_~-]{1,128}")  # portal-domain §3.9: no dot, at most 128
_STATE: Final = re.compile(r"[A-Za-z0-9+/=._~-]{1,512}")  # clients of today send 64
_PATH_AND_QUERY: Final = re.compile(
    r"/[A-Za-z0-9._~%!$&'()*+,;=:@/-]*(\?[A-Za-z0-9._~%!$&'()*+,;=:@/?-]*)?"  # RFC 3986 §3.3, §3.4
)


class Context(Enum):
    """Where somebody signs in; the value is that of the parameter `as`."""

    PORTAL = "portal"
    GUI_CLIENT = "gui-client"
    HEADLESS_CLIENT = "headless-client"

    @property
    def is_client(self) -> bool:
        return self is not Context.PORTAL


class MalformedFlow(ValueError):
    """A client began the sign-in with a state or nonce that none would choose; the message is for people."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One sign-in; `parse` is the way in from a request.

    Attributes:
        state: a GUI client's own, returned to it unchanged.
        nonce: a GUI client's half of its token, which never goes back to it.
        redirect_to: where a person wants to be afterwards, as far as `destination` allows.
    """

    context: Context = Context.PORTAL
    state: str | None = None
    nonce: str | None = field(default=None, repr=False)
    redirect_to: str | None = None

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "Flow":
        """Read the parameters of a request.

        Raises:
            MalformedFlow: a GUI client's state or nonce is missing or not acceptable. Without a nonce, whoever sees
                the hand-off would have the whole token.
        """
        match given.get("as"):
            case "gui-client" | "client":
                state, nonce = given.get("state", ""), given.get("nonce", "")
                if not _STATE.fullmatch(state) or not _NONCE.fullmatch(nonce):
                    raise MalformedFlow("the client's state or nonce is missing or malformed")
                return cls(Context.GUI_CLIENT, state, nonce)
            case "headless-client":
                return cls(Context.HEADLESS_CLIENT)
            case _:
                wanted = given.get("redirect_to", "")
                return cls(redirect_to=wanted if _is_path(wanted) else None)

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters that the next step needs to read the same flow."""
        named = {
            "as": self.context.value if self.context.is_client else None,
            "state": self.state,
            "nonce": self.nonce,
            "redirect_to": self.redirect_to,
        }
        return {name: value for name, value in named.items() if value is not None}

    def url(self, path: str, **more: str) -> str:
        """Return the address of the next step."""
        query = urlencode({**self.parameters, **more})
        return f"{path}?{query}" if query else path

    def destination(self, account_id: UUID, slug: str, *, start_page: str = "") -> str:
        """Return where a person goes who has signed in to this account: `redirect_to` if it is a path of the
        account, else the page that the person sees first (a path without a slash).
        """
        wanted = self.redirect_to
        if wanted is not None and wanted.split("?")[0].split("/")[1].lower() in (
            str(account_id),
            slug.lower(),
        ):
            return wanted
        return f"/{slug}/{start_page}" if start_page else f"/{slug}"


def _is_path(text: str) -> bool:
    """Tell whether a browser takes a text for a path of this host, and one that it does not shorten: no scheme, no
    host (`//`), no backslash, no step upwards.
    """
    if len(text) > MAX_REDIRECT_CHARS or not _PATH_AND_QUERY.fullmatch(text):
        return False
    segments = text.split("?")[0].split("/")[1:]
    return segments[0] != "" and not any(unquote(one) in (".", "..") for one in segments)
