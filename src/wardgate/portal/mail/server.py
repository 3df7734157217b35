"""An SMTP server as a URL.

    smtp://host[:port]    STARTTLS if the server offers it; `?tls=required` refuses to go on without,
                          `?tls=none` never asks
    smtps://host[:port]   TLS from the first byte

User name and password are percent-encoded in the URL; with them TLS is required unless `?tls=none` says otherwise.
`?ca_file=PATH` names the authorities that may have signed the server's certificate.
"""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

_PORTS: Final = {"smtp": 587, "smtps": 465}


class Tls(Enum):
    """When the connection is encrypted."""

    AT_ONCE = "at once"
    REQUIRED = "required"
    IF_OFFERED = "if-offered"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mail goes; `parse` is the way in from text.

    Attributes:
        ca_file: certificate authorities to trust; None for those of the system.
    """

    host: str
    port: int
    tls: Tls
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    @classmethod
    def parse(cls, url: str) -> "SmtpServer":
        """Parse the URL of a server.

        Raises:
            ValueError: not one; the text is not repeated, it may hold a password.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.fragment:
            raise ValueError("not smtp://[USER:PASSWORD@]HOST[:PORT] or smtps://…")
        try:
            port = parts.port or _PORTS[parts.scheme]
        except ValueError:
            raise ValueError("the port is not between 1 and 65535") from None
        user = None if parts.username is None else unquote(parts.username)
        password = None if parts.password is None else unquote(parts.password)
        if (user is None) != (password is None):
            raise ValueError("user name and password go together")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        tls = _tls(parts.scheme, options.pop("tls", None), has_password=password is not None)
        ca_file = options.pop("ca_file", None)
        if options:
            raise ValueError(f"unknown option {sorted(options)[0]!r}; there are tls and ca_file")
        return cls(parts.hostname, port, tls, user, password, None if ca_file is None else Path(ca_file))


def _tls(scheme: str, option: str | None, *, has_password: bool) -> Tls:
    if scheme == "smtps":
        if option is not None:
            raise ValueError("smtps:// is encrypted from the first byte: it takes no option tls")
        return Tls.AT_ONCE
    if option is None:
        return Tls.REQUIRED if has_password else Tls.IF_OFFERED
    if option not in (Tls.REQUIRED.value, Tls.IF_OFFERED.value, Tls.NONE.value):
        raise ValueError("the option tls is required, if-offered or none")
    return Tls(option)
