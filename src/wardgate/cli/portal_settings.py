"""What `init`, `portal`, `sign-in-link` and `up` have in common: the portal's settings."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

from wardgate.cli.commands import portal as options
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import Setting
from wardgate.cli.settings import Settings
from wardgate.portal.acme import certificate_file
from wardgate.portal.listening import any_address
from wardgate.portal.listening import listen as bind
from wardgate.portal.settings import DEFAULT_MAIL_FROM, AcmeSettings, PortalSettings
from wardgate.portal.strangers import Listener


def portal_settings(
    settings: Settings, *, data_dir: Path, listen: "Setting[tuple[str, int]]", known_url: str | None = None
) -> PortalSettings:
    """Read everything that one portal process is configured by.

    Args:
        listen: the setting that tells host and port of the listener.
        known_url: the external URL if none is set; None: the listener's address.

    Raises:
        UserError: naming the setting that cannot be read.
    """
    certificate, key = settings[options.TLS_CERTIFICATE], settings[options.TLS_KEY]
    if (certificate is None) != (key is None):
        raise UserError("tls_certificate and tls_key go together: give both or neither")
    host, port = settings[listen]
    acme = _acme_settings(settings)
    if acme is not None:
        certificate = key = certificate_file(data_dir, acme)
        if (host, port) == listen.default:
            host, port = any_address(), 443
        known_url = f"https://{acme.domains[0]}{'' if port == 443 else f':{port}'}"
    smtp, mail_from = settings[options.SMTP_URL], settings[options.MAIL_FROM]
    if smtp is not None and mail_from is None:
        raise UserError(
            "WARDGATE_SMTP_URL needs WARDGATE_MAIL_FROM: mail servers refuse a sender that does not exist"
        )
    if settings[options.SIGN_UP_DOMAINS] and not settings[options.SIGN_UP]:
        raise UserError("sign_up_domains is given, but sign_up is off: give both or neither")
    own_url = _url_of(host, port, is_secure=certificate is not None)
    portal = PortalSettings(
        data_dir=data_dir,
        database_url=settings[options.DATABASE_URL],
        host=host,
        port=port,
        external_url=settings[options.EXTERNAL_URL] or known_url or own_url,
        rest_host=settings[options.REST_HOST],
        socket_host=settings[options.SOCKET_HOST],
        web_host=settings[options.WEB_HOST],
        trusted_proxies=settings[options.TRUSTED_PROXIES],
        metrics_port=settings[options.METRICS_PORT],
        geoip_database=settings[options.GEOIP_DATABASE],
        country_code_blocklist=frozenset(settings[options.COUNTRY_CODE_BLOCKLIST]),
        max_connections=settings[options.MAX_CONNECTIONS] or None,
        max_connections_per_address=settings[options.MAX_CONNECTIONS_PER_ADDRESS],
        connect_refill_per_s=settings[options.CONNECT_REFILL_RATE],
        connect_capacity=settings[options.CONNECT_CAPACITY],
        api_refill_per_s=settings[options.API_REFILL_RATE],
        api_capacity=settings[options.API_CAPACITY],
        ingestion_refill_per_s=settings[options.INGESTION_REFILL_RATE],
        ingestion_capacity=settings[options.INGESTION_CAPACITY],
        record_frames=settings[options.RECORD_FRAMES],
        decision_retention_s=settings[options.DECISION_RETENTION],
        flow_log_upload_interval_s=settings[options.FLOW_LOG_UPLOAD_INTERVAL],
        flow_log_batch_size=settings[options.FLOW_LOG_BATCH_SIZE],
        tls_certificate=certificate,
        tls_key=key,
        acme=acme,
        smtp=smtp,
        mail_from=mail_from or DEFAULT_MAIL_FROM,
        sign_up=settings[options.SIGN_UP],
        sign_up_domains=settings[options.SIGN_UP_DOMAINS],
        outbound_networks=settings[options.OUTBOUND_NETWORKS],
        outbound_ca=settings[options.OUTBOUND_CA],
    )
    _check_names(portal)
    return portal


def listener_of(portal: PortalSettings) -> Listener:
    """Bind the portal's listener.

    Raises:
        UserError: the address cannot be bound.
    """
    try:
        return bind(portal.host, portal.port)
    except OSError as error:
        raise UserError(
            f"cannot listen on {portal.host}:{portal.port}: {error.strerror}; choose another address with"
            f" --listen"
        ) from error


def plain_listener_of(settings: Settings, portal: PortalSettings) -> Listener | None:
    """Bind the listener for plain HTTP, if there is to be one.

    Raises:
        UserError: the address cannot be bound.
    """
    address = settings[options.HTTP_LISTEN]
    if address is None and portal.acme is not None:
        address = (portal.host, 80)
    if address is None:
        return None
    if portal.tls_certificate is None:
        raise UserError("http_listen leads to HTTPS: it needs acme_domain, or tls_certificate and tls_key")
    try:
        return bind(*address)
    except OSError as error:
        raise UserError(
            f"cannot listen on {address[0]}:{address[1]} for plain HTTP: {error.strerror}; choose another"
            " address with --http-listen"
            + (" and lead port 80 there: an ACME server asks on it" if portal.acme is not None else "")
        ) from error


def metrics_listener_of(portal: PortalSettings) -> socket.socket | None:
    """Bind the listener for metrics, if one is configured.

    Raises:
        UserError: the port cannot be bound.
    """
    if portal.metrics_port is None:
        return None
    try:
        return bind("127.0.0.1", portal.metrics_port)
    except OSError as error:
        raise UserError(
            f"cannot serve metrics on port {portal.metrics_port}: {error.strerror}; "
            "choose another WARDGATE_METRICS_PORT"
        ) from error


def _acme_settings(settings: Settings) -> AcmeSettings | None:
    domains = settings[options.ACME_DOMAIN]
    if not domains:
        return None
    if settings[options.TLS_CERTIFICATE] is not None:
        raise UserError("acme_domain gets a certificate by itself: give no tls_certificate and tls_key")
    return AcmeSettings(
        tuple(dict.fromkeys(domain.lower() for domain in domains)),
        settings[options.ACME_DIRECTORY],
        settings[options.ACME_EMAIL],
        settings[options.ACME_CA],
    )


def _check_names(portal: PortalSettings) -> None:
    """Refuse an address of the portal's own that its certificate would not be for."""
    if portal.acme is None:
        return
    for name in (portal.external_url, portal.rest_url, portal.socket_url, portal.web_url):
        host = urlsplit(name).hostname or ""
        if host.lower() not in portal.acme.domains:
            raise UserError(f"the portal is reached as {host}, which is not in acme_domain: add it there")


def _url_of(host: str, port: int, *, is_secure: bool) -> str:
    """Return the URL of a listener, as this machine reaches it."""
    named = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    authority = f"[{named}]" if ":" in named else named
    return f"{'https' if is_secure else 'http'}://{authority}:{port}"
