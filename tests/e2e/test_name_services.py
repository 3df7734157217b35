"""Hosts whose names are looked after by systemd-resolved, or whose resolver file is NetworkManager's; and an account
whose names are asked of a name server over HTTPS.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.on_hosts import BACK_WITHIN_S, bus_settings, listens, output, succeeds
from support.certificates import write_certificate
from support.unpacked import PATH, unpacked
from wardgate.lab.host import Host, Process, wait_until
from wardgate.lab.installation import PUBLIC_DNS, Installation

PROXY = "100.96."
NAME = "dns.httpbin.search.test"
LINK = "wardgate"
BUS_SOCKET = "/run/dbus/system_bus_socket"
_RESOLVED = f"[Resolve]\nDNS={PUBLIC_DNS}\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\n"
_NETWORK_MANAGER = """[main]
plugins=keyfile
dns=default
rc-manager=file
auth-polkit=false
no-auto-default=*
"""
_PROFILE = """[connection]
id=office
type=ethernet
interface-name=eth0
[ipv4]
method=manual
address1=172.34.0.100/24
route1=203.0.113.0/24,172.34.0.254
dns=203.0.113.53
[ipv6]
method=disabled
"""
_OVER_HTTPS = f"""options {{
  directory "/etc/doh"; pid-file none; session-keyfile none; dnssec-validation no;
  recursion no;
  listen-on port 443 tls quad9 http local {{ {PUBLIC_DNS}; }};
  listen-on-v6 {{ none; }};
}};
tls quad9 {{ cert-file "/etc/doh/ca.pem"; key-file "/etc/doh/key.pem"; }};
controls {{ }};
http local {{ endpoints {{ "/dns-query"; }}; }};
zone "over-https.example" {{ type primary; file "/etc/doh/zone"; }};
"""
"""Settings of BIND: nothing but RFC 8484, which it speaks over HTTP/2 only."""
_ZONE = """$TTL 60
@ IN SOA ns hostmaster 1 60 60 60 60
@ IN NS ns
ns IN A 198.51.100.1
app IN A 198.51.100.80
"""


@pytest.fixture(scope="module")
def laptop(shared: Installation) -> Host:
    """A host with a router, a message bus and a /run of its own."""
    host = shared.internet.site("laptop", subnet="172.34.0", octet=35).host
    host.add_hosts({"portal": "203.0.113.10"})
    host.set_resolver(PUBLIC_DNS)
    with (host.etc / "passwd").open("a") as users, (host.etc / "group").open("a") as groups:
        users.write("systemd-resolve:x:990:990::/:/usr/sbin/nologin\n")
        groups.write("systemd-resolve:x:990:\n")
    host.run("mount", "-t", "tmpfs", "-o", "mode=0755", "none", "/run")
    host.run("mkdir", "/run/dbus", "/run/systemd")
    (host.etc / "bus.conf").write_text(bus_settings(BUS_SOCKET))
    host.start("bus", *unpacked("dbus-daemon", "--config-file=/etc/bus.conf", "--nofork"))
    wait_until(lambda: succeeds(host, "test", "-S", BUS_SOCKET), "the bus", limit_s=45)
    return host


@pytest.fixture
def resolved(laptop: Host) -> Iterator[Host]:
    """The laptop with systemd-resolved, and the resolver file that it keeps."""
    (laptop.etc / "systemd").mkdir(exist_ok=True)
    (laptop.etc / "systemd" / "resolved.conf").write_text(_RESOLVED)
    resolver_file = laptop.etc / "resolv.conf"
    resolver_file.unlink()
    resolver_file.symlink_to("/run/systemd/resolve/stub-resolv.conf")
    service = laptop.start("resolved", *unpacked("systemd-resolved"))
    wait_until(lambda: succeeds(laptop, *unpacked("resolvectl", "status")), "systemd-resolved", limit_s=45)
    yield laptop
    service.stop()
    resolver_file.unlink()
    laptop.set_resolver(PUBLIC_DNS)


def test_s11_systemd_resolved_is_told_of_the_tunnel_and_forgets_it(
    cone: Installation, resolved: Host
) -> None:
    query = unpacked("resolvectl", "query", "--legend=no", NAME)
    assert not succeeds(resolved, *unpacked("resolvectl", "dns", LINK))
    assert not succeeds(resolved, *query)
    # It finds out by itself that systemd-resolved runs here.
    client = cone.start_client_beside(resolved, "resolved", FIREZONE_DNS_CONTROL="", PATH=PATH)
    try:
        wait_until(lambda: PROXY in output(resolved, *query), "names of the tunnel", limit_s=BACK_WITHIN_S)
        assert LINK in resolved.run(*unpacked("resolvectl", "dns", LINK))
        assert PROXY in resolved.run("getent", "ahostsv4", "dns"), "the search domain is the link's"
        resolved.run("curl", "-fsS", "--connect-timeout", "30", "http://dns/get")
        assert "203.0.113.80" in resolved.run("getent", "ahostsv4", "github.com")
        assert (resolved.etc / "resolv.conf").is_symlink(), "the file is systemd-resolved's"
    finally:
        client.stop()
    assert not succeeds(resolved, *query)
    assert "203.0.113.80" in resolved.run("getent", "ahostsv4", "github.com")


@pytest.mark.logs(r"client on laptop: somebody else changed a setting of the host; it was put back")
def test_s12_what_network_manager_writes_becomes_the_original(cone: Installation, laptop: Host) -> None:
    manager = start_network_manager(laptop)
    client = cone.start_client_beside(laptop, "managed")
    try:
        wait_until(lambda: PROXY in output(laptop, "getent", "ahostsv4", "dns"), "names", limit_s=30)
        laptop.run(*nmcli("connection", "modify", "office", "ipv4.dns-search", "corp.example"))
        laptop.run(*nmcli("connection", "up", "office"))  # writes the resolver file anew
        wait_until(
            lambda: (
                "corp.example" in resolver_file(laptop)
                and PROXY in output(laptop, "getent", "ahostsv4", "dns")
            ),
            "our name servers and its search domain in one file",
            limit_s=BACK_WITHIN_S,
        )
        laptop.run("curl", "-fsS", "--connect-timeout", "30", f"http://{NAME}/get")
        assert "203.0.113.80" in laptop.run("getent", "ahostsv4", "github.com")
        devices = laptop.run(*nmcli("-g", "device,state", "device"))
        assert any(line.startswith(f"{LINK}:") and "externally" in line for line in devices.splitlines())
    finally:
        client.stop()
        left = resolver_file(laptop)
        manager.stop()
    assert "Generated by NetworkManager" in left
    assert "nameserver 203.0.113.53" in left


def test_dnsmasq_that_the_host_asks_is_asked_for_what_is_not_ours(cone: Installation, laptop: Host) -> None:
    server = laptop.start(
        "dnsmasq", "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
        "--listen-address=127.0.0.1", "--bind-interfaces", f"--server={PUBLIC_DNS}", "--log-queries",
        "--log-facility=-",
    )  # fmt: skip
    laptop.set_resolver("127.0.0.1")
    try:
        wait_until(
            lambda: "203.0.113.80" in output(laptop, "getent", "ahostsv4", "github.com"), "dnsmasq", 45
        )
        client = cone.start_client_beside(laptop, "asking-dnsmasq")
        try:
            wait_until(lambda: PROXY in output(laptop, "getent", "ahostsv4", "dns"), "names of ours", 45)
            asked = server.log().count("query[A] github.com")
            assert "203.0.113.80" in laptop.run("getent", "ahostsv4", "github.com")
            assert server.log().count("query[A] github.com") > asked
            assert NAME not in server.log(), "names of ours are nobody else's business"
        finally:
            client.stop()
        assert resolver_file(laptop) == "nameserver 127.0.0.1\n"
    finally:
        server.stop()
        laptop.set_resolver(PUBLIC_DNS)


def test_an_account_that_asks_over_https_is_answered_by_bind(cone: Installation, laptop: Host) -> None:
    """Found by name through the host's own name server, held against its certificate, asked over HTTP/2."""
    names = cone.names
    (names.etc / "doh").mkdir()
    write_certificate(names.etc / "doh" / "ca.pem", names.etc / "doh" / "key.pem", name="dns.quad9.net")
    (names.etc / "doh" / "named.conf").write_text(_OVER_HTTPS)
    many = "".join(f"many IN A 198.51.100.{number}\n" for number in range(1, 91))
    (names.etc / "doh" / "zone").write_text(_ZONE + many)
    (laptop.etc / "ca.pem").write_bytes((names.etc / "doh" / "ca.pem").read_bytes())
    names.run("mkdir", "-p", "/run/named")  # versions before 9.20 lock a file in it
    server = names.start("named", *unpacked("named", "-g", "-c", "/etc/doh/named.conf"))
    set_upstream(cone, {"type": "secure", "doh_provider": "quad9"})
    try:
        wait_until(lambda: listens(names, 443), "BIND", limit_s=45)
        client = cone.start_client_beside(laptop, "over-https", SSL_CERT_FILE="/etc/ca.pem")
        try:
            app = "app.over-https.example"
            # A query that takes long on a busy machine fails, and programs ask again.
            for said, command in {
                "198.51.100.80": ("getent", "ahostsv4", app),
                "198.51.100.80\n": ("dig", "+short", "+tcp", app),
                "ANSWER: 90,": ("dig", "many.over-https.example"),  # cut at first
                "NXDOMAIN": ("dig", "missing.over-https.example"),
                PROXY: ("getent", "ahostsv4", NAME),  # a name of ours is not asked there
            }.items():
                wait_until(
                    lambda: said in output(laptop, *command),  # noqa: B023
                    f"{said!r} from {' '.join(command)}",
                    limit_s=BACK_WITHIN_S,
                )
            assert "https://dns.quad9.net/dns-query" in cone.wardgate(laptop, "status", "client")
        finally:
            client.stop()
    finally:
        set_upstream(cone, {"type": "system"})
        server.stop()


