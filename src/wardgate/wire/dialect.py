"""Which event carries which message: per kind of peer, direction and protocol generation (control-plane §0, §3).

`Dialect` is the codec of one connection. It never raises on what the other end sent: an event that the table lacks
is `Unknown`, a known event with a wrong payload `Malformed`; a peer skips both, the portal answers `unknown_message`.
The name of the other generation is unknown on purpose: a peer on the wrong path never gets a tunnel.

A resource that the receiver cannot read does not cost the message it came in (§5.1): it alone is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

import msgspec

from wardgate.wire import messages as m
from wardgate.wire.errors import LocalProtocolError
from wardgate.wire.json_types import decode_address


class PeerKind(StrEnum):
    """The value is the peer's topic and the first segment of its path."""

    CLIENT = "client"
    GATEWAY = "gateway"
    RELAY = "relay"


class Generation(IntEnum):
    """Protocol generation, chosen by the path; relays have only one, called V1 here."""

    V1 = 1
    V2 = 2


@dataclass(frozen=True, slots=True)
class Unknown:
    """An event that this peer, direction and generation does not have."""

    event: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """A known event whose payload does not decode; `reason` names the place."""

    event: str
    reason: str


Decoded = m.Message | Unknown | Malformed


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one peer and the portal talk: what the peer is and which generation it speaks."""

    kind: PeerKind
    generation: Generation = Generation.V2

    @property
    def topic(self) -> str:
        return self.kind.value

    def decode_from_portal(self, event: str, payload: bytes) -> Decoded:
        """Decode what the portal pushed to the peer."""
        return _decode(_TABLES[self.kind, self.generation].from_portal.get(event), event, payload)

    def decode_from_peer(self, event: str, payload: bytes) -> Decoded:
        """Decode what the peer sent to the portal, its join included."""
        return _decode(_TABLES[self.kind, self.generation].from_peer.get(event), event, payload)

    def encode_to_peer(self, message: m.Message) -> tuple[str, object]:
        """Return event and payload of a push, for `Framing.encode`.

        Raises:
            LocalProtocolError: this kind of peer and generation does not know the message.
        """
        return _encode(_TABLES[self.kind, self.generation].to_peer, message)

    def encode_to_portal(self, message: m.Message) -> tuple[str, object]:
        """Return event and payload of a peer's message, for `Framing.encode`.

        Raises:
            LocalProtocolError: this kind of peer and generation does not send the message.
        """
        return _encode(_TABLES[self.kind, self.generation].to_portal, message)


class _Row(msgspec.Struct, frozen=True):
    """One line of the table. Names: the one we send first, then others that we accept; empty: not in that generation.

    `bare`: the payload is this field's value instead of an object of all fields.
    """

    message: type[m.Message]
    v1: tuple[str, ...]
    v2: tuple[str, ...]
    bare: str | None = None


def _both(message: type[m.Message], *names: str, bare: str | None = None) -> _Row:
    return _Row(message, names, names, bare)


_TO_BOTH: Final = (
    _both(m.RelaysPresence, "relays_presence"),
    _both(m.RejectAccess, "reject_access"),
    _both(m.Disconnect, "disconnect"),
)

_TO_PEER: Final[Mapping[PeerKind, tuple[_Row, ...]]] = {
    PeerKind.CLIENT: (
        *_TO_BOTH,
        _both(m.ClientInit, "init"),
        _both(m.ConfigChanged, "config_changed"),
        _both(m.ResourceCreatedOrUpdated, "resource_created_or_updated", bare="resource"),
        _both(m.ResourceDeleted, "resource_deleted", bare="resource_id"),
        _Row(m.AuthorizationCreated, ("flow_created",), ("authorization_created",)),
        _Row(m.AuthorizationCreationFailed, ("flow_creation_failed",), ("authorization_creation_failed",)),
        _both(m.GatewayIceCandidates, "ice_candidates", "gateway_ice_candidates"),
        _both(
            m.InvalidateGatewayIceCandidates, "invalidate_ice_candidates", "invalidate_gateway_ice_candidates"
        ),
        _both(m.PeerIceCandidates, "client_ice_candidates"),
        _both(m.InvalidatePeerIceCandidates, "invalidate_client_ice_candidates"),
        _both(m.PeerIceCandidateError, "client_ice_candidate_error"),
        _both(m.DeviceAccessAuthorized, "client_device_access_authorized"),
        _both(m.DeviceAccessDenied, "client_device_access_denied"),
        _both(m.ResourceFiltersUpdated, "resource_filters_updated"),
        _both(m.DevicePoolDomainResolved, "device_pool_domain_resolved"),
        _both(m.DevicePoolDomainResolutionFailed, "device_pool_domain_resolution_failed"),
    ),
    PeerKind.GATEWAY: (
        *_TO_BOTH,
        _both(m.GatewayInit, "init"),
        _Row(m.CreateAuthorization, ("authorize_flow",), ("create_authorization",)),
        _both(m.ResourceUpdated, "resource_updated", bare="resource"),
        _both(m.ClientIceCandidates, "ice_candidates"),
        _both(m.InvalidateClientIceCandidates, "invalidate_ice_candidates"),
    ),
    PeerKind.RELAY: (
        _both(m.RelayInit, "init"),
        _both(m.Disconnect, "disconnect"),
    ),
}

_TO_PORTAL: Final[Mapping[PeerKind, tuple[_Row, ...]]] = {
    PeerKind.CLIENT: (
        _both(m.Join, "phx_join"),
        _both(m.SetSnownetCapabilities, "set_snownet_capabilities"),
        _both(m.NoRelays, "no_relays"),
        _Row(m.RequestAuthorization, ("create_flow",), ("request_authorization",)),
        _both(m.ResolveDevicePoolDomain, "resolve_device_pool_domain"),
        _both(m.NewGatewayIceCandidates, "new_gateway_ice_candidates"),
        _both(m.InvalidateNewGatewayIceCandidates, "invalidate_gateway_ice_candidates"),
        _both(m.NewPeerIceCandidates, "new_client_ice_candidates"),
        _both(m.InvalidateNewPeerIceCandidates, "invalidate_client_ice_candidates"),
        _both(m.BroadcastToGateways, "broadcast_ice_candidates"),
        _both(m.BroadcastInvalidatedToGateways, "broadcast_invalidated_ice_candidates"),
        _both(m.RequestDeviceAccess, "request_device_access"),
        _both(m.LegacyConnection, "prepare_connection", "reuse_connection", "request_connection"),
    ),
    PeerKind.GATEWAY: (
        _both(m.Join, "phx_join"),
        _both(m.SetSnownetCapabilities, "set_snownet_capabilities"),
        _both(m.NoRelays, "no_relays"),
        _Row(m.AuthorizationAcknowledged, ("flow_authorized",), ("authorization_created",)),
        _both(m.BroadcastIceCandidates, "broadcast_ice_candidates"),
        _both(m.BroadcastInvalidatedIceCandidates, "broadcast_invalidated_ice_candidates"),
        _both(m.Draining, "draining"),
    ),
    PeerKind.RELAY: (_both(m.RelayJoin, "phx_join"),),
}

_PAYLOAD_IGNORED: Final = (
    m.Join,
    m.RequestDeviceAccess,
    m.LegacyConnection,
    m.NoRelays,
    m.RelayInit,
    m.Draining,
)


@dataclass(frozen=True, slots=True)
class _Decoding:
    row: _Row
    decoder: "msgspec.json.Decoder[Any]"


@dataclass(frozen=True, slots=True)
class _Table:
    from_portal: Mapping[str, _Decoding]
    from_peer: Mapping[str, _Decoding]
    to_peer: Mapping[type[m.Message], tuple[str, str | None]]
    to_portal: Mapping[type[m.Message], tuple[str, str | None]]


def _decodings(rows: tuple[_Row, ...], generation: Generation) -> Mapping[str, _Decoding]:
    table: dict[str, _Decoding] = {}
    for row in rows:
        payload_type = row.message if row.bare is None else msgspec.structs.fields(row.message)[0].type
        decoder = msgspec.json.Decoder(payload_type, dec_hook=decode_address)
        for name in _names(row, generation):
            table[name] = _Decoding(row, decoder)
    return table


def _encodings(
    rows: tuple[_Row, ...], generation: Generation
) -> Mapping[type[m.Message], tuple[str, str | None]]:
    return {row.message: (names[0], row.bare) for row in rows if (names := _names(row, generation))}


def _names(row: _Row, generation: Generation) -> tuple[str, ...]:
    return row.v1 if generation is Generation.V1 else row.v2


_TABLES: Final[Mapping[tuple[PeerKind, Generation], _Table]] = {
    (kind, generation): _Table(
        _decodings(_TO_PEER[kind], generation),
        _decodings(_TO_PORTAL[kind], generation),
        _encodings(_TO_PEER[kind], generation),
        _encodings(_TO_PORTAL[kind], generation),
    )
    for kind in PeerKind
    for generation in Generation
}


def _encode(
    table: Mapping[type[m.Message], tuple[str, str | None]], message: m.Message
) -> tuple[str, object]:
    entry = table.get(type(message))
    if entry is None:
        raise LocalProtocolError(f"{type(message).__name__} cannot be sent on this connection")
    event, bare = entry
    if type(message) is m.Join:
        return event, None
    return event, message if bare is None else getattr(message, bare)


def _decode(decoding: _Decoding | None, event: str, payload: bytes) -> Decoded:
    if decoding is None:
        return Unknown(event, payload)
    message = decoding.row.message
    if message in _PAYLOAD_IGNORED:
        return message()
    try:
        return _wrapped(decoding.row, decoding.decoder.decode(payload))
    except msgspec.ValidationError as error:
        if message is m.ClientInit:
            return _client_init_without_unreadable_resources(payload, str(error))
        return Malformed(event, str(error))
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return Malformed(event, str(error) or type(error).__name__)


def _wrapped(row: _Row, value: Any) -> m.Message:
    if row.bare is not None:
        return row.message(value)
    assert isinstance(value, m.Message)
    return value


def _client_init_without_unreadable_resources(payload: bytes, reason: str) -> Decoded:
    plain = msgspec.json.decode(payload)
    resources = plain.get("resources") if isinstance(plain, dict) else None
    if not isinstance(resources, list):
        return Malformed("init", reason)
    readable = [one for one in resources if _is_readable(one)]
    try:
        return msgspec.convert({**plain, "resources": readable}, m.ClientInit, dec_hook=decode_address)
    except msgspec.ValidationError as error:
        return Malformed("init", str(error))


def _is_readable(resource: object) -> bool:
    try:
        msgspec.convert(resource, m.ClientResource, dec_hook=decode_address)
    except msgspec.ValidationError:
        return False
    return True
