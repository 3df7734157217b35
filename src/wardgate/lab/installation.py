"""A whole installation in the lab: portal, two relays, a gateway, a client, private servers, each behind its router.

It starts the command line `wardgate` as a user would and talks to the portal's REST API; nothing of the
product is imported. Addresses follow one plan (public octet in brackets): portal [10], relays [101, 102],
client [31], gateway [32], second client [33], second gateway [34], exit to the internet [36], public names [53].
"""

from __future__ import annotations

import datetime
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from wardgate.lab.host import Host, Process, wait_until
from wardgate.lab.internet import Internet, Nat, Site

PORTAL_PORT: Final = 8080
PORTAL_URL: Final = f"http://127.0.0.1:{PORTAL_PORT}"
WEB4: Final = "10.20.0.100"
WEB6: Final = "10:20::100"
APP4: Final = "172.21.0.101"
PRIVATE_DNS: Final = "172.21.0.53"
PUBLIC_DNS: Final = "203.0.113.53"
PRIVATE_NAMES: Final = {
    "app.internal.example": APP4,
    "download.httpbin": APP4,
    "alias.httpbin": APP4,
    "alias2.httpbin": APP4,
    "dns.httpbin.search.test": "172.21.0.100",
    "six.httpbin": WEB6,
}
PRIVATE_RECORDS: Final = (
    'dns.httpbin.search.test/TXT="at the site"',
    "_sip._udp.httpbin.search.test/SRV=10 5 5060 dns.httpbin.search.test.",
)
SEARCH_DOMAIN: Final = "httpbin.search.test"
PUBLIC_NAMES: Final = {
    "github.com": "203.0.113.80",
    "github.com/HTTPS": "1 . alpn=h2",
    "dns.quad9.net": PUBLIC_DNS,
}
MANY_ADDRESSES: Final = [f"many.example=198.51.100.{number}" for number in range(1, 131)]
"""A public name with an answer of some 2 kB."""
TEN_MEGABYTES: Final = 10_000_000
TEN_MEGABYTES_SHA256: Final = "f5e02aa71e67f41d79023a128ca35bad86cf7b6656967bfe0884b3a3c4325eaf"
# The lab calls the API faster than an administrator would: the default burst is 20 calls.
_GENEROUS_LIMITS: Final = {"WARDGATE_API_CAPACITY": "20000", "WARDGATE_API_REFILL_RATE": "5000"}
_COMMAND_LIMIT_S: Final = 120.0  # a command takes a second or two; the rest is room for a busy machine
_WARDGATE: Final = (sys.executable, "-m", "wardgate.cli.main")


class RequestRefused(Exception):
    """The portal answered a REST request with an error status."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Download:
    """What `wardgate.lab.fetch` reported."""

    bytes: int
    sha256: str
    seconds: float
    first_byte_ms: float | None
    longest_gap_s: float
    error: str | None

    @property
    def mbit_s(self) -> float:
        return self.bytes * 8 / self.seconds / 1e6


class Rest:
    """The portal's REST API with one token, called from the portal's own host."""

    def __init__(self, host: Host, token: str) -> None:
        self._host = host
        self.token = token

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: object) -> Any:
        return self.call("POST", path, body)

    def put(self, path: str, body: object) -> Any:
        return self.call("PUT", path, body)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        """Return the `data` of the answer. Raises RequestRefused."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        status, text = _request(self._host, method, path, None if body is None else json.dumps(body), headers)
        if status >= http.client.BAD_REQUEST:
            raise RequestRefused(method, path, status, text)
        return json.loads(text).get("data") if text else None


