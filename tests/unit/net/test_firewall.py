from pathlib import Path
from typing import Any

import pytest

from support.fake_nftables import FakeNftables
from wardgate.net.errors import HostRefused
from wardgate.net.families import Families
from wardgate.net.firewall import (
    ForwardAccepts,
    LegacyAccepts,
    LegacyChain,
    OwnTable,
    firewall_settings,
    legacy_chain,
    return_ruleset,
    ruleset,
    table_of,
    zone_of,
)
from wardgate.net.reconciler import Reconciler

GW = "wardgate-gw"
Expression = list[dict[str, Any]]
ESTABLISHED: Expression = [
    {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}},
    {"accept": None},
]


def accepting(direction: str, interface: str = GW) -> Expression:
    return [
        {"match": {"op": "==", "left": {"meta": {"key": direction}}, "right": interface}},
        {"accept": None},
    ]


def masquerading(nft: FakeNftables, **options: bool) -> OwnTable:
    return OwnTable(nft, "inet", "t", ruleset("t", GW), "masquerading", **options)


def test_the_table_is_replaced_in_one_transaction() -> None:
    lines = ruleset("wardgate_gw", "wardgate-gw").splitlines()

    assert lines[:3] == [
        "add table inet wardgate_gw",
        "delete table inet wardgate_gw",
        "table inet wardgate_gw {",
    ]


def test_only_what_came_out_of_the_tunnel_and_leaves_elsewhere_is_masqueraded() -> None:
    lines = [line.strip() for line in ruleset("t", "tun0").splitlines()]
    zone = zone_of("tun0")

    assert f'iifname "tun0" ct original zone set {zone}' in lines
    assert [line for line in lines if "masquerade" in line] == [
        f'ct original zone {zone} oifname != "tun0" ip saddr 100.64.0.0/11 masquerade',
        f'ct original zone {zone} oifname != "tun0" ip6 saddr fd00:2021:1111::/107 masquerade',
    ]


def test_each_interface_has_a_table_that_nft_can_name() -> None:
    assert table_of("wardgate-gw") == "wardgate_gw"
    assert table_of("tun.7") == "wardgate_tun_7"


async def test_a_flushed_and_a_changed_table_are_loaded_again() -> None:
    nft = FakeNftables()
    host = Reconciler([masquerading(nft)])
    await host.establish()
    loaded = dict(nft.tables)
    nft.flush()
    await host.check()
    assert nft.tables == loaded
    await nft.apply("add table inet t\ndelete table inet t\ntable inet t { }\n")
    await host.check()
    assert nft.tables == loaded

    await host.undo()
    assert nft.tables == {}
    assert host.conditions[0].repairs == 2


async def test_rules_are_listed_only_when_something_has_changed_them() -> None:
    nft = FakeNftables()
    host = Reconciler([masquerading(nft), ForwardAccepts(nft, interface=GW)])
    await host.establish()
    await host.check()
    before = nft.listings
    for _ in range(5):
        await host.check()

    assert nft.listings == before


@pytest.mark.parametrize(
    ("chain", "rules", "policy"),
    [
        ("ip filter FORWARD", [], "drop"),
        ("ip6 filter FORWARD", [ESTABLISHED], "drop"),
        ("inet firewalld filter_FORWARD", [ESTABLISHED, [{"reject": {"type": "icmpx"}}]], "accept"),
        (
            "inet filter forward",
            [ESTABLISHED, [{"counter": {"packets": 1}}, {"log": {}}, {"drop": None}]],
            "accept",
        ),
    ],
)
async def test_a_chain_that_drops_gets_accepts_and_loses_them_at_the_end(
    chain: str, rules: list[Expression], policy: str
) -> None:
    nft = FakeNftables()
    nft.add_chain(chain, *rules, policy=policy)
    [(key, before)] = [(key, list(listed)) for key, listed in nft.rules.items()]
    host = Reconciler([ForwardAccepts(nft, interface=GW)])
    await host.establish()
    during = nft.rules[key]
    await host.undo()

    assert [rule["expr"][0]["match"]["left"]["meta"]["key"] for rule in during[:2]] == ["oifname", "iifname"]
    assert during[2:] == before
    assert nft.rules[key] == before


