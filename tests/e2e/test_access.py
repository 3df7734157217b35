"""Access is carried, outlives the portal and a gateway's restart, and ends when it should."""

from __future__ import annotations

import datetime
import json
import time

from e2e.conftest import machine
from wardgate.lab.host import Host, wait_until
from wardgate.lab.installation import TEN_MEGABYTES, TEN_MEGABYTES_SHA256, WEB4, WEB6, Download, Installation
from wardgate.lab.packet_watch import PacketWatch

V4, V6 = f"http://{WEB4}/get", f"http://[{WEB6}]/get"
WEB4_NET = "10.20.0.0/24"
AT_ONCE_S = 5.0  # takes the product less than one (tests/simulation); the rest is room for a busy machine
ENDLESS = f"http://{WEB4}/slow?num=1000000000&rate=2000000"


def test_a_download_is_direct_and_whole(cone: Installation) -> None:
    before = sum(cone.relayed_bytes().values())
    done = ok(cone.fetch(f"http://app.internal.example/bytes?num={TEN_MEGABYTES}"))
    assert done.sha256 == TEN_MEGABYTES_SHA256
    assert cone.gateway_site.udp_bytes_to(cone.client_site.public4) > TEN_MEGABYTES
    assert sum(cone.relayed_bytes().values()) - before < 100_000


def test_what_no_policy_grants_is_not_reached(cone: Installation) -> None:
    assert cone.fetch("http://172.21.0.100/get", timeout_s=2).error is not None


def test_filters_let_pass_what_they_name_and_answer_the_rest_with_an_icmp_error(cone: Installation) -> None:
    cone.start_web_server(8000)
    cone.make_resource("web-only", "ip", "172.21.0.53", filters=[{"protocol": "tcp", "ports": ["80"]}])
    cone.grant("web-only")
    wait_until(lambda: cone.fetch("http://172.21.0.53/get", timeout_s=2).error is None, "port 80", limit_s=30)
    refused = cone.fetch("http://172.21.0.53:8000/get", timeout_s=30)
    assert refused.error is not None
    assert "TimeoutError" not in refused.error, "a refused packet must be answered, not swallowed"


def test_s01_a_client_asks_again_after_an_icmp_error(cone: Installation) -> None:
    """Other policies grant the same in the place of those that go: the client's list stays as it is, and its grants go.

    A third resource keeps the connection to the gateway. A program notices nothing: its packet is sent again when the
    new grant is there.
    """
    for url in (V4, V6, "http://app.internal.example/get"):
        ok(cone.fetch(url))
    first = cone.ids["group"]
    second = cone.ids["group"] = cone.api.post("/groups", {"group": {"name": "Second shift"}})["id"]
    try:
        members = {"memberships": [{"actor_id": cone.ids["actor"]}]}
        cone.api.put(f"/groups/{second}/memberships", members)
        for resource in ("network", "network6"):
            former = cone.ids[f"policy:{resource}"]
            cone.grant(resource)
            cone.api.delete(f"/policies/{former}")
        former_grants = cone.gateway.log().count("access granted")
        for url in (V4, V6):
            ok(cone.fetch(url))
        assert cone.gateway.log().count("access granted") >= former_grants + 2
    finally:
        cone.ids["group"] = first
        for resource in ("network", "network6"):
            cone.grant(resource)
        cone.api.delete(f"/groups/{second}")


def test_s02_curl_portal_down(cone: Installation) -> None:
    ok(cone.fetch(V4)), ok(cone.fetch(V6))
    assert cone.stop_portal() == 0
    try:
        ok(cone.fetch(V4)), ok(cone.fetch(V6))
    finally:
        cone.start_portal()
    wait_until(lambda: cone.gateway_online() and cone.client_online(), "everyone back", limit_s=45)


def test_s03_curl_portal_restart_and_crash(cone: Installation) -> None:
    ok(cone.fetch(V6))
    held, allocated = grants(cone), allocations_made(cone)
    revoked = cone.gateway.log().count("access revoked")
    for end in (cone.stop_portal, lambda: cone.portal.kill()):
        download = cone.fetch_in_background(f"http://{WEB4}/slow?num=12000000&rate=2000000")
        wait_until(lambda: ("network", WEB4_NET) in grants(cone), "the download", limit_s=30)
        stopped_at = time.monotonic()
        end()
        cone.start_portal()
        wait_until(
            lambda: cone.relays_online() and cone.gateway_online() and cone.client_online(),
            "everyone back",
            limit_s=45,
        )
        away_s = time.monotonic() - stopped_at
        done = ok(download.wait(limit_s=60))
        assert done.longest_gap_s < away_s / 2, "traffic must not notice the reconnection"
        ok(cone.fetch(V4)), ok(cone.fetch(V6))
    assert held <= grants(cone), "who had access has it still"
    assert cone.gateway.log().count("access revoked") == revoked, "nobody was revoked on the way"
    assert allocations_made(cone) == allocated, "relays serve on what they had allocated"