def set_upstream(lab: Installation, upstream: dict[str, str]) -> None:
    """Say which name servers the account's clients ask."""
    settings = {"account_settings": {"clients_upstream_dns": upstream}}
    lab.api.call("PATCH", "/wardgate/account_settings", settings)


def start_network_manager(host: Host) -> Process:
    profiles = host.etc / "NetworkManager" / "profiles"
    profiles.mkdir(parents=True)
    (profiles / "office.nmconnection").write_text(_PROFILE)
    (profiles / "office.nmconnection").chmod(0o600)
    configuration = f"{_NETWORK_MANAGER}[keyfile]\npath=/etc/NetworkManager/profiles\n"
    (host.etc / "NetworkManager" / "lab.conf").write_text(configuration)
    host.run(
        "mount", "-t", "sysfs", "-o", "ro", "none", "/sys"
    )  # else it waits for a device manager to speak
    host.run("mkdir", "-p", "/var/lib/NetworkManager")
    process = host.start(
        "network-manager",
        *unpacked(
            "NetworkManager", "--debug", "--config=/etc/NetworkManager/lab.conf", "--config-dir=/nonexistent"
        ),
    )
    wait_until(lambda: succeeds(host, *nmcli("connection", "up", "office")), "NetworkManager", limit_s=45)
    return process


def nmcli(*arguments: str) -> tuple[str, ...]:
    return unpacked("nmcli", *arguments)


def resolver_file(host: Host) -> str:
    return (host.etc / "resolv.conf").read_text()
