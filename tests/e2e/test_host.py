"""A host is taken as it is: real peers on hosts whose state others change, or that differ from the lab's
(docs/host.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.on_hosts import BACK_WITHIN_S, ended_flows, ok, reached
from wardgate.lab.host import Host, wait_until
from wardgate.lab.installation import TEN_MEGABYTES, TEN_MEGABYTES_SHA256, WEB4, WEB6, Installation

NETWORK = f"http://{WEB4}/"
NETWORK6 = f"http://[{WEB6}]/"
NAME = "http://app.internal.example/"
_AS_DOCKER = """table ip filter {
 chain DOCKER-USER {
  counter return
 }
 chain DOCKER-ISOLATION-STAGE-2 {
  oifname "docker0" counter drop
  counter return
 }
 chain DOCKER-ISOLATION-STAGE-1 {
  iifname "docker0" oifname != "docker0" counter jump DOCKER-ISOLATION-STAGE-2
  counter return
 }
 chain DOCKER {
 }
 chain FORWARD {
  type filter hook forward priority 0; policy drop;
  counter jump DOCKER-USER
  counter jump DOCKER-ISOLATION-STAGE-1
  oifname "docker0" ct state related,established counter accept
  oifname "docker0" counter jump DOCKER
  iifname "docker0" oifname != "docker0" counter accept
  iifname "docker0" oifname "docker0" counter accept
 }
}
table ip nat {
 chain DOCKER {
  iifname "docker0" counter return
 }
 chain PREROUTING {
  type nat hook prerouting priority -100; policy accept;
  fib daddr type local counter jump DOCKER
 }
 chain POSTROUTING {
  type nat hook postrouting priority 100; policy accept;
  ip saddr 172.17.0.0/16 oifname != "docker0" counter masquerade
 }
}
"""
"""What dockerd leaves at its start, by way of iptables-nft."""


@pytest.mark.may_log(r"gateway on gateway: somebody else changed a setting of the host; it was put back")
def test_masquerading_and_forwarding_survive_a_flush(cone: Installation) -> None:
    gateway = cone.gateway_site.host
    gateway.sysctl(ipv4__ip_forward=0)
    gateway.run("nft", "flush", "ruleset")
    with without_a_route_back(cone):
        assert reached(cone, NETWORK)


@pytest.mark.may_log(r"gateway on gateway: somebody else changed a setting of the host; it was put back")
def test_dockers_forward_chain_that_drops_is_passed_and_left_as_it_was(cone: Installation) -> None:
    gateway = cone.gateway_site.host
    gateway.run("nft", "-f", "-", text=_AS_DOCKER)
    before = gateway.run("nft", "-s", "list", "table", "ip", "filter")
    try:
        assert reached(cone, NETWORK)
        cone.gateway.stop()
        after = gateway.run("nft", "-s", "list", "table", "ip", "filter")
    finally:
        for table in ("filter", "nat"):
            gateway.run("nft", "delete", "table", "ip", table)
    cone.mend()

    assert after == before


def test_a_client_beside_the_gateway_disturbs_nobody_and_works_itself(cone: Installation) -> None:
    process = cone.start_client_beside(cone.gateway_site.host, "beside-the-gateway")
    try:
        assert reached(cone, NETWORK)
        assert reached(cone, NAME)
        with without_a_route_back(cone):
            for url in (NETWORK, NETWORK6, NAME):
                assert reached(cone, url, site=cone.gateway_site)
        process.stop()
        assert reached(cone, NETWORK)
    finally:
        process.stop()


def test_strict_reverse_path_filters_do_not_cut_off_relays(cone: Installation) -> None:
    """A resource covers the addresses of portal, relays and gateway, and the kernel drops what it would send
    elsewhere.
    """
    client = cone.client_site.host
    client.sysctl(ipv4__conf__all__rp_filter=1, ipv4__conf__eth0__rp_filter=1)
    try:
        cone.make_resource("everything public", "cidr", "203.0.113.0/24")
        cone.grant("everything public")
        restart_client(cone)
        assert reached(cone, NETWORK)
        cone.client.stop()
        left = client.run("sysctl", "-n", "net.ipv4.conf.eth0.rp_filter").strip()
    finally:
        client.sysctl(ipv4__conf__all__rp_filter=0, ipv4__conf__eth0__rp_filter=0)
        cone.revoke("everything public")
        cone.mend()

    assert left == "1"


def test_s13_hosts_without_ipv6_carry_ipv4(cone: Installation) -> None:
    port, ends = 8013, (cone.client_site.host, cone.gateway_site.host)
    cone.start_web_server(port)
    cone.client.stop()
    cone.gateway.stop()
    for host in ends:
        host.sysctl(ipv6__conf__default__disable_ipv6=1)
    try:
        cone.mend()
        assert reached(cone, NETWORK)
        done = ok(cone.fetch(f"http://download.httpbin:{port}/bytes?num={TEN_MEGABYTES}"))
        assert done.sha256 == TEN_MEGABYTES_SHA256
        (flow,) = ended_flows(cone, "responder", port)
        assert (flow["inner_dst_ip"], flow["inner_domain"]) == ("172.21.0.101", "download.httpbin")
        assert flow["rx_bytes"] >= TEN_MEGABYTES
    finally:
        cone.client.stop()
        cone.gateway.stop()
        for host in ends:
            host.sysctl(ipv6__conf__default__disable_ipv6=0)
    cone.mend()


def test_a_new_address_is_noticed_without_a_signal(cone: Installation) -> None:
    client = cone.client_site.host
    old, new = cone.client_site.address, cone.client_site.address.removesuffix("100") + "77"
    assert reached(cone, NETWORK)
    move(client, old, new)
    try:
        wait_until(lambda: "network change" in cone.client.log(), "the change noticed", BACK_WITHIN_S)
        assert reached(cone, NETWORK)
    finally:
        move(client, new, old)
    wait_until(lambda: cone.client.log().count("network change") >= 2, "the way back", BACK_WITHIN_S)
    wait_until(cone.client_online, "client online", 45)


@contextmanager
def without_a_route_back(cone: Installation) -> Iterator[None]:
    """The private server knows its own networks only, so that it answers masqueraded packets and no others."""
    route = cone.web.run("ip", "route", "show", "default").strip()
    cone.web.run("ip", "route", "del", "default")
    try:
        yield
    finally:
        cone.web.run("ip", "route", "add", *route.split())


def restart_client(cone: Installation) -> None:
    cone.client.stop()
    cone.start_client()
    wait_until(cone.client_online, "client online", 45)


def move(host: Host, old: str, new: str) -> None:
    """As a DHCP server does that gives another lease: the routes go with the old address and are made anew."""
    routes = [
        line.split()
        for line in host.run("ip", "-4", "route", "show", "table", "main").splitlines()
        if " via " in line
    ]
    host.run("ip", "address", "del", f"{old}/24", "dev", "eth0")
    host.run("ip", "address", "add", f"{new}/24", "dev", "eth0")
    for route in routes:
        host.run("ip", "route", "replace", *route)
