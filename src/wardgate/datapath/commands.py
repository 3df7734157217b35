"""Commands: what Python asks of the tunnel engine (docs/datapath.md).

Every command is idempotent and atomic: it is applied whole or refused whole with `CommandRefused`. They cross
the binding as JSON, one tagged object a command, so that one schema serves the extension module, the simulator and
tests; the Rust mirror is `native/crates/datapath/src/command.rs`, and a test round-trips each variant through it.

Units: keys are standard base64 of 32 bytes; addresses are text; `*_deadline_s` are absolute seconds on the engine's
own clock (the `now` of its methods), never wall time.
"""

from typing import Literal

import msgspec

FilterProtocol = Literal["tcp", "udp", "icmp"]


class Filter(msgspec.Struct, frozen=True):
    """One permitted protocol and inclusive destination port range; ports are ignored for `icmp`."""

    protocol: FilterProtocol
    first_port: int = 0
    last_port: int = 65535


class IceCredentials(msgspec.Struct, frozen=True):
    username: str
    password: str


class Command(msgspec.Struct, frozen=True, tag_field="command"):
    """Base of all commands; `tag` is the snake_case name of the class."""


class SetAddresses(Command, frozen=True, tag="set_addresses"):
    """Own tunnel addresses, as the portal's `init.interface` gives them."""

    ipv4: str
    ipv6: str


class SetRelays(Command, frozen=True, tag="set_relays"):
    """Remove some relays, add or update others (data-plane §1.10). Relays in neither list stay.

    With `removed` empty and `replace_all` true the list is the whole set: relays not listed go.
    """

    relays: tuple["RelayServer", ...]
    removed: tuple[str, ...] = ()
    replace_all: bool = False


class RelayServer(msgspec.Struct, frozen=True):
    """One relay with up to one address per family, already merged from adjacent wire entries."""

    id: str
    addresses: tuple[str, ...]  # "192.0.2.1:3478", "[2001:db8::1]:3478"
    username: str
    password: str


class UpsertPeer(Command, frozen=True, tag="upsert_peer"):
    """Add a peer, keep it if nothing that matters changed, else replace it (data-plane §1.8)."""

    id: str
    public_key: str
    preshared_key: str
    local_ice: IceCredentials
    remote_ice: IceCredentials
    role: Literal["controlling", "controlled"]
    profile: Literal["client", "server"]
    ipv4: str  # the peer's tunnel addresses
    ipv6: str


class RemovePeer(Command, frozen=True, tag="remove_peer"):
    id: str
    goodbye: bool = True


class AddRemoteCandidates(Command, frozen=True, tag="add_remote_candidates"):
    peer_id: str
    candidates: tuple[str, ...]


class RemoveRemoteCandidates(Command, frozen=True, tag="remove_remote_candidates"):
    peer_id: str
    candidates: tuple[str, ...]


class Route(msgspec.Struct, frozen=True):
    """One prefix of a client that leads to a resource.

    `table` is the order of look-up (data-plane §4.2: device, dns, cidr, internet). `rank` orders DNS routes, smaller is
    more specific; it is 0 elsewhere.
    """

    prefix: str
    resource_id: str
    table: Literal["device", "dns", "cidr", "internet"]
    filters: tuple[Filter, ...] = ()
    rank: int = 0


class SetRoutes(Command, frozen=True, tag="set_routes"):
    """Client: the complete route table. Authorizations of resources without a route are dropped."""

    routes: tuple[Route, ...]


class AddRoutes(Command, frozen=True, tag="add_routes"):
    """Client: add routes, or replace filters and rank of those it has (same table, prefix and resource)."""

    routes: tuple[Route, ...]


class RemoveRoutes(Command, frozen=True, tag="remove_routes"):
    """Client: remove routes; unknown ones are passed over.

    Peers lose the sources that these prefixes allowed them; a resource whose last route goes loses its authorizations.
    """

    routes: tuple["RemovedRoute", ...]


class RemovedRoute(msgspec.Struct, frozen=True):
    prefix: str
    resource_id: str
    table: Literal["device", "dns", "cidr", "internet"]


class Authorize(Command, frozen=True, tag="authorize"):
    """Client: packets for this resource go to this peer from now on; buffered ones are routed again.

    `addresses` are the sources that the peer may use towards us because of it: the CIDR network, 0.0.0.0/0
    and ::/0, or the proxy IPs of a name; repeated commands for the same resource add to them.
    `device_address` is set for device pools only: the tunnel address of the peer, another client, which may send
    from its own tunnel addresses only, in answer or by a `Grant`. `record_under` is the policy authorization that
    new flows are recorded under; without it an earlier one stays.
    """

    resource_id: str
    peer_id: str
    addresses: tuple[str, ...]
    device_address: str | None = None
    record_under: str | None = None


