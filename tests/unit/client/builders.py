"""A client, what the portal tells it, and what comes of it."""

import json
from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

import dns.message
import dns.rcode

from wardgate.client.machine import Client, ClientAction
from wardgate.client.queries import Answer
from wardgate.connect.deadlines import ClockOffset
from wardgate.datapath import events as e
from wardgate.model.ids import DeviceId, GatewayId, ResourceId, SiteId
from wardgate.peer.machine import Send
from wardgate.wire import messages as m

GATEWAY = GatewayId(DeviceId(UUID("11111111-1111-4111-8111-111111111111")))
OTHER_GATEWAY = GatewayId(DeviceId(UUID("11111111-1111-4111-8111-222222222222")))
CIDR = ResourceId(UUID("22222222-2222-4222-8222-222222222222"))
NAMED = ResourceId(UUID("33333333-3333-4333-8333-333333333333"))
SITE = m.Site(SiteId(UUID("44444444-4444-4444-8444-444444444444")), "site")
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
CLOCK = ClockOffset(0.0)
SENTINEL = ip_address("100.100.111.1")

CIDR_RESOURCE = m.ClientCidrResource(id=CIDR, name="net", address="10.20.0.0/24", filters=(), sites=(SITE,))
DNS_RESOURCE = m.ClientDnsResource(id=NAMED, name="app", address="*.corp.example", filters=(), sites=(SITE,))


def init(*resources: m.ClientResource, search_domain: str | None = None) -> m.ClientInit:
    return m.ClientInit(interface=interface(search_domain), resources=resources)


def interface(search_domain: str | None = None, *upstreams: str) -> m.ClientInterface:
    return m.ClientInterface(
        IPv4Address("100.64.0.9"),
        IPv6Address("fd00:2021:1111::9"),
        search_domain,
        tuple(m.UpstreamDo53(one) for one in upstreams),
    )


def created(
    resource_id: ResourceId, gateway_id: GatewayId = GATEWAY, key: str = KEY
) -> m.AuthorizationCreated:
    return m.AuthorizationCreated(
        resource_id=resource_id,
        gateway_id=gateway_id,
        gateway_public_key=key,
        gateway_ipv4=IPv4Address("100.64.0.1"),
        gateway_ipv6=IPv6Address("fd00:2021:1111::1"),
        site_id=SITE.id,
        preshared_key=KEY,
        client_ice_credentials=m.IceCredentials("cccc", "c" * 22),
        gateway_ice_credentials=m.IceCredentials("gggg", "g" * 22),
    )


def domain_status(status: str) -> e.ControlPacket:
    payload = {"resource": str(NAMED), "domain": "app.corp.example", "status": status}
    return e.ControlPacket(str(GATEWAY), 1, json.dumps(payload))


def drained(client: Client) -> list[ClientAction]:
    actions = []
    while (action := client.poll_action()) is not None:
        actions.append(action)
    return actions


def sent(client: Client) -> list[m.Message]:
    return [action.message for action in drained(client) if isinstance(action, Send)]


def intend(client: Client, resource_id: ResourceId, now: float = 1.0) -> None:
    client.handle_event(e.Intent(str(resource_id), "10.20.0.5", "cidr"), now=now)


def connect(
    client: Client, resource_id: ResourceId, gateway_id: GatewayId = GATEWAY, now: float = 1.0
) -> None:
    intend(client, resource_id, now)
    client.handle_message(created(resource_id, gateway_id), now=now)


def query(
    client: Client, query_id: int, name: str, rdtype: str = "A", now: float = 1.0
) -> dns.message.Message:
    message = dns.message.make_query(name, rdtype)
    client.handle_query(query_id, message.to_wire(), sentinel=SENTINEL, is_udp=True, now=now)
    return message


def answers(client: Client) -> dict[int, dns.message.Message | None]:
    return {
        action.query_id: None if action.payload is None else dns.message.from_wire(action.payload)
        for action in drained(client)
        if isinstance(action, Answer)
    }
