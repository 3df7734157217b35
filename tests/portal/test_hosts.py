"""REST, sockets and pages under one name, or under a name each."""

from http import HTTPStatus

import httpx2
import pytest

from support.browser import make_api_token
from support.portal import Peer, Refused, World, make_world, portal_running
from wardgate.portal.settings import PortalSettings

OWN = PortalSettings(
    external_url="https://portal.example:8443",
    rest_host="api.example",
    socket_host="connect.example",
    connect_capacity=100.0,
    api_capacity=1000.0,
)


@pytest.mark.parametrize("host", ["portal.example", "192.0.2.1:8080", "whatever"])
async def test_without_hosts_of_their_own_any_name_reaches_everything(host: str) -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        assert await _statuses(world, host) == (200, 303, 101)


@pytest.mark.parametrize(
    ("host", "rest", "page", "socket"),
    [
        ("api.example", 200, 404, 404),
        ("API.example:8443", 200, 404, 404),
        ("connect.example", 308, 404, 101),
        ("portal.example:8443", 308, 303, 404),
        ("portal.example.", 308, 303, 404),
        ("other.example", 308, 404, 404),
        ("192.0.2.1", 308, 404, 404),
        ("[2001:db8::1]:8443", 308, 404, 404),
        ("api.example.evil.example", 308, 404, 404),
        ("", 308, 404, 404),
    ],
)
async def test_each_part_answers_at_its_own_host_only(host: str, rest: int, page: int, socket: int) -> None:
    async with portal_running(OWN) as portal:
        world = await make_world(portal)
        assert await _statuses(world, host) == (rest, page, socket)


async def test_a_call_under_another_name_is_sent_to_the_apis_own() -> None:
    """Before it is authenticated: the caller repeats it there, method and body included (rest-api §1, step 6)."""
    async with portal_running(OWN) as portal, _http(portal, "portal.example") as http:
        answer = await http.post(
            "/sites/ü b?x=%20&y=1", json={"site": {}}, headers={"x-request-id": "r" * 20}
        )
        assert (answer.status_code, answer.content) == (HTTPStatus.PERMANENT_REDIRECT, b"")
        assert answer.headers["location"] == "https://api.example:8443/sites/%C3%BC%20b?x=%20&y=1"
        assert answer.headers["x-request-id"] == "r" * 20
        assert answer.headers["strict-transport-security"]
        assert (await http.get("/openapi.json")).headers[
            "location"
        ] == "https://api.example:8443/openapi.json"


async def test_reports_of_flows_are_taken_in_under_every_name() -> None:
    async with portal_running(OWN) as portal, _http(portal, "portal.example") as http:
        answer = await http.post("/ingestion/flow_logs", json={"flow_logs": []})
    assert answer.status_code == HTTPStatus.UNAUTHORIZED


async def test_health_answers_at_any_host() -> None:
    async with portal_running(OWN) as portal, _http(portal, "10.0.0.1") as probe:
        for path in ("/healthz", "/readyz"):
            answer = await probe.get(path)
            assert answer.status_code == HTTPStatus.OK
            assert answer.headers["strict-transport-security"]


async def test_every_part_insists_on_https_in_the_same_words() -> None:
    async with portal_running(OWN) as portal:
        said = set()
        for host, path in (("api.example", "/account"), ("portal.example", "/"), ("any.example", "/healthz")):
            async with _http(portal, host) as http:
                said.add((await http.get(path)).headers["strict-transport-security"])
    assert said == {"max-age=63072000; includeSubDomains; preload"}


def test_the_urls_that_the_portal_hands_out_name_the_hosts() -> None:
    assert (OWN.rest_url, OWN.socket_url, OWN.web_url) == (
        "https://api.example:8443",
        "wss://connect.example:8443",
        "https://portal.example:8443",
    )


def _http(portal: object, host: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=portal, client=("192.0.2.9", 40000))  # type: ignore[arg-type]
    return httpx2.AsyncClient(transport=transport, base_url="http://unset.example", headers={"host": host})


async def _statuses(world: World, host: str) -> tuple[int, int, int]:
    """Return what REST, a page and an upgrade answer under this name."""
    token, _ = await make_api_token(world)
    async with _http(world.portal, host) as http:
        rest = await http.get("/account", headers={"authorization": f"Bearer {token}"})
        page = await http.get("/")
    return rest.status_code, page.status_code, await _upgrade(world.client(headers={"host": host}))


async def _upgrade(peer: Peer) -> int:
    try:
        async with peer:
            return 101
    except Refused as refused:
        return refused.refusal.status
