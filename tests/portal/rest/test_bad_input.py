"""Every operation and every field of the document, fed with what it must refuse: the documented problem,
nothing written, no trace.

The lists are read off the document itself, so a new endpoint or field is covered when it is documented; what
would be accepted stands in `support.rest_operations`, and a test holds that it is. One portal serves the
whole module, and one account all calls that are refused, for they leave it as it was; where a call is
accepted, the account is fresh.
"""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import select

from support.browser import caller, make_api_token
from support.portal import make_world, portal_running
from support.rest_operations import Furnished, Operation, Schema, furnish, operations
from wardgate.portal.app import Portal
from wardgate.portal.rest import pipeline
from wardgate.portal.settings import PortalSettings
from wardgate.portal.tables import metadata

pytestmark = pytest.mark.asyncio(loop_scope="module")

INJECTED: Final = "x'); DROP TABLE actors;--\nlevel=error forged %s {0} \x1b[31m"
NOT_TOLD: Final = ("Traceback", "sqlite", "sqlalchemy", "pydantic", "asyncpg", 'File "')
VOLATILE: Final = {"api_request_logs", "jobs", "job_schedules", "session_logs"}
"""Tables that move by themselves, or whenever anybody calls."""

HUGE: Final = "huge number"
SPOILED: Final = {
    "string": [5, True, [], {"a": [1]}, "n" * 5000, "a\x00b", "\ud800", 10**400, HUGE],
    "boolean": ["true", 1, [], {}, HUGE],
    "integer": ["5", 1.5, True, -1, 10**400, [], HUGE],
    "array": ["x", 5, {"a": 1}, [5], [None], [[]], [{"a": "\ud800"}]],
    "object": ["x", 5, True, ["x"], [None]],
}
"""What is wrong for a type of JSON."""

ANSWERED_OTHERWISE: Final = {
    ("policy", "resource_id", "foreign"): 404,
    ("policy", "resource_id", "dangling"): 404,
}
"""Where the published API has another status than 422."""

MAY_BE_LEFT_OUT: Final = {
    "/sites/{site_id}/gateways",  # a gateway has a name by default
    *(
        f"/wardgate/accounts/{{account_id}}/{kind}_auth_providers/{{id}}/verification"  # tried as it is stored
        for kind in ("google", "entra", "okta", "oidc")
    ),
}
"""Posts whose body says only what differs from what is there without one."""

OPERATIONS: Final = list(operations())
WITH_BODY: Final = [one for one in OPERATIONS if one.body is not None]
CONDITIONAL: Final = [one for one in OPERATIONS if one.takes_if_match]


@dataclass(frozen=True, slots=True)
class Callers:
    """Who calls: the account's token or the operator's, as the operation wants it."""

    furnished: Furnished
    api: httpx2.AsyncClient
    operator: httpx2.AsyncClient

    async def __call__(
        self, operation: Operation, *, body: Any = None, content: bytes | None = None, **headers: str
    ) -> httpx2.Response:
        if content is None and body is not None:
            content = ascii_json(body)
        client = self.operator if operation.is_operators else self.api
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        path = self.furnished.path(operation)
        return await client.request(operation.method.upper(), path, content=content, headers=sent)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def portal() -> AsyncIterator[Portal]:
    async with portal_running(PortalSettings(api_capacity=1e9, connect_capacity=1000.0)) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def call(portal: Portal) -> AsyncIterator[Callers]:
    async with calling(portal) as callers:
        yield callers


@pytest_asyncio.fixture(loop_scope="module")
async def fresh(portal: Portal) -> AsyncIterator[Callers]:
    """An account that nobody has called before."""
    async with calling(portal) as callers:
        yield callers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def foreign(portal: Portal) -> Furnished:
    slug = f"b-{uuid4()}"
    return await furnish(await make_world(portal, slug), slug)


@asynccontextmanager
async def calling(portal: Portal) -> AsyncIterator[Callers]:
    slug = f"a-{uuid4()}"
    world = await make_world(portal, slug)
    token, _ = await make_api_token(world)
    async with caller(portal, token) as api, caller(portal, world.operator_token) as operator:
        yield Callers(await furnish(world, slug), api, operator)


