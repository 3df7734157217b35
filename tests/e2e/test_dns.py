"""Names: the stub resolver of the client, proxy addresses, and names that are none of our business."""

from __future__ import annotations

import json
import re

from e2e.on_hosts import ok
from wardgate.lab.host import CommandFailed, wait_until
from wardgate.lab.installation import MANY_ADDRESSES, Installation

PROXY = "100.96.0."


def test_s07_dns(cone: Installation) -> None:
    client, gateway = cone.client_site.host, cone.gateway_site.host
    assert (client.etc / "resolv.conf.before-wardgate").read_text().strip() == "nameserver 203.0.113.53"
    gateway.run("curl", "-fsS", "http://dns.httpbin.search.test/get")
    assert PROXY in echo(cone, "dns")
    client.run("curl", "-fsS", "--connect-timeout", "30", "http://dns/get")
    assert PROXY in client.run("nslookup", "dns")
    public = client.run("nslookup", "github.com")
    assert "203.0.113.80" in public
    assert PROXY not in public
    cone.gateway.stop()
    try:
        # It waits that long for each of the name's eight proxy addresses.
        assert cone.fetch("http://dns/get", timeout_s=1).error is not None
    finally:
        cone.start_gateway()
        wait_until(cone.gateway_online, "gateway online", limit_s=45)


def test_s08_names_are_answered_while_the_portal_is_away(cone: Installation) -> None:
    client = cone.client_site.host

    def use() -> None:
        client.run("curl", "-fsS", "--connect-timeout", "30", "http://dns/get")
        assert PROXY in client.run("nslookup", "dns")

    use()
    cone.stop_portal()
    try:
        use()
    finally:
        cone.mend()


def test_s09_dns_two_resources(cone: Installation) -> None:
    answering = [
        re.findall(r"bytes from .*?([\d.]+)\)?:", echo(cone, name)) for name in ("dns", "download.httpbin")
    ]

    assert all(address.startswith(PROXY) for addresses in answering for address in addresses)
    assert [len(addresses) for addresses in answering] == [1, 1]
    assert answering[0] != answering[1]
    (status,) = json.loads(cone.wardgate(cone.client_site.host, "status", "client", "--json"))
    assert len(status["connections"]) == 1, "one connection carries both"


def test_s10_tcp_and_truncated_answers(cone: Installation) -> None:
    def addresses(*arguments: str) -> list[str]:
        return cone.client_site.host.run("dig", "+short", *arguments).split()

    for name in ("dns", "download.httpbin"):
        found = addresses("+search", "+tcp", name)
        assert found
        assert all(address.startswith(PROXY) for address in found)
    assert addresses("+tcp", "github.com") == ["203.0.113.80"]
    assert len(addresses("many.example")) == len(MANY_ADDRESSES)
    header = cone.client_site.host.run("dig", "+ignore", "+bufsize=1232", "many.example")
    assert "flags: qr tc" in header.replace(" aa", ""), "what is cut must say so"


def test_other_types_of_a_name_are_answered_at_the_site_and_those_that_lead_past_the_tunnel_are_empty(
    cone: Installation,
) -> None:
    def dig(*arguments: str) -> str:
        return cone.client_site.host.run("dig", "+noall", "+answer", *arguments)

    assert '"at the site"' in dig("TXT", "dns.httpbin.search.test")
    assert "10 5 5060 dns.httpbin.search.test." in dig("SRV", "_sip._udp.httpbin.search.test")
    # A browser that knew of another port or address by it would not ask for addresses of ours.
    assert dig("HTTPS", "dns.httpbin.search.test") == ""
    assert "alpn=" in dig("HTTPS", "github.com")
    (address, *_) = cone.client_site.host.run("dig", "+short", "dns.httpbin.search.test").split()
    assert "dns.httpbin.search.test." in dig("-x", address)
    assert address in dig("+noedns", "DNS.httpbin.Search.test")


def test_names_of_hosts_with_ipv6_only_are_reached_over_ipv6(cone: Installation) -> None:
    """Behind the gateway it is the family that decides: asked for over IPv4, such a host is unreachable at once."""
    client = cone.client_site.host
    ok(cone.fetch("http://six.httpbin/get"))
    assert "fd00:2021:1111:8000:" in client.run("ping", "-6", "-c", "1", "-W", "10", "six.httpbin")
    failed = client.run("curl", "-4", "-sS", "--max-time", "30", "http://six.httpbin/get", check=False)
    assert not failed
    assert (
        "unreachable" in client.run("ping", "-4", "-c", "1", "-W", "10", "six.httpbin", check=False).lower()
    )


def test_a_pattern_of_several_labels_is_ours(cone: Installation) -> None:
    found = cone.client_site.host.run("getent", "ahostsv4", "a.b.httpbin.search.test")
    assert found.startswith("100.96.")


def echo(cone: Installation, name: str) -> str:
    """Ask for one echo at a time until one comes back, 30 s overall; what ping says of it.

    Over IPv4: these names have no other address, and a proxy address of the other family is unreachable by design.
    """

    def answer() -> str:
        try:
            return cone.client_site.host.run("ping", "-4", "-c", "1", "-W", "1", name)
        except CommandFailed:
            return ""

    return wait_until(answer, f"an echo from {name}", limit_s=30)
