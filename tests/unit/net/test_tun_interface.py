import errno
from ipaddress import ip_network
from pathlib import Path

import pytest

from support.fake_kernel import FakeKernel, main_route
from wardgate.net.families import Families, families_of
from wardgate.net.netlink import Route, Rule
from wardgate.net.policy_routing import client_rules, gateway_rules, tables_of
from wardgate.net.reconciler import Reconciler
from wardgate.net.socket_mark import SOCKET_MARK
from wardgate.net.tun_configuration import TunConfiguration
from wardgate.net.tun_interface import Role, TunInterface

OWN = ("100.64.0.9", "fd00:2021:1111::9")
LAN = 2


def configured(*routes: str, sentinels: tuple[str, ...] = ("100.100.111.1",)) -> TunConfiguration:
    return TunConfiguration(*OWN, frozenset(map(ip_network, routes)), sentinels)


class Bench:
    """One interface beside a LAN on a kernel in memory."""

    def __init__(
        self,
        proc_sys: Path,
        *,
        role: Role = Role.CLIENT,
        families: Families = Families(),  # noqa: B008
        kernel: FakeKernel | None = None,
        name: str = "wardgate",
    ) -> None:
        for key in ("ipv4", "ipv6"):
            (proc_sys / f"net/{key}/conf/{name}").mkdir(parents=True, exist_ok=True)
        for key in ("ipv6/conf/{}/addr_gen_mode", "ipv4/conf/{}/rp_filter", "ipv4/conf/{}/accept_local"):
            (proc_sys / "net" / key.format(name)).write_text("0\n")
        for interface in ("all", "lan"):
            (proc_sys / "net/ipv4/conf" / interface).mkdir(exist_ok=True)
            (proc_sys / "net/ipv4/conf" / interface / "rp_filter").write_text("1\n")
        self.lan_filter = proc_sys / "net/ipv4/conf/lan/rp_filter"
        self.kernel = kernel or FakeKernel()
        self.kernel.add_link(name)
        if kernel is None:
            self.kernel.add_link("lan", is_up=True)
        self.tables = tables_of(name)
        self.tun = TunInterface(name, self.kernel, role=role, families=families, proc_sys=proc_sys)
        self.host = Reconciler(self.tun.settings)

    async def configure(self, wanted: TunConfiguration) -> None:
        self.tun.want(wanted)
        await self.host.establish()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_link_set_down_and_up_gets_everything_back(bench: Bench) -> None:
    await bench.configure(configured("10.20.0.0/24", "fd00:2021:1111::/107", "0.0.0.0/0"))
    before = (bench.kernel.links, set(bench.kernel.all_routes), await bench.kernel.addresses(1))
    bench.kernel.take_down("wardgate")
    await bench.host.check()

    assert (bench.kernel.links, bench.kernel.all_routes, await bench.kernel.addresses(1)) == before
    assert {one.name for one in bench.host.conditions if one.repairs} == {
        "link",
        "tunnel addresses",
        "routes",
    }


async def test_lost_and_foreign_rules_are_told_apart(bench: Bench) -> None:
    foreign = Rule(4, 50, table=7)
    bench.kernel.all_rules.add(foreign)
    await bench.configure(configured("10.20.0.0/24"))
    wanted = set(bench.kernel.all_rules)
    bench.kernel.all_rules = {foreign}
    await bench.host.check()
    assert bench.kernel.all_rules == wanted

    await bench.host.undo()
    assert bench.kernel.all_rules == {foreign}


async def test_rules_of_a_crashed_run_go_before_anything_is_configured(bench: Bench) -> None:
    bench.kernel.all_rules = set(client_rules(bench.tables, Families()))
    await bench.host.establish()

    assert bench.kernel.all_rules == set()


async def test_routes_that_are_no_longer_wanted_go(bench: Bench) -> None:
    await bench.configure(configured("10.20.0.0/24", "0.0.0.0/0"))
    await bench.configure(configured("10.30.0.0/24"))

    assert bench.kernel.table(bench.tables.user) == {"10.30.0.0/24": 1}
    assert bench.kernel.table(bench.tables.internet) == {}


async def test_a_new_own_address_becomes_the_source_of_every_route(bench: Bench) -> None:
    await bench.configure(configured("10.20.0.0/24"))
    await bench.configure(
        TunConfiguration("100.64.0.10", OWN[1], frozenset([ip_network("10.20.0.0/24")]), ())
    )

    assert {route.source for route in bench.kernel.all_routes} == {"100.64.0.10"}


async def test_the_lan_is_copied_only_while_the_internet_resource_is_on(bench: Bench) -> None:
    bench.kernel.all_routes.add(main_route("192.0.2.0/24", LAN))
    await bench.configure(configured("10.20.0.0/24", "0.0.0.0/0"))
    with_internet = bench.kernel.table(bench.tables.link)
    await bench.configure(configured("10.20.0.0/24"))

    assert with_internet == {"192.0.2.0/24": LAN}
    assert bench.kernel.table(bench.tables.link) == {}


async def test_a_lan_that_appears_later_and_one_that_goes_are_followed(bench: Bench) -> None:
    await bench.configure(configured("0.0.0.0/0"))
    for network in ("192.0.2.0/24", "198.51.100.0/24"):
        bench.kernel.all_routes = {route for route in bench.kernel.all_routes if route.table != 254} | {
            main_route(network, LAN)
        }
        await bench.host.check()

        assert bench.kernel.table(bench.tables.link) == {network: LAN}


