"""The log streams over the API."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from support.browser import make_api_token
from support.portal import PATIENCE_S, World
from wardgate.portal.database import log_reading as log_reading_module
from wardgate.portal.logs.streams import Logs, Stream
from wardgate.portal.store import Transaction


async def sign_ins(world: World, count: int) -> None:
    async with world.portal.services.store.writing() as transaction:
        logs = Logs(transaction, world.account_id)
        for number in range(count):
            await logs.append_session(
                "portal",
                {
                    "actor_id": str(world.actor.id),
                    "actor_name": f"Ada {number}",
                    "actor_email": "ada@example.org",
                    "ip": "192.0.2.1",
                },
            )


async def test_the_change_log_says_who_did_what(api: httpx2.AsyncClient) -> None:
    site = (await api.post("/sites", json={"site": {"name": "audited"}})).json()["data"]
    await api.patch(f"/sites/{site['id']}", json={"site": {"name": "renamed"}})
    newest, older = (await api.get("/logs", params={"type": "change", "limit": 2})).json()["data"]
    assert set(newest) == {
        "type", "log_id", "timestamp", "object", "operation", "before", "after", "subject",
    }  # fmt: skip
    assert (newest["object"], newest["operation"], newest["before"]["name"], newest["after"]["name"]) == (
        "sites",
        "update",
        "audited",
        "renamed",
    )
    assert (older["operation"], older["before"]) == ("insert", None)
    assert (newest["subject"]["actor_type"], newest["subject"]["ip"]) == ("api_client", "192.0.2.9")
    assert (await api.get(f"/logs/{newest['log_id'].upper()}")).json()["data"] == newest


async def test_secrets_are_redacted(api: httpx2.AsyncClient, world: World) -> None:
    await api.post(f"/sites/{world.site.id}/gateway_tokens")
    (entry,) = (await api.get("/logs", params={"type": "change", "limit": 1})).json()["data"]
    assert entry["after"]["secret_hash"] == "[redacted]"


async def test_calls_of_the_api_are_in_its_log_the_current_one_too(api: httpx2.AsyncClient) -> None:
    await api.get("/sites")
    entries = (await api.get("/logs", params={"type": "api_request"})).json()["data"]
    assert [(one["method"], one["path"]) for one in entries] == [("GET", "/logs"), ("GET", "/sites")]
    assert entries[0]["log_id"][0] == "a"


async def test_sessions_are_filtered_by_actor_address_words_and_time(
    api: httpx2.AsyncClient, world: World
) -> None:
    await sign_ins(world, 2)
    now = datetime.now(UTC)
    for params, count in (
        ({}, 2),
        ({"actor_id": str(world.actor.id)}, 2),
        ({"actor_id": "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"}, 0),
        ({"actor_email": "ada@example.org"}, 2),
        ({"actor_email": "eve@example.org"}, 0),
        ({"q": "ADA 1"}, 1),
        ({"q": "%"}, 0),
        ({"end": (now - timedelta(minutes=5)).isoformat()}, 0),
        ({"begin": (now - timedelta(minutes=5)).isoformat()}, 2),
    ):
        answer = await api.get("/logs", params={"type": "session", **params})
        assert answer.json()["metadata"]["count"] == count, params


async def test_pages_of_a_log_go_forth_and_back(api: httpx2.AsyncClient, world: World) -> None:
    await sign_ins(world, 5)
    params: dict[str, str | int] = {"type": "session", "limit": 2}
    everything = [
        one["log_id"] for one in (await api.get("/logs", params={"type": "session"})).json()["data"]
    ]
    first = (await api.get("/logs", params=params)).json()
    second = (await api.get("/logs", params={**params, "page_cursor": first["metadata"]["next_page"]})).json()
    third = (await api.get("/logs", params={**params, "page_cursor": second["metadata"]["next_page"]})).json()
    pages = [[one["log_id"] for one in page["data"]] for page in (first, second, third)]
    assert [id_ for page in pages for id_ in page] == everything
    assert [page["metadata"]["count"] for page in (first, second, third)] == [5, 5, 5]
    assert (first["metadata"]["prev_page"], third["metadata"]["next_page"]) == (None, None)
    back = (await api.get("/logs", params={**params, "page_cursor": third["metadata"]["prev_page"]})).json()
    assert back["data"] == second["data"]
    back = (await api.get("/logs", params={**params, "page_cursor": back["metadata"]["prev_page"]})).json()
    assert (back["data"], back["metadata"]["prev_page"]) == (first["data"], None)
    forth = (await api.get("/logs", params={**params, "page_cursor": back["metadata"]["next_page"]})).json()
    assert forth["data"] == second["data"]


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({}, "`type` is required and must be one of: change, session, flow, api_request"),
        ({"type": "x"}, "`type` must be one of: change, session, flow, api_request"),
        (
            {"type": "change", "begin": "yesterday"},
            "`begin` must be an RFC 3339 timestamp (e.g. `2026-05-26T00:00:00Z`)",
        ),
        (
            {"type": "change", "end": "2026-05-26T00:00:00"},
            "`end` must be an RFC 3339 timestamp (e.g. `2026-05-26T00:00:00Z`)",
        ),
        (
            {"type": "change", "begin": "2026-05-26T00:00:00Z", "end": "2026-05-25T00:00:00Z"},
            "`begin` must be less than or equal to `end`",
        ),
        ({"type": "flow", "actor_id": "x"}, "`actor_id` must be a UUID"),
        (
            {"type": "api_request", "actor_email": "a@example.org"},
            "`actor_email` is not supported for `type=api_request`",
        ),
        ({"type": "flow", "limit": "x"}, "limit must be an integer"),
        ({"type": "flow", "page_cursor": "x"}, "Invalid page cursor"),
    ],
)
async def test_bad_parameters_are_told(api: httpx2.AsyncClient, params: dict[str, str], detail: str) -> None:
    answer = await api.get("/logs", params=params)
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)


@pytest.mark.parametrize(
    ("log_id", "status"),
    [
        ("c" * 24, 404),
        ("0" * 24, 404),
        ("5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c", 400),
        ("x", 400),
    ],
)
async def test_an_entry_that_is_none(api: httpx2.AsyncClient, log_id: str, status: int) -> None:
    assert (await api.get(f"/logs/{log_id}")).status_code == status


async def test_another_accounts_log_is_not_shown(api: httpx2.AsyncClient, foreign: World) -> None:
    await sign_ins(foreign, 1)
    async with foreign.portal.services.store.reading() as transaction:
        (entry,) = await Logs(transaction, foreign.account_id).load(Stream.SESSION, limit=1)
    assert (await api.get(f"/logs/{entry.log_id}")).status_code == 404
    assert (await api.get("/logs", params={"type": "session"})).json()["data"] == []


async def test_an_export_has_every_entry_on_a_line_of_its_own(api: httpx2.AsyncClient, world: World) -> None:
    await sign_ins(world, 1203)
    answer = await api.get("/wardgate/logs/export", params={"type": "session"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    entries = [json.loads(line) for line in answer.text.splitlines()]
    assert len({entry["log_id"] for entry in entries}) == 1203
    newest = (await api.get("/logs", params={"type": "session", "limit": 1})).json()["data"]
    assert entries[:1] == newest


async def test_connects_are_in_the_session_log(api: httpx2.AsyncClient, world: World) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        async with world.client() as client:
            await client.join()
            await world.portal.journal.flush()
    entries = (await api.get("/logs", params={"type": "session"})).json()["data"]
    by_context = {entry["context"]: entry["subject"] for entry in entries}
    assert set(by_context) == {"client", "gateway"}
    assert by_context["client"]["actor_name"] == "Ada"
    assert by_context["client"]["token_id"] == str(world.client_token_id)
    assert (by_context["gateway"]["actor_id"], by_context["gateway"]["device_id"]) == (None, None)
    assert by_context["gateway"]["token_id"] == str(world.gateway_token_id)


async def test_a_call_is_exported_as_it_is_listed(api: httpx2.AsyncClient) -> None:
    """Calls are written on a shorter way, of which this must be all that one sees."""
    await api.get("/sites")
    listed = (await api.get("/logs", params={"type": "api_request"})).json()["data"]
    exported = (await api.get("/wardgate/logs/export", params={"type": "api_request"})).text.splitlines()
    assert [json.loads(line) for line in exported][-len(listed) :] == listed
    assert list(json.loads(exported[-1])) == list(listed[-1])


async def test_an_export_reads_no_further_than_its_caller_takes_and_ends_when_it_goes_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = await make_api_token(world)
    await sign_ins(world, 50)
    monkeypatch.setattr(log_reading_module, "LINES_AT_ONCE", 1)
    store, open_, begun = world.portal.services.store, 0, 0
    reading = store.reading

    is_export = ContextVar(
        "is_export", default=False
    )  # and no job of the portal, which reads when it is time

    @asynccontextmanager
    async def counted(*, is_long: bool = False, **options: bool) -> AsyncIterator[Transaction]:
        nonlocal open_, begun
        counts = is_long and is_export.get()
        async with reading(is_long=is_long, **options) as transaction:
            open_, begun = open_ + counts, begun + counts
            yield transaction
            open_ -= counts

    monkeypatch.setattr(store, "reading", counted)
    request = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
        "method": "GET", "path": "/wardgate/logs/export", "query_string": b"type=session", "root_path": "",
        "headers": [(b"host", b"portal.example"), (b"authorization", f"Bearer {token}".encode())],
        "client": ("192.0.2.9", 40000), "server": ("portal.example", 80), "extensions": {},
    }  # fmt: skip
    asked: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    asked.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    chunks: list[bytes] = []
    is_full = asyncio.Event()

    async def send(message: dict[str, object]) -> None:
        if message.get("body"):
            chunks.append(message["body"])  # type: ignore[arg-type]
            if len(chunks) == 3:
                is_full.set()
                await asyncio.Event().wait()  # the caller takes nothing more

    is_export.set(True)
    exporting = asyncio.create_task(world.portal(request, asked.get, send))  # type: ignore[arg-type]
    await asyncio.wait_for(is_full.wait(), PATIENCE_S)
    for _ in range(100):
        await asyncio.sleep(0)
    assert (open_, begun) == (0, 3)
    asked.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(exporting, PATIENCE_S)
    assert (open_, begun, len(chunks)) == (0, 3, 3)
