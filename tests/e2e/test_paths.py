"""Paths: symmetric NATs, relays, loss, a relay that dies, and ends that share no address family.

What the gateway and the client say of each download is looked at, too: one flow, its name, its bytes, its paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from e2e.on_hosts import ended_flows, give_address, ok
from wardgate.lab import Nat
from wardgate.lab.host import Host, wait_until
from wardgate.lab.installation import TEN_MEGABYTES, TEN_MEGABYTES_SHA256, WEB4, WEB6, Download, Installation
from wardgate.lab.internet import Site

_LOSS = """table inet loss {
 chain forwarded {
  type filter hook forward priority 0;
  iifname internal numgen random mod 5 == 0 counter drop
 }
}
"""


def test_s14_download_double_symmetric_nat(cone: Installation) -> None:
    url = by_name(cone, 8014)
    cone.relays["relay-2"].kill()
    wait_until(lambda: len(cone.operator.get("/wardgate/relays")) == 1, "one relay", limit_s=45)
    cone.restart_ends(client_nat=Nat.SYMMETRIC, gateway_nat=Nat.SYMMETRIC)
    before = cone.relayed_bytes(cone.gateway_site)
    whole(cone.fetch(url, timeout_s=30))
    assert used_since(cone, before, cone.gateway_site)["relay-1"] > TEN_MEGABYTES
    seen = reported_addresses(cone, 8014)
    assert cone.relay_sites[0].public4 in seen
    assert not seen & {site.public4 for site in (cone.client_site, cone.gateway_site)}


@pytest.fixture
def lossy(cone: Installation) -> Iterator[Host]:
    """The client's router, which loses each fifth frame that comes from the client; a frame is one packet."""
    offloads = ("tx-udp-segmentation", "tso", "gso")
    cone.client_site.host.run("ethtool", "-K", "eth0", *(word for one in offloads for word in (one, "off")))
    cone.client_site.router.run("nft", "-f", "-", text=_LOSS)
    yield cone.client_site.router
    cone.client_site.router.run("nft", "delete", "table", "inet", "loss")
    cone.client_site.host.run("ethtool", "-K", "eth0", *(word for one in offloads for word in (one, "on")))


def test_s16_download_packet_loss(cone: Installation, lossy: Host) -> None:
    url = by_name(cone, 8016)
    cone.restart_ends()
    whole(cone.fetch(url, timeout_s=30))
    (lost,) = re.findall(r"counter packets (\d+) .* drop", lossy.run("nft", "list", "table", "inet", "loss"))
    assert int(lost) > 0


def test_n01_symmetric_client_uses_one_relay(cone: Installation) -> None:
    url = by_name(cone, 8101)
    cone.restart_ends(client_nat=Nat.SYMMETRIC)
    before, direct_before = cone.relayed_bytes(cone.gateway_site), cone.direct_bytes()
    whole(cone.fetch(url, timeout_s=30))
    used = used_since(cone, before, cone.gateway_site)
    (relay,) = [relay for relay, count in used.items() if count > TEN_MEGABYTES]
    assert cone.direct_bytes() - direct_before < 100_000
    assert relay in cone.relays
    assert cone.client_site.public4 not in reported_addresses(cone, 8101)


def test_n02_n03_double_symmetric_with_two_relays_of_which_one_dies(cone: Installation) -> None:
    url = by_name(cone, 8102)
    cone.restart_ends(client_nat=Nat.SYMMETRIC, gateway_nat=Nat.SYMMETRIC)
    whole(cone.fetch(url, timeout_s=30))
    assert reported_addresses(cone, 8102) & {site.public4 for site in cone.relay_sites}
    before = cone.relayed_bytes()
    download = cone.fetch_in_background(f"http://{WEB4}/slow?num=10000000&rate=2000000", timeout_s=30)
    wait_until(lambda: max(used_since(cone, before).values()) > 3_000, "the download running", limit_s=45)
    used = used_since(cone, before)
    cone.relays[max(used, key=lambda relay: used[relay])].kill()
    done = ok(download.wait(limit_s=90))
    assert done.bytes == TEN_MEGABYTES
    assert done.longest_gap_s < 15


def test_n06_ends_of_one_family_meet_directly_or_at_a_relay_that_has_both(cone: Installation) -> None:
    """A client with IPv6 only; the gateway has both families first, and then IPv4 only."""
    client, gateway = cone.client_site, cone.gateway_site
    cone.client.stop()
    client.host.run("ip", "-4", "address", "flush", "dev", "eth0")
    try:
        cone.mend()
        before = cone.direct_bytes()
        for url in (f"http://{WEB4}/get", f"http://[{WEB6}]/get"):
            ok(cone.fetch(url))
        whole(cone.fetch(by_name(cone, 8105), timeout_s=30))
        assert cone.direct_bytes() - before > TEN_MEGABYTES
        assert gateway.public6 in reported_addresses(cone, 8105)

        cone.gateway.stop()
        gateway.host.run("ip", "-6", "address", "flush", "dev", "eth0", "scope", "global")
        cone.mend()
        before_relayed = cone.relayed_bytes(gateway)
        for url in (f"http://{WEB4}/get", f"http://[{WEB6}]/get"):
            ok(cone.fetch(url))
        whole(cone.fetch(by_name(cone, 8106), timeout_s=30))
        used = used_since(cone, before_relayed, gateway)
        assert max(used.values()) > TEN_MEGABYTES
        # Each end may have asked another relay, and each direction may go by another one.
        relays = {one for site in cone.relay_sites for one in (site.public4, site.public6)}
        assert relays & reported_addresses(cone, 8106)
    finally:
        for process, site in ((cone.client, client), (cone.gateway, gateway)):
            process.stop()
            give_address(site.host, site.address)
    cone.mend()


def by_name(lab: Installation, port: int) -> str:
    """Ten megabytes of a web server whose port tells this scene's flows from others."""
    lab.start_web_server(port)
    return f"http://download.httpbin:{port}/bytes?num={TEN_MEGABYTES}"


def reported_addresses(lab: Installation, port: int) -> set[str]:
    """Look at what both ends say of the one download by name; the addresses of its outer packets."""
    (client,) = ended_flows(lab, "initiator", port)
    (gateway,) = ended_flows(lab, "responder", port)
    for flow in (client, gateway):
        assert (flow["protocol"], flow["inner_domain"]) == ("tcp", "download.httpbin")
        assert (flow["resource_name"], flow["initiator_actor_name"]) == ("download", "build-server")
        assert flow["rx_bytes"] >= TEN_MEGABYTES
        assert 0 < flow["tx_bytes"] < 10_000
        assert flow["outers"], "a relayed path is a path"
    assert client["inner_src_ip"] == gateway["inner_src_ip"]
    assert (client["inner_dst_ip"][:7], gateway["inner_dst_ip"]) == ("100.96.", "172.21.0.101")
    outers = [outer for flow in (client, gateway) for outer in flow["outers"]]
    return {outer[name] for outer in outers for name in ("src_ip", "dst_ip") if outer.get(name)}


def whole(download: Download) -> None:
    assert download.error is None
    assert download.sha256 == TEN_MEGABYTES_SHA256


def used_since(lab: Installation, before: dict[str, int], site: Site | None = None) -> dict[str, int]:
    return {relay: count - before[relay] for relay, count in lab.relayed_bytes(site).items()}
