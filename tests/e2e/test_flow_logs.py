"""Flow records of both ends: over relays, while the portal is away, over a crash, and with a full disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import REPORTS_FLOWS
from wardgate.lab import Nat
from wardgate.lab.host import Host, wait_until
from wardgate.lab.installation import TEN_MEGABYTES, TEN_MEGABYTES_SHA256, WEB4, Installation

BY_NAME = f"http://download.httpbin/bytes?num={TEN_MEGABYTES}"
REPORTED_S = (
    60.0  # 5 s until a closed flow ends, 2 s until the next upload; the rest is room for a busy machine
)
SPOOL = "gateway/flow_logs"


@pytest.fixture
def reporting(installation: Callable[..., Installation]) -> Installation:
    """Symmetric NATs on both sides, and a portal that wants reports every other second."""
    return installation(
        client_nat=Nat.SYMMETRIC,
        gateway_nat=Nat.SYMMETRIC,
        portal_settings=REPORTS_FLOWS,
    )


def test_s14_n02_both_ends_report_a_download_over_relays_and_n01_over_one(reporting: Installation) -> None:
    done = reporting.fetch(BY_NAME, timeout_s=60)
    assert (done.error, done.sha256) == (None, TEN_MEGABYTES_SHA256)
    client, gateway = reported(reporting, "download")
    for flow in (client, gateway):
        assert (flow["protocol"], flow["inner_dst_port"]) == ("tcp", 80)
        assert flow["inner_domain"] == "download.httpbin"
        assert flow["resource_name"] == "download"
        assert flow["initiator_actor_name"] == "build-server"
        assert flow["rx_bytes"] >= TEN_MEGABYTES
        assert 0 < flow["tx_bytes"] < 10_000
        assert flow["outers"], "a relayed path is a path"
    assert client["inner_src_ip"] == gateway["inner_src_ip"]
    assert (client["inner_dst_ip"][:7], gateway["inner_dst_ip"]) == ("100.96.", "172.21.0.101")
    relays = {site.public4 for site in reporting.relay_sites}
    ends = {site.public4 for site in (reporting.client_site, reporting.gateway_site)}
    seen = {
        outer[name]
        for flow in (client, gateway)
        for outer in flow["outers"]
        for name in ("src_ip", "dst_ip")
        if outer.get(name)
    }
    assert seen & relays, "two symmetric NATs meet at a relay"
    assert not seen & ends

    reporting.restart_ends(client_nat=Nat.SYMMETRIC)
    assert reporting.fetch(f"http://{WEB4}/bytes?num={TEN_MEGABYTES}", timeout_s=60).error is None
    client, gateway = reported(reporting, "network")
    assert client["rx_bytes"] >= TEN_MEGABYTES
    assert gateway["rx_bytes"] >= TEN_MEGABYTES
    assert (client["inner_dst_ip"], client.get("inner_domain")) == (WEB4, None)
    # The command line shows what the API lists.
    printed = reporting.wardgate(
        reporting.portal_site.host,
        *("admin", "logs", "list", "--type", "flow"),
        environment={"WARDGATE_URL": "http://portal:8080", "WARDGATE_TOKEN": reporting.api.token},
    )
    assert "download" in printed


def test_records_outlive_the_portals_absence_a_crash_and_a_full_disk(reporting: Installation) -> None:
    host = reporting.gateway_site.host
    spool = host.directory / "lib" / SPOOL
    assert reporting.fetch(f"http://{WEB4}/get", timeout_s=60).error is None
    reported(reporting, "network")
    reporting.stop_portal()
    assert reporting.fetch(f"http://{WEB4}/bytes?num=54321").error is None
    wait_until(lambda: len(records(spool)) >= 2, "start and end on the disk", limit_s=REPORTED_S)
    reporting.gateway.kill()
    reporting.start_portal()
    reporting.start_gateway()
    wait_until(lambda: reporting.gateway_online() and reporting.client_online(), "everyone back", limit_s=60)
    wait_until(
        lambda: any((one["rx_bytes"] or 0) >= 54321 for one in flows(reporting, "responder")),
        "what the gateway saw before it was killed",
        limit_s=REPORTED_S,
    )
    wait_until(lambda: not records(spool), "nothing left on the disk", limit_s=REPORTED_S)

    reporting.gateway.stop()
    host.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", f"/var/lib/wardgate/{SPOOL}")
    reporting.start_gateway()
    wait_until(reporting.gateway_online, "gateway back", limit_s=60)
    assert reporting.fetch(f"http://{WEB4}/get", timeout_s=60).error is None
    host.run("sh", "-c", f"cat /dev/zero > /var/lib/wardgate/{SPOOL}/filler || true")
    for _ in range(3):
        assert reporting.fetch(f"http://{WEB4}/get").error is None
    said = "flow records cannot be kept and are lost"
    wait_until(lambda: said in reporting.gateway.log(), "the full disk in the log", limit_s=REPORTED_S)
    host.run("rm", f"/var/lib/wardgate/{SPOOL}/filler")
    assert reporting.fetch(f"http://{WEB4}/get").error is None
    again = "flow records are kept again"
    wait_until(lambda: again in reporting.gateway.log(), "room again in the log", limit_s=REPORTED_S)
    assert reporting.gateway.log().count(said) == 1


def test_s18_a_flow_survives_a_change_of_network_and_tells_both_paths(
    cone: Installation, tmp_path: Path
) -> None:
    """The program only receives: the client asks for the way again by itself."""
    port, size, file = 8018, 2_000_000, tmp_path / "download"
    cone.start_web_server(port)
    site = cone.client_site
    old, new = site.address, site.address.removesuffix("100") + "200"
    url = f"http://{WEB4}:{port}/slow?num={size}&rate=300000"
    download = site.host.start("roaming", "curl", "-fsS", "--no-keepalive", "-o", str(file), url)
    wait_until(lambda: file.exists() and file.stat().st_size > size / 10, "the download running", limit_s=60)
    take_addresses(site.host)
    time.sleep(3)  # away, as the scenario has it
    try:
        give_address(site.host, new)
        assert download.wait(timeout_s=120) == 0, download.log()
        assert file.read_bytes() == bytes(size)
        (flow,) = ended_flows(cone, "responder", port)
        assert len({(outer["src_ip"], outer["src_port"]) for outer in flow["outers"]}) >= 2
    finally:
        take_addresses(site.host)
        give_address(site.host, old)
        wait_until(cone.client_online, "client online", limit_s=60)


def test_s20_three_names_of_one_server_are_reached_from_one_port(cone: Installation) -> None:
    port, host = 8020, cone.client_site.host
    cone.start_web_server(port)
    sizes = {"download.httpbin": 5_000_000, "alias.httpbin": 7_000_000, "alias2.httpbin": 9_000_000}
    proxies = {name: host.run("getent", "ahostsv4", name).split()[0] for name in sizes}
    host.sysctl(ipv4__ip_local_port_range="5555 5555")
    try:
        downloads = {
            name: cone.fetch_in_background(f"http://{proxies[name]}:{port}/bytes?num={size}", timeout_s=60)
            for name, size in sizes.items()
        }
        for name, download in downloads.items():
            done = download.wait(limit_s=120)
            assert (done.error, done.bytes) == (None, sizes[name])
    finally:
        host.sysctl(ipv4__ip_local_port_range="32768 60999")
    seen = {flow["inner_domain"]: flow for flow in ended_flows(cone, "responder", port, count=3)}
    assert seen.keys() == sizes.keys()
    for name, size in sizes.items():
        assert size <= seen[name]["rx_bytes"] <= size + 1_000_000
        assert seen[name]["inner_dst_ip"] == "172.21.0.101"
    assert len({flow["inner_src_port"] for flow in seen.values()}) == len(sizes), (
        "the gateway tells them apart"
    )
    asked = ended_flows(cone, "initiator", port, count=3)
    assert {flow["inner_src_port"] for flow in asked} == {5555}


def test_s21_a_download_that_is_reset_is_accounted_for(cone: Installation) -> None:
    port = 8021
    cone.start_web_server(port)
    url = f"http://download.httpbin:{port}/bytes?num=100000000"
    cone.client_site.host.run("sh", "-c", f"curl -s {url} | head -c 1000000 | wc -c", timeout_s=60)
    (flow,) = ended_flows(cone, "responder", port)
    assert flow["inner_dst_ip"] == "172.21.0.101"
    assert flow["rx_bytes"] >= 500_000


def give_address(host: Host, address: str) -> None:
    """As a DHCP server does: both families, and the ways to the public segment."""
    subnet4, _, octet = address.rpartition(".")
    subnet6 = subnet4.replace(".", ":") + "::"
    host.run("ip", "link", "set", "eth0", "up")
    host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
    host.run("ip", "address", "add", f"{subnet6}{octet}/64", "dev", "eth0", "nodad")
    host.run("ip", "route", "replace", "203.0.113.0/24", "via", f"{subnet4}.254")
    host.run("ip", "route", "replace", "203:0:113::/64", "via", f"{subnet6}254")


def take_addresses(host: Host) -> None:
    """Unplug the cable, and forget what was given."""
    host.run("ip", "link", "set", "eth0", "down")
    host.run("ip", "address", "flush", "dev", "eth0")


def ended_flows(lab: Installation, role: str, port: int, *, count: int = 1) -> list[dict[str, Any]]:
    """What one end says of the flows to a port, once that many have ended."""

    def ended() -> list[dict[str, Any]]:
        return [one for one in flows(lab, role) if one["inner_dst_port"] == port and one["flow_end"]]

    wait_until(lambda: len(ended()) >= count, f"{count} flows to port {port}", limit_s=REPORTED_S)
    return ended()


def reported(lab: Installation, resource: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What client and gateway say of a flow to a resource that has ended."""

    def ended(role: str) -> list[dict[str, Any]]:
        return [one for one in flows(lab, role) if one["resource_name"] == resource and one["flow_end"]]

    wait_until(lambda: ended("initiator") and ended("responder"), f"flows to {resource}", limit_s=REPORTED_S)
    return ended("initiator")[0], ended("responder")[0]


def flows(lab: Installation, role: str) -> list[dict[str, Any]]:
    """Newest first."""
    return [one for one in lab.api.get("/logs?type=flow") if one["role"] == role]


def records(spool: Path) -> list[Path]:
    return list(spool.glob("*/*/*.json"))
