from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from uuid import UUID

import msgspec
import pytest

from wardgate.model.filters import Filter, PortRange, Protocol
from wardgate.model.ids import ClientId, DeviceId, ResourceId, SiteId
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import (
    CidrResource,
    DnsResource,
    DynamicDevicePool,
    InternetResource,
    IpResource,
    Resource,
    StaticDevicePool,
)
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.wire import messages as m
from wardgate.wire.json_types import ENCODER
from wardgate.wire.resource_views import ClientStyle, client_style, client_view, filter_views, gateway_view

R, S = ResourceId(UUID(int=1)), SiteId(UUID(int=2))
SITE = m.Site(S, "Lab")
CURRENT = ClientSoftware(Component.HEADLESS, Version(1, 5, 12))
OLD = ClientSoftware(Component.HEADLESS, Version(1, 1, 0))
FILTERS = (Filter(Protocol.TCP, (PortRange(80, 80), PortRange(8000, 8010))), Filter(Protocol.ICMP))
DNS = DnsResource(R, "web", S, NamePattern.parse("**.example.com"), filters=FILTERS)
IP = IpResource(R, "host", S, ip_address("192.0.2.1"))
NET = CidrResource(R, "net", S, ip_network("2001:db8::/32"))
INTERNET = InternetResource(R, "Internet", S)
POOL = StaticDevicePool(R, "pool")
NAMES = DynamicDevicePool(R, "names", NamePattern.parse("*.devices.example.com"))


def plain(view: object) -> object:
    return msgspec.json.decode(ENCODER.encode(view))


def test_a_dns_resource_is_told_with_one_filter_per_port_range() -> None:
    assert plain(client_view(DNS, site=SITE, software=CURRENT)) == {
        "id": str(R),
        "type": "dns",
        "name": "web",
        "address": "**.example.com",
        "address_description": None,
        "ip_stack": "dual",
        "filters": [
            {"protocol": "tcp", "port_range_start": 80, "port_range_end": 80},
            {"protocol": "tcp", "port_range_start": 8000, "port_range_end": 8010},
            {"protocol": "icmp"},
        ],
        "sites": [{"id": str(S), "name": "Lab"}],
    }


def test_a_single_address_is_told_as_a_network() -> None:
    view = gateway_view(IP, None)
    assert isinstance(view, m.GatewayCidrResource)
    assert view.address == "192.0.2.1/32"


def test_the_internet_resource_has_no_name() -> None:
    assert plain(client_view(INTERNET, site=SITE, software=CURRENT)) == {
        "id": str(R),
        "type": "internet",
        "can_be_disabled": True,
        "sites": [{"id": str(S), "name": "Lab"}],
    }
    assert plain(gateway_view(INTERNET, None)) == {"id": str(R), "type": "internet"}


def test_members_of_a_pool_are_told_with_prefixes_sorted_by_address() -> None:
    members = [
        (ClientId(DeviceId(UUID(int=number))), IPv4Address(f"100.64.0.{number}"), IPv6Address(number))
        for number in (20, 3)
    ]
    view = client_view(POOL, site=None, software=CURRENT, members=members)
    assert isinstance(view, m.ClientStaticDevicePool)
    assert [(one.ipv4, one.ipv6) for one in view.devices] == [
        ("100.64.0.3/32", "::3/128"),
        ("100.64.0.20/32", "::14/128"),
    ]


@pytest.mark.parametrize("pool", [POOL, NAMES])
def test_a_pool_never_reaches_a_gateway(pool: Resource) -> None:
    assert gateway_view(pool, None) is None


@pytest.mark.parametrize("resource", [DNS, IP, NET, INTERNET])
def test_a_resource_without_a_site_is_withheld(resource: Resource) -> None:
    assert client_view(resource, site=None, software=CURRENT) is None


def test_old_clients_get_the_old_names_and_patterns_and_no_internet() -> None:
    view = client_view(DNS, site=SITE, software=OLD)
    assert isinstance(view, m.ClientDnsResource)
    assert view.gateway_groups == (SITE,)
    assert view.sites is msgspec.UNSET
    assert view.address == "*.example.com"
    assert client_view(INTERNET, site=SITE, software=OLD) is None
    inexpressible = DnsResource(R, "x", S, NamePattern.parse("a.*.example.com"))
    assert gateway_view(inexpressible, Version(1, 1)) is None


def test_no_filters_stay_no_filters() -> None:
    assert filter_views(()) == ()


def test_clients_of_one_style_are_told_the_same() -> None:
    versions = [
        None,
        *(Version(1, minor, patch) for minor in range(1, 7) for patch in (0, 5, 6, 8, 10, 11, 16)),
    ]
    fleet = [ClientSoftware(component, version) for component in Component for version in versions]
    for resource in (
        DNS,
        replace(DNS, address=NamePattern.parse("a*.example.com")),
        IP,
        NET,
        INTERNET,
        NAMES,
    ):
        told: dict[ClientStyle, object] = {}
        for software in fleet:
            view = client_view(resource, site=SITE, software=software)
            assert told.setdefault(client_style(software), view) == view
