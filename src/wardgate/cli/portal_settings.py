"""What `init`, `portal`, `sign-in-link` and `up` have in common: the portal's settings."""

import re
import socket
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from wardgate.cli.errors import UserError
from wardgate.cli.settings import Settings
from wardgate.portal.geography import is_country
from wardgate.portal.listening import listen
from wardgate.portal.mail.message import is_sender
from wardgate.portal.mail.server import SmtpServer
from wardgate.portal.settings import DEFAULT_MAIL_FROM, DEFAULT_PORT, PortalSettings
from wardgate.portal.store import Database, parse_database_url
from wardgate.portal.strangers import Listener

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


def parse_listen(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, `[::]:PORT`, `:PORT` or `PORT`.

    Raises:
        UserError: anything else.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 65536) or (
        ":" in host and not host.startswith("[")
    ):
        raise UserError(f"--listen {text!r} is not HOST:PORT, such as 127.0.0.1:8080 or [::]:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def portal_settings(
    settings: Settings,
    *,
    data_dir: Path,
    listen: str | None,
    external_url: str | None,
    known_url: str | None = None,
) -> PortalSettings:
    """Read everything that one portal process is configured by.

    Args:
        known_url: the external URL if none is set; none: the listener's address.

    Raises:
        UserError: naming the setting that cannot be read.
    """
    host, port = parse_listen(settings.text("listen", listen, f"127.0.0.1:{DEFAULT_PORT}"))
    smtp = _smtp(settings)
    certificate, key = settings.path("tls_certificate", None, None), settings.path("tls_key", None, None)
    if (certificate is None) != (key is None):
        raise UserError("tls_certificate and tls_key go together: give both or neither")
    return PortalSettings(
        data_dir=data_dir,
        database_url=database_of(settings, None),
        host=host,
        port=port,
        external_url=external_url_of(
            settings, external_url, host, port, is_secure=certificate is not None, known=known_url
        ),
        rest_host=_host(settings, "rest_host"),
        socket_host=_host(settings, "socket_host"),
        web_host=_host(settings, "web_host"),
        trusted_proxies=tuple(_network(text) for text in settings.texts("trusted_proxies", None, [])),
        metrics_port=_metrics_port(settings),
        geoip_database=settings.path("geoip_database", None, None),
        country_code_blocklist=frozenset(
            _country(text) for text in settings.texts("country_code_blocklist", None, [])
        ),
        max_connections=_within(
            "max_connections", settings.integer("max_connections", None, 0), (0, 10_000_000)
        )
        or None,
        max_connections_per_address=_within(
            "max_connections_per_address",
            settings.integer("max_connections_per_address", None, 1024),
            (1, 10_000_000),
        ),
        connect_refill_per_s=_positive(
            "connect_refill_rate", settings.number("connect_refill_rate", None, 1)
        ),
        connect_capacity=_positive(
            "connect_capacity", settings.number("connect_capacity", None, 1), at_least=1
        ),
        api_refill_per_s=_positive("api_refill_rate", settings.number("api_refill_rate", None, 10)),
        api_capacity=_positive("api_capacity", settings.number("api_capacity", None, 200), at_least=1),
        decision_retention_s=_within(
            "decision_retention",
            int(settings.duration_s("decision_retention", None, 90 * 86_400)),
            (3600, 100 * 365 * 86_400),
        ),
        flow_log_upload_interval_s=_within(
            "flow_log_upload_interval",
            int(settings.duration_s("flow_log_upload_interval", None, 60)),
            (0, 86_400),
        ),
        flow_log_batch_size=_within(
            "flow_log_batch_size", settings.integer("flow_log_batch_size", None, 1000), (1, 10_000)
        ),
        tls_certificate=certificate,
        tls_key=key,
        smtp=smtp,
        mail_from=_mail_from(settings, is_needed=smtp is not None) or DEFAULT_MAIL_FROM,
    )


def listener_of(portal: PortalSettings) -> Listener:
    """Bind the portal's listener.

    Raises:
        UserError: the address cannot be bound.
    """
    try:
        return listen(portal.host, portal.port)
    except OSError as error:
        raise UserError(
            f"cannot listen on {portal.host}:{portal.port}: {error.strerror}; choose another address with --listen"
        ) from error


