"""One struct per message (control-plane-protocol §3), named after its v2 event where the two generations differ.

Fields are named as on the wire. `UNSET` is a key that is absent, `None` one that is null. Unknown keys are ignored.
Which event carries which struct, per peer, direction and generation, is the table in `dialect`.

Three payloads are not objects of their own: `resource_deleted` is a bare id, and the `resource_…updated` pair are a
bare resource; `ResourceDeleted`, `ResourceCreatedOrUpdated` and `ResourceUpdated` hold them in one field.

Absent: the requests of clients and gateways of the 1.4 era (§3.2.3), whose answers no current gateway can give.
"""

from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from wardgate.model.ids import ActorId, AuthProviderId, ClientId, GatewayId, RelayId, ResourceId, SiteId
from wardgate.model.resources import IpStack

Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]{43}=$")]
"""32 bytes in standard base64: a public or pre-shared key."""

UnixSeconds = int

AddressText = Annotated[str, Meta(max_length=64)]
"""An address as a peer wrote it, right or wrong: the portal repeats it in its answer and in the decision log."""

NameText = Annotated[str, Meta(max_length=255)]
"""A host name as a peer wrote it; the portal repeats it in its answer."""


class Message(Struct, frozen=True):
    """Base of all messages and of the objects in them."""


# ── Objects within messages (§5) ─────────────────────────────────────────────────────────────────────────────


class Filter(Message, frozen=True):
    """Protocol and inclusive destination ports; absent bounds are 0 and 65535."""

    protocol: Literal["tcp", "udp", "icmp"]
    port_range_start: int | UnsetType = UNSET
    port_range_end: int | UnsetType = UNSET


class Site(Message, frozen=True):
    id: SiteId
    name: str


class _Sited(Message, frozen=True):
    """`sites` for current clients, `gateway_groups` for old ones (§6.2); never both."""

    sites: tuple[Site, ...] | UnsetType = UNSET
    gateway_groups: tuple[Site, ...] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.sites is UNSET) == (self.gateway_groups is UNSET):
            raise ValueError("exactly one of `sites` and `gateway_groups` is required")

    @property
    def served_by(self) -> tuple[Site, ...]:
        for sites in (self.sites, self.gateway_groups):
            if not isinstance(sites, UnsetType):
                return sites
        return ()


class ClientDnsResource(_Sited, frozen=True, kw_only=True, tag_field="type", tag="dns"):
    id: ResourceId
    name: str
    address: str
    address_description: str | UnsetType | None = UNSET
    ip_stack: IpStack | UnsetType | None = UNSET
    filters: tuple[Filter, ...]


class ClientCidrResource(_Sited, frozen=True, kw_only=True, tag_field="type", tag="cidr"):
    """Networks and single addresses alike; `address` has a prefix length and no host bits."""

    id: ResourceId
    name: str
    address: str
    address_description: str | UnsetType | None = UNSET
    filters: tuple[Filter, ...]


class ClientInternetResource(_Sited, frozen=True, kw_only=True, tag_field="type", tag="internet"):
    id: ResourceId
    can_be_disabled: bool | UnsetType = UNSET


class PoolDevice(Message, frozen=True):
    """Member of a static pool; addresses with `/32` and `/128`."""

    client_id: ClientId
    ipv4: str
    ipv6: str


class ClientStaticDevicePool(Message, frozen=True, kw_only=True, tag_field="type", tag="static_device_pool"):
    id: ResourceId
    name: str
    filters: tuple[Filter, ...]
    devices: tuple[PoolDevice, ...]


class ClientDynamicDevicePool(
    Message, frozen=True, kw_only=True, tag_field="type", tag="dynamic_device_pool"
):
    id: ResourceId
    name: str
    address: str
    filters: tuple[Filter, ...]


ClientResource = (
    ClientDnsResource
    | ClientCidrResource
    | ClientInternetResource
    | ClientStaticDevicePool
    | ClientDynamicDevicePool
)


class GatewayDnsResource(Message, frozen=True, kw_only=True, tag_field="type", tag="dns"):
    id: ResourceId
    name: str
    address: str
    filters: tuple[Filter, ...]