@pytest.mark.parametrize("role", Role)
async def test_a_lan_inside_the_tunnels_range_wins_by_its_longer_prefix(tmp_path: Path, role: Role) -> None:
    bench = Bench(tmp_path, role=role)
    bench.kernel.all_routes |= {main_route("100.64.7.0/24", LAN), main_route("100.64.0.3/32", LAN)}
    await bench.configure(configured("100.64.0.0/11"))

    assert bench.kernel.table(bench.tables.user) == {"100.64.0.0/11": 1, "100.64.7.0/24": LAN}


async def test_without_ipv6_nothing_of_it_is_wanted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, families=Families(ipv6=False))
    (tmp_path / "net/ipv6/conf/wardgate/addr_gen_mode").unlink()
    await bench.configure(
        configured("10.20.0.0/24", "fd00::/8", "::/0", sentinels=("100.100.111.1", "fd00::1"))
    )

    assert await bench.kernel.addresses(1) == {OWN[0], "100.100.111.1"}
    assert {rule.version for rule in bench.kernel.all_rules} == {4}
    assert {route.network.version for route in bench.kernel.all_routes} == {4}
    assert bench.host.is_ready


async def test_a_client_beside_a_gateway_neither_takes_nor_loses_its_routes(tmp_path: Path) -> None:
    gateway = Bench(tmp_path, role=Role.GATEWAY, name="wardgate-gw")
    await gateway.configure(configured("100.64.0.0/11", "fd00:2021:1111::/107", sentinels=()))
    alone = (set(gateway.kernel.all_rules), set(gateway.kernel.all_routes))
    client = Bench(tmp_path, kernel=gateway.kernel)
    client.tun.want(
        TunConfiguration("100.64.0.10", "fd00:2021:1111::a", frozenset([ip_network("100.64.0.0/11")]), ())
    )
    await client.host.establish()
    await gateway.host.check()
    assert alone[0] < gateway.kernel.all_rules
    assert alone[1] < gateway.kernel.all_routes

    await client.host.undo()
    assert (gateway.kernel.all_rules, gateway.kernel.all_routes) == alone
    assert not any(condition.repairs for condition in gateway.host.conditions)


def test_forwarded_packets_of_a_gateway_come_before_and_past_a_clients_rules() -> None:
    gateway = gateway_rules(
        tables_of("wardgate-gw"), Families(ipv6=False), interface="wardgate-gw", sources=[OWN[0]]
    )
    client = client_rules(tables_of("wardgate"), Families(ipv6=False))
    first, last = min(rule.priority for rule in client), max(rule.priority for rule in client)
    [leaving] = [rule for rule in gateway if rule.goto]

    assert leaving.iif == "wardgate-gw"
    assert leaving.priority < first
    assert leaving.goto > last
    assert any(rule.priority == leaving.goto for rule in gateway)
    [forwarded] = [rule for rule in gateway if rule.is_inverted and rule.iif == "lo"]
    assert forwarded.priority < first
    assert {rule.mark for rule in client} == {SOCKET_MARK}


def test_interfaces_have_tables_of_their_own_and_the_same_at_each_start() -> None:
    names = [f"wardgate{number}" for number in range(50)]
    tables = [number for name in names for number in tables_of(name).all]

    assert len(set(tables)) == len(tables)
    assert tables_of("wardgate") == tables_of("wardgate")


async def test_the_interface_that_is_gone_is_a_refusal_not_a_crash(bench: Bench) -> None:
    await bench.configure(configured("10.20.0.0/24"))
    del bench.kernel.links["wardgate"]
    await bench.host.check()

    assert not bench.host.is_ready
    assert any("No such device" in str(condition) for condition in bench.host.conditions)


async def test_one_family_refused_does_not_cost_the_other(bench: Bench) -> None:
    await bench.host.establish()
    kernel = bench.kernel
    add_address = kernel.add_address

    async def only_ipv4(index: int, address: str) -> None:
        if ":" in address:
            raise OSError(errno.EACCES, "switched off since")
        await add_address(index, address)

    kernel.add_address = only_ipv4  # type: ignore[method-assign]
    await bench.configure(configured("10.20.0.0/24"))

    assert await kernel.addresses(1) == {OWN[0], "100.100.111.1"}
    assert Route(ip_network("10.20.0.0/24"), 1, bench.tables.user, OWN[0]) in kernel.all_routes
    assert not bench.host.is_ready


def test_families_are_those_of_the_interface(tmp_path: Path) -> None:
    switch = tmp_path / "net/ipv6/conf/wardgate/disable_ipv6"
    assert families_of("wardgate", tmp_path) == Families(ipv6=False)
    switch.parent.mkdir(parents=True)
    for content, has_ipv6 in (("0\n", True), ("1\n", False)):
        switch.write_text(content)
        assert families_of("wardgate", tmp_path).ipv6 is has_ipv6


async def test_strict_filters_are_loosened_only_for_resources_that_may_cover_a_relay(bench: Bench) -> None:
    seen = []
    for routes in (
        ["100.64.0.0/11", "100.96.0.0/11", "fd00:2021:1111::/107"],
        ["100.64.0.0/11", "10.0.0.0/8"],
        [],
    ):
        await bench.configure(configured(*routes))
        seen.append(bench.lan_filter.read_text().strip())

    assert seen == ["1", "2", "1"]