class Installation:
    """Owns the internet and every process; a context manager through `Internet`."""

    def __init__(
        self,
        internet: Internet,
        *,
        client_nat: Nat = Nat.CONE,
        gateway_nat: Nat = Nat.CONE,
        client_loss: float = 0.0,
        client_delay_s: float = 0.0,
        relay_count: int = 2,
        portal_settings: Mapping[str, str] | None = None,
    ) -> None:
        """`portal_settings` are environment variables of the portal."""
        self.internet = internet
        self._portal_settings = dict(portal_settings or {})
        self._first_nats = self._nats = (client_nat, gateway_nat)
        self.portal_site = internet.site(
            "portal", subnet="172.28.0", octet=10, forwards=[f"tcp/{PORTAL_PORT}"]
        )
        self.relay_sites: list[Site] = [
            internet.site(
                f"relay-{number}",
                subnet=f"172.29.{number}",
                octet=100 + number,
                forwards=["udp/3478", "udp/49152-65535"],
            )
            for number in range(1, relay_count + 1)
        ]
        self.client_site = internet.site(
            "client", subnet="172.30.0", octet=31, nat=client_nat, loss=client_loss, delay_s=client_delay_s
        )
        self.gateway_site = internet.site("gateway", subnet="172.31.0", octet=32, nat=gateway_nat)
        self.names = internet.public_host("names", 53)
        self.web = internet.host("web")
        gateway = self.gateway_site.host
        internet.attach(gateway, ["10.20.0.1/24", "10:20::1/64"], self.web, [f"{WEB4}/24", f"{WEB6}/64"])
        internet.attach(
            gateway, ["172.21.0.1/24"], self.web, [f"{APP4}/24", "172.21.0.100/24", f"{PRIVATE_DNS}/24"]
        )
        internet.count_traffic()
        gateway.set_resolver(PRIVATE_DNS)
        self.client_site.host.set_resolver(PUBLIC_DNS)
        for site in (self.client_site, self.gateway_site, *self.relay_sites):
            self._show_portal(site.host)
        self._start_servers()
        self.relays: dict[str, Process] = {}
        self.tokens: dict[str, str] = {}
        self.token_ends_at: dict[str, float] = {}  # Unix seconds, of clients
        self.ids: dict[str, str] = {}

    # The portal

    def init(self) -> None:
        """`wardgate init` in a fresh data directory; keeps its tokens."""
        arguments = [
            "init",
            "--data-dir",
            "/var/lib/wardgate",
            "--account-name",
            "Demo",
            "--account-slug",
            "demo",
            "--search-domain",
            SEARCH_DOMAIN,
        ]
        printed = self.wardgate(
            self.portal_site.host, *arguments, "--admin-email", "ada@example.com", "--json"
        )
        made = json.loads(printed)
        self.sign_in_link: str = made["sign_in_link"]
        self.api = Rest(self.portal_site.host, made["api_token"])
        self.operator = Rest(self.portal_site.host, made["operator_token"])

    def start_portal(self) -> None:
        """Start the portal process and wait until it is ready."""
        self.portal = self.portal_site.host.start(
            "portal",
            *(*_WARDGATE, "portal", "--data-dir", "/var/lib/wardgate", "--listen", f"[::]:{PORTAL_PORT}"),
            environment={**_GENEROUS_LIMITS, **self._portal_settings},
        )
        wait_until(self._portal_is_ready, "portal ready", limit_s=60)

    def stop_portal(self) -> int:
        """SIGTERM; returns the exit code."""
        return self.portal.stop()

    # What is reached, by whom

    def make_access(self) -> None:
        """Create the site, people, resources, one policy and every token through the REST API.

        `ids` gets: site, group, actor, the resources `network` (10.20.0.0/24), `network6`, `app`
        (app.internal.example), `names` (`**.httpbin.search.test`), `secret` (no policy) and the policies
        `policy:<resource>`.
        """
        self.ids["site"] = self.api.post("/sites", {"site": {"name": "Office"}})["id"]
        self.ids["group"] = self.api.post("/groups", {"group": {"name": "Engineers"}})["id"]
        self.ids["actor"] = self.api.post(
            "/actors", {"actor": {"name": "build-server", "type": "service_account"}}
        )["id"]
        members = {"memberships": [{"actor_id": self.ids["actor"]}]}
        self.api.put(f"/groups/{self.ids['group']}/memberships", members)
        for name, kind, address in (
            ("network", "cidr", "10.20.0.0/24"),
            ("network6", "cidr", "10:20::/64"),
            ("app", "dns", "app.internal.example"),
            ("names", "dns", "**.httpbin.search.test"),
            ("download", "dns", "**.httpbin"),
            ("secret", "ip", "172.21.0.100"),
        ):
            self.make_resource(name, kind, address)
        for name in ("network", "network6", "app", "names", "download"):
            self.grant(name)
        for site in self.relay_sites:
            name = site.host.name
            self.tokens[name] = self.operator.post("/wardgate/relay_tokens", {"relay_token": {"name": name}})[
                "token"
            ]
        made = self.api.post(f"/sites/{self.ids['site']}/gateways", {"gateway": {"name": "office-gateway"}})
        self.ids["gateway"], self.tokens["gateway"] = made["id"], made["token"]
        self.make_client_token()

    def make_resource(
        self, name: str, kind: str, address: str, filters: list[dict[str, object]] | None = None
    ) -> None:
        body: dict[str, object] = {
            "name": name,
            "type": kind,
            "address": address,
            "site_id": self.ids["site"],
        }
        if filters is not None:
            body["filters"] = filters
        self.ids[name] = self.api.post("/resources", {"resource": body})["id"]

    def grant(self, resource: str) -> None:
        """A policy for the group on this resource."""
        policy = {"group_id": self.ids["group"], "resource_id": self.ids[resource]}
        self.ids[f"policy:{resource}"] = self.api.post("/policies", {"policy": policy})["id"]

    def revoke(self, resource: str) -> None:
        self.api.delete(f"/policies/{self.ids[f'policy:{resource}']}")

    def make_client_token(self, lifetime_s: float = 3600, host: str = "client") -> None:
        """A token of the service account for the client on this host."""
        expires_at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=lifetime_s)
        body = {"client_token": {"expires_at": expires_at.isoformat()}}
        made = self.api.post(f"/actors/{self.ids['actor']}/client_tokens", body)
        self.ids[f"{host}_token"], self.tokens[host] = made["id"], made["token"]
        self.token_ends_at[host] = expires_at.timestamp()

    # Private servers, relays, gateway, client

    def start_web_server(self, port: int) -> None:
        """Start a private web server at WEB4 and WEB6, and wait until it listens."""
        self.web.start(f"web-{port}", sys.executable, "-m", "wardgate.lab.web_server", "--port", str(port))
        wait_until(partial(_listens, self.web, WEB4, port), f"web server on port {port}", limit_s=45)

    def start_relay(self, number: int) -> None:
        """Start relay 1 or 2."""
        site = self.relay_sites[number - 1]
        environment = {"PUBLIC_IP4_ADDR": site.public4, "PUBLIC_IP6_ADDR": site.public6}
        self.relays[site.host.name] = self._start_peer("relay", site, environment)

    def start_gateway(self, **settings: str) -> None:
        """Start the gateway, with further environment variables."""
        environment = {"FIREZONE_ID": "demo-gateway", **settings}
        self.gateway = self._start_peer("gateway", self.gateway_site, environment)

    def start_second_gateway(self, **settings: str) -> Process:
        """A gateway of the same site behind a router of its own; it reaches WEB4 and WEB6 too, as 10.20.0.2 and
        10:20::2.
        """
        self.second_gateway_site = self.internet.site("gateway-2", subnet="172.33.0", octet=34)
        host, web = self.second_gateway_site.host, self.web
        self._show_portal(host)
        self.internet.attach(host, [], web, [])
        host.run("ip", "addr", "add", "10.20.0.2/24", "dev", "eth1")
        host.run("ip", "-6", "addr", "add", "10:20::2/64", "dev", "eth1", "nodad")
        web.run("ip", "route", "add", "10.20.0.2/32", "dev", "eth3", "src", WEB4)
        web.run("ip", "-6", "route", "add", "10:20::2/128", "dev", "eth3", "src", WEB6)
        # Who asks on this cable for an IPv6 address of the other one gets no answer, unlike over IPv4.
        (cable,) = json.loads(web.run("ip", "-json", "link", "show", "eth3"))
        host.run("ip", "-6", "neighbour", "replace", WEB6, "lladdr", cable["address"], "dev", "eth1")
        made = self.api.post(f"/sites/{self.ids['site']}/gateways", {"gateway": {"name": "second-gateway"}})
        self.ids["gateway-2"], self.tokens["gateway-2"] = made["id"], made["token"]
        return self.restart_second_gateway(**settings)

    def restart_second_gateway(self, **settings: str) -> Process:
        """Start the second gateway once more, with the token that it has."""
        environment = {"FIREZONE_ID": "demo-gateway-2", **settings}
        process = self._start_peer("gateway", self.second_gateway_site, environment)
        wait_until(lambda: self.is_online("gateway-2"), "the second gateway online", limit_s=45)
        return process

    def start_exit_gateway(self, site_id: str) -> Process:
        """A gateway of the site that leads to the internet, behind a router of its own."""
        if "exit" not in self.internet.sites:
            self.exit_site = self.internet.site("exit", subnet="172.35.0", octet=36)
            self._show_portal(self.exit_site.host)
        made = self.api.post(f"/sites/{site_id}/gateways", {"gateway": {"name": "exit"}})
        self.tokens["exit"] = made["token"]
        process = self._start_peer("gateway", self.exit_site, {"FIREZONE_ID": "demo-exit"})
        wait_until(
            lambda: any(one["online"] for one in self.api.get(f"/sites/{site_id}/gateways")),
            "the exit online",
            limit_s=45,
            every_s=0.1,
        )
        return process

    def start_client(self, **settings: str) -> None:
        """Start the client, with further environment variables."""
        environment = {"FIREZONE_ID": "demo-client", "FIREZONE_DNS_CONTROL": "etc-resolv-conf"}
        self.client = self._start_peer("client", self.client_site, {**environment, **settings})

    def start_second_client(self, lifetime_s: float = 3600) -> Process:
        """A client of the same service account behind a router of its own, with a token of its own."""
        if "client-2" not in self.internet.sites:
            self.second_client_site = self.internet.site("client-2", subnet="172.32.0", octet=33)
            self._show_portal(self.second_client_site.host)
            self.second_client_site.host.set_resolver(PUBLIC_DNS)
        self.make_client_token(lifetime_s, "client-2")
        return self.restart_second_client()

    def restart_second_client(self) -> Process:
        """Start the second client once more, with the token that it has."""
        environment = {"FIREZONE_ID": "demo-client-2", "FIREZONE_DNS_CONTROL": "etc-resolv-conf"}
        process = self._start_peer("client", self.second_client_site, environment)
        wait_until(partial(_is_configured, process), "second client online", limit_s=45)
        return process

    def start_client_beside(self, host: Host, name: str, **settings: str) -> Process:
        """A client with a token and an identity of its own on a host that runs something else, with further
        environment variables.
        """
        self.make_client_token(host=name)
        environment = {"FIREZONE_ID": name, "FIREZONE_DNS_CONTROL": "etc-resolv-conf", **settings}
        process = self._start("client", host, name, environment)
        wait_until(partial(_is_configured, process), f"the client {name} online", limit_s=45)
        return process

    def start_peers(self) -> None:
        """Everything but the portal, and wait until the portal reports all of it online."""
        for number in range(1, len(self.relay_sites) + 1):
            self.start_relay(number)
        self._start_ends()
        wait_until(self.relays_online, "relays online", limit_s=60, every_s=0.1)

    def restart_ends(self, *, client_nat: Nat = Nat.CONE, gateway_nat: Nat = Nat.CONE) -> None:
        """Stop gateway and client, exchange the routers' translation, start both and wait until they are online."""
        self.client.stop()
        self.gateway.stop()
        wait_until(lambda: not self.gateway_online() and not self.client_online(), "both gone", limit_s=45)
        self.client_site.set_nat(client_nat)
        self.gateway_site.set_nat(gateway_nat)
        self._nats = (client_nat, gateway_nat)
        self._start_ends()

    def mend(self) -> None:
        """Start again what has ended, behind the routers of the beginning, and wait until everything is online."""
        if self.portal.exit_code is not None:
            self.start_portal()
        for number, site in enumerate(self.relay_sites, start=1):
            if self.relays[site.host.name].exit_code is not None:
                self.start_relay(number)
        if self._nats != self._first_nats:
            client_nat, gateway_nat = self._first_nats
            self.restart_ends(client_nat=client_nat, gateway_nat=gateway_nat)
        if self.gateway.exit_code is not None:
            self.start_gateway()
        if self.client.exit_code is not None:
            self.start_client()
        for is_online in (self.relays_online, self.gateway_online, self.client_online):
            wait_until(is_online, "everything online", limit_s=60, every_s=0.1)

    def relays_online(self) -> bool:
        return len(self.operator.get("/wardgate/relays")) == len(self.relay_sites)

    def is_online(self, gateway: str) -> bool:
        """Whether the portal has a connection of the gateway with this name in `ids`."""
        listed = self.api.get(f"/sites/{self.ids['site']}/gateways")
        return any(one["online"] for one in listed if one["id"] == self.ids[gateway])

    def gateway_online(self) -> bool:
        return any(gateway["online"] for gateway in self.api.get(f"/sites/{self.ids['site']}/gateways"))

    def client_online(self) -> bool:
        """Online at the portal, and its host's addresses, routes and DNS are set."""
        listed = self.api.get("/clients")
        online = [one for one in listed if one["online"] and one["name"] == self.client_site.host.name]
        if not online:
            return False
        self.ids["client"] = online[0]["id"]
        return _is_configured(self.client)

    # Use

    def fetch(self, url: str, timeout_s: float = 30, site: Site | None = None) -> Download:
        """Fetch from the client's host; never raises, look at `error`."""
        host, limit_s = (site or self.client_site).host, timeout_s + 300
        try:
            printed = host.run(*_fetch_command(url, timeout_s), check=False, timeout_s=limit_s)
            return Download(**json.loads(printed))
        except subprocess.TimeoutExpired:
            return _no_download(f"no end within {limit_s:g} s")
        except ValueError:  # it was ended, with the lab or by Ctrl-C, before it could say anything
            return _no_download("the download was ended")

    def fetch_in_background(
        self, url: str, timeout_s: float = 30, site: Site | None = None
    ) -> BackgroundDownload:
        return BackgroundDownload(self, url, timeout_s, site or self.client_site)

    def wardgate(
        self,
        host: Host,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> str:
        """Run the command line to its end in a host and return what it printed; unless `check`, whatever its
        exit code.
        """
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        command = ("env", *settings, *_WARDGATE, *arguments)
        return host.run(*command, timeout_s=_COMMAND_LIMIT_S, check=check)

    def relayed_bytes(self, site: Site | None = None) -> dict[str, int]:
        """UDP bytes that a site's router, by default the client's, forwarded to each relay."""
        return {
            relay.host.name: (site or self.client_site).udp_bytes_to(relay.public4)
            for relay in self.relay_sites
        }

    def direct_bytes(self) -> int:
        """UDP bytes that the gateway's router forwarded straight to the client's public addresses."""
        return self.gateway_site.udp_bytes_to(self.client_site.public4)

    def passed_by_relays(self) -> int:
        """UDP bytes that the relays' own routers forwarded to client and gateway."""
        ends = (self.client_site.public4, self.gateway_site.public4)
        return sum(relay.udp_bytes_to(end) for relay in self.relay_sites for end in ends)

    def _start_ends(self) -> None:
        self.start_gateway()
        self.start_client()
        wait_until(self.gateway_online, "gateway online", limit_s=60, every_s=0.1)
        wait_until(self.client_online, "client online", limit_s=60, every_s=0.1)

    @staticmethod
    def _show_portal(host: Host) -> None:
        """Let a host know the portal's addresses, as the public name service would."""
        host.add_hosts({"portal": "203.0.113.10"})
        host.add_hosts({"portal": "203:0:113::10"})

    def _start_peer(self, kind: str, site: Site, environment: Mapping[str, str]) -> Process:
        return self._start(kind, site.host, site.host.name, environment)

    def _start(self, kind: str, host: Host, name: str, environment: Mapping[str, str]) -> Process:
        common = {
            "FIREZONE_API_URL": f"ws://portal:{PORTAL_PORT}/",
            "FIREZONE_NAME": name,
            "FIREZONE_TOKEN": self.tokens[name],
        }
        return host.start(kind, *_WARDGATE, kind, environment={**common, **environment})

    def _portal_is_ready(self) -> bool:
        if self.portal.exit_code is not None:
            raise RuntimeError(f"the portal ended with {self.portal.exit_code}: {self.portal.log()}")
        try:
            status, _ = _request(self.portal_site.host, "GET", "/readyz", None, {})
        except OSError:
            return False
        return status == http.client.OK

    def _start_servers(self) -> None:
        python = (sys.executable, "-m")
        self.start_web_server(80)
        self.web.start(
            "dns",
            *python,
            "wardgate.lab.dns_server",
            f"--listen={PRIVATE_DNS}",
            *(*_records(PRIVATE_NAMES), *PRIVATE_RECORDS),
        )
        self.names.start(
            "dns",
            *python,
            "wardgate.lab.dns_server",
            f"--listen={PUBLIC_DNS}",
            *(*_records(PUBLIC_NAMES), *MANY_ADDRESSES),
        )
        for host, address, port in (
            (self.web, PRIVATE_DNS, 53),
            (self.names, PUBLIC_DNS, 53),
        ):
            wait_until(partial(_listens, host, address, port), f"server at {address}:{port}", limit_s=45)


class BackgroundDownload:
    """A download that runs while other things happen."""

    def __init__(self, installation: Installation, url: str, timeout_s: float, site: Site) -> None:
        self._result: list[Download] = []
        self._thread = threading.Thread(
            target=lambda: self._result.append(installation.fetch(url, timeout_s, site))
        )
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def wait(self, limit_s: float) -> Download:
        """Its outcome. Raises TimeoutError."""
        self._thread.join(limit_s)
        if not self._result:
            raise TimeoutError(f"the download did not end within {limit_s:g} s")
        return self._result[0]


def _request(
    host: Host, method: str, path: str, body: str | None, headers: dict[str, str]
) -> tuple[int, str]:
    """One HTTP request to the portal from its own host: status and text. Raises OSError."""
    connection = http.client.HTTPConnection("portal", PORTAL_PORT, timeout=10)
    connection.sock = host.connect("127.0.0.1", PORTAL_PORT)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _is_configured(client: Process) -> bool:
    return "tunnel interface is up" in client.log()


def _listens(host: Host, address: str, port: int) -> bool:
    try:
        host.connect(address, port).close()
    except OSError:
        return False
    return True


def _fetch_command(url: str, timeout_s: float) -> tuple[str, ...]:
    return (sys.executable, "-m", "wardgate.lab.fetch", f"--timeout={timeout_s}", url)


def _no_download(reason: str) -> Download:
    return Download(0, "", 0.0, None, 0.0, reason)


def _records(names: Mapping[str, str]) -> list[str]:
    return [f"{name}={address}" for name, address in names.items()]
