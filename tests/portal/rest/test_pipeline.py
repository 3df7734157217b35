"""What happens to every request before a handler sees it, and in which order."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from portal.rest.test_objects import NOWHERE
from support.api_requests import newest_api_requests
from support.browser import caller, make_api_token
from support.patience import PATIENCE_S
from support.portal import World, make_world, portal_running, portal_with_held_clock
from wardgate.portal.app import Portal
from wardgate.portal.rest import application, pipeline
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import INSTALLATION, Store

UNAUTHENTICATED = {
    "type": "about:blank",
    "title": "Unauthorized",
    "status": 401,
    "detail": "Authentication credentials were missing or invalid.",
}


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "bearer {}", "Basic {}", "Bearer x", "Bearer {}x", "Bearer  {}"]
)
async def test_every_failed_credential_gets_the_same_401(world: World, header: str | None) -> None:
    token, _ = await make_api_token(world)
    headers = {} if header is None else {"authorization": header.format(token)}
    async with caller(world.portal, **headers) as client:
        answer = await client.get("/account")
    assert (answer.status_code, answer.json()) == (401, UNAUTHENTICATED)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_tokens_of_other_kinds_and_of_other_actors_get_the_same_401(world: World) -> None:
    admins, _ = await make_api_token(world, type_="account_admin_user")
    expired, _ = await make_api_token(world, lifetime=timedelta(seconds=-1))
    for token in (world.client_token, world.gateway_token, world.operator_token, admins, expired):
        async with caller(world.portal, token) as client:
            assert (await client.get("/account")).json() == UNAUTHENTICATED


async def test_an_accounts_token_never_reaches_what_is_the_operators(api: httpx2.AsyncClient) -> None:
    for path in ("/wardgate/relay_tokens", "/wardgate/relays"):
        assert (await api.get(path)).json() == UNAUTHENTICATED


async def test_the_operators_token_never_reaches_an_account(operator: httpx2.AsyncClient) -> None:
    for path in ("/account", "/sites", "/wardgate/explain"):
        assert (await operator.get(path)).json() == UNAUTHENTICATED


async def test_a_disabled_api_client_is_refused(world: World, api: httpx2.AsyncClient) -> None:
    async with world.portal.services.store.writing() as transaction:
        actors = transaction.of(world.account_id).actors
        robot = await actors.find(actors.c.type == "api_client")
        assert robot is not None
        await actors.save(replace(robot, is_disabled=True))
    assert (await api.get("/account")).json() == UNAUTHENTICATED


@pytest.mark.one_database  # a held clock stands on SQLite
async def test_the_21st_request_at_once_is_throttled_and_told_when_to_come_back() -> None:
    async with portal_with_held_clock() as (portal, clock):
        world = await make_world(portal)
        token, _ = await make_api_token(world)
        async with caller(portal, token) as client:
            answers = [await client.get("/account") for _ in range(21)]
            assert [answer.status_code for answer in answers] == [200] * 20 + [429]
            assert answers[-1].headers["retry-after"] == "1"
            assert len(await logged(portal, world.account_id)) == 20
            clock.at_s += 1.0
            assert (await client.get("/account")).status_code == 200


@pytest.mark.one_database  # a held clock stands on SQLite
async def test_the_tokens_of_an_account_share_its_rate_and_other_accounts_have_their_own() -> None:
    async with portal_with_held_clock() as (portal, _):
        world = await make_world(portal)
        other_world = await make_world(portal, "other")
        one, another, foreign = [(await make_api_token(of))[0] for of in (world, world, other_world)]
        async with caller(portal, one) as first, caller(portal, another) as second:
            for _ in range(10):
                assert (await first.get("/account")).status_code == 200
                assert (await second.get("/account")).status_code == 200
            assert (await first.get("/account")).status_code == 429
            assert (await second.get("/account")).status_code == 429
        async with caller(portal, foreign) as stranger:
            assert (await stranger.get("/account")).status_code == 200


async def test_anonymous_calls_are_not_logged_and_bad_paths_are(
    world: World, api: httpx2.AsyncClient
) -> None:
    async with caller(world.portal) as nobody:
        await nobody.get("/account")
    assert (await api.get("/sites/not-an-id")).status_code == 400
    assert (await api.get("/sites/" + "a" * 24)).status_code == 404
    assert [row.path for row in await logged(world.portal, world.account_id)] == [
        "/sites/" + "a" * 24,
        "/sites/not-an-id",
    ]


async def test_a_log_entry_says_who_called_what_from_where(world: World, api: httpx2.AsyncClient) -> None:
    answer = await api.post("/sites?x=1", json={"site": {"name": "a"}}, headers={"x-request-id": "r" * 20})
    (row,) = await logged(world.portal, world.account_id)
    assert (row.method, row.path, row.ip, row.request_id) == ("POST", "/sites", "192.0.2.9", "r" * 20)
    assert row.content_length == len(answer.request.content)
    assert answer.headers["x-request-id"] == "r" * 20
    assert row.log_id[0] == "a"
    assert len(row.log_id) == 24


async def test_nothing_is_carried_out_when_it_cannot_be_logged(
    world: World, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pipeline.Pipeline, "_record", fails)
    answer = await api.post("/sites", json={"site": {"name": "unlogged"}})
    assert (answer.status_code, answer.json()["detail"]) == (500, "An unexpected error occurred.")
    assert "disk full" not in answer.text
    monkeypatch.undo()
    assert "unlogged" not in (await api.get("/sites")).text


async def test_no_answer_goes_out_before_the_disk_has_its_log_entry(
    world: World, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(Store, "start_sync", lambda _: disk)
    call = asyncio.create_task(api.post("/sites", json={"site": {"name": "a"}}))
    await until_a_change_is_committed(world)
    assert [row.path for row in await logged(world.portal, world.account_id)] == ["/sites"]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not call.done()
    disk.set_result(None)
    assert (await call).status_code == 201


async def test_a_disk_that_fails_fails_the_call(
    api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    disk.set_exception(OSError("disk gone"))
    monkeypatch.setattr(Store, "start_sync", lambda _: disk)
    for path in ("/sites", "/sites/none", "/wardgate/nothing"):
        answer = await api.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (500, "An unexpected error occurred.")


async def test_the_operators_calls_are_logged_for_the_installation(
    world: World, operator: httpx2.AsyncClient
) -> None:
    await operator.get("/wardgate/relays")
    assert [row.path for row in await logged(world.portal, INSTALLATION)] == ["/wardgate/relays"]


def test_no_handler_runs_in_a_thread() -> None:
    """The framework moves whatever is no coroutine into a pool of threads, which costs more than most handlers do."""

    def functions(dependant: Dependant) -> Iterator[Callable[..., Any]]:
        if dependant.call is not None:
            yield dependant.call
        for inner in dependant.dependencies:
            yield from functions(inner)

    called = {
        call
        for routes in application.ROUTES
        for route in routes.router.routes
        if isinstance(route, APIRoute)
        for call in functions(route.dependant)
    }
    assert len(called) > 50
    assert [call for call in called if not inspect.iscoroutinefunction(call)] == []


async def test_use_of_a_token_is_noted_on_it(world: World, api: httpx2.AsyncClient) -> None:
    await api.get("/account", headers={"user-agent": "terraform"})
    async with world.portal.services.store.reading() as transaction:
        (token,) = await transaction.of(world.account_id).api_tokens.load_all()
    assert (token.last_seen_user_agent, token.last_seen_remote_ip) == ("terraform", "192.0.2.9")
    assert token.last_seen_at is not None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"site":',
        b'{"site":null}',
        b'{"site":[]}',
        b"NaN",
    ],
)
async def test_a_body_that_is_none_is_a_400(api: httpx2.AsyncClient, body: bytes) -> None:
    answer = await api.post("/sites", content=body)
    assert (answer.status_code, answer.json()["detail"]) == (400, "The request could not be processed.")


async def test_json_is_read_whatever_the_content_type_says(api: httpx2.AsyncClient) -> None:
    answer = await api.post(
        "/sites", content=b'{"site":{"name":"plain"}}', headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 201


async def test_a_body_of_ten_megabytes_is_refused_and_nothing_written(api: httpx2.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(1000):
            yield b"x" * 10_000

    announced = await api.post("/sites", content=b'{"site":{"name":"' + b"x" * 10_000_000 + b'"}}')
    streamed = await api.post("/sites", content=endless())
    assert (announced.status_code, streamed.status_code) == (413, 413)
    assert (await api.get("/sites")).json()["metadata"]["count"] == 3


async def test_a_slow_body_is_given_up(
    world: World, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BODY_TIMEOUT_S", 0.01)
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", api.headers["authorization"].encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/sites",
        "headers": headers,
        "query_string": b"",
        "client": None,
    }
    await world.portal(scope, receive, send)
    assert sent[0]["status"] == 408


async def test_other_media_types_are_not_acceptable(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/account", headers={"accept": "text/html"})).status_code == 406
    assert (
        await api.get("/account", headers={"accept": "text/html, application/json;q=0.5"})
    ).status_code == 200


async def test_unknown_paths_and_methods_are_problems_too(api: httpx2.AsyncClient) -> None:
    for method, path, status in (
        ("GET", "/account/x", 404),
        ("GET", "/account/gateways", 404),
        ("GET", "/nothing", 404),
        ("POST", "/nothing/at/all", 404),
        ("GET", "/wardgate", 404),
        ("GET", "/wardgate/nothing", 404),
        ("GET", f"/actors/{NOWHERE}/nothing", 404),
        ("GET", "/actors/x", 400),
        ("GET", "/actors/", 400),
        ("GET", "/actors/x/client_tokens", 400),
        ("DELETE", "/account", 405),
        ("PATCH", "/google_directories", 405),
    ):
        answer = await api.request(method, path)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
    refused = await api.delete("/google_directories")
    assert refused.headers["allow"] == "GET, HEAD"


async def test_who_is_nobody_is_told_so_of_unknown_paths_too(world: World) -> None:
    for header in ({"authorization": "Bearer nonsense"}, {"accept": "application/json"}):
        async with caller(world.portal) as nobody:
            answer = await nobody.get("/nothing", headers=header)
            assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
            assert answer.headers["www-authenticate"] == "Bearer"
    async with caller(world.portal, accept="text/html,application/json;q=0.9,*/*;q=0.8") as browser:
        led = await browser.get("/nothing")  # may be the page of an account: they sign in there first
        assert (led.status_code, led.headers["location"]) == (303, "/nothing/sign_in?redirect_to=%2Fnothing")
        assert "www-authenticate" not in led.headers
        shown = await browser.get(led.headers["location"])
        assert shown.headers["content-type"].startswith("text/html")


async def test_no_path_of_a_callers_choosing_is_remembered(api: httpx2.AsyncClient) -> None:
    await api.get("/account")
    before = application._api.cache_info().currsize
    for number in range(20):
        assert (await api.get(f"/nothing-{number}")).status_code == 404
    assert application._api.cache_info().currsize == before


async def test_of_directories_and_posture_there_are_none(world: World, api: httpx2.AsyncClient) -> None:
    nothing = {"count": 0, "limit": 7, "next_page": None, "prev_page": None}
    for kind in ("google", "entra", "okta"):
        answer = await api.get(f"/{kind}_directories", params={"name": "x", "limit": "7"})
        assert (answer.status_code, answer.json()) == (200, {"data": [], "metadata": nothing})
        assert (await api.get(f"/{kind}_directories", params={"limit": "x"})).status_code == 400
        assert (await api.get(f"/{kind}_directories/{NOWHERE}")).status_code == 404
        assert (await api.get(f"/{kind}_directories/x")).status_code == 400
    for noun in ("intune_posture_providers", "iru_posture_providers", "intune_devices", "iru_devices"):
        for path in (f"/{noun}", f"/{noun}/{NOWHERE}"):
            answer = await api.get(path)
            assert answer.status_code == 403
            assert answer.json()["detail"] == "This feature is not enabled for your account."
    async with caller(world.portal) as nobody:
        assert (await nobody.get("/iru_devices")).status_code == 401


async def test_head_is_get(api: httpx2.AsyncClient) -> None:
    assert (await api.head("/account")).status_code == 200


async def test_the_openapi_document_is_public_and_31(world: World) -> None:
    async with caller(world.portal) as nobody:
        document = (await nobody.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert {"/sites", "/policies", "/resources", "/wardgate/explain"} <= set(document["paths"])


@pytest.mark.parametrize("path", ["/account", "/openapi.json", "/ingestion/flow_logs", "/sites/none"])
async def test_every_answer_of_the_api_names_its_request(world: World, path: str) -> None:
    async with caller(world.portal) as nobody:
        given = await nobody.get(path, headers={"x-request-id": "r" * 20})
        drawn = [(await nobody.get(path, headers={"x-request-id": "short"})).headers for _ in range(2)]
    assert given.headers.get_list("x-request-id") == ["r" * 20]
    assert drawn[0]["x-request-id"] != drawn[1]["x-request-id"]
    assert len(drawn[0]["x-request-id"]) == 32


async def test_https_brings_hsts() -> None:
    async with (
        portal_running(PortalSettings(external_url="https://portal.example")) as portal,
        caller(portal) as client,
    ):
        assert "max-age=63072000" in (await client.get("/account")).headers["strict-transport-security"]
    async with portal_running(PortalSettings()) as portal, caller(portal) as client:
        assert "strict-transport-security" not in (await client.get("/account")).headers


async def logged(portal: Portal, account_id: Any) -> list[Any]:
    async with portal.services.store.reading() as transaction:
        return list(await newest_api_requests(transaction.of(account_id), limit=100))


async def until_a_change_is_committed(world: World) -> None:
    committed = asyncio.Event()
    stop = world.portal.services.store.on_commit(lambda _: committed.set())
    await asyncio.wait_for(committed.wait(), PATIENCE_S)
    stop()