@pytest.fixture(autouse=True)
def no_trace(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing of bad input is an error of ours, or forges a line of the log."""
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not [record for record in caplog.records if "\n" in record.getMessage()]


# ── Bodies ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_what_the_other_tests_spoil_is_accepted_unspoiled(fresh: Callers, operation: Operation) -> None:
    good = fresh.furnished.good(operation)
    assert good is not None
    answer = await fresh(operation, body={"unknown": 1, **good})
    assert answer.status_code in (200, 201), answer.text


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_a_wrong_value_of_a_field_is_refused_by_its_name_and_nothing_is_written(
    call: Callers, foreign: Furnished, operation: Operation
) -> None:
    before = await rows_of(call.furnished)
    at = await position_of(call.furnished)
    good = call.furnished.good(operation)
    assert good is not None
    inner = good[operation.wrapper]
    for name, described in operation.fields().items():
        for what, value in spoiled(described, foreign):
            if operation.wrapper in ("memberships", "pool_members") and value == []:
                continue  # a list of nobody
            body = ascii_json({operation.wrapper: {**inner, name: value}})
            answer = await call(operation, content=body.replace(ascii_json(HUGE), b"1e999"))
            seen = f"{name} = {what}: {answer.text}"
            if answer.status_code == 400 and what == "half a character":
                assert_problem(answer, 400)
                continue
            assert_problem(answer, ANSWERED_OTHERWISE.get((operation.wrapper, name, what), 422), seen)
            if answer.status_code == 422:
                assert set(answer.json()["validation_errors"]) & {name, operation.wrapper, "base"}, seen
            assert await position_of(call.furnished) == at, seen
    assert await rows_of(call.furnished) == before


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_a_body_that_is_no_object_with_its_wrapper_is_refused(
    call: Callers, operation: Operation
) -> None:
    wrapper, before = operation.wrapper, await rows_of(call.furnished)
    may_be_left_out = operation.method == "post" and operation.path in MAY_BE_LEFT_OUT
    assert operation.described["requestBody"].get("required", False) is not may_be_left_out
    wrong = [b"{", b"[]", b"5", b'"x"', b"NaN", b"\xff\xfe{}", b"[" * 99_999, b'{"a":' * 99_999]
    wrong += [ascii_json({wrapper: value}) for value in (5, "x", True)]
    wrong += [b'{"%s": ' % wrapper.encode(), b'{"%s": {"name": %s}}' % (wrapper.encode(), b"9" * 5000)]
    if not may_be_left_out:
        wrong += [b"", b"{}", b"null", ascii_json({wrapper: None})]
    for body in wrong:
        assert_problem(await call(operation, content=body), 400, body[:50])
    assert await rows_of(call.furnished) == before


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_of_a_field_that_is_given_twice_the_last_counts(fresh: Callers, operation: Operation) -> None:
    inner = ascii_json(fresh.furnished.good(operation)).decode()
    twice = f'{{"{operation.wrapper}": 5, {inner[1:]}'
    assert (await fresh(operation, content=twice.encode())).status_code in (200, 201)


async def test_ten_megabytes_are_refused_everywhere_and_nothing_is_written(call: Callers) -> None:
    before, body = await rows_of(call.furnished), b" " * 10_000_000
    for operation in OPERATIONS:
        if operation.method != "get":
            assert_problem(await call(operation, content=body), 413)
    assert await rows_of(call.furnished) == before


async def test_a_body_that_drips_is_given_up_everywhere(
    call: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "BODY_TIMEOUT_S", 0.005)
    before = await rows_of(call.furnished)
    for operation in WITH_BODY:
        whole = ascii_json(call.furnished.good(operation))
        client = call.operator if operation.is_operators else call.api
        status = await dripping(call.furnished, operation, whole, client.headers["authorization"])
        assert status == 408, operation
    assert await rows_of(call.furnished) == before


async def dripping(furnished: Furnished, operation: Operation, body: bytes, authorization: str) -> int:
    """Send all of a body but its last byte, a byte at a time; return the status of the answer."""
    left, sent = iter(body[:-1]), list[Any]()

    async def receive() -> Any:
        await asyncio.sleep(0)
        byte = next(left, None)
        if byte is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": bytes([byte or 0]), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": operation.method.upper(),
        "path": furnished.path(operation),
        "headers": [(b"authorization", authorization.encode())],
        "query_string": b"",
        "client": None,
    }
    await furnished.world.portal(scope, receive, send)
    return int(sent[0]["status"])


# ── Whose, and in which version ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", CONDITIONAL, ids=str)
async def test_a_stale_version_is_refused(fresh: Callers, operation: Operation) -> None:
    before = await rows_of(fresh.furnished)
    body = fresh.furnished.good(operation)
    for stale in ('"stale"', '"a", W/"b"', "nonsense", ""):
        assert_problem(await fresh(operation, body=body, if_match=stale), 412, stale)
    assert await rows_of(fresh.furnished) == before
    answer = await fresh(operation, body=body, if_match="*")
    assert answer.status_code == (409 if operation.path.endswith("/deletion") else 200), answer.text


async def test_the_version_that_is_shown_is_the_one_that_is_expected(fresh: Callers) -> None:
    shown = {one.path: one for one in OPERATIONS if one.method == "get"}
    for operation in CONDITIONAL:
        if operation.method == "delete" or operation.path not in shown:
            continue
        tag = (await fresh(shown[operation.path])).headers["etag"]
        answer = await fresh(operation, body=fresh.furnished.good(operation), if_match=tag)
        assert answer.status_code == 200, (operation, answer.text)
        assert answer.headers["etag"] == (await fresh(shown[operation.path])).headers["etag"], operation


async def test_another_accounts_ids_name_nothing(call: Callers, foreign: Furnished) -> None:
    before = await rows_of(foreign)
    theirs = Callers(foreign, call.api, call.operator)
    for operation in OPERATIONS:
        if "{" not in operation.path or operation.is_operators:
            continue
        answer = await theirs(operation, body=foreign.good(operation))
        if answer.status_code == 200:
            assert answer.json()["data"] in ([], {"deleted_count": 0}), (operation, answer.text)
        else:
            assert_problem(answer, 404, operation)
    assert await rows_of(foreign) == before


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/actors", {"email": ["has already been taken"]}),
        ("/groups", {"name": ["A group with this name already exists."]}),
        ("/sites", {"name": ["has already been taken"]}),
        ("/policies", {"base": ["Policy for the selected Group and Resource already exists"]}),
        ("/wardgate/accounts", {"slug": ["has already been taken"]}),
    ],
)
async def test_what_is_there_already_is_not_made_twice(fresh: Callers, path: str, told: Any) -> None:
    operation = Operation("post", path)
    body = fresh.furnished.good(operation)
    assert (await fresh(operation, body=body)).status_code == 201
    before, at = await rows_of(fresh.furnished), await position_of(fresh.furnished)
    again = await fresh(operation, body=body)
    assert_problem(again, 422)
    assert again.json()["validation_errors"] == told
    assert (await rows_of(fresh.furnished), await position_of(fresh.furnished)) == (before, at)


# ── Queries and headers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one.method == "get"], ids=str)
async def test_every_parameter_withstands_injection(call: Callers, operation: Operation) -> None:
    before = await rows_of(call.furnished)
    client = call.operator if operation.is_operators else call.api
    base = {"type": "change"} if operation.path.endswith(("/logs", "/export")) else {}
    names = [one["name"] for one in operation.described.get("parameters", []) if one["in"] == "query"]
    wrong = (INJECTED, "\x00", "' OR 1=1 --", "n" * 5000, "%", "[]", "9" * 5000)
    for name, value in itertools.product([*names, "unknown"], wrong):
        answer = await client.get(call.furnished.path(operation), params={**base, name: value})
        if answer.status_code != 200:
            assert_problem(answer, {400, 404}, (name, value))
        assert len(answer.text) < 4000 or answer.status_code == 200, (name, value)
    assert await rows_of(call.furnished) == before


async def test_text_that_looks_like_a_statement_is_stored_as_it_is(fresh: Callers) -> None:
    for operation in (Operation("post", "/groups"), Operation("post", "/sites")):
        wrapper = operation.wrapper
        made = await fresh(operation, body={wrapper: {"name": INJECTED}})
        assert made.json()["data"]["name"] == INJECTED.strip()


@pytest.mark.parametrize("name", [b"x-request-id", b"idempotency-key", b"if-match", b"user-agent", b"accept"])
async def test_no_header_forges_another(fresh: Callers, name: bytes) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"site": {"name": "one"}}', "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/sites",
        "headers": [
            (b"authorization", fresh.api.headers["authorization"].encode()),
            (name, b"*/*\r\nset-cookie: a=b\xff"),
        ],
        "query_string": b"",
        "client": None,
    }
    await fresh.furnished.world.portal(scope, receive, send)
    assert sent[0]["status"] in (201, 400, 406, 412)
    for header, value in sent[0]["headers"]:
        assert header.lower() != b"set-cookie"
        assert b"\r" not in value
        assert b"\n" not in value


# ── What is wrong, and what is there ─────────────────────────────────────────────────────────────────────────


def spoiled(described: Schema, foreign: Furnished) -> Iterator[tuple[str, Any]]:
    """Give wrong values for a field, each with what is wrong with it."""
    type_ = described.get("type", "object")
    if "items" in described and "type" not in described:
        type_ = "array"
    for value in SPOILED[type_]:
        yield ("half a character" if "\\ud800" in json.dumps(value) else repr(value)[:40]), value
    if type_ == "string" and described.get("enum"):
        yield "none of its words", "nonsense"
    match described.get("format"):
        case "uuid":
            yield "no id", "x"
            yield "dangling", str(uuid4())
            yield "foreign", str(foreign.ids["actors"])
        case "date-time":
            yield "no time", "tomorrow"
            yield "without zone", "2099-01-01T00:00:00"
            yield "past", "2001-01-01T00:00:00Z"
        case _:
            return


async def rows_of(furnished: Furnished) -> dict[str, list[Any]]:
    """Dump every row of the account and of the installation, but for the use of tokens and the logs of calls."""
    dumped: dict[str, list[Any]] = {}
    async with furnished.world.portal.services.store.reading() as transaction:
        for table in metadata.sorted_tables:
            if table.name in VOLATILE:
                continue
            columns = [one for one in table.c if not one.name.startswith("last_seen_")]
            query = select(*columns)
            if "account_id" in table.c:
                query = query.where(table.c.account_id == furnished.world.account_id)
            dumped[table.name] = sorted(map(repr, (await transaction.execute(query)).all()))
    return dumped


async def position_of(furnished: Furnished) -> Any:
    """Return how far the account's feed of changes, and the installation's, has come."""
    async with furnished.world.portal.services.store.reading() as transaction:
        sequences = await transaction.sequences()
    return sequences.get(furnished.world.account_id), len(sequences)


def ascii_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def assert_problem(answer: httpx2.Response, statuses: int | set[int], seen: object = "") -> None:
    expected = {statuses} if isinstance(statuses, int) else statuses
    where = (answer.request.method, answer.request.url.path, seen)
    assert answer.status_code in expected, (*where, answer.text)
    assert answer.headers["content-type"] == "application/problem+json", where
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"], where
    assert not [word for word in NOT_TOLD if word in answer.text], where
    documented = described_statuses(answer)
    assert documented is None or str(answer.status_code) in documented, where


def described_statuses(answer: httpx2.Response) -> set[str] | None:
    """Return the statuses that the document names for this call; none: it knows no such call."""
    segments, method = answer.request.url.path.split("/"), answer.request.method.lower()
    for one in OPERATIONS:
        pattern = one.path.split("/")
        is_it = len(pattern) == len(segments) and all(
            word == segment or word.startswith("{") for word, segment in zip(pattern, segments, strict=True)
        )
        if one.method == method and is_it:
            return set(one.described["responses"])
    return None
