"""What the operator decides about one portal process; read by the command line, never from the environment here."""

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from wardgate.model.addresses import parse_ip
from wardgate.portal.mail.server import SmtpServer
from wardgate.portal.outbound import ReachableAddresses
from wardgate.portal.store import Database, SqliteFile
from wardgate.portal.strangers import MAX_OF_ONE_ADDRESS

DEFAULT_PORT: Final = 8080
OIDC_CALLBACK_PATH: Final = "/auth/oidc/callback"
DEFAULT_MAIL_FROM: Final = "wardgate@localhost"


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """Where the portal gets its certificate from by itself.

    Attributes:
        domains: the names that the certificate is for; the first is its common name.
        directory_url: of the ACME server (RFC 8555 §7.1.1).
        email: told the server as a contact; None for none.
        ca: PEM file with what signs the server's own certificate; None for the authorities that are usual.
    """

    domains: tuple[str, ...]
    directory_url: str
    email: str | None = None
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """Settings of one portal process.

    Attributes:
        data_dir: holds master secret, lock and, unless `database_url` leads elsewhere, the database; None to
            keep everything in memory.
        database_url: which database; None for SQLite in the data directory.
        external_url: how people and peers reach the portal, without trailing slash; `https` makes cookies `Secure`.
        rest_host, socket_host, web_host: host names of REST, sockets and pages, if each has its own; see `hosts`.
        trusted_proxies: whose `X-Forwarded-…` and `X-Geo-…` headers are believed; empty: nobody's.
        geoip_database: file in MaxMind's format that says where addresses are; `wardgate.portal.geography`
            does without one.
        country_code_blocklist: countries from which nobody is answered, but for health.
        tls_certificate, tls_key: PEM files; None for plain HTTP behind a proxy or on a trusted network.
        acme: keeps `tls_certificate`, one file with the key in it, valid; None if somebody else does.
        max_connections: the largest number of connections; None for as many as there are descriptors, less a reserve.
        max_connections_per_address: of which at most so many of one address (of one /64 of IPv6) that have
            shown no good token.
        connect_refill_per_s, connect_capacity: token bucket of control-channel upgrades (protocol §1.6).
        smtp: where mail goes; None to send none.
        mail_from: the `From` of every mail.
        sign_up: whether strangers may make accounts for themselves (identity §10).
        sign_up_domains: only with addresses of these domains, in lower case; empty: of any.
        outbound_networks: networks of special use in which hosts that an admin names may be asked.
        outbound_ca: PEM file with authorities that may have signed their certificates, besides the system's.
        api_refill_per_s, api_capacity: token bucket of REST calls, 10 tokens each, per account (rest-api §5).
        ingestion_refill_per_s, ingestion_capacity: token bucket of flow reports per address. A report is of one
            authorization, so that a gateway sends one for each that is in use, every interval.
        record_frames: directory for transcripts of control channels; None to write none.
        decision_retention_s: how long answers to access requests are kept, with their explanations.
        flow_log_upload_interval_s: how often peers report flows (portal-domain §10.4); 0 if not at all. They are
            told to only if they can (`are_flow_logs_reachable`).
        flow_log_batch_size: at most so many reports at a time.
    """

    data_dir: Path | None = None
    database_url: Database | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    external_url: str = f"http://127.0.0.1:{DEFAULT_PORT}"
    rest_host: str | None = None
    socket_host: str | None = None
    web_host: str | None = None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    metrics_port: int | None = None
    geoip_database: Path | None = None
    country_code_blocklist: frozenset[str] = frozenset()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    acme: AcmeSettings | None = None
    smtp: SmtpServer | None = field(default=None, repr=False)
    mail_from: str = DEFAULT_MAIL_FROM
    sign_up: bool = False
    sign_up_domains: tuple[str, ...] = ()
    outbound_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    outbound_ca: Path | None = None
    max_connections: int | None = None
    max_connections_per_address: int = MAX_OF_ONE_ADDRESS
    connect_refill_per_s: float = 1.0
    connect_capacity: float = 1.0
    api_refill_per_s: float = 10.0
    api_capacity: float = 200.0
    ingestion_refill_per_s: float = 10.0
    ingestion_capacity: float = 200.0
    record_frames: Path | None = None
    decision_retention_s: int = 90 * 86_400
    flow_log_upload_interval_s: int = 60
    flow_log_batch_size: int = 1000

    @property
    def is_secure(self) -> bool:
        return self.external_url.startswith("https://")

    @property
    def is_exposed(self) -> bool:
        """Whether browsers come by plain HTTP at an address that may be public: a name may be anybody's, a private
        address, or this machine's own, is reached from its own network only.
        """
        url = urlsplit(self.web_url)
        if url.scheme == "https" or url.hostname == "localhost" or self.tls_certificate is not None:
            return False
        try:
            return parse_ip(url.hostname or "").is_global
        except ValueError:
            return True

    @property
    def are_flow_logs_reachable(self) -> bool:
        """Whether published peers can upload: they speak HTTP/2 over TLS, on port 443 only (protocol §7.1, §7.3)."""
        url = urlsplit(self.rest_url)
        return url.scheme == "https" and url.port in (None, 443)

    @property
    def rest_url(self) -> str:
        """How REST is reached, without trailing slash."""
        return self._url(self.rest_host)

    @property
    def socket_url(self) -> str:
        """How peers reach their sockets: `ws` or `wss`, without trailing slash."""
        return self._url(self.socket_host).replace("http", "ws", 1)

    @property
    def web_url(self) -> str:
        """How browsers reach the pages, without trailing slash."""
        return self._url(self.web_host)

    @property
    def reachable_addresses(self) -> ReachableAddresses:
        """Which addresses may be asked on an admin's word."""
        return ReachableAddresses(self.outbound_networks)

    @property
    def oidc_redirect_uri(self) -> str:
        """Where identity providers send browsers back to."""
        return f"{self.web_url}{OIDC_CALLBACK_PATH}"

    def sign_in_url(self, slug: str, link: str) -> str:
        """Return the address that a one-time link stands for."""
        return f"{self.web_url}/{slug}/sign_in/link/{link}"

    def operator_sign_in_url(self, link: str) -> str:
        """Return the address that a one-time link of the operator stands for."""
        return f"{self.web_url}/operator/sign_in/link/{link}"

    @property
    def hosts(self) -> "Hosts | None":
        """Which host serves what; None if every host serves everything.

        As soon as one part has a host of its own, the others are served at the external URL's only.
        """
        if self.rest_host is None and self.socket_host is None and self.web_host is None:
            return None
        external = urlsplit(self.external_url).hostname or ""
        return Hosts(
            rest=self.rest_host or external,
            sockets=self.socket_host or external,
            web=self.web_host or external,
        )

    def _url(self, host: str | None) -> str:
        if host is None:
            return self.external_url
        external = urlsplit(self.external_url)
        port = "" if external.port is None else f":{external.port}"
        return f"{external.scheme}://{host}{port}"

    @property
    def database(self) -> Database | None:
        """Where the store is; None for in memory."""
        if self.database_url is not None or self.data_dir is None:
            return self.database_url
        return SqliteFile(self.data_dir / "wardgate.db")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The host name of each part, lower case, without port."""

    rest: str
    sockets: str
    web: str
