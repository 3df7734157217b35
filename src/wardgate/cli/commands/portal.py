"""`wardgate portal`: its settings. `init`, `db`, `sign-in-link` and `up` read some of them too.

Readers that need the portal's own modules import them when they read: help and completion need none.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import shared
from wardgate.cli.parameters import CONFIG, Form, Setting
from wardgate.model.addresses import IpNetwork

if TYPE_CHECKING:
    from wardgate.portal.mail.server import SmtpServer
    from wardgate.portal.store import Database


LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"


def read_database(text: str) -> "Database":
    """Read the URL of a database; the message repeats no password."""
    from wardgate.portal.store import parse_database_url

    return parse_database_url(text)


def _smtp_server(text: str) -> "SmtpServer":
    from wardgate.portal.mail.server import SmtpServer

    return SmtpServer.parse(values.secret(text))


def _sender(text: str) -> str:
    from wardgate.portal.mail.message import is_sender

    if not is_sender(text):
        raise ValueError(f"{text!r} is not wardgate@example.org or Wardgate <wardgate@example.org>")
    return text


def _country(text: str) -> str:
    from wardgate.portal.geography import is_country

    code = text.upper()
    if not is_country(code):
        raise ValueError(f"{text!r} is not a country's code such as DE or US")
    return code


DATA_DIR: Final = Setting[Path | None](
    name="data_dir",
    help="directory with the master secret, the lock and the SQLite database",
    read=values.path,
    default=None,
    value="DIRECTORY",
    fallback="/var/lib/wardgate for root and the service's user, else ~/.local/share/wardgate",
)
DATABASE_URL: "Final[Setting[Database | None]]" = Setting(
    name="database_url",
    help="URL of the database, such as postgresql://wardgate@db.example.org/wardgate",
    read=read_database,
    default=None,
    value="URL",
    notes="[Databases](databases.md). A URL with a password belongs in the environment or in a file",
    fallback="SQLite in the data directory",
)
LISTEN: Final = Setting(
    name="listen",
    help="address and port of the only public listener",
    read=values.listener,
    default=("127.0.0.1", 8080),
    written_default="127.0.0.1:8080",
    value="HOST:PORT",
    notes="With `acme_domain` the default is port 443 of every address",
)
EXTERNAL_URL: Final = Setting[str | None](
    name="external_url",
    help="how people and peers reach the portal",
    read=values.origin,
    default=None,
    value="URL",
    notes="`https://` makes cookies `Secure` and turns HSTS on",
    fallback="the listener's address",
)
REST_HOST: Final = Setting[str | None](
    name="rest_host",
    help="host name of the REST API, if it has its own",
    read=values.host_name,
    default=None,
    value="HOST",
    notes="[A host each](deploy/README.md#a-host-each)",
)
SOCKET_HOST: Final = Setting[str | None](
    name="socket_host",
    help="host name of the control channels, if they have their own",
    read=values.host_name,
    default=None,
    value="HOST",
)
WEB_HOST: Final = Setting[str | None](
    name="web_host",
    help="host name of the pages, if they have their own",
    read=values.host_name,
    default=None,
    value="HOST",
)
TLS_CERTIFICATE: Final = Setting[Path | None](
    name="tls_certificate",
    help="PEM file with the certificate and its chain; reloaded when it changes",
    read=values.path,
    default=None,
    value="FILE",
)
TLS_KEY: Final = Setting[Path | None](
    name="tls_key",
    help="PEM file with its key, without a password",
    read=values.path,
    default=None,
    value="FILE",
)
ACME_DOMAIN: Final = Setting[tuple[str, ...]](
    name="acme_domain",
    help="host names for which the portal gets a certificate by itself and renews it, by which you agree to the"
    " terms of the authority",
    read=values.list_of(values.host_name),
    default=(),
    value="LIST",
    notes="[A certificate by itself](deploy/README.md#a-certificate-by-itself)",
)
ACME_DIRECTORY: Final = Setting(
    name="acme_directory",
    help="directory of the ACME server that issues it",
    read=values.https_url,
    default=LETS_ENCRYPT,
    value="URL",
)
ACME_EMAIL: Final = Setting[str | None](
    name="acme_email",
    help="address that the server may write to",
    read=values.text,
    default=None,
    value="ADDRESS",
)
ACME_CA: Final = Setting[Path | None](
    name="acme_ca",
    help="PEM file with what signs the certificate of an ACME server of your own",
    read=values.path,
    default=None,
    value="FILE",
    fallback="the usual authorities",
)
HTTP_LISTEN: Final = Setting[tuple[str, int] | None](
    name="http_listen",
    help="address and port where plain HTTP is answered: with the way to HTTPS, and with what an ACME server"
    " asks for",
    read=values.listener,
    default=None,
    value="HOST:PORT",
    fallback="port 80 with `acme_domain`, else none",
)
TRUSTED_PROXIES: Final = Setting[tuple[IpNetwork, ...]](
    name="trusted_proxies",
    help="addresses and networks whose X-Forwarded-… and X-Geo-… headers are believed",
    read=values.list_of(values.network),
    default=(),
    value="LIST",
    notes="[Deployment](deploy/README.md)",
)
METRICS_PORT: Final = Setting[int | None](
    name="metrics_port",
    help="port on 127.0.0.1 for metrics",
    read=values.port,
    default=None,
    value="PORT",
    notes="[Metrics](metrics.md)",
    fallback="no listener",
)
SMTP_URL: "Final[Setting[SmtpServer | None]]" = Setting(
    name="smtp_url",
    help="where mail goes, such as smtps://user:password@mail.example.org",
    read=_smtp_server,
    default=None,
    form=Form.ABSENT,
    notes="[Mail](deploy/README.md#mail)",
    fallback="no mail is sent",
)
MAIL_FROM: Final = Setting[str | None](
    name="mail_from",
    help="sender of every mail, needed with WARDGATE_SMTP_URL: an address, or Wardgate <wardgate@example.org>",
    read=_sender,
    default=None,
    value="SENDER",
)
SIGN_UP: Final = Setting(
    name="sign_up",
    help="let anybody with a mailbox make an account",
    read=values.boolean,
    default=False,
    form=Form.SWITCH,
    notes="[Sign-up](sign-in.md#sign-up)",
)
SIGN_UP_DOMAINS: Final = Setting[tuple[str, ...]](
    name="sign_up_domains",
    help="only with an address of these domains, such as example.org",
    read=values.list_of(values.host_name),
    default=(),
    value="LIST",
    fallback="any",
)
OUTBOUND_NETWORKS: Final = Setting[tuple[IpNetwork, ...]](
    name="outbound_networks",
    help="private networks in which identity providers may be asked; public addresses always may",
    read=values.list_of(values.network),
    default=(),
    value="LIST",
    notes="[A provider on a private network](deploy/README.md#identity-providers-on-private-networks)",
)
OUTBOUND_CA: Final = Setting[Path | None](
    name="outbound_ca",
    help="PEM file with authorities that may have signed identity providers' certificates, besides the system's",
    read=values.path,
    default=None,
    value="FILE",
)
GEOIP_DATABASE: Final = Setting[Path | None](
    name="geoip_database",
    help="file with an IP database in MaxMind's format",
    read=values.path,
    default=None,
    value="FILE",
    notes="[Where addresses are](deploy/README.md#where-addresses-are)",
)
COUNTRY_CODE_BLOCKLIST: Final = Setting[tuple[str, ...]](
    name="country_code_blocklist",
    help="countries (KP,SY) whose requests and connections are answered with 403; only health answers them",
    read=values.list_of(_country),
    default=(),
    value="LIST",
)
MAX_CONNECTIONS: Final = Setting(
    name="max_connections",
    help="most connections of peers and browsers together; 0: as many as the process may have descriptors,"
    " less 128",
    read=values.whole_number_within(0, 10_000_000),
    default=0,
    value="N",
)
MAX_CONNECTIONS_PER_ADDRESS: Final = Setting(
    name="max_connections_per_address",
    help="most of them from one address (one /64 of IPv6) before they have presented a valid token; trusted"
    " proxies are not counted",
    read=values.whole_number_within(1, 10_000_000),
    default=1024,
    value="N",
)
CONNECT_REFILL_RATE: Final = Setting(
    name="connect_refill_rate",
    help="rate limit of connects: tokens per second, address and token; a connect takes 1",
    read=values.number_from(0.001),
    default=1.0,
    value="N",
)
CONNECT_CAPACITY: Final = Setting(
    name="connect_capacity",
    help="rate limit of connects: tokens that can be saved up",
    read=values.number_from(1),
    default=1.0,
    value="N",
)
API_REFILL_RATE: Final = Setting(
    name="api_refill_rate",
    help="rate limit of REST: tokens per second and account; a call takes 10; an account's own limits come"
    " first",
    read=values.number_from(0.001),
    default=10.0,
    value="N",
)
API_CAPACITY: Final = Setting(
    name="api_capacity",
    help="rate limit of REST: tokens that can be saved up",
    read=values.number_from(1),
    default=200.0,
    value="N",
)
INGESTION_REFILL_RATE: Final = Setting(
    name="ingestion_refill_rate",
    help="rate limit of flow reports: requests per second and address; a gateway sends one for each"
    " authorization in use, every interval",
    read=values.number_from(0.001),
    default=10.0,
    value="N",
)
INGESTION_CAPACITY: Final = Setting(
    name="ingestion_capacity",
    help="rate limit of flow reports: requests that can be saved up",
    read=values.number_from(1),
    default=200.0,
    value="N",
)
DECISION_RETENTION: Final = Setting(
    name="decision_retention",
    help="how long answers to access requests are kept, with their explanations; at least an hour",
    read=values.whole_seconds_within(3600, 100 * 365 * 86_400),
    default=90 * 86_400,
    written_default="90d",
    value="DURATION",
)
FLOW_LOG_UPLOAD_INTERVAL: Final = Setting(
    name="flow_log_upload_interval",
    help="how often clients and gateways report flows; 0: never",
    notes="Published ones can only if the portal is reached by `https` on port 443: elsewhere they are told not to",
    read=values.whole_seconds_within(0, 86_400),
    default=60,
    written_default="60s",
    value="DURATION",
)
FLOW_LOG_BATCH_SIZE: Final = Setting(
    name="flow_log_batch_size",
    help="most flows that they report at a time",
    read=values.whole_number_within(1, 10_000),
    default=1000,
    value="N",
)
RECORD_FRAMES: Final = Setting[Path | None](
    name="record_frames",
    help="directory for transcripts of all control channels, one file each",
    read=values.path,
    default=None,
    value="DIR",
    notes="For a while, to look at one peer: `wardgate protocol replay FILE` reads them. Secrets are taken out, names"
    " and addresses are not; at most 1,000 files of 4 MiB",
    fallback="nothing is recorded",
)
LOG_FORMAT: Final = shared.LOG_FORMAT
LOG_LEVEL: Final = shared.LOG_LEVEL

SETTINGS: Final = (
    DATA_DIR, DATABASE_URL, LISTEN, EXTERNAL_URL, REST_HOST, SOCKET_HOST, WEB_HOST, TLS_CERTIFICATE, TLS_KEY,
    ACME_DOMAIN, ACME_DIRECTORY, ACME_EMAIL, ACME_CA, HTTP_LISTEN,
    TRUSTED_PROXIES, METRICS_PORT, SMTP_URL, MAIL_FROM, SIGN_UP, SIGN_UP_DOMAINS, OUTBOUND_NETWORKS, OUTBOUND_CA,
    GEOIP_DATABASE,
    COUNTRY_CODE_BLOCKLIST,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS, CONNECT_REFILL_RATE, CONNECT_CAPACITY, API_REFILL_RATE, API_CAPACITY,
    INGESTION_REFILL_RATE, INGESTION_CAPACITY,
    DECISION_RETENTION,
    FLOW_LOG_UPLOAD_INTERVAL, FLOW_LOG_BATCH_SIZE, RECORD_FRAMES, LOG_FORMAT, LOG_LEVEL,
)  # fmt: skip

COMMAND: Final = Command(
    name="portal",
    help="Run the portal: sign-in, REST API, policy engine, control channels.",
    details="Everything is served by one listener. Create the data directory with `wardgate init` first.",
    parameters=(*SETTINGS, CONFIG),
    examples=(
        "wardgate portal --data-dir ./data --listen 0.0.0.0:8080 --external-url https://portal.example.org",
        "wardgate portal --acme-domain portal.example.org",
        "WARDGATE_CONFIG=/etc/wardgate.toml wardgate portal --log-format json",
    ),
    section="portal",
    run="wardgate.cli.portal:run",
)
