"""The lab's internet: sites behind NAT routers on one public segment, and private networks behind a gateway.

Addresses: public 203.0.113.0/24 and 203:0:113::/64 (a bridge in a namespace of its own); each site has a
subnet of its own whose router is .254 and whose host is .100. The router's input policy is *drop*: with
accept, an early inbound probe leaves a conntrack entry that remaps the site's own later packet, and hole
punching fails in both directions.
"""

from __future__ import annotations

import contextlib
import enum
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from wardgate.lab.host import Host, LabUnavailable, why_unavailable
from wardgate.lab.link import LossyLink

PUBLIC4 = "203.0.113."
PUBLIC6 = "203:0:113::"
_QUEUE = "10000"


class Nat(enum.Enum):
    """How a router translates (RFC 4787): endpoint-independent, or a new port for each destination ("symmetric")."""

    CONE = ""
    SYMMETRIC = "random"


class Site:
    """A host behind its router."""

    def __init__(self, host: Host, router: Host, octet: int, subnet: str) -> None:
        self.host = host
        self.router = router
        self.public4 = f"{PUBLIC4}{octet}"
        self.public6 = f"{PUBLIC6}{octet}"
        self.address = f"{subnet}.100"
        self._subnet = subnet

    def set_nat(self, nat: Nat) -> None:
        """Change the translation type; flows that exist keep theirs until they are forgotten."""
        self.router.run("nft", "-f", "-", text=f"flush chain inet lab post\n{_masquerade(self._subnet, nat)}")
        self.router.run("conntrack", "-F", check=False)

    def udp_bytes_to(self, public4: str) -> int:
        """Bytes of UDP that this site's router has forwarded to another's public addresses, IPv4 and IPv6
        (its own counter).
        """
        counted = json.loads(self.router.run("nft", "-j", "list", "counters", "table", "inet", "lab"))
        name = _counter(public4)
        return sum(
            int(item["counter"]["bytes"])
            for item in counted["nftables"]
            if item.get("counter", {}).get("name") == name
        )


