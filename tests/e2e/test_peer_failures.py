"""Peers that cannot do their work say so in one line and exit with 1; peers that were killed start again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from uuid import uuid4

import pytest

from wardgate.lab.host import Host, wait_until
from wardgate.lab.installation import WEB4, Installation
from wardgate.model.ids import TokenId
from wardgate.wire.tokens import TokenKind, mint_fragment

V4 = f"http://{WEB4}/get"
PORTAL = {"WARDGATE_API_URL": "ws://portal:8080"}


def complaint(host: Host, kind: str, environment: Mapping[str, str], limit_s: float = 10) -> str:
    """Start a peer that is bound to fail; its only line."""
    process = host.start(
        f"failing-{kind}-{uuid4()}", sys.executable, "-m", "wardgate.cli.main", kind, environment=environment
    )
    assert process.wait(limit_s) == 1
    [line] = [line for line in process.log().splitlines() if not line.startswith("20")]
    assert line.startswith("wardgate: ")
    return line


def forged(kind: TokenKind) -> str:
    return mint_fragment(kind, account_id=None, token_id=TokenId(uuid4()), secret=b"s" * 32, key=b"k" * 32)


@pytest.mark.parametrize(
    ("kind", "token"),
    [("gateway", TokenKind.GATEWAY), ("client", TokenKind.CLIENT), ("relay", TokenKind.RELAY)],
)
def test_a_token_that_the_portal_does_not_know_ends_a_peer(
    cone: Installation, kind: str, token: TokenKind
) -> None:
    settings = {
        **PORTAL,
        "WARDGATE_TOKEN": forged(token),
        "WARDGATE_DNS_CONTROL": "disabled",
        "PUBLIC_IP4_ADDR": "203.0.113.33",
    }

    # On a host without a peer of the same kind, which would hold interface, ports and health address.
    host = cone.client_site.host if kind == "relay" else cone.relay_sites[0].host

    assert "make a new one" in complaint(host, kind, settings)


def test_an_interface_in_use_names_the_flag(cone: Installation) -> None:
    settings = {**PORTAL, "WARDGATE_TOKEN": forged(TokenKind.GATEWAY)}

    assert "--interface" in complaint(cone.gateway_site.host, "gateway", settings)


def test_a_relay_port_in_use_names_the_flag(cone: Installation) -> None:
    settings = {**PORTAL, "WARDGATE_TOKEN": forged(TokenKind.RELAY), "PUBLIC_IP4_ADDR": "203.0.113.33"}

    assert "--listen-port" in complaint(cone.relay_sites[0].host, "relay", settings)


def test_a_server_that_is_no_portal_is_given_up(cone: Installation) -> None:
    settings = {
        "WARDGATE_API_URL": f"http://{WEB4}",
        "WARDGATE_TOKEN": forged(TokenKind.RELAY),
        "PUBLIC_IP4_ADDR": "203.0.113.33",
    }

    assert "cannot reach the portal" in complaint(cone.web, "relay", settings, limit_s=40)


def test_a_killed_client_starts_again_and_gives_the_resolver_back_in_the_end(cone: Installation) -> None:
    resolv_conf = cone.client_site.host.etc / "resolv.conf"
    assert cone.fetch(V4).error is None
    cone.client.signal(signal.SIGKILL)
    cone.client.wait(timeout_s=30)
    assert "100.100.111." in resolv_conf.read_text(), "nobody was there to put the original back"
    cone.start_client()
    wait_until(cone.client_online, "the client online", limit_s=45)
    assert cone.fetch(V4).error is None
    assert cone.fetch("http://app.internal.example/get").error is None
    assert cone.client.stop() == 0
    assert resolv_conf.read_text() == "nameserver 203.0.113.53\n"
    assert "fwmark" not in cone.client_site.host.run("ip", "rule")


def test_a_stopped_gateway_takes_its_firewall_rules_along(cone: Installation) -> None:
    host = cone.gateway_site.host
    before = host.run("nft", "list", "ruleset")
    assert cone.gateway.stop() == 0

    assert "masquerade" in before
    assert "wardgate" not in host.run("nft", "list", "ruleset")
