"""A client that lives for weeks asks for more names than client and gateway remember."""

import json
from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

import pytest

from unit.datapath.engine_world import UNIX_AT_ZERO, EngineWorld
from wardgate.connect.control_packets import ASSIGNED_IPS, DOMAIN_STATUS
from wardgate.connect.deadlines import ClockOffset
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.datapath.engine import SimulatedEngine
from wardgate.dns.proxy_addresses import ADDRESSES_PER_NAME, MAX_NAMES
from wardgate.gateway.look_ups import Resolve
from wardgate.gateway.machine import Gateway
from wardgate.model.ids import ClientId, DeviceId, ResourceId
from wardgate.wire import messages as m

CLIENT = ClientId(DeviceId(UUID("11111111-1111-4111-8111-111111111111")))
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NAMED = ResourceId(UUID("33333333-3333-4333-8333-333333333333"))
MOST_NAMES = 2 * MAX_NAMES  # that a gateway remembers: twice as many as a client does


class ReportingEngine:
    """The packet engine, and which names it was told to report to the client, with their state."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self._engine = engine
        self.reports: list[tuple[str, str]] = []

    def apply(self, command: c.Command) -> None:
        self._engine.apply(command)
        if isinstance(command, c.SendControlPacket) and command.type == DOMAIN_STATUS:
            report = json.loads(command.payload)
            self.reports.append((report["domain"], report["status"]))


@pytest.fixture
def engine() -> ReportingEngine:
    world = EngineWorld()
    return ReportingEngine(SimulatedEngine(world.engines["gateway"], lambda: world.now))


@pytest.fixture
def gateway(engine: ReportingEngine) -> Gateway:
    gateway = Gateway(engine, clock=ClockOffset(UNIX_AT_ZERO))
    gateway.handle_joined()
    ice = m.IceCredentials("client", "password-of-client-22")
    gateway.handle_message(
        m.CreateAuthorization(
            ref="ref",
            client=m.AuthorizedClient(
                CLIENT, KEY, KEY, IPv4Address("100.64.0.1"), IPv6Address("fd00:2021:1111::1")
            ),
            client_ice_credentials=ice,
            gateway_ice_credentials=ice,
            resource=m.GatewayDnsResource(id=NAMED, name="names", address="*.corp.example", filters=()),
            expires_at=int(UNIX_AT_ZERO) + 86_400,
        )
    )
    return gateway


def test_a_client_with_as_many_names_as_it_may_have_gets_further_ones(
    gateway: Gateway, engine: ReportingEngine
) -> None:
    for number in range(MOST_NAMES):
        engine.apply(
            c.Translate(
                peer_id=str(CLIENT),
                resource_id=str(NAMED),
                name=name(number),
                addresses=tuple((address, None) for address in proxy_ips(number)),
            )
        )
    further = range(MOST_NAMES, MOST_NAMES + 100)
    for number in further:
        announce(gateway, number)
    assert engine.reports == [(name(number), "Active") for number in further]


def announce(gateway: Gateway, number: int) -> None:
    """A program of the client asks for a name; the client tells the gateway, which looks it up."""
    payload = {"resource": str(NAMED), "domain": name(number), "proxy_ips": proxy_ips(number)}
    gateway.handle_event(e.ControlPacket(str(CLIENT), ASSIGNED_IPS, json.dumps(payload)))
    while (action := gateway.poll_action()) is not None:
        if isinstance(action, Resolve):
            gateway.handle_resolved(action.lookup_id, frozenset({ip_address("172.21.0.9")}))


def name(number: int) -> str:
    return f"n{number}.corp.example"


def proxy_ips(number: int) -> list[str]:
    addresses = range(ADDRESSES_PER_NAME * number, ADDRESSES_PER_NAME * (number + 1))
    ipv4 = [f"100.{101 + (one >> 16)}.{one >> 8 & 255}.{one & 255}" for one in addresses]
    return ipv4 + [f"fd00:2021:1111:8000::{one >> 16:x}:{one & 0xFFFF:x}" for one in addresses]
