"""Readers of what people write on a command line, in a variable or in a settings file: text in, a value out.

Each raises `ValueError` with what is wrong and what would be right; whoever calls it adds where the text came
from.
"""

import difflib
import logging
import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from wardgate.model.addresses import IpAddress, parse_ip

_Value = TypeVar("_Value")

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h|d|w|)", re.ASCII)
_SECONDS: Final = {
    "ms": 0.001, "": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800,
}  # fmt: skip
_TRUE: Final = {"1", "true", "yes", "on"}
_FALSE: Final = {"0", "false", "no", "off"}
_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)

LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_FOREIGN_LOG_FORMATS: Final = {"human": "text"}  # the published software's word
_FOREIGN_LOG_LEVELS: Final = {"trace": "debug", "warn": "warning", "off": "critical"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or nothing when nothing is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def text(text: str) -> str:
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader that accepts only these words."""

    def read(text: str) -> str:
        if text not in choices:
            known = ", ".join(map(repr, choices))
            raise ValueError(f"{text!r} is not one of {known}{did_you_mean(text, choices)}")
        return text

    return read


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def whole_number_within(first: int, last: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = whole_number(text)
        if not first <= number <= last:
            raise ValueError(f"{number} is not between {first} and {last}")
        return number

    return read


port = whole_number_within(1, 65535)


def object_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an id such as 5f2c0000-0000-4000-8000-000000000000") from None


def number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{text!r} is not a number")
    return found


def number_from(least: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        found = number(text)
        if found < least:
            raise ValueError(f"{found:g} is too small; it must be at least {least:g}")
        return found

    return read


def boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def path(text: str) -> Path:
    """Read a path; `~` is expanded."""
    return Path(text).expanduser()


def parse_duration_s(text: str) -> float:
    """Parse `90`, `5m`, `1h 30m` into seconds; a bare number means seconds.

    Raises:
        ValueError: not a duration.
    """
    total, rest = 0.0, text.strip()
    if not rest:
        raise ValueError("the duration is empty")
    while rest:
        match = _DURATION.match(rest)
        if match is None:
            raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h")
        total += float(match[1]) * _SECONDS[match[2]]
        rest = rest[match.end() :].strip()
    return total


def whole_seconds_within(first: int, last: int) -> Callable[[str], int]:
    """Return a reader of durations, in whole seconds, that accepts none shorter than `first` or longer than
    `last`."""

    def read(text: str) -> int:
        seconds = int(parse_duration_s(text))
        if not first <= seconds <= last:
            raise ValueError(f"{text!r} is {seconds} s, which is not between {first} s and {last} s")
        return seconds

    return read


def parse_instant(text: str, now: datetime, *, direction: int) -> str:
    """Return the RFC 3339 time that a text stands for: itself, or a duration after (1) or before (-1) `now`.

    Raises:
        ValueError, OverflowError: it is neither, or beyond all calendars.
    """
    if re.match(r"\d{4}-", text):
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise ValueError(f"{text!r} lacks its time zone: append Z for UTC")
    else:
        instant = now + direction * timedelta(seconds=parse_duration_s(text))
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def list_of(read_one: Callable[[str], _Value]) -> Callable[[str], tuple[_Value, ...]]:
    """Return a reader of values between commas."""
    return lambda text: tuple(read_one(part.strip()) for part in text.split(",") if part.strip())


def network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


def address(text: str) -> IpAddress:
    try:
        return parse_ip(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def ipv4_address(text: str) -> IPv4Address:
    found = address(text)
    if not isinstance(found, IPv4Address):
        raise ValueError(f"{text!r} is not an IPv4 address")  # noqa: TRY004 - the text is wrong, not its type
    return found


def ipv6_address(text: str) -> IPv6Address:
    found = address(text)
    if not isinstance(found, IPv6Address):
        raise ValueError(f"{text!r} is not an IPv6 address")  # noqa: TRY004 - the text is wrong, not its type
    return found


def host_name(text: str) -> str:
    """Read a host name, in lower case."""
    if _HOST_NAME.fullmatch(text.lower()) is None:
        raise ValueError(f"{text!r} is not a host name such as api.example.org, without scheme and port")
    return text.lower()


def host_and_port(text: str) -> tuple[str, int]:
    """Read `127.0.0.1:8081` or `[::1]:8081`."""
    host, _, number = text.rpartition(":")
    if not host or not _is_port(number):
        raise ValueError(f"{text!r} is not an address to listen on; write it like 127.0.0.1:8081")
    return host.strip("[]"), int(number)


def target(text: str) -> tuple[str, int | None]:
    """Read where a connection goes: `wiki.corp.example:443`, `10.0.3.7`, `fd00::7` or `[fd00::7]:22`."""
    try:
        return str(ip_address(text.strip("[]"))), None
    except ValueError:
        host, colon, number = text.rpartition(":") if ":" in text else (text, "", "")
    if not re.fullmatch(r"[^\s/:\[\]]+" if "[" not in host else r"\[[0-9A-Fa-f:.]+\]", host) or (
        colon and (not _is_port(number) or int(number) == 0)
    ):
        raise ValueError(f"{text!r} is neither a host nor HOST:PORT")
    return host.strip("[]"), int(number) if colon else None


def listener(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[::]:PORT`, `:PORT` or `PORT`; without a host it is 127.0.0.1."""
    host, _, number = text.rpartition(":")
    if not _is_port(number) or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8080 or [::]:8080")
    return host.strip("[]") or "127.0.0.1", int(number)


def origin(text: str) -> str:
    """Read `https://HOST` or `https://HOST:PORT`, http too: the portal serves no part of another site."""
    url = text.rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} does not begin with http:// or https://")
    try:
        parts = urlsplit(url)
        _ = parts.port
        is_origin = bool(parts.hostname) and "@" not in parts.netloc and url.count("/") == 2
    except ValueError:
        is_origin = False
    if not is_origin:
        raise ValueError(f"{url!r} is not just https://HOST or https://HOST:PORT")
    return url


def https_url(text: str) -> str:
    """Read the URL of a resource that is only asked over TLS."""
    try:
        parts = urlsplit(text.strip())
        is_url = parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError(f"{text!r} is not a URL such as https://ca.example.org/directory")
    return text.strip()


def portal_url(text: str) -> str:
    """Read where the portal's control channels are."""
    try:
        parts = urlsplit(text.strip())
        is_url = parts.scheme in {"ws", "wss", "http", "https"} and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError(f"{text!r} is not a portal URL; write it like wss://portal.example.org")
    return text


def log_format(text: str) -> str:
    return one_of(*LOG_FORMATS)(_FOREIGN_LOG_FORMATS.get(text, text))


def log_level(text: str) -> int:
    """Read the name of a level; of a directive list such as `info,wire=debug` the first bare level counts."""
    bare = next((part.strip() for part in text.split(",") if "=" not in part), "info").lower()
    found = logging.getLevelNamesMapping().get(_FOREIGN_LOG_LEVELS.get(bare, bare).upper())
    if found is None:
        raise ValueError(f"unknown log level {bare!r}; choose debug, info, warning or error")
    return found


def secret(text: str) -> str:
    """Read a secret, without surrounding white space; the path of an existing file stands for its content
    (operations §1)."""
    if "/" in text and len(text) < 4096 and "\n" not in text:
        file = Path(text.strip())
        if file.is_absolute() and file.is_file():
            return read_file(file)
    return text.strip()


def read_file(file: Path) -> str:
    """Return the text in a file, without surrounding white space.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text") from error


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 65536
