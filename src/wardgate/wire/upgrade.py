"""The upgrade request that opens a control channel, from both sides (control-plane-protocol §1.1–§1.5).

A peer builds an `UpgradeRequest` and reads a refusal with `parse_refusal`; the portal parses the query with
`parse_client_parameters` and its siblings and answers with `problem_document`. The token travels in
`X-Authorization`, a header that intermediaries leave alone.

Unlike the official peers, a `ws` URL without a port means port 80 to ours, as everywhere else.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from wardgate.wire.dialect import Generation, PeerKind
from wardgate.wire.errors import InvalidConnectParameters

AUTHORIZATION_HEADER: Final = "x-authorization"
BEARER: Final = "Bearer "  # compared exactly
PROBLEM_JSON: Final = "application/problem+json"
DEFAULT_RELAY_PORT: Final = 3478
MAX_TEXT_CHARS: Final = 255
BROADCAST: Final = IPv4Address("255.255.255.255")

PATHS: Final[Mapping[tuple[PeerKind, Generation], str]] = {
    (PeerKind.CLIENT, Generation.V1): "/client/websocket",
    (PeerKind.CLIENT, Generation.V2): "/client/v2/websocket",
    (PeerKind.GATEWAY, Generation.V1): "/gateway/websocket",
    (PeerKind.GATEWAY, Generation.V2): "/gateway/v2/websocket",
    (PeerKind.RELAY, Generation.V1): "/relay/websocket",
}


def channel_of(path: str) -> tuple[PeerKind, Generation] | None:
    """Return what speaks on a path, whatever comes before its own segments: peers append them to the base URL that
    they are given (§1.1), which leads here behind a proxy that takes nothing away.
    """
    return next((key for key, own in PATHS.items() if path.endswith(own)), None)


@dataclass(frozen=True, slots=True)
class ClientParameters:
    """A client's query. If `name` is None, the portal invents one. Hardware ids are self-reported and optional."""

    external_id: str
    public_key: str
    name: str | None = None
    device_serial: str | None = None
    device_uuid: str | None = None
    identifier_for_vendor: str | None = None
    firebase_installation_id: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayParameters:
    external_id: str
    public_key: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RelayParameters:
    """At least one address: `parse_relay_parameters` leaves that to its caller, who answers it differently."""

    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    port: int = DEFAULT_RELAY_PORT
    name: str | None = None


ConnectParameters = ClientParameters | GatewayParameters | RelayParameters


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """What to dial and what to send; the WebSocket library adds its own handshake headers."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)


def build_upgrade_request(
    *,
    base_url: str,
    parameters: ConnectParameters,
    token: str,
    user_agent: str,
    generation: Generation = Generation.V2,
) -> UpgradeRequest:
    """Build the request that opens our channel.

    Args:
        base_url: the configured portal URL; http(s) means ws(s), its path is kept, its query is not.
        token: white space in it is removed.

    Raises:
        ValueError: not an http, https, ws or wss URL with a host.
    """
    parts = urlsplit(base_url.strip())
    scheme = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"{base_url!r} is no portal URL: write https://portal.example.org")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = host if parts.port is None else f"{host}:{parts.port}"
    kind = _kind(parameters)
    path = PATHS[kind, Generation.V1 if kind is PeerKind.RELAY else generation]
    url = f"{scheme}://{authority}{parts.path.rstrip('/')}{path}?{urlencode(_query(parameters))}"
    return UpgradeRequest(
        url, (("User-Agent", user_agent), ("X-Authorization", BEARER + "".join(token.split())))
    )


def bearer_token(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """Return the presented token: of the header, else of the query; None: none is there. Header names are
    lower case.
    """
    header = headers.get(AUTHORIZATION_HEADER)
    if header is not None and header.startswith(BEARER):
        return header.removeprefix(BEARER) or None
    return query.get("token") or None


def parse_client_parameters(query: Mapping[str, str]) -> ClientParameters:
    """Parse a client's query.

    Raises:
        InvalidConnectParameters: one problem per field.
    """
    fields = _Fields(query)
    parsed = ClientParameters(
        external_id=fields.external_id(),
        public_key=fields.public_key(),
        name=fields.optional("name"),
        device_serial=fields.optional("device_serial"),
        device_uuid=fields.optional("device_uuid"),
        identifier_for_vendor=fields.optional("identifier_for_vendor"),
        firebase_installation_id=fields.optional("firebase_installation_id"),
    )
    fields.finish()
    return parsed


def parse_gateway_parameters(query: Mapping[str, str]) -> GatewayParameters:
    """Parse a gateway's query.

    Raises:
        InvalidConnectParameters: one problem per field.
    """
    fields = _Fields(query)
    parsed = GatewayParameters(fields.external_id(), fields.public_key(), fields.optional("name"))
    fields.finish()
    return parsed


def parse_relay_parameters(query: Mapping[str, str]) -> RelayParameters:
    """Parse a relay's query; without an address the portal answers `unhandled_connect_error` (§1.5).

    Raises:
        InvalidConnectParameters: one problem per field.
    """
    fields = _Fields(query)
    parsed = RelayParameters(
        fields.address("ipv4", IPv4Address),
        fields.address("ipv6", IPv6Address),
        fields.port(),
        fields.optional("name"),
    )
    fields.finish()
    return parsed


@dataclass(frozen=True, slots=True)
class Refusal:
    """Any answer but 101. `retry_after_s` replaces the peer's own delay."""

    status: int
    code: str | None
    detail: str
    retry_after_s: float | None

    @property
    def is_fatal(self) -> bool:
        """401 is the only status that stops a peer."""
        return self.status == HTTPStatus.UNAUTHORIZED


