from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

import pytest

from wardgate.wire.dialect import Generation
from wardgate.wire.errors import InvalidConnectParameters
from wardgate.wire.upgrade import (
    ClientParameters,
    GatewayParameters,
    RelayParameters,
    bearer_token,
    build_upgrade_request,
    parse_client_parameters,
    parse_gateway_parameters,
    parse_refusal,
    parse_relay_parameters,
    parse_retry_after,
    problem_document,
)

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLIENT = ClientParameters(external_id="laptop 1", public_key=KEY, name="Ada's", device_serial="S+1")


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://portal.example.org", "wss://portal.example.org/client/v2/websocket"),
        ("wss://portal.example.org/", "wss://portal.example.org/client/v2/websocket"),
        ("http://10.0.0.1:8080/base/", "ws://10.0.0.1:8080/base/client/v2/websocket"),
        ("ws://[2001:db8::1]:8080/?x=1", "ws://[2001:db8::1]:8080/client/v2/websocket"),
    ],
)
def test_the_configured_url_keeps_its_path_and_loses_its_query(base: str, url: str) -> None:
    request = build_upgrade_request(base_url=base, parameters=CLIENT, token="t", user_agent="ua")
    assert request.url.partition("?")[0] == url


def test_the_query_is_form_encoded_with_the_public_key_last() -> None:
    request = build_upgrade_request(base_url="https://p", parameters=CLIENT, token=" a\n b ", user_agent="ua")
    assert request.url.endswith(
        "?external_id=laptop+1&name=Ada%27s&device_serial=S%2B1"
        "&public_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8%3D"
    )
    assert dict(request.headers)["X-Authorization"] == "Bearer ab"
    assert "Bearer" not in repr(request)


def test_a_relay_announces_its_addresses_on_its_one_path() -> None:
    parameters = RelayParameters(IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"), 3478)
    request = build_upgrade_request(
        base_url="https://p", parameters=parameters, token="t", user_agent="ua", generation=Generation.V2
    )
    assert request.url == "wss://p/relay/websocket?ipv4=192.0.2.1&ipv6=2001%3Adb8%3A%3A1&port=3478"


@pytest.mark.parametrize("base", ["", "portal.example.org", "ftp://x", "https://", "//x"])
def test_what_is_no_portal_url_is_refused_with_an_example(base: str) -> None:
    with pytest.raises(ValueError, match="https://portal"):
        build_upgrade_request(base_url=base, parameters=CLIENT, token="t", user_agent="ua")


def test_the_header_goes_before_the_query_and_its_prefix_is_exact() -> None:
    assert bearer_token({"x-authorization": "Bearer a"}, {"token": "b"}) == "a"
    assert bearer_token({"x-authorization": "bearer a"}, {"token": "b"}) == "b"
    assert bearer_token({"x-authorization": "Bearer "}, {}) is None
    assert bearer_token({}, {}) is None


def test_the_legacy_name_of_the_external_id_is_accepted_and_blank_means_absent() -> None:
    parsed = parse_client_parameters({"firezone_id": " x ", "public_key": KEY, "name": "  "})
    assert (parsed.external_id, parsed.name) == ("x", None)


def test_every_bad_field_is_reported_with_its_name() -> None:
    with pytest.raises(InvalidConnectParameters) as caught:
        parse_client_parameters({"external_id": "", "public_key": "short", "name": "n" * 256})
    assert str(caught.value) == (
        "external_id can't be blank; public_key should be 44 character(s); name should be at most 255 character(s)"
    )


@pytest.mark.parametrize("key", ["!" * 44, "A" * 44, "é" * 44])
def test_a_public_key_must_be_base64_of_32_bytes(key: str) -> None:
    with pytest.raises(InvalidConnectParameters, match="public_key must be a base64"):
        parse_gateway_parameters({"external_id": "x", "public_key": key})


def test_a_gateway_needs_no_name() -> None:
    assert parse_gateway_parameters({"external_id": "x", "public_key": KEY}) == GatewayParameters(
        "x", KEY, None
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"ipv4": "::1"}, "ipv4"),
        ({"ipv6": "1.2.3.4"}, "ipv6"),
        ({"port": "0"}, "port"),
        ({"port": "٣٤٧٨"}, "port"),
    ],
)
def test_a_relays_addresses_are_parsed_strictly(query: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidConnectParameters, match=f"{field} is invalid"):
        parse_relay_parameters(query)


def test_a_relay_without_a_port_listens_on_the_default_one() -> None:
    assert parse_relay_parameters({"ipv4": "192.0.2.1"}).port == 3478


def test_401_alone_stops_a_peer() -> None:
    body = problem_document(401, "invalid_token", "Invalid token")
    refusal = parse_refusal(401, {"content-type": "application/problem+json; charset=utf-8"}, body, now=NOW)
    assert refusal.is_fatal
    assert refusal.code == "invalid_token"
    assert refusal.detail == "Invalid token"
    for status in (400, 402, 403, 404, 409, 429, 500, 503):
        assert not parse_refusal(status, {}, b"", now=NOW).is_fatal


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"code":1}', b"\xff", b"[" * 100_000])
def test_a_401_of_a_proxy_is_fatal_and_names_no_code(body: bytes) -> None:
    refusal = parse_refusal(401, {"content-type": "application/problem+json"}, body, now=NOW)
    assert refusal.is_fatal
    assert refusal.code is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("soon", None),
        ("-1", None),
        ("1", 1.0),
        (" 30 ", 30.0),
        ("Sun, 22 Nov 2026 12:00:05 GMT", 5.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, now=NOW) == seconds


def test_a_date_without_a_zone_is_utc() -> None:
    later = (NOW + timedelta(seconds=9)).strftime("%a, %d %b %Y %H:%M:%S -0000")
    assert parse_retry_after(later, now=NOW) == 9.0