class GatewayCidrResource(Message, frozen=True, kw_only=True, tag_field="type", tag="cidr"):
    id: ResourceId
    name: str
    address: str
    filters: tuple[Filter, ...]


class GatewayInternetResource(Message, frozen=True, kw_only=True, tag_field="type", tag="internet"):
    id: ResourceId


GatewayResource = GatewayDnsResource | GatewayCidrResource | GatewayInternetResource


class TurnRelay(Message, frozen=True, kw_only=True, tag_field="type", tag="turn"):
    """One address of a relay, with the credentials of the receiver (§4.3); `addr` is `host:port` or `[host]:port`."""

    id: RelayId
    addr: str
    username: str
    password: str
    expires_at: UnixSeconds


class StunRelay(Message, frozen=True, kw_only=True, tag_field="type", tag="stun"):
    """Accepted and ignored."""

    id: RelayId
    addr: str


Relay = TurnRelay | StunRelay


class UpstreamDo53(Message, frozen=True):
    ip: str


class UpstreamDoh(Message, frozen=True):
    url: str


class UpstreamDns(Message, frozen=True):
    """Legacy copy of `UpstreamDo53`: `address` is `ip:53`."""

    protocol: Literal["ip_port"]
    address: str


class ClientInterface(Message, frozen=True):
    """The client's tunnel addresses and DNS settings (§5.4)."""

    ipv4: IPv4Address
    ipv6: IPv6Address
    search_domain: str | UnsetType | None = UNSET
    upstream_do53: tuple[UpstreamDo53, ...] = ()
    upstream_doh: tuple[UpstreamDoh, ...] = ()
    upstream_dns: tuple[UpstreamDns, ...] = ()


class GatewayInterface(Message, frozen=True):
    ipv4: IPv4Address
    ipv6: IPv6Address


class GatewayConfig(Message, frozen=True):
    """Must be present; the values are unused."""

    ipv4_masquerade_enabled: bool = True
    ipv6_masquerade_enabled: bool = True


class FlowLogs(Message, frozen=True):
    """Where and how often to upload flow logs; an interval of 0 disables it."""

    api_url: str
    upload_interval_secs: int
    upload_batch_size: int


class Authorization(Message, frozen=True):
    """One grant in force: who, what, until when (null if without end)."""

    client_id: ClientId
    resource_id: ResourceId
    expires_at: UnixSeconds | None


class IceCredentials(Message, frozen=True):
    username: str
    password: str


class Subject(Message, frozen=True):
    """Who asks (§5.7); only v1 gateways read it."""

    actor_id: ActorId
    actor_name: str
    actor_email: str | None
    actor_type: str
    auth_provider_id: AuthProviderId | None
    ip: str
    ip_region: str | None
    ip_city: str | None
    ip_lat: float | None
    ip_lon: float | None
    user_agent: str


class AuthorizedClient(Message, frozen=True):
    """The client of a `CreateAuthorization`; what follows the addresses is read by v1 gateways for flow logs."""

    id: ClientId
    public_key: Key
    preshared_key: Key
    ipv4: IPv4Address
    ipv6: IPv6Address
    version: str | UnsetType | None = UNSET
    device_os_name: str | UnsetType | None = UNSET
    device_os_version: str | UnsetType | None = UNSET
    device_serial: str | UnsetType | None = UNSET
    device_uuid: str | UnsetType | None = UNSET
    identifier_for_vendor: str | UnsetType | None = UNSET
    firebase_installation_id: str | UnsetType | None = UNSET


# ── Portal → client, gateway (both) ──────────────────────────────────────────────────────────────────────────


class RelaysPresence(Message, frozen=True):
    """`connected` is the full new selection; relays in neither list stay."""

    disconnected_ids: tuple[RelayId, ...]
    connected: tuple[Relay, ...]


class RejectAccess(Message, frozen=True):
    client_id: ClientId
    resource_id: ResourceId


class Disconnect(Message, frozen=True):
    """`token_expired` is a sign-out command; unknown reasons are ignored."""

    reason: str


# ── Portal → client ──────────────────────────────────────────────────────────────────────────────────────────


class ClientInit(Message, frozen=True):
    interface: ClientInterface
    resources: tuple[ClientResource, ...] = ()
    relays: tuple[Relay, ...] = ()
    authorizations: tuple[Authorization, ...] = ()
    flow_logs: FlowLogs | UnsetType = UNSET


