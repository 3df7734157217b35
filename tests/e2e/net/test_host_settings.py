"""Interface, routes and firewall against a real kernel, each in a namespace of its own."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest

from wardgate.lab.host import Host
from wardgate.model.addresses import IpNetwork
from wardgate.net import host_changes
from wardgate.net.families import families_of
from wardgate.net.firewall import firewall_settings
from wardgate.net.host_changes import HostChanges
from wardgate.net.netlink import Netlink
from wardgate.net.policy_routing import tables_of
from wardgate.net.reconciler import Reconciler
from wardgate.net.socket_mark import SOCKET_MARK
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.net.tun_interface import GSO_MAX_SEGMENTS, Role, TunInterface

_Outcome = TypeVar("_Outcome")

TUN = "tun-test"
IPV6_SENTINEL = "fd00:2021:1111:8000:100:100:111:0"
BACK_WITHIN_S = 30.0  # the product's 5 s (tests/unit/net/test_host_changes.py), and room for a busy machine


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


class Keeper:
    """A reconciler with an interface, as the processes have it."""

    def __init__(self, host: Host, kernel: Netlink, role: Role) -> None:
        families = families_of(TUN)
        self._host = host
        self.tun = TunInterface(
            TUN,
            kernel,
            role=role,
            families=families,
            gso_max_segs=GSO_MAX_SEGMENTS if role is Role.CLIENT else None,
        )
        forwarding = firewall_settings(interface=TUN, families=families) if role is Role.GATEWAY else ()
        self.reconciler = Reconciler((*forwarding, *self.tun.settings))

    async def configure(self, *routes: str, sentinels: tuple[str, ...] = ()) -> None:
        networks: frozenset[IpNetwork] = frozenset(map(ip_network, routes))
        self.tun.want(TunConfiguration("100.64.0.9", "fd00:2021:1111::9", networks, sentinels))
        await self.reconciler.establish()

    async def watch_until(self, observed: Callable[[], bool], what: str) -> None:
        """Do as the processes do until something is observed."""

        async def watch() -> None:
            with HostChanges() as changes:
                while not observed():
                    await changes.next()
                    await self.reconciler.check()

        try:
            await asyncio.wait_for(watch(), BACK_WITHIN_S)
        except TimeoutError:
            pytest.fail(f"{what}: not within {BACK_WITHIN_S} s")

    @property
    def repaired(self) -> set[str]:
        return {condition.name for condition in self.reconciler.conditions if condition.repairs}


def with_keeper(
    host: Host, use: Callable[[Keeper], Awaitable[_Outcome]], role: Role = Role.CLIENT, *, undo: bool = True
) -> _Outcome:
    async def run() -> _Outcome:
        async with Netlink() as kernel:
            keeper = Keeper(host, kernel, role)
            await keeper.reconciler.establish()
            try:
                return await use(keeper)
            finally:
                if undo:
                    await keeper.reconciler.undo()

    return host.inside(lambda: asyncio.run(run()))


def route_to(host: Host, address: str, *selectors: str) -> dict[str, str]:
    [route] = json.loads(host.run("ip", "-json", "route", "get", address, *selectors))
    return dict(route)


def link_of(host: Host) -> dict[str, Any]:
    [link] = json.loads(host.run("ip", "-details", "-json", "address", "show", "dev", TUN))
    return dict(link)


def addresses_of(host: Host) -> set[str]:
    return {f"{one['local']}/{one['prefixlen']}" for one in link_of(host)["addr_info"]}


def test_the_interface_gets_its_addresses_and_link_settings(host: Host) -> None:
    async def use(keeper: Keeper) -> dict[str, Any]:
        await keeper.configure("100.64.0.0/11", sentinels=("100.100.111.1", IPV6_SENTINEL))
        return link_of(host)

    link = with_keeper(host, use)

    assert {f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]} == {
        "100.64.0.9/32",
        "100.100.111.1/32",
        "fd00:2021:1111::9/128",
        f"{IPV6_SENTINEL}/128",
    }
    assert (link["mtu"], link["txqlen"], link["gso_max_segs"]) == (1280, 10000, 49)


def test_resources_lead_into_the_tunnel_from_our_address_but_marked_sockets_bypass_it(host: Host) -> None:
    async def use(keeper: Keeper) -> list[dict[str, str]]:
        await keeper.configure(
            "10.20.0.0/24", "fd00:2021:1111:8000::/107", sentinels=("100.100.111.1", IPV6_SENTINEL)
        )
        return [
            route_to(host, "10.20.0.5"),
            route_to(host, "fd00:2021:1111:8000::5"),
            route_to(host, "10.20.0.5", "mark", hex(SOCKET_MARK)),
        ]

    ipv4, ipv6, marked = with_keeper(host, use)

    assert (ipv4["dev"], ipv4["prefsrc"]) == (TUN, "100.64.0.9")
    assert (ipv6["dev"], ipv6["prefsrc"]) == (TUN, "fd00:2021:1111::9")
    assert marked["dev"] == "lan"


def test_a_later_configuration_takes_back_what_it_no_longer_wants(host: Host) -> None:
    async def use(keeper: Keeper) -> tuple[dict[str, str], dict[str, str], set[str]]:
        await keeper.configure("10.20.0.0/24", sentinels=("100.100.111.1",))
        await keeper.configure("10.30.0.0/24", sentinels=("100.100.111.2",))
        assert not keeper.repaired
        return route_to(host, "10.20.0.5"), route_to(host, "10.30.0.5"), addresses_of(host)

    gone, there, addresses = with_keeper(host, use)

    assert (gone["dev"], there["dev"]) == ("lan", TUN)
    assert "100.100.111.1/32" not in addresses
    assert "100.100.111.2/32" in addresses


def test_the_lan_stays_reachable_while_the_internet_resource_takes_the_rest(host: Host) -> None:
    host.run("ip", "address", "add", "2001:db8:1::10/64", "dev", "lan", "nodad")

    async def use(keeper: Keeper) -> list[str]:
        await keeper.configure("0.0.0.0/0", "::/0")
        return [
            route_to(host, address)["dev"]
            for address in ("192.0.2.77", "2001:db8:1::77", "198.51.100.1", "2001:db8:2::1")
        ]

    assert with_keeper(host, use) == ["lan", "lan", TUN, TUN]


def test_a_lan_inside_the_tunnels_range_stays_reachable_and_is_warned_about_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.run("ip", "address", "add", "100.64.7.10/24", "dev", "lan")

    async def use(keeper: Keeper) -> tuple[str, str]:
        await keeper.configure("100.64.0.0/11")
        await keeper.configure("100.64.0.0/11", "10.20.0.0/24")
        return route_to(host, "100.64.7.1")["dev"], route_to(host, "100.64.8.1")["dev"]

    assert with_keeper(host, use) == ("lan", TUN)
    [warning] = [record for record in caplog.records if "tunnel's own range" in record.message]
    assert warning.network == "100.64.7.0/24"  # type: ignore[attr-defined]


def test_nothing_is_left_behind(host: Host) -> None:
    before = state(host)

    async def use(keeper: Keeper) -> str:
        await keeper.configure("0.0.0.0/0", "10.20.0.0/24")
        return host.run("ip", "rule")

    during = with_keeper(host, use)

    assert "fwmark" in during
    assert state(host) == before
    assert route_to(host, "10.20.0.5")["dev"] == "lan"


def test_a_gateway_leaves_nothing_behind_either(host: Host) -> None:
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    before = state(host)

    async def use(keeper: Keeper) -> tuple[str, str, str]:
        await keeper.configure("100.64.0.0/11")
        accepts = host.run("sysctl", "-n", "net.ipv6.conf.lan.accept_ra").strip()
        return (
            host.run("sysctl", "-n", "net.ipv4.ip_forward").strip(),
            accepts,
            host.run("nft", "list", "ruleset"),
        )

    forwarding, accepts_advertisements, rules = with_keeper(host, use, Role.GATEWAY)

    assert accepts_advertisements == "2"

    assert forwarding == "1"
    assert rules.count("masquerade") == 2
    assert str(IPv4Network("100.64.0.0/11")) in rules
    assert state(host) == before


def test_a_second_start_finds_what_a_crash_left_and_works(host: Host) -> None:
    async def crash(keeper: Keeper) -> None:
        await keeper.configure("10.20.0.0/24", "0.0.0.0/0")

    async def use(keeper: Keeper) -> tuple[dict[str, str], dict[str, str], str]:
        await keeper.configure("10.30.0.0/24")
        return route_to(host, "10.20.0.5"), route_to(host, "10.30.0.5"), host.run("ip", "rule")

    before = state(host)
    with_keeper(host, crash, undo=False)
    stale, current, rules = with_keeper(host, use)

    assert (stale["dev"], current["dev"]) == ("lan", TUN)
    assert rules.count("fwmark") == 3
    assert state(host) == before


def test_lost_rules_addresses_and_link_come_back(host: Host) -> None:
    """Resume from suspend, systemd-networkd, and an interface that was set down and up."""

    async def use(keeper: Keeper) -> set[str]:
        await keeper.configure("10.20.0.0/24", "fd00:2021:1111::/107", sentinels=("100.100.111.1",))
        wanted = addresses_of(host)
        for version in ("-4", "-6"):
            for priority in ("100", "200", "300"):
                host.run("ip", version, "rule", "del", "priority", priority)
        host.run("ip", "link", "set", TUN, "down")
        host.run("ip", "address", "flush", "dev", TUN)

        def back() -> bool:
            rules = host.run("ip", "rule") + host.run("ip", "-6", "rule")
            return (
                rules.count("fwmark") == 6
                and addresses_of(host) == wanted
                and route_to(host, "10.20.0.5").get("dev") == TUN
            )

        await keeper.watch_until(back, "rules, addresses and routes")
        return keeper.repaired

    assert with_keeper(host, use) == {"link", "tunnel addresses", "routes", "routing rules"}


def test_flushed_rules_and_a_sysctl_come_back(host: Host) -> None:
    async def use(keeper: Keeper) -> set[str]:
        await keeper.configure("100.64.0.0/11")
        before = host.run("nft", "list", "ruleset")
        host.run("nft", "flush", "ruleset")
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        await keeper.watch_until(
            lambda: (
                host.run("nft", "list", "ruleset") == before
                and host.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
            ),
            "nftables and ip_forward",
        )
        return keeper.repaired

    assert with_keeper(host, use, Role.GATEWAY) == {
        "masquerading (nftables)",
        "clients beside the gateway (nftables, IPv4)",
        "clients beside the gateway (nftables, IPv6)",
        "net.ipv4.ip_forward",
    }


@pytest.mark.parametrize("role", Role)
def test_a_host_without_ipv6_has_a_tunnel_without_ipv6(
    host: Host, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")

    async def use(keeper: Keeper) -> tuple[set[str], str]:
        await keeper.configure(
            "100.64.0.0/11", "fd00:2021:1111::/107", "::/0", sentinels=("100.100.111.1", IPV6_SENTINEL)
        )
        await keeper.reconciler.check()
        assert keeper.reconciler.is_ready
        return addresses_of(host), route_to(host, "100.64.0.5")["dev"]

    addresses, device = with_keeper(host, use, role)

    assert addresses == {"100.64.0.9/32", "100.100.111.1/32"}
    assert device == TUN
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []


@pytest.mark.parametrize(
    "change",
    [
        ("ip", "address", "add", "198.51.100.9/24", "dev", "lan"),
        ("ip", "route", "replace", "default", "via", "192.0.2.2"),
        ("ip", "link", "set", "lan-far", "down"),
        ("ip", "rule", "add", "priority", "50", "table", "7"),
        ("nft", "add", "table", "inet", "somebody"),
    ],
)
def test_the_kernel_reports_changes_without_being_asked(
    host: Host, change: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_changes, "CHECK_INTERVAL_S", 3600.0)

    async def is_reported(changes: HostChanges, within_s: float) -> bool:
        try:
            await asyncio.wait_for(changes.next(), within_s)
        except TimeoutError:
            return False
        return True

    async def is_noticed() -> bool:
        with HostChanges() as changes:
            while await is_reported(changes, 2.0):
                pass  # what the making of the host has left to report
            host.run(*change)
            return await is_reported(changes, BACK_WITHIN_S)

    assert host.inside(lambda: asyncio.run(is_noticed()))


def state(host: Host) -> dict[str, str]:
    """All that we may have changed on a host; the interface itself ends with its process."""
    commands = {
        "rules": ("ip", "rule"),
        "rules6": ("ip", "-6", "rule"),
        "nftables": ("nft", "list", "ruleset"),
        "sysctls": (
            "sh",
            "-c",
            f"sysctl -a 2>/dev/null | grep -v {TUN} | grep "
            "'^net.ipv[46].*\\(forward\\|mark\\|filter\\|disable_ipv6\\|accept_ra \\)'",
        ),
        **{
            f"table {table}": ("sh", "-c", f"ip route show table {table}; ip -6 route show table {table}")
            for table in tables_of(TUN).all
        },
    }
    return {name: host.run(*command, check=False) for name, command in commands.items()}
