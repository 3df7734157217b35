"""What the running processes tell about themselves, asked on their own hosts."""

from __future__ import annotations

import json

from wardgate.lab.installation import Installation

APP = "app.internal.example"


def test_a_client_tells_its_resources_paths_and_reasons(cone: Installation) -> None:
    assert cone.fetch(f"http://{APP}/get").error is None
    host = cone.client_site.host
    (status,) = json.loads(cone.wardgate(host, "status", "client", "--json"))
    assert (status["is_connected"], status["is_ready"], status["dns"]["method"]) == (
        True,
        True,
        "etc-resolv-conf",
    )
    assert status["relays"]
    gateways = {one["gateway_id"] for one in status["resources"]} - {None}
    (connection,) = [one for one in status["connections"] if one["peer_id"] in gateways]
    assert (connection["path"], connection["is_established"]) == ("direct", True)
    assert connection["connected_s"] is not None
    figures = connection["figures"]
    assert figures["received_bytes"] > 0 < figures["sent_bytes"]
    assert (figures["handshake_age_s"] is not None, figures["missing_messages"]) == (True, 0)
    (used,) = (pair for pair in figures["checks"] if pair["is_used"])
    assert used["answered"] > 0 < used["round_trip_ms"]
    assert [one for one in figures["checks"] if not one["answered"]], (
        "the gateway's private address is tried, too"
    )

    granted = json.loads(cone.wardgate(host, "why", f"{APP}:80", "--json"))
    assert granted["outcome"] == "authorized"
    assert all(address.startswith(("100.", "fd00:2021:1111:")) for address in granted["dns"])
    assert "dev wardgate" in granted["route"]
    assert "no resource that you are offered" in cone.wardgate(host, "why", "203.0.113.80", check=False)


def test_a_gateway_tells_whom_it_serves(cone: Installation) -> None:
    assert cone.fetch(f"http://{APP}/get").error is None
    (status,) = json.loads(cone.wardgate(cone.gateway_site.host, "status", "gateway", "--json"))
    assert [one["path"] for one in status["connections"] if one["is_established"]] == ["direct"]
    assert status["grants"]
    assert status["host"]