class ConfigChanged(Message, frozen=True):
    interface: ClientInterface


class ResourceCreatedOrUpdated(Message, frozen=True):
    resource: ClientResource


class ResourceDeleted(Message, frozen=True):
    resource_id: ResourceId


class AuthorizationCreated(Message, frozen=True, kw_only=True):
    """The grant, as the client gets it; `site_id` for current clients, `gateway_group_id` for old ones, never both."""

    resource_id: ResourceId
    gateway_id: GatewayId
    gateway_public_key: Key
    gateway_ipv4: IPv4Address
    gateway_ipv6: IPv6Address
    site_id: SiteId | UnsetType = UNSET
    gateway_group_id: SiteId | UnsetType = UNSET
    preshared_key: Key
    client_ice_credentials: IceCredentials
    gateway_ice_credentials: IceCredentials
    use_iceless: bool = False
    flow_logs_ingest_token: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.site_id is UNSET) == (self.gateway_group_id is UNSET):
            raise ValueError("exactly one of `site_id` and `gateway_group_id` is required")

    @property
    def served_by(self) -> SiteId:
        for site_id in (self.site_id, self.gateway_group_id):
            if not isinstance(site_id, UnsetType):
                return site_id
        raise AssertionError("__post_init__ requires one")


class AuthorizationCreationFailed(Message, frozen=True):
    """`reason`: `not_found`, `offline`, `version_mismatch`, `forbidden` or another, which is ignored."""

    resource_id: ResourceId
    reason: str
    violated_properties: tuple[str, ...] | UnsetType = UNSET


class GatewayIceCandidates(Message, frozen=True):
    """From a gateway to a client."""

    gateway_id: GatewayId
    candidates: tuple[str, ...]


class InvalidateGatewayIceCandidates(Message, frozen=True):
    gateway_id: GatewayId
    candidates: tuple[str, ...]


class PeerIceCandidates(Message, frozen=True):
    """From one client to another (device pools)."""

    client_id: ClientId
    candidates: tuple[str, ...]


class InvalidatePeerIceCandidates(Message, frozen=True):
    client_id: ClientId
    candidates: tuple[str, ...]


class PeerIceCandidateError(Message, frozen=True):
    client_id: ClientId
    reason: str


class DeviceAccessAuthorized(Message, frozen=True, kw_only=True):
    """A client-to-client grant, sent to both; `resource` is present exactly at the target."""

    client_id: ClientId
    client_name: str
    client_public_key: Key
    client_ipv4: IPv4Address
    client_ipv6: IPv6Address
    preshared_key: Key
    local_ice_credentials: IceCredentials
    remote_ice_credentials: IceCredentials
    ice_role: Literal["controlling", "controlled"]
    use_iceless: bool = False
    flow_logs_ingest_token: str | UnsetType = UNSET
    resource: ClientResource | UnsetType = UNSET
    subject: Subject | UnsetType = UNSET
    expires_at: UnixSeconds | UnsetType = UNSET
    authorization_expires_at: UnixSeconds | UnsetType = UNSET  # v1's name of `expires_at`: targets get both


class DeviceAccessDenied(Message, frozen=True, kw_only=True):
    ipv4: str | UnsetType | None = UNSET
    ipv6: str | UnsetType | None = UNSET
    reason: str
    client_id: ClientId | UnsetType = UNSET
    resource_id: ResourceId | UnsetType = UNSET


class ResourceFiltersUpdated(Message, frozen=True):
    id: ResourceId
    filters: tuple[Filter, ...]


class DevicePoolDomainResolved(Message, frozen=True):
    resource_id: ResourceId
    domain: str
    ipv4: IPv4Address
    ipv6: IPv6Address


class DevicePoolDomainResolutionFailed(Message, frozen=True):
    resource_id: ResourceId
    domain: str
    reason: str


# ── Portal → gateway ─────────────────────────────────────────────────────────────────────────────────────────