class Internet:
    """Builds and owns everything; a context manager that cleans up whatever happened inside."""

    def __init__(self) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise LabUnavailable(reason)
        self.state = Path(tempfile.mkdtemp(prefix="wardgate-lab-"))
        self.hosts: dict[str, Host] = {}
        self.sites: dict[str, Site] = {}
        self._links: list[LossyLink] = []
        self._cables: dict[str, int] = {}
        try:
            self._core = self.host("internet")
            self._core.run("ip", "link", "add", "br0", "type", "bridge")
            self._core.run("ip", "addr", "add", f"{PUBLIC4}1/24", "dev", "br0")
            self._core.run("ip", "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process and namespace of the lab and delete its files; safe to repeat."""
        for link in self._links:
            link.close()
        for host in self.hosts.values():
            host.kill()
        for host in self.hosts.values():
            host.close()
        self.hosts.clear()
        shutil.rmtree(self.state, ignore_errors=True)

    def host(self, name: str) -> Host:
        """A bare host without any cable."""
        host = Host(name, self.state)
        self.hosts[name] = host
        return host

    def site(
        self,
        name: str,
        *,
        subnet: str,
        octet: int,
        nat: Nat = Nat.CONE,
        forwards: Sequence[str] = (),
        loss: float = 0.0,
        delay_s: float = 0.0,
    ) -> Site:
        """A host and its router.

        Args:
            subnet: the first three octets of the private network, e.g. "172.30.0"; IPv6 uses the same digits.
            octet: last octet of the router's public address.
            forwards: "tcp/8080" or "udp/49152-65535": ports of the public address that lead to the host.
            loss: share of frames from host to router that vanish, 0 to 1.
            delay_s: one-way delay from host to router.
        """
        host, router = self.host(name), self.host(f"{name}-router")
        self._plug(router, "internet", name)
        subnet6 = subnet.replace(".", ":") + "::"
        if loss or delay_s:
            self._links.append(LossyLink(host, "eth0", router, "internal", loss=loss, delay_s=delay_s))
        else:
            _veth(host, "eth0", router, "internal")
        router.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        _address(router, "internet", f"{PUBLIC4}{octet}/24", f"{PUBLIC6}{octet}/64")
        _address(router, "internal", f"{subnet}.254/24", f"{subnet6}254/64")
        _address(host, "eth0", f"{subnet}.100/24", f"{subnet6}100/64")
        for family, network, gateway in (
            ("-4", f"{PUBLIC4}0/24", f"{subnet}.254"),
            ("-6", f"{PUBLIC6}/64", f"{subnet6}254"),
        ):
            host.run("ip", family, "route", "add", network, "via", gateway)
        router.run("nft", "-f", "-", text=_ruleset(subnet, octet, nat, forwards))
        self.sites[name] = Site(host, router, octet, subnet)
        return self.sites[name]

    def count_traffic(self) -> None:
        """Give each router a counter for UDP towards each other site; call once all sites exist."""
        for site in self.sites.values():
            lines = []
            for other in self.sites.values():
                if other is not site:
                    name = _counter(other.public4)
                    lines.append(f"add counter inet lab {name}")
                    for match in (f"ip daddr {other.public4}", f"ip6 daddr {other.public6}"):
                        lines.append(
                            f"add rule inet lab forward {match} meta l4proto udp counter name {name}"
                        )
            site.router.run("nft", "-f", "-", text="\n".join(lines) + "\n")

    def public_host(self, name: str, octet: int) -> Host:
        """A host directly on the public segment, without a router."""
        host = self.host(name)
        self._plug(host, "eth0", name)
        _address(host, "eth0", f"{PUBLIC4}{octet}/24", f"{PUBLIC6}{octet}/64")
        return host

    def attach(
        self, gateway: Host, gateway_prefixes: Sequence[str], host: Host, prefixes: Sequence[str]
    ) -> None:
        """Join `host` to `gateway` by a cable of its own; the gateway's first address of each family is the
        host's router.

        Prefixes carry their length, e.g. "10.20.0.1/24"; the interfaces are numbered in the order of the calls.
        """
        names = []
        for end, addresses in ((gateway, gateway_prefixes), (host, prefixes)):
            name = f"eth{self._cables.get(end.name, 0) + 1}"
            self._cables[end.name] = self._cables.get(end.name, 0) + 1
            names.append((end, name, addresses))
        _veth(gateway, names[0][1], host, names[1][1])
        for end, name, addresses in names:
            for address in addresses:
                end.run("ip", "addr", "add", address, "dev", name, *(("nodad",) if ":" in address else ()))
        for family, marker in (("-4", "."), ("-6", ":")):
            router = next((prefix.split("/")[0] for prefix in gateway_prefixes if marker in prefix), None)
            if router is not None:
                host.run("ip", family, "route", "replace", "default", "via", router)

    def _plug(self, host: Host, interface: str, name: str) -> None:
        port = f"p-{name}"[:15]
        _veth(host, interface, self._core, port)
        self._core.run("ip", "link", "set", port, "master", "br0")


def _veth(left: Host, left_name: str, right: Host, right_name: str) -> None:
    left.run(
        "ip", "link", "add", left_name, "type", "veth", "peer", "name", right_name, "netns", str(right.pid)
    )
    for host, name in ((left, left_name), (right, right_name)):
        with contextlib.suppress(OSError):
            host.sysctl(**{f"ipv6__conf__{name}__accept_dad": 0})
        host.run("ip", "link", "set", name, "txqueuelen", _QUEUE, "up")


def _address(host: Host, interface: str, ipv4: str, ipv6: str) -> None:
    host.run("ip", "addr", "add", ipv4, "dev", interface)
    host.run("ip", "-6", "addr", "add", ipv6, "dev", interface, "nodad")


def _counter(public4: str) -> str:
    return "to_" + public4.replace(".", "_")


def _masquerade(subnet: str, nat: Nat) -> str:
    subnet6 = subnet.replace(".", ":") + "::"
    return (
        f"add rule inet lab post ip saddr {subnet}.0/24 oifname internet masquerade {nat.value}\n"
        f"add rule inet lab post ip6 saddr {subnet6}/64 oifname internet masquerade {nat.value}\n"
    )


def _ruleset(subnet: str, octet: int, nat: Nat, forwards: Sequence[str]) -> str:
    subnet6 = subnet.replace(".", ":") + "::"
    lines = [
        "table inet lab {",
        "  chain input { type filter hook input priority 0; policy drop;",
        "    iif lo accept",
        "    ct state established,related accept",
        "    meta l4proto { icmp, icmpv6 } accept",
        "  }",
        "  chain forward { type filter hook forward priority 0; policy accept; }",
        "  chain pre { type nat hook prerouting priority -100;",
    ]
    for forward in forwards:
        protocol, ports = forward.split("/")
        lines.append(f"    ip daddr {PUBLIC4}{octet} {protocol} dport {ports} dnat ip to {subnet}.100")
        lines.append(f"    ip6 daddr {PUBLIC6}{octet} {protocol} dport {ports} dnat ip6 to {subnet6}100")
    lines += [
        "  }",
        "  chain post { type nat hook postrouting priority 100; }",
        "}",
        _masquerade(subnet, nat),
    ]
    return "\n".join(lines)
