"""Interface, routes and firewall against a real kernel, each in a namespace of its own."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import TypeVar

import pytest

from wardgate.lab.host import Host
from wardgate.model.addresses import IpNetwork
from wardgate.net.firewall import Firewall
from wardgate.net.socket_mark import SOCKET_MARK
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.net.tun_interface import GSO_MAX_SEGMENTS, TunInterface

_Outcome = TypeVar("_Outcome")

TUN = "tun-test"
IPV6_SENTINEL = "fd00:2021:1111:8000:100:100:111:0"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host("host", tmp_path)
    try:
        made.run("ip", "tuntap", "add", "name", TUN, "mode", "tun")
        made.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "lan-far")
        made.run("ip", "address", "add", "192.0.2.10/24", "dev", "lan")
        for interface in ("lan", "lan-far"):
            made.run("ip", "link", "set", interface, "up")
        made.run("ip", "route", "add", "default", "via", "192.0.2.1")
        yield made
    finally:
        made.close()


def configured(*routes: str, sentinels: tuple[str, ...] = ()) -> TunConfiguration:
    networks: frozenset[IpNetwork] = frozenset(map(ip_network, routes))
    return TunConfiguration("100.64.0.9", "fd00:2021:1111::9", networks, sentinels)


def with_interface(host: Host, use: Callable[[TunInterface], Awaitable[_Outcome]]) -> _Outcome:
    async def run() -> _Outcome:
        async with TunInterface(TUN, gso_max_segs=GSO_MAX_SEGMENTS) as interface:
            return await use(interface)

    return host.inside(lambda: asyncio.run(run()))


def route_to(host: Host, address: str, *, mark: int | None = None) -> dict[str, str]:
    marking = () if mark is None else ("mark", hex(mark))
    [route] = json.loads(host.run("ip", "-json", "route", "get", address, *marking))
    return dict(route)


def test_the_interface_gets_its_addresses_and_link_settings(host: Host) -> None:
    async def use(interface: TunInterface) -> dict[str, object]:
        await interface.configure(configured("100.64.0.0/11", sentinels=("100.100.111.1", IPV6_SENTINEL)))
        [link] = json.loads(host.run("ip", "-details", "-json", "address", "show", "dev", TUN))
        return dict(link)

    link = with_interface(host, use)
    addresses = {f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]}  # type: ignore[attr-defined]

    assert addresses == {"100.64.0.9/32", "100.100.111.1/32", "fd00:2021:1111::9/128", f"{IPV6_SENTINEL}/128"}
    assert (link["mtu"], link["txqlen"], link["gso_max_segs"]) == (1280, 10000, 49)


def test_resources_lead_into_the_tunnel_from_our_address_but_marked_sockets_bypass_it(host: Host) -> None:
    async def use(interface: TunInterface) -> list[dict[str, str]]:
        await interface.configure(
            configured(
                "10.20.0.0/24", "fd00:2021:1111:8000::/107", sentinels=("100.100.111.1", IPV6_SENTINEL)
            )
        )
        return [
            route_to(host, "10.20.0.5"),
            route_to(host, "fd00:2021:1111:8000::5"),
            route_to(host, "10.20.0.5", mark=SOCKET_MARK),
        ]

    ipv4, ipv6, marked = with_interface(host, use)

    assert (ipv4["dev"], ipv4["prefsrc"]) == (TUN, "100.64.0.9")
    assert (ipv6["dev"], ipv6["prefsrc"]) == (TUN, "fd00:2021:1111::9")
    assert marked["dev"] == "lan"


def test_a_later_configuration_takes_back_what_it_no_longer_wants(host: Host) -> None:
    async def use(interface: TunInterface) -> tuple[dict[str, str], dict[str, str], str]:
        await interface.configure(configured("10.20.0.0/24", sentinels=("100.100.111.1",)))
        await interface.configure(configured("10.30.0.0/24", sentinels=("100.100.111.2",)))
        addresses = host.run("ip", "address", "show", "dev", TUN)
        return route_to(host, "10.20.0.5"), route_to(host, "10.30.0.5"), addresses

    gone, there, addresses = with_interface(host, use)

    assert (gone["dev"], there["dev"]) == ("lan", TUN)
    assert "100.100.111.1/" not in addresses
    assert "100.100.111.2/" in addresses


def test_the_lan_stays_reachable_while_the_internet_resource_takes_the_rest(host: Host) -> None:
    async def use(interface: TunInterface) -> tuple[dict[str, str], dict[str, str]]:
        await interface.configure(configured("0.0.0.0/0", "::/0"))
        return route_to(host, "192.0.2.77"), route_to(host, "198.51.100.1")

    lan, rest = with_interface(host, use)

    assert (lan["dev"], rest["dev"]) == ("lan", TUN)


def test_nothing_is_left_behind(host: Host) -> None:
    rules_before = host.run("ip", "rule") + host.run("ip", "-6", "rule")

    async def use(interface: TunInterface) -> str:
        await interface.configure(configured("10.20.0.0/24"))
        return host.run("ip", "rule")

    during = with_interface(host, use)

    assert "fwmark" in during
    assert host.run("ip", "rule") + host.run("ip", "-6", "rule") == rules_before
    assert route_to(host, "10.20.0.5")["dev"] == "lan"


def test_a_second_start_finds_its_own_rules_and_works(host: Host) -> None:
    async def crash() -> None:
        interface = TunInterface(TUN)
        await interface.__aenter__()
        await interface.configure(configured("10.20.0.0/24"))
        interface._netlink.close()

    async def use(interface: TunInterface) -> tuple[dict[str, str], dict[str, str], str]:
        await interface.configure(configured("10.30.0.0/24"))
        return route_to(host, "10.20.0.5"), route_to(host, "10.30.0.5"), host.run("ip", "rule")

    host.inside(lambda: asyncio.run(crash()))
    stale, current, rules = with_interface(host, use)

    assert (stale["dev"], current["dev"]) == ("lan", TUN)
    assert rules.count("fwmark") == 3


def test_the_firewall_accepts_masquerades_and_leaves_again(host: Host) -> None:
    firewall = Firewall(table="wardgate_gateway", interface=TUN)

    async def install() -> None:
        await firewall.install()
        await firewall.install()

    host.inside(lambda: asyncio.run(install()))
    rules = host.run("nft", "list", "ruleset")
    forwarding = host.run("sysctl", "-n", "net.ipv4.ip_forward").strip()
    host.inside(lambda: asyncio.run(firewall.remove()))

    assert rules.count("masquerade") == 2
    assert str(IPv4Network("100.64.0.0/11")) in rules
    assert forwarding == "1"
    assert host.run("nft", "list", "ruleset").strip() == ""
