"""Messages between connections, sent over the bus by address: values only, so that they may cross nodes."""

from dataclasses import dataclass

from wardgate.model.ids import AuthorizationId, ClientId, DeviceId, GatewayId, ResourceId
from wardgate.portal.bus import Address
from wardgate.portal.store.rows import PolicyAuthorization
from wardgate.wire import messages as wire


@dataclass(frozen=True, slots=True)
class Superseded:
    """To the holder of an address: a newer connection takes it."""


@dataclass(frozen=True, slots=True)
class OfferGrant:
    """To a gateway: a client was granted a resource; acknowledge to `reply_to`."""

    authorization: PolicyAuthorization
    create: wire.CreateAuthorization
    reply_to: Address


@dataclass(frozen=True, slots=True)
class OfferDeviceAccess:
    """To a client: another client was granted access to it through a pool; acknowledge to `reply_to` what was pushed."""

    authorization: PolicyAuthorization
    told: wire.DeviceAccessAuthorized
    reply_to: Address


@dataclass(frozen=True, slots=True)
class GrantAcknowledged:
    """To a client: the gateway has its grant in force, or the other client has been told of it."""

    authorization_id: AuthorizationId


@dataclass(frozen=True, slots=True)
class GrantStored:
    """To a client: its grant is in the store, or could not be written."""

    authorization_id: AuthorizationId
    is_stored: bool


@dataclass(frozen=True, slots=True)
class GrantQueued:
    """From the journal to a receiver's session: a grant to it waits to be stored, and no query finds it yet."""

    authorization: PolicyAuthorization


@dataclass(frozen=True, slots=True)
class WithdrawGrant:
    """To a gateway or client: a grant that it was given could not be stored and does not hold."""

    authorization_id: AuthorizationId


@dataclass(frozen=True, slots=True)
class CandidatesOfClient:
    """To a gateway or another client: candidates of a client, forwarded verbatim."""

    client_id: ClientId
    candidates: tuple[str, ...]
    is_invalidated: bool


@dataclass(frozen=True, slots=True)
class CandidatesOfGateway:
    """To a client: candidates of a gateway, forwarded verbatim."""

    gateway_id: GatewayId
    candidates: tuple[str, ...]
    is_invalidated: bool


@dataclass(frozen=True, slots=True)
class Holding:
    """A grant as both ends' sessions remember it; `receiver_id` is a gateway's or, in device pools, another client's."""

    authorization_id: AuthorizationId
    client_id: ClientId
    receiver_id: DeviceId
    resource_id: ResourceId
    expires_at_unix: int

    @classmethod
    def of(cls, row: PolicyAuthorization) -> "Holding":
        return cls(
            AuthorizationId(row.id),
            ClientId(DeviceId(row.initiating_device_id)),
            DeviceId(row.receiving_device_id),
            ResourceId(row.resource_id),
            int(row.expires_at.timestamp()),
        )
