"""Headers between ASGI's pairs of bytes and text. They are Latin-1 on the wire (RFC 9110 §5.5), and names
have no case.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

RawHeaders = list[tuple[bytes, bytes]]

_PORT: Final = re.compile(r":\d*$", re.ASCII)


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers by lower-case name, the last of each: the nearest proxy adds behind what it was
    sent.
    """
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def values_of(scope: Mapping[str, Any], name: str) -> list[str]:
    """Return the values of all headers of a lower-case name, in order."""
    wanted = name.encode("latin-1")
    return [value.decode("latin-1") for one, value in scope["headers"] if one.lower() == wanted]


def host_of(scope: Mapping[str, Any]) -> str:
    """Return the name in the first `Host` header, lower case, without port; empty if there is none."""
    hosts = values_of(scope, "host")
    return _PORT.sub("", hosts[0].lower()).rstrip(".").strip("[]") if hosts else ""


def raw_headers(headers: Mapping[str, str]) -> RawHeaders:
    """Write headers as ASGI wants them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
