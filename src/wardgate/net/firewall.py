"""Forwarding on a gateway's host: sysctls, a table of our own that masquerades, and accepts in others' chains
(data-plane §5.7).

Our table is replaced in one transaction and deleted at the end. Other base chains decide for themselves, so
an accept of ours does not overrule their *drop*: where a forward chain drops what nobody accepted (Docker,
ufw, firewalld, by nftables or by iptables-legacy), accepts for the interface are inserted into that very
chain, and taken out again at the end.
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from wardgate.model.addresses import TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.net.errors import HostRefused
from wardgate.net.families import Families
from wardgate.net.host_command import run_host_command
from wardgate.net.nftables import Nftables, NftCommand
from wardgate.net.reconciler import Setting
from wardgate.net.router_advertisements import RouterAdvertisements
from wardgate.net.sysctl import PROC_SYS, Sysctl

_COMMENT: Final = "wardgate"
_DIRECTIONS: Final = ("iifname", "oifname")
_CURES: Final = {
    "firewalld": "firewalld keeps its table to itself: set NftablesTableOwner=no in /etc/firewalld/firewalld.conf and "
    "restart it",
}
"""By the table that takes no rule of ours. firewalld owns its own since 2.1, where the kernel lets it."""

_WITHOUT_EFFECT: Final = frozenset({"counter", "log"})  # statements that leave the verdict to what follows


def firewall_settings(
    *,
    interface: str,
    families: Families,
    nftables: Nftables | None = None,
    proc_sys: Path = PROC_SYS,
) -> tuple[Setting[Any], ...]:
    """Everything that makes this host forward for the gateway."""
    nft = nftables or NftCommand()
    parameters: list[Setting[Any]] = [
        Sysctl("net/ipv4/ip_forward", "1", is_necessary=True, proc_sys=proc_sys),
        Sysctl("net/ipv4/conf/all/src_valid_mark", "1", proc_sys=proc_sys),
    ]
    if families.ipv6:
        parameters += [
            RouterAdvertisements(proc_sys=proc_sys),
            Sysctl("net/ipv6/conf/all/forwarding", "1", is_necessary=True, proc_sys=proc_sys),
            Sysctl("net/ipv6/conf/default/forwarding", "1", proc_sys=proc_sys),
        ]
    return (
        *parameters,
        OwnTable(
            nft,
            "inet",
            table_of(interface),
            ruleset(table_of(interface), interface),
            "masquerading (nftables)",
        ),
        *(
            OwnTable(
                nft,
                "ip" if version == 4 else "ip6",
                table_of(interface),
                return_ruleset(table_of(interface), interface, version),
                f"clients beside the gateway (nftables, IPv{version})",
                is_necessary=False,
            )
            for version in families.versions
        ),
        ForwardAccepts(nft, interface=interface),
        LegacyAccepts(interface=interface, families=families),
    )


def table_of(interface: str) -> str:
    """The name of our table: one an interface, so that two gateways on one host have one each."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", interface)
    return plain if plain.startswith("wardgate") else f"wardgate_{plain}"


def zone_of(interface: str) -> int:
    """The conntrack zone of what comes out of a tunnel (1 to 65535): tells it apart from this host's own connections.

    A client on this host opens connections from its tunnel address, and the same packets come out of the
    gateway's tunnel again.
    """
    return zlib.crc32(interface.encode()) % 0xFFFF + 1


def ruleset(table: str, interface: str) -> str:
    """The complete table as one nft transaction; loading it twice leaves the same rules."""
    leaves = f'ct original zone {zone_of(interface)} oifname != "{interface}"'
    return f"""\
add table inet {table}
delete table inet {table}
table inet {table} {{
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        iifname "{interface}" ct original zone set {zone_of(interface)}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        {leaves} ip saddr {TUNNEL_IPV4} masquerade
        {leaves} ip6 saddr {TUNNEL_IPV6} masquerade
    }}
}}
"""


def return_ruleset(table: str, interface: str, version: int) -> str:
    """A table that leads answers to a client of this host into the gateway's tunnel, as one nft transaction.

    Its tunnel address is local here, so that the kernel would deliver the answers straight to the socket,
    without the tunnel's translation of addresses (DNS resources). What has been translated back and is for a
    local tunnel address goes out by the tunnel's interface instead; the next hop only tells the kernel which,
    and nobody has that address.
    """
    family, tunnel = ("ip", TUNNEL_IPV4) if version == 4 else ("ip6", TUNNEL_IPV6)
    answer = (
        f'iifname != "{interface}" ct original zone {zone_of(interface)} ct direction reply '
        f"{family} daddr {tunnel} fib daddr type local"
    )
    return f"""\
add table {family} {table}
delete table {family} {table}
table {family} {table} {{
    chain answers {{
        type filter hook prerouting priority dstnat + 10; policy accept;
        {answer} dup to {tunnel[-1]} device "{interface}" drop
    }}
}}
"""


