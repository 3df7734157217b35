"""How the portal is served: what `wardgate portal` makes of its settings, and what it refuses in one line."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from wardgate.cli.commands.portal import LISTEN
from wardgate.cli.errors import UserError
from wardgate.cli.portal_settings import portal_settings
from wardgate.cli.settings import Settings
from wardgate.portal.settings import Hosts, PortalSettings


def test_by_default_nobody_is_trusted_and_any_host_will_do() -> None:
    settings = _read()
    assert settings.trusted_proxies == ()
    assert settings.hosts is None
    assert not settings.is_secure
    assert settings.rest_url == settings.web_url == "http://127.0.0.1:8080"
    assert settings.socket_url == "ws://127.0.0.1:8080"


def test_what_nobody_sets_is_what_the_portal_has_by_default() -> None:
    assert _read() == replace(PortalSettings(), data_dir=Path("/data"))


def test_a_part_without_a_host_of_its_own_is_at_the_external_urls() -> None:
    settings = _read(external_url="https://Portal.Example.org", rest_host="API.example.org")
    assert settings.hosts == Hosts(
        rest="api.example.org", sockets="portal.example.org", web="portal.example.org"
    )
    assert settings.rest_url == "https://api.example.org"


def test_mail_goes_nowhere_until_a_server_is_named() -> None:
    assert _read().smtp is None
    settings = _read(smtp_url="smtps://ada:s3cret@mail.example.org", mail_from="Wardgate <w@example.org>")
    assert settings.smtp is not None
    assert (settings.smtp.host, settings.smtp.port, settings.smtp.password) == (
        "mail.example.org",
        465,
        "s3cret",
    )
    assert settings.mail_from == "Wardgate <w@example.org>"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"smtp_url": "https://ada:s3cret@mail.example.org"}, "^WARDGATE_SMTP_URL: "),
        ({"mail_from": "nobody"}, "^WARDGATE_MAIL_FROM: 'nobody' is not"),
        ({"smtp_url": "smtp://mail.example.org"}, "needs WARDGATE_MAIL_FROM"),
    ],
)
def test_a_mail_server_or_sender_that_cannot_be_read_is_refused_without_its_password(
    given: dict[str, str], told: str
) -> None:
    with pytest.raises(UserError, match=told) as refusal:
        _read(**given)
    assert "s3cret" not in str(refusal.value)


def test_trusted_proxies_are_addresses_and_networks() -> None:
    settings = _read(trusted_proxies="127.0.0.1, 10.0.0.0/8, 2001:db8::/32")
    assert settings.trusted_proxies == tuple(
        ip_network(text) for text in ("127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32")
    )


def test_private_networks_are_asked_only_if_named() -> None:
    assert ip_address("10.20.0.1") not in _read().reachable_addresses
    settings = _read(outbound_networks="10.20.0.0/16, fd12::/32", outbound_ca="/etc/ca.pem")
    assert ip_address("10.20.0.1") in settings.reachable_addresses
    assert settings.outbound_ca == Path("/etc/ca.pem")


def test_a_certificate_makes_the_url_https() -> None:
    settings = _read(tls_certificate="/etc/portal.crt", tls_key="/etc/portal.key")
    assert settings.is_secure
    assert settings.external_url == "https://127.0.0.1:8080"


def test_with_an_acme_domain_the_portal_serves_https_on_the_usual_ports() -> None:
    settings = _read(acme_domain="Portal.example.org, api.example.org", rest_host="api.example.org")
    assert settings.acme is not None
    assert settings.acme.domains == ("portal.example.org", "api.example.org")
    assert settings.acme.directory_url.startswith("https://")
    assert (settings.host in ("::", "0.0.0.0"), settings.port) == (True, 443)
    assert settings.external_url == "https://portal.example.org"
    assert settings.tls_certificate == settings.tls_key
    assert str(settings.tls_certificate).startswith("/data/acme/")


def test_another_acme_server_begins_with_a_file_of_its_own() -> None:
    files = {
        _read(acme_domain="portal.example.org", **given).tls_certificate
        for given in ({}, {"acme_directory": "https://ca.example.org:14000/dir"})
    }
    assert len(files) == 2


def test_a_listener_that_is_named_stays_with_an_acme_domain() -> None:
    settings = _read(acme_domain="portal.example.org", listen="127.0.0.1:8443")
    assert (settings.host, settings.port) == ("127.0.0.1", 8443)
    assert settings.external_url == "https://portal.example.org:8443"


def test_rates_countries_and_the_ip_database_are_the_operators_to_set() -> None:
    settings = _read(
        connect_refill_rate="0.5",
        connect_capacity="20",
        api_refill_rate="2.5",
        api_capacity="50",
        ingestion_refill_rate="3",
        ingestion_capacity="60",
        max_connections="5000",
        max_connections_per_address="100",
        country_code_blocklist="kp, SY",
        geoip_database="/var/lib/GeoIP/GeoLite2-City.mmdb",
    )
    assert (settings.connect_refill_per_s, settings.connect_capacity) == (0.5, 20)
    assert (settings.api_refill_per_s, settings.api_capacity) == (2.5, 50)
    assert (settings.ingestion_refill_per_s, settings.ingestion_capacity) == (3, 60)
    assert (settings.max_connections, settings.max_connections_per_address) == (5000, 100)
    assert settings.country_code_blocklist == {"KP", "SY"}
    assert settings.geoip_database == Path("/var/lib/GeoIP/GeoLite2-City.mmdb")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"trusted_proxies": "proxy.example.org"}, "trusted_proxies"),
        ({"tls_certificate": "/etc/portal.crt"}, "tls_key"),
        ({"acme_domain": "https://portal.example.org"}, "acme_domain"),
        ({"acme_domain": "a.example", "acme_directory": "http://ca.example/dir"}, "acme_directory"),
        ({"acme_domain": "a.example", "tls_certificate": "/c", "tls_key": "/k"}, "acme_domain"),
        ({"acme_domain": "a.example", "external_url": "https://b.example"}, "b.example"),
        ({"acme_domain": "a.example", "web_host": "www.a.example"}, "www.a.example"),
        ({"rest_host": "https://api.example.org"}, "rest_host"),
        ({"socket_host": "connect.example.org:443"}, "socket_host"),
        ({"web_host": "-.example.org"}, "web_host"),
        ({"external_url": "portal.example.org"}, "external_url"),
        ({"external_url": "https://"}, "external_url"),
        ({"external_url": "https://portal.example.org/wardgate"}, "external_url"),
        ({"external_url": "https://portal.example.org:99999"}, "external_url"),
        ({"external_url": "https://ada@portal.example.org"}, "external_url"),
        ({"external_url": "https://[::1"}, "external_url"),
        ({"metrics_port": "many"}, "METRICS_PORT"),
        ({"metrics_port": "65536"}, "metrics_port"),
        ({"metrics_port": "-1"}, "metrics_port"),
        ({"country_code_blocklist": "DE,Nowhere"}, "'Nowhere'"),
        ({"country_code_blocklist": "EU"}, "'EU'"),
        ({"connect_refill_rate": "0"}, "connect_refill_rate"),
        ({"connect_refill_rate": "-1"}, "connect_refill_rate"),
        ({"connect_refill_rate": "often"}, "CONNECT_REFILL_RATE"),
        ({"connect_capacity": "0.5"}, "connect_capacity"),
        ({"connect_capacity": "inf"}, "CONNECT_CAPACITY"),
        ({"api_refill_rate": "0"}, "api_refill_rate"),
        ({"max_connections": "-1"}, "max_connections"),
        ({"max_connections_per_address": "many"}, "MAX_CONNECTIONS_PER_ADDRESS"),
        ({"api_capacity": "-200"}, "api_capacity"),
        ({"flow_log_upload_interval": "2d"}, "flow_log_upload_interval"),
        ({"decision_retention": "5m"}, "decision_retention"),
        ({"flow_log_batch_size": "0"}, "flow_log_batch_size"),
        ({"flow_log_batch_size": "10001"}, "flow_log_batch_size"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(given: dict[str, str], named: str) -> None:
    with pytest.raises(UserError) as refused:
        _read(**given)
    assert named.upper() in str(refused.value).upper()
    assert "\n" not in str(refused.value)


def _read(**given: str) -> PortalSettings:
    environment = {f"WARDGATE_{name.upper()}": value for name, value in given.items()}
    settings = Settings("portal", environment)
    return portal_settings(settings, data_dir=Path("/data"), listen=LISTEN)