def metrics_listener_of(portal: PortalSettings) -> socket.socket | None:
    """Bind the listener for metrics, if there shall be one.

    Raises:
        UserError: the port cannot be bound.
    """
    if portal.metrics_port is None:
        return None
    try:
        return listen("127.0.0.1", portal.metrics_port)
    except OSError as error:
        raise UserError(
            f"cannot serve metrics on port {portal.metrics_port}: {error.strerror}; "
            "choose another WARDGATE_METRICS_PORT"
        ) from error


def external_url_of(
    settings: Settings,
    flag: str | None,
    host: str,
    port: int,
    *,
    is_secure: bool = False,
    known: str | None = None,
) -> str:
    """Return how the portal is reached from outside, without trailing slash.

    Raises:
        UserError: not an http or https URL.
    """
    named = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    authority = f"[{named}]" if ":" in named else named
    default = f"{'https' if is_secure else 'http'}://{authority}:{port}"
    url = settings.text("external_url", flag, known or default).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"--external-url {url!r} does not begin with http:// or https://")
    if not _is_origin(url):
        raise UserError(f"--external-url {url!r} is more or less than https://HOST or https://HOST:PORT")
    return url


def _is_origin(url: str) -> bool:
    """Tell whether there is a host, perhaps a port, and nothing else: the portal serves no part of another site."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and "@" not in parts.netloc and url.count("/") == 2


def database_of(settings: Settings, flag: str | None) -> Database | None:
    """Return the database that `WARDGATE_DATABASE_URL` names; none: SQLite in the data directory.

    Raises:
        UserError: it cannot be read; the URL is not repeated, it may hold a password.
    """
    text = settings.text("database_url", flag, None)
    if text is None:
        return None
    try:
        return parse_database_url(text)
    except ValueError as error:
        named = "WARDGATE_DATABASE_URL" if flag is None else "--database-url"
        raise UserError(f"{named} cannot be read: {error}") from error


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise UserError(f"trusted_proxies: {error}") from error


def _smtp(settings: Settings) -> SmtpServer | None:
    url = settings.secret("smtp_url", None, None)
    if url is None:
        return None
    try:
        return SmtpServer.parse(url)
    except ValueError as error:
        raise UserError(f"WARDGATE_SMTP_URL cannot be read: {error}") from error


def _mail_from(settings: Settings, *, is_needed: bool) -> str | None:
    sender = settings.text("mail_from", None, None)
    if sender is None:
        if is_needed:
            raise UserError(
                "WARDGATE_SMTP_URL needs WARDGATE_MAIL_FROM: mail servers refuse a sender that is nowhere"
            )
    elif not is_sender(sender):
        raise UserError(
            f"mail_from: {sender!r} is not wardgate@example.org or Wardgate <wardgate@example.org>"
        )
    return sender


def _metrics_port(settings: Settings) -> int | None:
    port = settings.integer("metrics_port", None, None)
    if port is not None and not 0 < port < 65536:
        raise UserError(f"metrics_port: {port} is no port: one between 1 and 65535 is")
    return port


def _country(text: str) -> str:
    code = text.upper()
    if not is_country(code):
        raise UserError(f"country_code_blocklist: {text!r} is not a country's code such as DE or US")
    return code


def _positive(name: str, number: float, *, at_least: float = 0.001) -> float:
    if number < at_least:
        raise UserError(f"{name}: {number:g} is too little, it must be {at_least:g} at least")
    return number


def _within(name: str, number: int, bounds: tuple[int, int]) -> int:
    first, last = bounds
    if not first <= number <= last:
        raise UserError(f"{name}: {number} is not between {first} and {last}")
    return number


def _host(settings: Settings, name: str) -> str | None:
    host = settings.text(name, None, None)
    if host is None:
        return None
    if _HOST.fullmatch(host.lower()) is None:
        raise UserError(
            f"{name}: {host!r} is not a host name such as api.example.org, without scheme and port"
        )
    return host.lower()
