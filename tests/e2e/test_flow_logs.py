"""Flow records of both ends: over relays, while the portal is away, over a crash, and with a full disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wardgate.lab import Nat
from wardgate.lab.host import wait_until
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
        portal_settings={
            "WARDGATE_EXTERNAL_URL": "http://portal:8080",
            "WARDGATE_FLOW_LOG_UPLOAD_INTERVAL": "2s",
        },
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