class _Problem(msgspec.Struct):
    detail: str = ""
    code: str | None = None


def parse_refusal(status: int, headers: Mapping[str, str], body: bytes, *, now: datetime) -> Refusal:
    """Read the portal's (or a proxy's) refusal; never raises. Header names are lower case; `now` is aware UTC."""
    problem = _Problem()
    if headers.get("content-type", "").partition(";")[0].strip().lower() == PROBLEM_JSON:
        try:
            problem = msgspec.json.decode(body, type=_Problem)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            problem = _Problem()
    return Refusal(
        status, problem.code, problem.detail, parse_retry_after(headers.get("retry-after"), now=now)
    )


def parse_retry_after(text: str | None, *, now: datetime) -> float | None:
    """Parse seconds or an HTTP date; None if absent or unreadable."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return max(0.0, (instant.replace(tzinfo=instant.tzinfo or UTC) - now).total_seconds())


def problem_document(status: int, code: str | None, detail: str) -> bytes:
    """Write an RFC 9457 problem document, the body of a refused upgrade."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **({} if code is None else {"code": code}),
    }
    return msgspec.json.encode(document)


_A = TypeVar("_A", IPv4Address, IPv6Address)


class _Fields:
    """Reads a query field by field and collects what is wrong with it."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query
        self._problems: list[tuple[str, str]] = []

    def external_id(self) -> str:
        value = self._query.get("external_id", self._query.get("firezone_id", "")).strip()
        if not value:
            self._problems.append(("external_id", "can't be blank"))
        else:
            self._check_text("external_id", value)
        return value

    def public_key(self) -> str:
        value = self._query.get("public_key", "")
        if not value:
            self._problems.append(("public_key", "can't be blank"))
        elif len(value) != 44:
            self._problems.append(("public_key", "should be 44 character(s)"))
        elif not _is_key(value):
            self._problems.append(("public_key", "must be a base64-encoded string"))
        return value

    def optional(self, name: str) -> str | None:
        value = self._query.get(name, "").strip()
        self._check_text(name, value)
        return value or None

    def address(self, name: str, family: type[_A]) -> _A | None:
        value = self._query.get(name, "").strip()
        if not value:
            return None
        try:
            address = family(value)
        except ValueError:
            address = None
        if address is None or not _is_for_everybody(address):
            self._problems.append((name, "is invalid"))
            return None
        return address

    def port(self) -> int:
        value = self._query.get("port", "").strip()
        if not value:
            return DEFAULT_RELAY_PORT
        if not (value.isascii() and value.isdecimal() and len(value) <= 5 and 0 < int(value) < 65536):
            self._problems.append(("port", "is invalid"))
            return DEFAULT_RELAY_PORT
        return int(value)

    def finish(self) -> None:
        if self._problems:
            raise InvalidConnectParameters(self._problems)

    def _check_text(self, name: str, value: str) -> None:
        if len(value) > MAX_TEXT_CHARS:
            self._problems.append((name, f"should be at most {MAX_TEXT_CHARS} character(s)"))
        elif "\0" in value:
            self._problems.append((name, "is invalid"))  # PostgreSQL has no such text


def _is_key(value: str) -> bool:
    """Tell whether a text is *the* base64 of a key. Keys are told apart by their text, and another spelling of the last
    bits would be the same key.
    """
    try:
        key = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(key) == 32 and base64.b64encode(key).decode() == value


def _is_for_everybody(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address means the same host to all peers. One with a zone is no socket address to released peers,
    which drop the whole message that it stands in.
    """
    if address.is_unspecified or address.is_multicast or address == BROADCAST:
        return False
    return not isinstance(address, IPv6Address) or (address.scope_id is None and address.ipv4_mapped is None)


def _kind(parameters: ConnectParameters) -> PeerKind:
    match parameters:
        case ClientParameters():
            return PeerKind.CLIENT
        case GatewayParameters():
            return PeerKind.GATEWAY
        case RelayParameters():
            return PeerKind.RELAY


def _query(parameters: ConnectParameters) -> list[tuple[str, str]]:
    match parameters:
        case RelayParameters(ipv4, ipv6, port, name):
            pairs: list[tuple[str, object]] = [("name", name), ("ipv4", ipv4), ("ipv6", ipv6), ("port", port)]
        case GatewayParameters(external_id, public_key, name):
            pairs = [("external_id", external_id), ("name", name), ("public_key", public_key)]
        case ClientParameters():
            pairs = [
                ("external_id", parameters.external_id),
                ("name", parameters.name),
                ("device_serial", parameters.device_serial),
                ("device_uuid", parameters.device_uuid),
                ("identifier_for_vendor", parameters.identifier_for_vendor),
                ("firebase_installation_id", parameters.firebase_installation_id),
                ("public_key", parameters.public_key),
            ]
    return [(name, str(value)) for name, value in pairs if value is not None]
