"""Whom the portal believes where a request comes from: on REST, pages and sockets alike."""

from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from support.api_requests import newest_api_requests
from support.browser import caller, make_api_token, sign_in_link
from support.portal import World, make_world, portal_running
from wardgate.portal.geography import Geography
from wardgate.portal.http.origin import read_origin, scheme_of
from wardgate.portal.settings import PortalSettings

PROXIES = (ip_network("192.0.2.0/24"), ip_network("2001:db8:ffff::/48"))
GEOGRAPHY = Geography()
SPOOFED = {
    "x-forwarded-for": "198.51.100.66",
    "x-forwarded-proto": "https",
    "x-geo-location-region": "AQ",
    "x-geo-location-city": "McMurdo",
    "x-geo-location-coordinates": "-77.8,166.7",
}


@pytest.fixture(params=["direct", "proxied"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """An installation that trusts no proxy, and one behind a proxy at 192.0.2.0/24."""
    trusted = PROXIES if request.param == "proxied" else ()
    settings = PortalSettings(trusted_proxies=trusted, connect_capacity=100.0, api_capacity=1000.0)
    async with portal_running(settings) as portal:
        yield await make_world(portal)


async def test_sockets_pages_and_rest_agree_on_the_origin(world: World) -> None:
    headers = {**SPOOFED, "x-forwarded-for": "198.51.100.66, 203.0.113.9, 192.0.2.77"}
    is_proxied = bool(world.portal.services.settings.trusted_proxies)
    async with world.client(headers=headers, remote_ip="192.0.2.9") as client:
        await client.join()
    await world.portal.journal.flush()
    token, _ = await make_api_token(world)
    async with caller(world.portal, token, **headers) as api:
        await api.get("/account")
    async with caller(world.portal, **headers) as browser:
        await browser.get(await sign_in_link(world))
    async with world.portal.services.store.reading() as transaction:
        tables = transaction.of(world.account_id)
        (device,) = await tables.devices.load_all()
        (session,) = await tables.portal_sessions.load_all()
        (request,) = await newest_api_requests(transaction.of(world.account_id), limit=10)
    expected = "203.0.113.9" if is_proxied else "192.0.2.9"
    assert (device.last_seen_remote_ip, session.remote_ip, request.ip) == (expected, expected, expected)
    region = "AQ" if is_proxied else None
    assert (device.last_seen_remote_ip_location_region, request.ip_region) == (region, region)
    lat = -77.8 if is_proxied else None
    assert (device.last_seen_remote_ip_location_lat, request.ip_lat) == (lat, lat)


async def test_the_scheme_of_a_redirect_is_the_trusted_proxys(world: World) -> None:
    is_proxied = bool(world.portal.services.settings.trusted_proxies)
    async with caller(world.portal, **SPOOFED) as browser:
        answer = await browser.get("/acme/live/")
    scheme = "https" if is_proxied else "http"
    assert answer.headers["location"] == f"{scheme}://portal.example/acme/live"


@pytest.mark.parametrize(
    ("lines", "seen"),
    [
        ([], "192.0.2.9"),
        ([""], "192.0.2.9"),
        (["203.0.113.9"], "203.0.113.9"),
        (["198.51.100.66, 203.0.113.9"], "203.0.113.9"),
        (["198.51.100.66", "203.0.113.9"], "203.0.113.9"),
        (["198.51.100.66, 203.0.113.9", "192.0.2.77"], "203.0.113.9"),
        (["203.0.113.9,192.0.2.77 , 2001:db8:ffff::1"], "203.0.113.9"),
        (["192.0.2.77, 192.0.2.78"], "192.0.2.77"),
        (["198.51.100.66, unknown"], "192.0.2.9"),
        ([","], "192.0.2.9"),
        (["203.0.113.9,"], "203.0.113.9"),
        (["203.0.113.9, ,\t, "], "203.0.113.9"),
        ([", 203.0.113.9"], "203.0.113.9"),
        (["198.51.100.66,,203.0.113.9,,192.0.2.77,"], "203.0.113.9"),
        (["198.51.100.66", "", "203.0.113.9", ""], "203.0.113.9"),
        (["198.51.100.66, unknown, "], "192.0.2.9"),
        (['198.51.100.66, ""'], "192.0.2.9"),
        (['"203.0.113.9"'], "203.0.113.9"),
        (['"203.0.113.9:4711"'], "203.0.113.9"),
        (['"[2001:db8::7]:4711"'], "2001:db8::7"),
        (['198.51.100.66, "203.0.113.9'], "192.0.2.9"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["198.51.100.66, [2001:db8::7"], "192.0.2.9"),
        (["198.51.100.66, [203.0.113.9]"], "192.0.2.9"),
        (["198.51.100.66, [2001:db8::7]x"], "192.0.2.9"),
        (["198.51.100.66, [2001:db8::7]:http"], "192.0.2.9"),
        (["198.51.100.66, []:80"], "192.0.2.9"),
        (["198.51.100.66, :80"], "192.0.2.9"),
        (["198.51.100.66, 203.0.113.9:"], "192.0.2.9"),
        (["198.51.100.66, 203.0.113.9:http"], "192.0.2.9"),
        (["203.0.113.9:_hidden"], "203.0.113.9"),
        (["198.51.100.66, for=203.0.113.9"], "192.0.2.9"),
        (["198.51.100.66, 203.0.113.9 203.0.113.10"], "192.0.2.9"),
        (["198.51.100.66, unknown, 192.0.2.77"], "192.0.2.77"),
        (["203.0.113.9:4711"], "203.0.113.9"),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, ::ffff:192.0.2.77"], "203.0.113.9"),
        (["203.0.113.9\x00"], "192.0.2.9"),
        (["fe80::1%eth0"], "192.0.2.9"),
        ([",".join(["192.0.2.1"] * 5000)], "192.0.2.1"),
    ],
)
def test_the_right_most_address_that_no_trusted_proxy_has_counts(lines: list[str], seen: str) -> None:
    scope = _scope([("X-Forwarded-For", line) for line in lines])
    assert read_origin(scope, PROXIES, GEOGRAPHY).remote_ip == ip_address(seen)
    assert read_origin(scope, (), GEOGRAPHY).remote_ip == ip_address("192.0.2.9")


def test_of_a_repeated_header_the_nearest_proxys_line_counts() -> None:
    scope = _scope([("X-Geo-Location-Region", "AQ"), ("X-Geo-Location-Region", "de")])
    assert read_origin(scope, PROXIES, GEOGRAPHY).region == "DE"


@pytest.mark.parametrize(
    ("given", "own", "seen"),
    [
        ("https", "http", "https"),
        ("HTTPS", "ws", "wss"),
        ("http", "https", "http"),
        ("https, http", "http", "http"),
        ("javascript", "http", "http"),
        ("", "https", "https"),
    ],
)
def test_the_scheme_is_one_of_two(given: str, own: str, seen: str) -> None:
    scope = {**_scope([("X-Forwarded-Proto", given)]), "scheme": own}
    assert scheme_of(scope, PROXIES) == seen
    assert scheme_of(scope, ()) == own


def _scope(headers: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "client": ("192.0.2.9", 40000),
        "scheme": "http",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
