"""What several scenes do on the lab's hosts: look, wait, unplug and plug in."""

from __future__ import annotations

from typing import Any, Final

from wardgate.lab.host import CommandFailed, Host, wait_until
from wardgate.lab.installation import Download, Installation
from wardgate.lab.internet import Site

BACK_WITHIN_S: Final = 30.0
"""The product's 5 s until a host's changes are undone (tests/unit/net/test_host_changes.py), and room for a busy
machine.
"""
REPORTED_S: Final = 60.0
"""5 s until a closed flow ends, 2 s until the next upload; the rest is room for a busy machine."""
AT_ONCE_S: Final = 1.0
"""Within which an end of access is felt; measured with `Stopwatch`."""


def bus_settings(socket: str) -> str:
    """Settings of a message bus that trusts everybody, listening at this path."""
    return f"""<busconfig><type>session</type><listen>unix:path={socket}</listen>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_sender="*"/></policy></busconfig>
"""


def succeeds(host: Host, *command: str) -> bool:
    try:
        host.run(*command)
    except CommandFailed:
        return False
    return True


def output(host: Host, *command: str) -> str:
    """What a command prints, whether it succeeds or not."""
    return host.run(*command, check=False)


def listens(host: Host, port: int) -> bool:
    """Whether a program listens on a TCP port."""
    return bool(output(host, "ss", "-Htln", f"sport = :{port}").strip())


def ok(download: Download) -> Download:
    assert download.error is None
    return download


def reached(lab: Installation, url: str, *, site: Site | None = None) -> bool:
    """Tell whether it is, within a host's time to be back."""
    try:
        wait_until(lambda: lab.fetch(url, 2, site).bytes > 0, f"an answer from {url}", BACK_WITHIN_S)
    except TimeoutError:
        return False
    return True


def take_addresses(host: Host) -> None:
    """Unplug the cable, and forget what was given."""
    host.run("ip", "link", "set", "eth0", "down")
    host.run("ip", "address", "flush", "dev", "eth0")


def give_address(host: Host, address: str) -> None:
    """As a DHCP server does: both families, and the ways to the public segment."""
    subnet4, _, octet = address.rpartition(".")
    subnet6 = subnet4.replace(".", ":") + "::"
    host.run("ip", "link", "set", "eth0", "up")
    host.run("ip", "address", "replace", f"{address}/24", "dev", "eth0")
    host.run("ip", "address", "replace", f"{subnet6}{octet}/64", "dev", "eth0", "nodad")
    host.run("ip", "route", "replace", "203.0.113.0/24", "via", f"{subnet4}.254")
    host.run("ip", "route", "replace", "203:0:113::/64", "via", f"{subnet6}254")


def ended_flows(lab: Installation, role: str, port: int, *, count: int = 1) -> list[dict[str, Any]]:
    """What one end, `initiator` or `responder`, says of the flows to a port, once that many have ended.

    The lab is shared: it must be a port that no other scene fetches from.
    """

    def ended() -> list[dict[str, Any]]:
        return [one for one in flows(lab, role) if one["inner_dst_port"] == port and one["flow_end"]]

    wait_until(
        lambda: len(ended()) >= count, f"{count} flows to port {port}", limit_s=REPORTED_S, every_s=0.2
    )
    return ended()


def flows(lab: Installation, role: str) -> list[dict[str, Any]]:
    """The last hundred records of one end, newest first."""
    return [one for one in lab.api.get("/logs?type=flow&limit=100") if one["role"] == role]
