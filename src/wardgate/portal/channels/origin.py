"""Where a request comes from (protocol §1.7): address and position, believed from a proxy only if it is a trusted one."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Final

from wardgate.model.addresses import IpAddress, normalized, parse_ip
from wardgate.policy.selection import Position
from wardgate.portal.channels.connecting import Origin

Networks = Sequence[IPv4Network | IPv6Network]

_UNKNOWN: Final = IPv4Address("0.0.0.0")  # noqa: S104 - nobody is bound to it


def origin_of(scope: Mapping[str, Any], trusted: Networks) -> Origin:
    """Read the origin out of an ASGI scope; a transport without addresses (tests) counts as 0.0.0.0."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    peer = _parse((scope.get("client") or ("",))[0])
    user_agent = headers.get("user-agent", "")
    if peer is None or not _is_trusted(peer, trusted):
        return Origin(peer or _UNKNOWN, user_agent)
    region = headers.get("x-azure-geo-country") or headers.get("x-geo-location-region")
    return Origin(
        _forwarded(headers.get("x-forwarded-for", ""), peer, trusted),
        user_agent,
        (region or "").strip().upper()[:255] or None,
        headers.get("x-geo-location-city", "").strip()[:255] or None,
        _position(headers.get("x-geo-location-coordinates", "")),
    )


def _forwarded(header: str, peer: IpAddress, trusted: Networks) -> IpAddress:
    """Return the right-most address that is not a trusted proxy's."""
    found = peer
    for part in reversed(header.split(",")):
        address = _parse(part.strip())
        if address is None:
            return found
        found = address
        if not _is_trusted(address, trusted):
            return found
    return found


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