class Deauthorize(Command, frozen=True, tag="deauthorize"):
    """Client: forget the authorization and pending packets of this resource, or of one device of a pool.

    A peer of which nothing is left, grants included: goodbye and close.
    """

    resource_id: str
    device_address: str | None = None


class HoldName(Command, frozen=True, tag="hold_name"):
    """Client: buffer packets to these proxy IPs (32 a name) until the gateway has confirmed the translation."""

    peer_id: str
    resource_id: str
    proxy_ips: tuple[str, ...]


class ReleaseName(Command, frozen=True, tag="release_name"):
    """Client: end of `HoldName`; `flush` sends what was buffered, else it is dropped."""

    peer_id: str
    resource_id: str
    proxy_ips: tuple[str, ...]
    flush: bool


class Grant(Command, frozen=True, tag="grant"):
    """This peer may use this resource until the deadline; a repeated grant replaces filters and deadline.

    `networks` is the CIDR network, the single address, `0.0.0.0/0` and `::/0`, or empty for a DNS resource.
    A client grants kind `device` only, without networks: another client may reach it, at its own tunnel addresses,
    through this pool. The gateway's are the other kinds.
    `record_under` is the policy authorization that new flows are recorded under; None: they are not.
    """

    peer_id: str
    resource_id: str
    kind: Literal["cidr", "dns", "internet", "device"]
    networks: tuple[str, ...]
    filters: tuple[Filter, ...]
    expires_deadline_s: float | None
    rank: int = 0
    record_under: str | None = None


class Revoke(Command, frozen=True, tag="revoke"):
    """Remove one grant. A peer of which nothing is left: goodbye and close."""

    peer_id: str
    resource_id: str


class RetainGrants(Command, frozen=True, tag="retain_grants"):
    """Keep only the listed (peer, resource) pairs and set their deadlines (the portal's `init`)."""

    grants: tuple["RetainedGrant", ...]


class RetainedGrant(msgspec.Struct, frozen=True):
    peer_id: str
    resource_id: str
    expires_deadline_s: float | None


class UpdateFilters(Command, frozen=True, tag="update_filters"):
    """Replace a resource's filters for every peer that holds it."""

    resource_id: str
    filters: tuple[Filter, ...]


class Translate(Command, frozen=True, tag="translate"):
    """Gateway: proxy IP → real IP of one name for one peer; a null real address means "none of this family".

    A proxy IP that belonged to another name resets the peer's translations and NAT table first (data-plane §5.4).
    """

    peer_id: str
    resource_id: str
    name: str
    addresses: tuple[tuple[str, str | None], ...]


class SendControlPacket(Command, frozen=True, tag="send_control_packet"):
    """Send a p2p control packet inside a peer's tunnel once it stands (data-plane §4.8); `payload` is its JSON text."""

    peer_id: str
    type: int
    payload: str


class ResetNetwork(Command, frozen=True, tag="reset_network"):
    """Client: the network changed. All peers are closed, relays are allocated anew, a new key is adopted (§1.11)."""

    private_key: str


class RecordFlows(Command, frozen=True, tag="record_flows"):
    """Begin or end the recording of flows; `unix_at_zero_s` is the wall time at zero of the engine's clock."""

    is_on: bool
    unix_at_zero_s: float


class TranslatedFlow(msgspec.Struct, frozen=True):
    """A flow of a client to a name.

    `inside` is the proxy address with the client's port or echo identifier, `outside` the real address with what the
    gateway uses towards it.
    """

    peer_id: str
    protocol: Literal["tcp", "udp", "icmp"]
    inside: tuple[str, int]
    outside: tuple[str, int]
    is_answered: bool


class InheritFlows(Command, frozen=True, tag="inherit_flows"):
    """Gateway: go on with flows of the process before this one.

    Each does as soon as its name is translated again and still leads to its real address; after a minute they are
    forgotten.
    """

    flows: tuple[TranslatedFlow, ...]


class Shutdown(Command, frozen=True, tag="shutdown"):
    """Close every connection, with a goodbye or without, and release every allocation."""

    goodbye: bool = True


AnyCommand = (
    SetAddresses
    | SetRelays
    | UpsertPeer
    | RemovePeer
    | AddRemoteCandidates
    | RemoveRemoteCandidates
    | SetRoutes
    | AddRoutes
    | RemoveRoutes
    | Authorize
    | Deauthorize
    | HoldName
    | ReleaseName
    | Grant
    | Revoke
    | RetainGrants
    | UpdateFilters
    | Translate
    | SendControlPacket
    | ResetNetwork
    | RecordFlows
    | InheritFlows
    | Shutdown
)
