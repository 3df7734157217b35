"""Forwarding on a gateway's host: sysctls, and accept and masquerade rules in an nftables table of our own (data-plane §5.7).

The table is replaced in one transaction and deleted at the end; nobody else's rules are touched. What it cannot do is
overrule a *drop* of another table's forward chain, since each base chain decides for itself; then the operator has to accept
traffic of the interface there.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from wardgate.model.addresses import TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.net.errors import HostRefused

_SYSCTLS: Final = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/src_valid_mark": "1",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
}

log = logging.getLogger(__name__)


class Firewall:
    """The table `inet <name>` for one TUN interface."""

    def __init__(self, *, table: str, interface: str, proc_sys: Path = Path("/proc/sys")) -> None:
        self._table = table
        self._interface = interface
        self._proc_sys = proc_sys

    async def install(self) -> None:
        """Enable forwarding and load the rules.

        Raises:
            HostRefused: `nft` is missing or refused the rules.
        """
        self._enable_forwarding()
        await _nft(ruleset(self._table, self._interface))
        log.info("forwarding and masquerading are set up", extra={"table": self._table})

    async def remove(self) -> None:
        """Delete the table; forwarding stays on, since others may rely on it by now."""
        await _nft(f"add table inet {self._table}\ndelete table inet {self._table}\n")

    def _enable_forwarding(self) -> None:
        for key, value in _SYSCTLS.items():
            path = self._proc_sys / key
            try:
                if path.read_text(encoding="ascii").strip() != value:
                    path.write_text(value, encoding="ascii")
            except OSError as error:
                # Containers get these from their runtime and see /proc/sys read-only.
                log.warning(
                    "cannot set a sysctl; packets may not be forwarded",
                    extra={"sysctl": key.replace("/", "."), "value": value, "error": error.strerror},
                )


def ruleset(table: str, interface: str) -> str:
    """The complete table as one nft transaction; loading it twice leaves the same rules."""
    return f"""\
add table inet {table}
delete table inet {table}
table inet {table} {{
    chain forward {{
        type filter hook forward priority filter - 10; policy accept;
        iifname "{interface}" accept
        oifname "{interface}" accept
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {TUNNEL_IPV4} oifname != "{interface}" masquerade
        ip6 saddr {TUNNEL_IPV6} oifname != "{interface}" masquerade
    }}
}}
"""


async def _nft(rules: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "nft",
            "-f",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise HostRefused(
            "the command nft is missing; install nftables (Debian: apt-get install nftables)"
        ) from error
    _, complaint = await process.communicate(rules.encode())
    if process.returncode != 0:
        reason = complaint.decode(errors="replace").strip().partition("\n")[0]
        raise HostRefused(f"nft refused the gateway's rules: {reason}")
