"""Directed messages: from one connection to another, by address."""

from typing import ClassVar
from uuid import UUID

from msgspec import Struct

from wardgate.model.ids import AuthorizationId, ClientId, DeviceId, GatewayId, ResourceId
from wardgate.portal.bus.presence import Address
from wardgate.portal.bus.value import BusValue
from wardgate.wire import messages as wire


class Holding(Struct, frozen=True):
    """A grant as both ends' sessions remember it; `receiver_id` is a gateway's or, in device pools, another
    client's.
    """

    authorization_id: AuthorizationId
    client_id: ClientId
    receiver_id: DeviceId
    resource_id: ResourceId
    expires_at_unix: int


class Superseded(BusValue, frozen=True):
    """To the connection that held an address so far: a newer one takes it. Any other connection ignores it."""

    connection_id: UUID


class OfferGrant(BusValue, frozen=True):
    """To a gateway: a client was granted a resource; acknowledge to `reply_to`."""

    SECRETS: ClassVar = frozenset({"create"})

    holding: Holding
    create: wire.CreateAuthorization
    reply_to: Address


class OfferDeviceAccess(BusValue, frozen=True):
    """To a client: another client was granted access to it through a pool; acknowledge to `reply_to` once
    pushed.
    """

    SECRETS: ClassVar = frozenset({"notice"})

    holding: Holding
    notice: wire.DeviceAccessAuthorized
    reply_to: Address


class GrantAcknowledged(BusValue, frozen=True):
    """To a client: the gateway enforces its grant, or the other client has been sent it."""

    authorization_id: AuthorizationId


class GrantStored(BusValue, frozen=True):
    """To a client: its grant is in the store, or could not be written."""

    authorization_id: AuthorizationId
    is_stored: bool


class GrantQueued(BusValue, frozen=True):
    """To a receiver: a grant to it is waiting to be stored, and no query finds it yet."""

    holding: Holding


class WithdrawGrant(BusValue, frozen=True):
    """To a gateway or client: a grant that it was offered could not be stored and is not valid."""

    authorization_id: AuthorizationId


class CandidatesOfClient(BusValue, frozen=True):
    """To a gateway or another client: candidates of a client, forwarded verbatim."""

    client_id: ClientId
    candidates: tuple[str, ...]
    is_invalidated: bool


class CandidatesOfGateway(BusValue, frozen=True):
    """To a client: candidates of a gateway, forwarded verbatim."""

    gateway_id: GatewayId
    candidates: tuple[str, ...]
    is_invalidated: bool


DirectedMessage = (
    Superseded
    | OfferGrant
    | OfferDeviceAccess
    | GrantAcknowledged
    | GrantStored
    | GrantQueued
    | WithdrawGrant
    | CandidatesOfClient
    | CandidatesOfGateway
)
