"""Access is carried, outlives the portal and a gateway's restart, and ends when it should."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from ipaddress import ip_address

import pytest

from e2e.conftest import machine
from e2e.on_hosts import AT_ONCE_S, ended_flows, listens, ok, reached
from wardgate.lab.host import Host, Stopwatch, wait_until
from wardgate.lab.installation import (
    PUBLIC_DNS,
    TEN_MEGABYTES,
    TEN_MEGABYTES_SHA256,
    WEB4,
    WEB6,
    Installation,
)
from wardgate.lab.packet_watch import PacketWatch

V4, V6 = f"http://{WEB4}/get", f"http://[{WEB6}]/get"
WEB4_NET = "10.20.0.0/24"
_UDP_ECHO = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for port in sys.argv[2:]:
    one = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((sys.argv[1], int(port)))
    waiting.register(one, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in waiting.select():
        payload, sender = key.fileobj.recvfrom(2048)
        key.fileobj.sendto(payload, sender)
"""
_UDP_ASK = """
import errno, socket, sys
asking = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
asking.connect((sys.argv[1], int(sys.argv[2])))
asking.settimeout(1)
for _ in range(30):
    try:
        asking.send(b"hello")
        print("echoed" if asking.recv(2048) == b"hello" else "spoilt")
        break
    except TimeoutError:
        pass
    except OSError as error:
        print(errno.errorcode[error.errno])
        break
else:
    print("lost")
"""
ENDLESS = f"http://{WEB4}/slow?num=1000000000&rate=2000000"


def test_a_download_is_direct_and_whole(cone: Installation) -> None:
    before = sum(cone.relayed_bytes().values())
    done = ok(cone.fetch(f"http://app.internal.example/bytes?num={TEN_MEGABYTES}"))
    assert done.sha256 == TEN_MEGABYTES_SHA256
    assert cone.gateway_site.udp_bytes_to(cone.client_site.public4) > TEN_MEGABYTES
    assert sum(cone.relayed_bytes().values()) - before < 100_000


def test_what_no_policy_grants_is_not_reached(cone: Installation) -> None:
    assert cone.fetch("http://172.21.0.100/get", timeout_s=2).error is not None


@pytest.mark.parametrize("address", ["172.21.0.53", "172:21::53"], ids=["IPv4", "IPv6"])
def test_filters_let_pass_what_they_name_and_answer_the_rest_with_an_icmp_error(
    cone: Installation, address: str
) -> None:
    version = ip_address(address).version
    client, host = cone.client_site.host, f"[{address}]" if version == 6 else address
    if version == 6:
        for end, prefix in ((cone.gateway_site.host, "172:21::1/64"), (cone.web, f"{address}/64")):
            end.run("ip", "address", "replace", prefix, "dev", "eth2", "nodad")
    cone.start_web_server(8000)
    echo = cone.web.start("udp-echo", sys.executable, "-c", _UDP_ECHO, address, "5300", "5301")
    wait_until(lambda: "ready" in echo.log(), "the echo server", limit_s=45)

    def udp(port: int) -> str:
        """`echoed` or what the socket was told; an ICMP error is a socket's next error."""
        return client.run(sys.executable, "-c", _UDP_ASK, address, str(port), timeout_s=120).strip()

    def ping() -> str:
        return client.run("ping", f"-{version}", "-c", "1", "-W", "5", address, check=False)

    name = f"filtered over IPv{version}"
    ports = [{"protocol": "tcp", "ports": ["80"]}, {"protocol": "udp", "ports": ["5300 - 5300"]}]
    cone.make_resource(name, "ip", address, filters=ports)
    cone.grant(name)
    try:
        wait_until(lambda: cone.fetch(f"http://{host}/get", timeout_s=2).error is None, "port 80", limit_s=30)
        refused = cone.fetch(f"http://{host}:8000/get", timeout_s=30)
        assert refused.error is not None
        assert "TimeoutError" not in refused.error, "a refused packet must be answered, not swallowed"
        assert udp(5300) == "echoed"
        assert udp(5301) in {"EHOSTUNREACH", "EACCES"}
        assert not pinged(ping())

        # Other filters hold at once, for connections that there are, too.
        changed = {"filters": [{"protocol": "icmp"}, {"protocol": "udp", "ports": ["5301 - 5301"]}]}
        cone.api.put(f"/resources/{cone.ids[name]}", {"resource": changed})
        wait_until(lambda: pinged(ping()), "an echo", limit_s=30)
        assert udp(5301) == "echoed"
        assert udp(5300) in {"EHOSTUNREACH", "EACCES"}
        assert cone.fetch(f"http://{host}/get", timeout_s=30).error is not None
    finally:
        cone.revoke(name)
        echo.kill()


def test_of_overlapping_resources_the_narrower_that_permits_carries_a_packet(cone: Installation) -> None:
    """The records of the gateway name the resource; which one it is shows in the port."""
    narrow, wide, named = 8031, 8032, 8033
    for port in (narrow, wide, named):
        cone.start_web_server(port)
    cone.make_resource("one host", "ip", WEB4, filters=[{"protocol": "tcp", "ports": [str(narrow)]}])
    cone.make_resource(
        "one name", "dns", "alias.httpbin", filters=[{"protocol": "tcp", "ports": [str(named)]}]
    )
    cone.grant("one host"), cone.grant("one name")
    try:
        expected = {
            (WEB4, narrow): "one host",
            (WEB4, wide): "network",
            ("alias.httpbin", named): "one name",
            ("alias.httpbin", wide): "download",
        }
        wait_until(lambda: "one name" in resources(cone), "both offered", limit_s=30)
        for host, port in expected:
            ok(cone.fetch(f"http://{host}:{port}/get"))
        for port, count in ((narrow, 1), (wide, 2), (named, 1)):
            seen = {one["resource_name"] for one in ended_flows(cone, "responder", port, count=count)}
            assert seen == {name for (_, its_port), name in expected.items() if its_port == port}
    finally:
        cone.revoke("one host"), cone.revoke("one name")
    wait_until(lambda: "one name" not in resources(cone), "both gone", limit_s=30)
    ok(cone.fetch(f"http://{WEB4}:{narrow}/get"))


