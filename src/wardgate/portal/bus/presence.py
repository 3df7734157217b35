"""Who is online: one value for each live connection, with what other connections, REST, pages and jobs need
to know.

Presence holds key material, so it stays inside the portal's trust boundary (portal-domain §9).
"""

from abc import ABC
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal
from uuid import UUID

from msgspec import Meta

from wardgate.model.ids import AccountId, ActorId, ClientId, GatewayId, RelayId, SiteId, TokenId
from wardgate.policy.selection import Position
from wardgate.portal.bus.value import BusValue

if TYPE_CHECKING:
    from wardgate.model.addresses import IpAddress
else:

    class IpAddress(ABC):  # noqa: B024 - one name for two classes
        """Either of the two classes of addresses: msgspec takes no union of types that need a hook."""

    IpAddress.register(IPv4Address)
    IpAddress.register(IPv6Address)

Kind = Literal["client", "gateway", "relay"]

AwareDatetime = Annotated[datetime, Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a connection is reached: the kind of peer and its device or relay id."""

    kind: Kind
    id: UUID


class ClientPresence(BusValue, frozen=True, kw_only=True):
    """A client's live connection.

    Attributes:
        connection_id: distinguishes two connections of one device.
        version: as announced; None if it cannot be read.
        region: country of `remote_ip`, if known.
    """

    SECRETS: ClassVar = frozenset({"psk_base"})

    client_id: ClientId
    account_id: AccountId
    connection_id: UUID
    token_id: TokenId
    actor_id: ActorId
    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    public_key: str
    psk_base: bytes
    user_agent: str
    version: str | None
    remote_ip: IpAddress
    region: str | None
    position: Position | None
    connected_at: AwareDatetime

    @property
    def address(self) -> Address:
        return Address("client", self.client_id)


class GatewayPresence(BusValue, frozen=True, kw_only=True):
    """A gateway's live connection; attributes as a client's.

    Attributes:
        is_stopping: it has said that it is about to stop.
        is_drained: an administrator drains it.
    """

    SECRETS: ClassVar = frozenset({"psk_base"})

    gateway_id: GatewayId
    account_id: AccountId
    site_id: SiteId | None
    connection_id: UUID
    token_id: TokenId
    name: str
    ipv4: IPv4Address
    ipv6: IPv6Address
    public_key: str
    psk_base: bytes
    user_agent: str
    version: str | None
    remote_ip: IpAddress
    position: Position | None
    connected_at: AwareDatetime
    is_stopping: bool = False
    is_drained: bool = False

    @property
    def address(self) -> Address:
        return Address("gateway", self.gateway_id)

    @property
    def is_draining(self) -> bool:
        """Whether it gets nothing new."""
        return self.is_stopping or self.is_drained


class RelayPresence(BusValue, frozen=True, kw_only=True):
    """A relay's live connection. It serves the whole installation, and nothing of it is stored.

    Attributes:
        stamp_secret: 64 hex characters, drawn by the relay at its start; credentials of its users derive from
            it.
        name: its token's.
        version: of the protocol, as announced; None if it cannot be read.
    """

    SECRETS: ClassVar = frozenset({"stamp_secret"})

    relay_id: RelayId
    connection_id: UUID
    token_id: TokenId
    name: str | None
    stamp_secret: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    port: int
    user_agent: str
    version: str | None
    position: Position | None
    connected_at: AwareDatetime

    @property
    def address(self) -> Address:
        return Address("relay", self.relay_id)


Presence = ClientPresence | GatewayPresence | RelayPresence