class GatewayInit(Message, frozen=True, kw_only=True):
    """`authorizations` is complete: every pair that is not listed is revoked."""

    interface: GatewayInterface
    config: GatewayConfig
    relays: tuple[Relay, ...] = ()
    account_slug: str | UnsetType = UNSET
    authorizations: tuple[Authorization, ...] = ()
    flow_logs: FlowLogs | UnsetType = UNSET


class CreateAuthorization(Message, frozen=True, kw_only=True):
    """The grant, as the gateway gets it; acknowledged by `AuthorizationAcknowledged` with the same `ref`."""

    ref: str
    resource: GatewayResource
    client: AuthorizedClient
    client_ice_credentials: IceCredentials
    gateway_ice_credentials: IceCredentials
    expires_at: UnixSeconds | None
    use_iceless: bool = False
    subject: Subject | UnsetType = UNSET
    flow_logs_ingest_token: str | UnsetType = UNSET


class ResourceUpdated(Message, frozen=True):
    resource: GatewayResource


class ClientIceCandidates(Message, frozen=True):
    """From a client to a gateway."""

    client_id: ClientId
    candidates: tuple[str, ...]


class InvalidateClientIceCandidates(Message, frozen=True):
    client_id: ClientId
    candidates: tuple[str, ...]


# ── Portal → relay ───────────────────────────────────────────────────────────────────────────────────────────


class RelayInit(Message, frozen=True):
    """Empty; the join is complete."""


# ── Peers → portal ───────────────────────────────────────────────────────────────────────────────────────────


class Join(Message, frozen=True):
    """A client's or gateway's join; the payload is null."""


class RelayJoin(Message, frozen=True):
    """`stamp_secret`: 64 hex characters drawn when the relay started."""

    stamp_secret: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}$")]


class SetSnownetCapabilities(Message, frozen=True):
    iceless: bool = False


class NoRelays(Message, frozen=True):
    """Asks for a fresh selection of relays."""


class RequestAuthorization(Message, frozen=True):
    """A client wants a resource; `ipv4` or `ipv6` names the member of a device pool."""

    resource_id: ResourceId
    connected_gateway_ids: tuple[GatewayId, ...] = ()
    ipv4: AddressText | UnsetType | None = UNSET
    ipv6: AddressText | UnsetType | None = UNSET


class ResolveDevicePoolDomain(Message, frozen=True):
    resource_id: ResourceId
    domain: NameText


class NewGatewayIceCandidates(Message, frozen=True):
    """From a client, for a gateway."""

    gateway_id: GatewayId
    candidates: tuple[str, ...]


class InvalidateNewGatewayIceCandidates(Message, frozen=True):
    gateway_id: GatewayId
    candidates: tuple[str, ...]


class NewPeerIceCandidates(Message, frozen=True):
    """From a client, for another client."""

    client_id: ClientId
    candidates: tuple[str, ...]


class InvalidateNewPeerIceCandidates(Message, frozen=True):
    client_id: ClientId
    candidates: tuple[str, ...]


class BroadcastToGateways(Message, frozen=True):
    """Candidates from a client of the 1.4 era, for several gateways."""

    gateway_ids: tuple[GatewayId, ...]
    candidates: tuple[str, ...]


class BroadcastInvalidatedToGateways(Message, frozen=True):
    gateway_ids: tuple[GatewayId, ...]
    candidates: tuple[str, ...]


class RequestDeviceAccess(Message, frozen=True):
    """Sent by accident by some old clients; means nothing."""


class LegacyConnection(Message, frozen=True):
    """What clients below 1.4 ask in place of `RequestAuthorization`; only gateways of that time could answer it
    (§3.2.3).
    """


class AuthorizationAcknowledged(Message, frozen=True):
    """The gateway's acknowledgement of a grant; sent only when it is in force."""

    ref: str


class Draining(Message, frozen=True):
    """From a gateway that is to end: it wants no new grants and keeps those that it has.

    Ours; a portal that does not know it answers `unknown_message`, which changes nothing.
    """


class BroadcastIceCandidates(Message, frozen=True):
    """From a gateway, for several clients."""

    client_ids: tuple[ClientId, ...]
    candidates: tuple[str, ...]


class BroadcastInvalidatedIceCandidates(Message, frozen=True):
    client_ids: tuple[ClientId, ...]
    candidates: tuple[str, ...]