def test_the_internet_resource_carries_the_rest_through_the_exit_of_its_own_site(cone: Installation) -> None:
    (internet,) = (one for one in cone.api.get("/resources") if one["type"] == "internet")
    cone.ids["internet"] = internet["id"]
    public = {f"http://{PUBLIC_DNS}/get": "203.0.113.36", "http://[203:0:113::53]/get": "203:0:113::36"}
    server = cone.names.start("web", sys.executable, "-m", "wardgate.lab.web_server")
    client = cone.client_site.host
    wait_until(partial(listens, cone.names, 80), "a public web server", limit_s=45)
    assert is_asked_by(cone.client_site.public4, client, next(iter(public)))
    leaving = cone.start_exit_gateway(internet["site_id"])
    cone.grant("internet")
    cone.client.stop()
    try:
        cone.start_client(FIREZONE_ACTIVATE_INTERNET_RESOURCE="true")
        wait_until(cone.client_online, "the client online", limit_s=45)
        for url, seen in public.items():
            wait_until(partial(is_asked_by, seen, client, url), f"the exit for {url}", limit_s=45)
        # What is narrower wins: other resources, and the network that the host is in.
        ok(cone.fetch(V4)), ok(cone.fetch(V6))
        assert "dev eth0" in client.run("ip", "route", "get", "172.30.0.254")
        # Networks of the exit's own site are none of the internet.
        refused = client.run("curl", "-sS", "--max-time", "30", "http://192.168.7.7/", check=False)
        assert not refused
    finally:
        cone.client.stop()
        cone.revoke("internet")
        leaving.stop()
        server.kill()
    cone.mend()


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
    # Where a policy went that gave access, the client's routes are made anew.
    assert reached(cone, V4)
    assert reached(cone, V6)
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
    started = Stopwatch()
    cone.start_gateway()
    ok(cone.fetch(V4, timeout_s=30)), ok(cone.fetch(V6, timeout_s=30))
    assert started.seconds_until(time.time()) <= 10


def test_n14_a_deleted_policy_ends_a_running_download_at_once(cone: Installation) -> None:
    download = cone.fetch_in_background(ENDLESS, timeout_s=3)
    with PacketWatch(cone.web, 80, "eth1") as watch:
        wait_until(lambda: watch.count > 200, "the download running", limit_s=30)
        asked = Stopwatch()
        cone.revoke("network")
        assert asked.seconds_until(silence(watch)) < AT_ONCE_S
    assert download.wait(limit_s=30).error is not None
    cone.grant("network")
    wait_until(lambda: cone.fetch(V4, timeout_s=2).error is None, "access restored", limit_s=30)


def test_n14_expired_and_revoked_tokens(cone: Installation) -> None:
    lab = cone
    for port in (8001, 8002):
        lab.start_web_server(port)
    bystander = lab.fetch_in_background(f"http://{WEB4}:8001/slow?num=32000000&rate=1000000")
    lifetime_s = 25.0
    lab.start_second_client(lifetime_s)
    ends_at = lab.token_ends_at["client-2"]
    site = lab.second_client_site
    expiring = lab.fetch_in_background(
        f"http://{WEB4}:8002/slow?num=1000000000&rate=1000000", timeout_s=3, site=site
    )
    with PacketWatch(lab.web, 8002, "eth1") as watch:
        wait_until(lambda: watch.count > 100, "the second client's download", limit_s=lifetime_s)
        wait_until(lambda: time.time() > ends_at, "the token's expiry", limit_s=lifetime_s)
        expired = Stopwatch()
        assert expired.seconds_until(silence(watch)) < AT_ONCE_S, "access must end with its token"
    assert expiring.wait(limit_s=30).error is not None
    ok(bystander.wait(limit_s=60))

    with PacketWatch(lab.web, 80, "eth1") as watch:
        revoked = lab.fetch_in_background(ENDLESS, timeout_s=3)
        wait_until(lambda: watch.count > 200, "the first client's download", limit_s=30)
        asked = Stopwatch()
        lab.api.delete(f"/actors/{lab.ids['actor']}/client_tokens/{lab.ids['client_token']}")
        assert asked.seconds_until(silence(watch)) < AT_ONCE_S
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


def resources(lab: Installation) -> set[str]:
    """Names of what the client is offered."""
    (status,) = json.loads(lab.wardgate(lab.client_site.host, "status", "client", "--json"))
    return {one["name"] for one in status["resources"]}


def pinged(printed: str) -> bool:
    return " 0% packet loss" in printed


def is_asked_by(address: str, host: Host, url: str) -> bool:
    """Whether a public web server sees this address when a host asks it."""
    printed = host.run("curl", "-sS", "--max-time", "5", url, check=False)
    return bool(printed) and address in json.loads(printed)["client"]


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