class OwnTable:
    """Keeps a table of ours as the kernel listed it right after we had loaded it."""

    def __init__(
        self, nft: Nftables, family: str, table: str, rules: str, name: str, *, is_necessary: bool = True
    ) -> None:
        self.name: Final = name
        self.is_necessary: Final = is_necessary
        self._nft = nft
        self._family = family
        self._table = table
        self._rules = rules
        self._loaded: list[object] | None = None
        self._last: tuple[int, list[dict[str, Any]]] | None = None

    async def read(self) -> list[dict[str, Any]]:
        generation = self._nft.generation()
        if self._last is not None and generation == self._last[0]:
            return self._last[1]
        listed = await self._nft.listing("table", self._family, self._table)
        self._last = None if generation is None else (generation, listed)
        return listed

    def differs(self, found: list[dict[str, Any]]) -> tuple[str, ...]:
        if not found:
            return ("gone",)
        return () if without_handles(found) == self._loaded else ("changed",)

    async def repair(self, found: list[dict[str, Any]]) -> None:  # noqa: ARG002 - it is replaced as a whole
        try:
            await self._nft.apply(self._rules)
        except OSError as error:
            if not self.is_necessary:
                raise
            raise HostRefused(f"the gateway's rules are refused: {error}") from error
        self._loaded = without_handles(await self.read())

    async def undo(self) -> None:
        own = f"table {self._family} {self._table}"
        await self._nft.apply(f"add {own}\ndelete {own}\n")


@dataclass(frozen=True, slots=True)
class ForwardChain:
    """A base chain of somebody else at the forward hook."""

    family: str
    table: str
    name: str
    drops: bool
    accepted: frozenset[str]  # of `_DIRECTIONS`
    own_handles: tuple[int, ...]  # of rules that we inserted

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


class ForwardAccepts:
    """Keeps accepts for the interface in foreign forward chains that drop."""

    name = "forwarding (nftables)"
    is_necessary = True

    def __init__(self, nft: Nftables, *, interface: str) -> None:
        self._nft = nft
        self._interface = interface
        self._last: tuple[int, tuple[ForwardChain, ...]] | None = None

    async def read(self) -> tuple[ForwardChain, ...]:
        generation = self._nft.generation()
        if self._last is not None and generation == self._last[0]:
            return self._last[1]
        listed = await self._nft.listing("chains")
        chains = [item["chain"] for item in listed if item["chain"].get("hook") == "forward"]
        found = []
        for chain in chains:
            if chain["family"] in {"ip", "ip6", "inet"} and chain.get("type") == "filter":
                rules = await self._nft.listing("chain", chain["family"], chain["table"], chain["name"])
                found.append(forward_chain(chain, rules, self._interface))
        self._last = None if generation is None else (generation, tuple(found))
        return tuple(found)

    def differs(self, found: tuple[ForwardChain, ...]) -> tuple[str, ...]:
        return tuple(f"{chain} drops" for chain in found if _lacking(chain))

    async def repair(self, found: tuple[ForwardChain, ...]) -> None:
        for chain in found:
            commands = [
                f'insert rule {chain} {direction} "{self._interface}" counter accept comment "{_COMMENT}"\n'
                for direction in _lacking(chain)
            ]
            try:
                await self._nft.apply("".join(commands))
            except OSError as error:
                cure = _CURES.get(chain.table, f"accept packets from and to {self._interface} there")
                raise HostRefused(
                    f"the chain `{chain}` drops forwarded packets and refuses a rule ({error}); {cure}"
                ) from error

    async def undo(self) -> None:
        self._last = None
        for chain in await self.read():
            commands = [f"delete rule {chain} handle {handle}\n" for handle in chain.own_handles]
            if commands:
                await self._nft.apply("".join(commands))


def forward_chain(chain: dict[str, Any], rules: Iterable[dict[str, Any]], interface: str) -> ForwardChain:
    """Judge a base chain by its policy and its rules, as `nft -j` lists them."""
    listed = [item["rule"] for item in rules if "rule" in item]
    accepted: set[str] = set()
    own: list[int] = []
    for rule in listed:
        direction = _accepted_direction(rule["expr"], interface)
        if direction is not None:
            accepted.add(direction)
            if rule.get("comment") == _COMMENT:
                own.append(rule["handle"])
    return ForwardChain(
        family=chain["family"],
        table=chain["table"],
        name=chain["name"],
        drops=chain.get("policy") == "drop" or bool(listed and _drops_everything(listed[-1]["expr"])),
        accepted=frozenset(accepted),
        own_handles=tuple(own),
    )