@pytest.mark.parametrize(
    ("rules", "properties"),
    [
        ([], {}),
        ([[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": GW}}, {"drop": None}]], {}),
        ([], {"policy": "drop", "type": "nat"}),
        ([], {"policy": "drop", "hook": "input"}),
        ([], {"policy": "drop", "family": "bridge"}),
        ([accepting("iifname"), accepting("oifname")], {"policy": "drop"}),
    ],
)
async def test_other_chains_are_left_alone(rules: list[Expression], properties: dict[str, str]) -> None:
    nft = FakeNftables()
    nft.add_chain("inet filter forward", *rules, **properties)
    before = nft.generation()
    host = Reconciler([ForwardAccepts(nft, interface=GW)])
    await host.establish()
    await host.undo()

    assert nft.generation() == before


async def test_an_accept_of_some_packets_only_does_not_do() -> None:
    nft = FakeNftables()
    some = [accepting("iifname")[0], *ESTABLISHED]
    nft.add_chain("inet filter forward", some, accepting("oifname", "docker0"), policy="drop")
    await Reconciler([ForwardAccepts(nft, interface=GW)]).establish()

    assert len(nft.rules["inet", "filter", "forward"]) == 4


async def test_a_reloaded_firewall_gets_its_accepts_again() -> None:
    nft = FakeNftables()
    nft.add_chain("ip filter FORWARD", policy="drop")
    host = Reconciler([ForwardAccepts(nft, interface=GW)])
    await host.establish()
    nft.flush()
    nft.add_chain("ip filter FORWARD", policy="drop")
    await host.check()

    assert len(nft.rules["ip", "filter", "FORWARD"]) == 2
    assert host.conditions[0].repairs == 1


@pytest.mark.parametrize(
    ("chain", "cure"),
    [
        ("ip filter FORWARD", f"accept packets from and to {GW} there"),
        ("inet firewalld filter_FORWARD", "set NftablesTableOwner=no in /etc/firewalld/firewalld.conf"),
    ],
)
async def test_a_chain_that_refuses_is_named_with_the_cure(chain: str, cure: str) -> None:
    nft = FakeNftables()
    nft.add_chain(chain, policy="drop")
    nft.refusal = OSError("Operation not permitted")

    with pytest.raises(HostRefused, match=f"`{chain}` drops .* {cure}"):
        await Reconciler([ForwardAccepts(nft, interface=GW)]).establish()


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("-P FORWARD ACCEPT\n", LegacyChain("ipt", (), ())),
        ("-P FORWARD DROP\n", LegacyChain("ipt", ("-i", "-o"), ())),
        (
            f"-P FORWARD DROP\n-A FORWARD -i {GW} -m comment --comment wardgate -j ACCEPT\n",
            LegacyChain("ipt", ("-o",), ("-i",)),
        ),
        (
            f"-P FORWARD DROP\n-A FORWARD -i {GW} -j ACCEPT\n-A FORWARD -o {GW} -j ACCEPT\n",
            LegacyChain("ipt", (), ()),
        ),
        (
            "-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n",
            LegacyChain("ipt", ("-i", "-o"), ()),
        ),
        (
            "-P FORWARD ACCEPT\n-A FORWARD -i eth0 -j DROP\n",
            LegacyChain("ipt", (), ()),
        ),
        (
            f"-P FORWARD DROP\n-A FORWARD -s 10.0.0.0/8 -i {GW} -j ACCEPT\n",
            LegacyChain("ipt", ("-i", "-o"), ()),
        ),
    ],
)
def test_a_legacy_chain_is_judged_by_what_iptables_prints(printed: str, expected: LegacyChain) -> None:
    assert legacy_chain("ipt", printed, GW) == expected


async def test_without_legacy_tables_their_command_is_not_needed(tmp_path: Path) -> None:
    setting = LegacyAccepts(interface=GW, families=Families(), proc_net=tmp_path)

    assert await setting.read() == ()
    await setting.undo()


async def test_legacy_tables_without_their_command_are_an_error_that_names_chain_and_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ip_tables_names").write_text("nat\nfilter\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    host = Reconciler([LegacyAccepts(interface=GW, families=Families(), proc_net=tmp_path)])
    await host.establish()

    [note] = host.notes()
    assert "iptables-legacy chain FORWARD (IPv4) may drop" in str(note)
    assert "install iptables, or accept packets from and to wardgate-gw there" in str(note)
    assert not host.is_ready


async def test_without_ipv6_none_of_its_parameters_is_touched(tmp_path: Path) -> None:
    settings = firewall_settings(
        interface=GW, families=Families(ipv6=False), nftables=FakeNftables(), proc_sys=tmp_path
    )

    assert not [setting.name for setting in settings if "ipv6" in setting.name]


async def test_rules_that_a_kernel_lacks_are_a_refusal_only_where_they_are_necessary() -> None:
    nft = FakeNftables()
    nft.refusal = OSError("Operation not supported")
    optional = Reconciler([masquerading(nft, is_necessary=False)])
    await optional.establish()

    assert optional.is_ready
    assert str(optional.conditions[0]) == "masquerading: Operation not supported"
    with pytest.raises(HostRefused, match="the gateway's rules are refused"):
        await Reconciler([masquerading(nft)]).establish()


@pytest.mark.parametrize(
    ("version", "family", "tunnel"), [(4, "ip", "100.64.0.0/11"), (6, "ip6", "fd00:2021:1111::/107")]
)
def test_answers_to_a_client_of_this_host_go_back_through_the_tunnel(
    version: int, family: str, tunnel: str
) -> None:
    [rule] = [
        line.strip() for line in return_ruleset("t", "tun0", version).splitlines() if " dup to " in line
    ]

    assert rule.startswith(f'iifname != "tun0" ct original zone {zone_of("tun0")} ct direction reply ')
    assert f"{family} daddr {tunnel} fib daddr type local dup to " in rule
    assert rule.endswith(' device "tun0" drop')
