"""What a running client or gateway reports over its control socket; `wardgate status` and `why` show it."""

import msgspec

from wardgate.connect.connections import ConnectionView, RelayView


class HostSetting(msgspec.Struct, frozen=True):
    """One thing that the process keeps on its host: how often it was put back, and why the host refuses it, if so."""

    name: str
    repairs: int
    refusal: str | None


class ResourceView(msgspec.Struct, frozen=True, kw_only=True):
    """A resource that a client is offered.

    Attributes:
        kind: `dns`, `cidr`, `internet` or `device pool`.
        address: as the portal writes it; of a pool its pattern, empty if it lists its members.
        state: `online`, `offline` (its gateways are away) or `unknown` (nobody has asked for it yet).
        gateway_id: who serves it now; None without an authorization. Of a pool: a device that is reached.
        refusal: why the portal refused it when it was asked last.
    """

    id: str
    name: str
    kind: str
    address: str
    sites: tuple[str, ...]
    state: str
    gateway_id: str | None = None
    refusal: str | None = None


class GrantView(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may use at this gateway, or that it may reach this client through a device pool.

    Attributes:
        actor: whose client it is; at a client the name of the device.
        expires_at: Unix seconds; None without end.
    """

    client_id: str
    actor: str | None
    resource: str
    address: str
    expires_at: int | None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """One process.

    Attributes:
        part: `client` or `gateway`.
        portal: its URL, as it was set.
        dns: of a client: how the host learns of its resolver, and the resolver's addresses.
        counts: what `/metrics` counts.
        notes: what is wrong, in words.
    """

    part: str
    version: str
    interface: str
    is_connected: bool
    is_ready: bool
    addresses: tuple[str, ...]
    connections: tuple[ConnectionView, ...]
    relays: tuple[RelayView, ...]
    host: tuple[HostSetting, ...]
    counts: dict[str, int]
    notes: tuple[str, ...]
    resources: tuple[ResourceView, ...] = ()
    grants: tuple[GrantView, ...] = ()
    dns: "DnsView | None" = None
    portal: str = ""


class DnsView(msgspec.Struct, frozen=True):
    """Of a client: `method` as `--dns-control` names it, the sentinels, and who answers what is no resource's."""

    method: str
    sentinels: tuple[str, ...]
    upstreams: tuple[str, ...]


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """What a client would do with a connection.

    Attributes:
        resource: the one that matches; None: none that is offered does.
        others: names of further resources that match, less specific.
        is_filtered: the resource's filters leave the port out.
        outcome: `authorized`, `refused`, `no answer` or `no resource`.
        name: the one that an address stands for, if it does.
        reason: the portal's word for a refusal.
        violated: the properties that a policy asks for and that are not met.
        connection: to the gateway that serves it, or to the device.
        was_asked: the portal was asked on account of this question; what it granted stands.
    """

    outcome: str
    name: str | None = None
    resource: ResourceView | None = None
    others: tuple[str, ...] = ()
    is_filtered: bool = False
    filters: tuple[str, ...] = ()
    reason: str | None = None
    violated: tuple[str, ...] = ()
    connection: ConnectionView | None = None
    is_portal_connected: bool = True
    was_asked: bool = False


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the control socket: `status`, or `why` with a host and perhaps a port.

    Attributes:
        may_ask_portal: where nobody knows yet, the portal may be asked for access as a packet would.
    """

    ask: str
    host: str = ""
    port: int | None = None
    protocol: str = "tcp"
    may_ask_portal: bool = True


class Refused(msgspec.Struct, frozen=True):
    """The answer to what is no question."""

    error: str
