"""What the data plane lives on is taken away, or is narrower than it might be."""

from __future__ import annotations

import pytest

from wardgate.lab import Nat
from wardgate.lab.host import Process
from wardgate.lab.installation import TEN_MEGABYTES, TEN_MEGABYTES_SHA256, WEB4, Installation

BY_NAME = f"http://download.httpbin/bytes?num={TEN_MEGABYTES}"


@pytest.mark.may_log(
    r"\w+ on \w+: the host refuses a setting"
)  # if the settings are looked at in that moment
@pytest.mark.parametrize("kind", ["gateway", "client"])
def test_a_peer_whose_interface_was_deleted_ends_with_one_line(cone: Installation, kind: str) -> None:
    assert cone.fetch(f"http://{WEB4}/get").error is None
    process: Process = cone.gateway if kind == "gateway" else cone.client
    site = cone.gateway_site if kind == "gateway" else cone.client_site
    interface = "wardgate-gw" if kind == "gateway" else "wardgate"
    site.host.run("ip", "link", "delete", interface)

    assert process.wait(timeout_s=30) == 1
    [line] = [line for line in process.log().splitlines() if not line.startswith("20")]
    assert line.startswith("wardgate: packets no longer pass: the TUN device is gone")


@pytest.mark.parametrize("nat", [Nat.CONE, Nat.SYMMETRIC], ids=["direct", "relayed"])
def test_full_packets_pass_a_path_of_mtu_1280(cone: Installation, nat: Nat) -> None:
    site = cone.client_site
    ends = ((site.host, "eth0"), (site.router, "internal"))
    for host, interface in ends:
        host.run("ip", "link", "set", interface, "mtu", "1280")
    try:
        cone.restart_ends(client_nat=nat, gateway_nat=nat)
        download = cone.fetch(BY_NAME, timeout_s=30)
    finally:
        for host, interface in ends:
            host.run("ip", "link", "set", interface, "mtu", "1500")

    assert download.error is None
    assert download.sha256 == TEN_MEGABYTES_SHA256
