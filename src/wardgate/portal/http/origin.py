"""Where a request comes from (protocol §1.7): address, place and scheme; only trusted proxies are believed.

A proxy appends the address of its peer to `X-Forwarded-For`. So the list is read from its end, past the
trusted proxies, up to the first other address: that one was seen by a trusted proxy. Anybody may have written
what is to the left of it. `Forwarded` (RFC 7239) is not read: a proxy that sets one of the two forwards the
other as the client wrote it, and only one can be believed. The other headers have one value, set by the
nearest proxy, which must replace what a client sent (docs/deploy/).

The portal determines the origin once and stores it in the ASGI scope for sockets, REST and pages.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Final

from wardgate.model.addresses import IpAddress, normalized, parse_ip
from wardgate.policy.selection import Position
from wardgate.portal.geography import (
    MAX_CITY_CHARS,
    Geography,
    Place,
    centroid_of,
    is_country,
    parse_coordinates,
)
from wardgate.portal.http.headers import headers_of, values_of
from wardgate.wire.user_agent import MAX_CHARS

Networks = Sequence[IPv4Network | IPv6Network]

SCOPE_KEY: Final = "wardgate.origin"

_PORT: Final = re.compile(r":(?:[0-9]{1,5}|_[A-Za-z0-9._-]+)")

_UNKNOWN: Final = IPv4Address("0.0.0.0")  # noqa: S104 - nobody is bound to it
_SECURE: Final = {"http": "https", "ws": "wss"}
_PLAIN: Final = {"https": "http", "wss": "ws"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request or connection comes from, and what it calls itself: at most 255 characters, which other peers are
    told (protocol §1.4).
    """

    remote_ip: IpAddress
    user_agent: str
    region: str | None = None
    city: str | None = None
    position: Position | None = None

    @property
    def lat(self) -> float | None:
        return None if self.position is None else self.position.lat

    @property
    def lon(self) -> float | None:
        return None if self.position is None else self.position.lon


def origin_of(scope: Mapping[str, Any]) -> Origin:
    """Return the origin that the portal has stored in the scope of this request."""
    origin: Origin = scope[SCOPE_KEY]
    return origin


def read_origin(scope: Mapping[str, Any], trusted: Networks, geography: Geography) -> Origin:
    """Read the origin out of an ASGI scope; a transport without addresses (tests) counts as 0.0.0.0."""
    headers = headers_of(scope)
    peer = _peer(scope)
    user_agent = headers.get("user-agent", "")[:MAX_CHARS]
    if peer is None or not _is_trusted(peer, trusted):
        address, place = peer or _UNKNOWN, None
    else:
        address, place = _forwarded(_forwarded_for(scope), peer, trusted), _announced_place(headers)
    place = geography.place_of(address, place)
    return Origin(address, user_agent, place.region, place.city, place.position)


def scheme_of(scope: Mapping[str, Any], trusted: Networks) -> str:
    """Return the scheme that the caller used, for URLs in answers; the socket's own unless a trusted proxy
    announces another.
    """
    scheme: str = scope.get("scheme", "http")
    peer = _peer(scope)
    if peer is None or not _is_trusted(peer, trusted):
        return scheme
    match headers_of(scope).get("x-forwarded-proto", "").rpartition(",")[2].strip().lower():
        case "https" | "wss":
            return _SECURE.get(scheme, scheme)
        case "http" | "ws":
            return _PLAIN.get(scheme, scheme)
        case _:
            return scheme


def _announced_place(headers: Mapping[str, str]) -> Place | None:
    """Return the place that a trusted proxy announces, if any. A code that is no country (XX, T1) counts as
    unknown.
    """
    country = (headers.get("x-azure-geo-country") or headers.get("x-geo-location-region", "")).strip().upper()
    city = headers.get("x-geo-location-city", "").strip()[:MAX_CITY_CHARS] or None
    coordinates = headers.get("x-geo-location-coordinates", "").strip()
    if not (country or city or coordinates):
        return None
    region = country if is_country(country) else None
    return Place(region, city, parse_coordinates(coordinates) or centroid_of(region))


def _forwarded_for(scope: Mapping[str, Any]) -> list[str]:
    """Return the entries of all such headers, in order (RFC 9110 §5.3)."""
    return ",".join(values_of(scope, "x-forwarded-for")).split(",")


def _peer(scope: Mapping[str, Any]) -> IpAddress | None:
    return _parse((scope.get("client") or ("",))[0])


def _forwarded(entries: list[str], peer: IpAddress, trusted: Networks) -> IpAddress:
    """Return the right-most address that is not a trusted proxy's.

    Empty elements are skipped (RFC 9110 §5.6.1.2). The search ends at an element that is no address: nobody
    knows who wrote what is before it.
    """
    found = peer
    for entry in reversed(entries):
        if not entry.strip(" \t"):
            continue
        address = _parse(_node(entry))
        if address is None:
            return found
        found = address
        if not _is_trusted(address, trusted):
            return found
    return found


def _node(entry: str) -> str:
    """Return the address in an element, without what some proxies put around it: `192.0.2.7:4711`,
    `"[2001:db8::7]:4711"`.
    """
    text = entry.strip(" \t")
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1].strip(" \t")
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        is_whole = bool(bracket) and (not port or _is_port(port))
        return address if is_whole and ":" in address else text
    address, colon, _port = text.partition(":")
    is_with_port = text.count(":") == 1 and _is_port(text.removeprefix(address))
    return address if colon and is_with_port and address else text


def _is_port(text: str) -> bool:
    """Tell whether a text is a colon and a port; proxies that hide it write an underscore and a name (RFC
    7239 §6.2).
    """
    return _PORT.fullmatch(text) is not None


def _is_trusted(address: IpAddress, trusted: Networks) -> bool:
    return any(address in network for network in trusted)


def _parse(text: str) -> IpAddress | None:
    try:
        return normalized(parse_ip(text))
    except ValueError:
        return None