def test_s04_curl_ecn(cone: Installation) -> None:
    host = cone.client_site.host
    host.sysctl(ipv4__tcp_ecn=1)
    count(cone.web, "asked", "input", "tcp dport 80 tcp flags & (syn | ecn | cwr) == syn | ecn | cwr")
    count(host, "marked", "input", "ip saddr 10.20.0.0/24 ip ecn ect0")
    try:
        ok(cone.fetch(f"http://{WEB4}/bytes?num=100000")), ok(cone.fetch(V4)), ok(cone.fetch(V6))
    finally:
        host.sysctl(ipv4__tcp_ecn=2)
    assert counted(cone.web, "asked") >= 3, "each SYN must arrive with its request for ECN"
    assert counted(host, "marked") > 0, "data must arrive with its ECN mark"


def test_s05_direct_curl_gateway_restart(cone: Installation) -> None:
    ok(cone.fetch(V4)), ok(cone.fetch(V6))
    assert cone.gateway.stop() == 0
    cone.start_gateway()
    ok(cone.fetch(V4, timeout_s=30)), ok(cone.fetch(V6, timeout_s=30))


def test_n14_a_deleted_policy_ends_a_running_download_at_once(cone: Installation) -> None:
    download = cone.fetch_in_background(ENDLESS, timeout_s=3)
    with PacketWatch(cone.web, 80, "eth1") as watch:
        wait_until(lambda: watch.count > 200, "the download running", limit_s=30)
        asked_at = time.time()
        cone.revoke("network")
        last_at = silence(watch)
    assert last_at - asked_at < AT_ONCE_S
    assert download.wait(limit_s=30).error is not None
    cone.grant("network")
    wait_until(lambda: cone.fetch(V4, timeout_s=2).error is None, "access restored", limit_s=30)


def test_n14_expired_and_revoked_tokens(cone: Installation) -> None:
    lab = cone
    for port in (8001, 8002):
        lab.start_web_server(port)
    bystander = lab.fetch_in_background(f"http://{WEB4}:8001/slow?num=32000000&rate=1000000")
    lifetime_s = 25.0
    started_at = datetime.datetime.now(datetime.UTC).timestamp()
    lab.start_second_client(lifetime_s)
    site = lab.second_client_site
    expiring = lab.fetch_in_background(
        f"http://{WEB4}:8002/slow?num=1000000000&rate=1000000", timeout_s=3, site=site
    )
    with PacketWatch(lab.web, 8002, "eth1") as watch:
        wait_until(lambda: watch.count > 100, "the second client's download", limit_s=lifetime_s)
        wait_until(lambda: time.time() > started_at + lifetime_s, "the token's expiry", limit_s=lifetime_s)
        last_at = silence(watch)
    assert last_at - (started_at + lifetime_s) < AT_ONCE_S, "access must end with its token"
    assert expiring.wait(limit_s=30).error is not None
    ok(bystander.wait(limit_s=60))

    with PacketWatch(lab.web, 80, "eth1") as watch:
        revoked = lab.fetch_in_background(ENDLESS, timeout_s=3)
        wait_until(lambda: watch.count > 200, "the first client's download", limit_s=30)
        asked_at = time.time()
        lab.api.delete(f"/actors/{lab.ids['actor']}/client_tokens/{lab.ids['client_token']}")
        last_at = silence(watch)
    assert last_at - asked_at < AT_ONCE_S
    assert revoked.wait(limit_s=30).error is not None
    assert lab.client.wait(timeout_s=30) == 1, "a client whose token is dead ends"
    lab.make_client_token()


def grants(lab: Installation) -> set[tuple[str, str]]:
    """What the gateway lets its clients use: names and addresses."""
    (status,) = json.loads(lab.wardgate(lab.gateway_site.host, "status", "gateway", "--json"))
    return {(one["resource"], one["address"]) for one in status["grants"]}


def allocations_made(lab: Installation) -> list[int]:
    """How many allocations each relay has granted since it started."""
    made = []
    for site in lab.relay_sites:
        metrics = site.host.run("curl", "-sS", "http://127.0.0.1:8082/metrics")
        (line,) = [
            one for one in metrics.splitlines() if one.startswith("wardgate_relay_allocations_made_total ")
        ]
        made.append(int(line.split()[1]))
    return made


def ok(download: Download) -> Download:
    assert download.error is None
    return download


def count(host: Host, name: str, hook: str, match: str) -> None:
    """Count packets that match, in a table of the host's own."""
    chain = f"chain c {{\n type filter hook {hook} priority 0;\n {match} counter name n\n }}"
    host.run("nft", "-f", "-", text=f"table inet {name} {{\n counter n {{ }}\n {chain}\n }}\n")


def counted(host: Host, name: str) -> int:
    listed = json.loads(host.run("nft", "-j", "list", "counters", "table", "inet", name))
    return sum(int(item["counter"]["packets"]) for item in listed["nftables"] if "counter" in item)


def silence(watch: PacketWatch) -> float:
    """Wait until nothing came for a second; when the last packet came."""
    wait_until(lambda: time.time() - watch.last_at > 1, "silence at the web server", limit_s=30)
    return watch.last_at


def test_the_lab_leaves_the_machine_as_it_was(
    machine_before: tuple[bytes, bytes], cone: Installation
) -> None:
    """Interfaces, rules and namespaces of the machine are untouched while a lab runs."""
    assert cone.fetch(V4).error is None
    assert machine() == machine_before
