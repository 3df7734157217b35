"""Where a request comes from (protocol §1.7): address, position and scheme, believed from a proxy only if it is a trusted one.

A proxy appends to `X-Forwarded-For` who spoke to it. So the list is read from its end, over the trusted proxies, up to the first
address that is none of them: that one was seen by a trusted proxy. Whatever stands to the left of it anybody may have written.
The other headers carry one value, set by the nearest proxy; it must replace what a client sends (docs/deploy/).
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Final

from wardgate.model.addresses import IpAddress, normalized, parse_ip
from wardgate.policy.selection import Position
from wardgate.portal.channels.connecting import Origin

Networks = Sequence[IPv4Network | IPv6Network]

_UNKNOWN: Final = IPv4Address("0.0.0.0")  # noqa: S104 - nobody is bound to it
_SECURE: Final = {"http": "https", "ws": "wss"}
_PLAIN: Final = {"https": "http", "wss": "ws"}


def origin_of(scope: Mapping[str, Any], trusted: Networks) -> Origin:
    """Read the origin out of an ASGI scope; a transport without addresses (tests) counts as 0.0.0.0."""
    headers = _headers(scope)
    peer = _peer(scope)
    user_agent = headers.get("user-agent", "")
    if peer is None or not _is_trusted(peer, trusted):
        return Origin(peer or _UNKNOWN, user_agent)
    region = headers.get("x-azure-geo-country") or headers.get("x-geo-location-region")
    return Origin(
        _forwarded(_forwarded_for(scope), peer, trusted),
        user_agent,
        (region or "").strip().upper()[:255] or None,
        headers.get("x-geo-location-city", "").strip()[:255] or None,
        _position(headers.get("x-geo-location-coordinates", "")),
    )


def scheme_of(scope: Mapping[str, Any], trusted: Networks) -> str:
    """Return the scheme that the caller used, for addresses that an answer names; the socket's own unless a trusted proxy says."""
    scheme: str = scope.get("scheme", "http")
    peer = _peer(scope)
    if peer is None or not _is_trusted(peer, trusted):
        return scheme
    match _headers(scope).get("x-forwarded-proto", "").rpartition(",")[2].strip().lower():
        case "https" | "wss":
            return _SECURE.get(scheme, scheme)
        case "http" | "ws":
            return _PLAIN.get(scheme, scheme)
        case _:
            return scheme


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers by name, the last one of a name: the nearest proxy adds behind what it was sent."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _forwarded_for(scope: Mapping[str, Any]) -> list[str]:
    """Return the entries of all such headers, in order (RFC 9110 §5.3)."""
    lists = [
        value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"
    ]
    return ",".join(lists).split(",")


def _peer(scope: Mapping[str, Any]) -> IpAddress | None:
    return _parse((scope.get("client") or ("",))[0])


def _forwarded(entries: list[str], peer: IpAddress, trusted: Networks) -> IpAddress:
    """Return the right-most address that is not a trusted proxy's."""
    found = peer
    for entry in reversed(entries):
        address = _parse(_without_port(entry.strip()))
        if address is None:
            return found
        found = address
        if not _is_trusted(address, trusted):
            return found
    return found


def _without_port(text: str) -> str:
    """Some proxies write `192.0.2.7:4711` and `[2001:db8::7]:4711`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _is_trusted(address: IpAddress, trusted: Networks) -> bool:
    return any(address in network for network in trusted)


def _parse(text: str) -> IpAddress | None:
    try:
        return normalized(parse_ip(text))
    except ValueError:
        return None


def _position(text: str) -> Position | None:
    lat, comma, lon = text.partition(",")
    try:
        position = Position(float(lat), float(lon))
    except ValueError:
        return None
    return position if comma and abs(position.lat) <= 90 and abs(position.lon) <= 180 else None
