"""Flow records of both ends: while the portal is away, over a crash, with a full disk, and over a change of network.

Those of relayed paths are looked at where the paths are (`test_paths.py`).
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from e2e.on_hosts import REPORTED_S, ended_flows, give_address, ok, take_addresses
from wardgate.lab.host import Stopwatch, wait_until
from wardgate.lab.installation import WEB4, Installation

SPOOL = "gateway/flow_logs"
MOVED_S = 2.0
"""From the first packet that wants the new way to the handshake over it."""


@pytest.mark.logs(r"gateway on gateway: flow records cannot be kept and are lost")
def test_records_outlive_the_portals_absence_a_crash_and_a_full_disk(cone: Installation) -> None:
    port, host = 8017, cone.gateway_site.host
    url = f"http://{WEB4}:{port}"
    spool = host.directory / "lib" / SPOOL
    cone.start_web_server(port)
    ok(cone.fetch(f"{url}/get", timeout_s=60))
    (flow,) = ended_flows(cone, "responder", port)
    assert (flow["inner_dst_ip"], flow["inner_domain"], flow["resource_name"]) == (WEB4, None, "network")
    printed = cone.wardgate(
        cone.portal_site.host,
        *("admin", "logs", "list", "--type", "flow"),
        environment={"WARDGATE_URL": "http://portal:8080", "WARDGATE_TOKEN": cone.api.token},
    )
    assert "network" in printed, "the command line shows what the API lists"
    wait_until(lambda: not records(spool), "nothing on the disk", limit_s=REPORTED_S)
    cone.stop_portal()
    ok(cone.fetch(f"{url}/bytes?num=54321"))
    wait_until(lambda: has_end_of(port, spool), "the end on the disk", limit_s=REPORTED_S)
    cone.gateway.kill()
    cone.mend()
    (_, kept) = sorted(
        ended_flows(cone, "responder", port, count=2), key=lambda one: int(one["rx_bytes"] or 0)
    )
    assert kept["rx_bytes"] >= 54321, "what the gateway saw before it was killed"
    wait_until(lambda: not records(spool), "nothing left on the disk", limit_s=REPORTED_S)

    cone.gateway.stop()
    place = f"/var/lib/wardgate/{SPOOL}"
    host.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", place)
    try:
        cone.mend()
        ok(cone.fetch(f"{url}/get", timeout_s=60))
        lost, kept_again = "flow records cannot be kept and are lost", "flow records are kept again"

        def is_lost() -> bool:
            """What is uploaded meanwhile leaves room for one more record: take that as well."""
            host.run("sh", "-c", f"cat /dev/zero >> {place}/filler || true")
            ok(cone.fetch(f"{url}/get"))
            return lost in cone.gateway.log()

        wait_until(is_lost, "the full disk in the log", limit_s=REPORTED_S, every_s=0.5)
        host.run("rm", f"{place}/filler")
        ok(cone.fetch(f"{url}/get"))
        wait_until(
            lambda: 0 < cone.gateway.log().count(lost) == cone.gateway.log().count(kept_again),
            "room again in the log, once for each time it was full",
            limit_s=REPORTED_S,
        )
    finally:
        cone.gateway.stop()
        host.run("umount", place)


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
        back = Stopwatch()
        give_address(site.host, new)
        assert download.wait(timeout_s=120) == 0, download.log()
        stalled_s = back.stalled_seconds()
        assert file.read_bytes() == bytes(size)
        (flow,) = ended_flows(cone, "responder", port)
        assert len({(outer["src_ip"], outer["src_port"]) for outer in flow["outers"]}) >= 2
        assert {outer["src_port"] for outer in flow["outers"]} != {52625}, "one path only"
        *_, took = re.findall(r"connection established .*\btook_s=([\d.]+)", cone.client.log())
        assert float(took) <= MOVED_S + stalled_s
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
            assert ok(download.wait(limit_s=120)).bytes == sizes[name]
    finally:
        host.sysctl(ipv4__ip_local_port_range="32768 60999")
    ended = ended_flows(cone, "responder", port, count=3)
    seen = {flow["inner_domain"]: flow for flow in ended}
    assert len(ended) == len(sizes)
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


def records(spool: Path) -> list[Path]:
    return list(spool.glob("*/*/*.json"))


def has_end_of(port: int, spool: Path) -> bool:
    """Tell whether the end of a flow to this port lies there; flows of scenes before may end meanwhile."""
    kept = [json.loads(file.read_text())["payload"] for file in records(spool)]
    return any(one["inner_dst_port"] == port and "flow_end" in one for some in kept for one in some)