def without_handles(listed: object) -> Any:
    """A listing without what changes by itself: handles, and what counters have counted."""
    if isinstance(listed, dict):
        return {
            key: without_handles(value)
            for key, value in listed.items()
            if key not in {"handle", "packets", "bytes"}
        }
    if isinstance(listed, list):
        return [without_handles(item) for item in listed]
    return listed


def _lacking(chain: ForwardChain) -> tuple[str, ...]:
    if not chain.drops:
        return ()
    return tuple(direction for direction in _DIRECTIONS if direction not in chain.accepted)


def _accepted_direction(expressions: list[dict[str, Any]], interface: str) -> str | None:
    """Which packets of the interface a rule accepts, all of them and without other conditions."""
    essential = [one for one in expressions if not _WITHOUT_EFFECT & one.keys()]
    if len(essential) != 2 or "accept" not in essential[1]:
        return None
    for direction in _DIRECTIONS:
        if essential[0].get("match") == {
            "op": "==",
            "left": {"meta": {"key": direction}},
            "right": interface,
        }:
            return direction
    return None


def _drops_everything(expressions: list[dict[str, Any]]) -> bool:
    essential = [one for one in expressions if not _WITHOUT_EFFECT & one.keys()]
    return len(essential) == 1 and bool({"drop", "reject"} & essential[0].keys())


@dataclass(frozen=True, slots=True)
class LegacyChain:
    """The chain FORWARD of iptables-legacy, which nftables does not show; one a family that uses it."""

    command: str
    lacking: tuple[str, ...]  # of `-i`, `-o`
    own: tuple[str, ...]


class LegacyAccepts:
    """Keeps accepts in FORWARD of iptables-legacy, where the kernel holds such tables."""

    name = "forwarding (iptables-legacy)"
    is_necessary = True

    def __init__(self, *, interface: str, families: Families, proc_net: Path = Path("/proc/net")) -> None:
        self._interface = interface
        self._families = families
        self._proc_net = proc_net

    async def read(self) -> tuple[LegacyChain, ...]:
        found = []
        for version, names in ((4, "ip_tables_names"), (6, "ip6_tables_names")):
            if version in self._families.versions and "filter" in self._tables(names):
                command = "iptables-legacy" if version == 4 else "ip6tables-legacy"
                cure = (
                    f"an iptables-legacy chain FORWARD (IPv{version}) may drop what the gateway "
                    "forwards, and the command "
                    f"{command} is missing: install iptables, or accept packets from and to {self._interface} there"
                )
                try:
                    printed = await run_host_command(command, "-w", "5", "-S", "FORWARD", missing=cure)
                except HostRefused as error:
                    raise OSError(cure) from error  # it may as well accept: no reason not to start
                found.append(legacy_chain(command, printed, self._interface))
        return tuple(found)

    def differs(self, found: tuple[LegacyChain, ...]) -> tuple[str, ...]:
        return tuple(f"FORWARD of {chain.command} drops" for chain in found if chain.lacking)

    async def repair(self, found: tuple[LegacyChain, ...]) -> None:
        for chain in found:
            for option in chain.lacking:
                await run_host_command(
                    chain.command, "-w", "5", "-I", "FORWARD", "1", *_legacy_rule(option, self._interface)
                )

    async def undo(self) -> None:
        for chain in await self.read():
            for option in chain.own:
                await run_host_command(
                    chain.command, "-w", "5", "-D", "FORWARD", *_legacy_rule(option, self._interface)
                )

    def _tables(self, names: str) -> list[str]:
        try:
            return (self._proc_net / names).read_text(encoding="ascii").split()
        except OSError:
            return []


def legacy_chain(command: str, printed: str, interface: str) -> LegacyChain:
    """Judge FORWARD by what `iptables -S FORWARD` prints."""
    lines = [line.split() for line in printed.splitlines()]
    rules = [line for line in lines if line[:2] == ["-A", "FORWARD"]]
    drops = ["-P", "FORWARD", "DROP"] in lines or bool(
        rules and rules[-1][2:4] in (["-j", "DROP"], ["-j", "REJECT"])
    )
    accepted = [
        option
        for option in ("-i", "-o")
        if any(
            rule[2:] in (_legacy_rule(option, interface), [option, interface, "-j", "ACCEPT"])
            for rule in rules
        )
    ]
    own = [option for option in ("-i", "-o") if ["-A", "FORWARD", *_legacy_rule(option, interface)] in rules]
    lacking = tuple(option for option in ("-i", "-o") if drops and option not in accepted)
    return LegacyChain(command, lacking, tuple(own))


def _legacy_rule(option: str, interface: str) -> list[str]:
    return [option, interface, "-m", "comment", "--comment", _COMMENT, "-j", "ACCEPT"]
