"""Every operation and every field of the document, fed with what it must refuse: the documented problem, nothing written, no trace.

The table is read off the document itself, so a new endpoint or field is covered when it is documented.
"""

import itertools
import json
import logging
from typing import Any

import httpx2
import pytest
from sqlalchemy import func, select

from support.portal import World
from wardgate.portal.rest.application import openapi
from wardgate.portal.rest.pipeline import OPERATOR_NOUNS
from wardgate.portal.store import schema

INJECTED = "x'); DROP TABLE actors;--\nlevel=error forged %s {0} \x1b[31m"
WRONG = [
    ("another type", {"a": [1]}),
    ("a number", 5),
    ("too long", "n" * 5000),
    ("not text", "\x00"),
    ("half a surrogate pair", "\ud800"),
    ("an injection", INJECTED),
]

OBJECTS = {"clients_upstream_dns"}
"""Fields that are objects: unknown members are ignored there too."""

Operation = tuple[str, str]
WRITING: list[Operation] = [
    (method, path)
    for path, operations in openapi()["paths"].items()
    for method in operations
    if method in ("post", "put", "patch")
]
WITH_BODY = [(method, path) for method, path in WRITING if "requestBody" in openapi()["paths"][path][method]]
READING = [path for path, operations in openapi()["paths"].items() if "get" in operations]


def resolved(schema_: dict[str, Any]) -> dict[str, Any]:
    plain = next((one for one in schema_.get("anyOf", [schema_]) if one.get("type") != "null"), schema_)
    if "$ref" in plain:
        found: dict[str, Any] = openapi()["components"]["schemas"][plain["$ref"].rsplit("/", 1)[1]]
        return found
    return plain


def wrapper_and_fields(operation: Operation) -> tuple[str, list[str]]:
    method, path = operation
    body = resolved(openapi()["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"])
    ((wrapper, inner),) = body["properties"].items()
    return wrapper, list(resolved(inner).get("properties", {}))


async def counted(world: World) -> dict[str, int]:
    """Count the rows of every table that a call may write, logs aside."""
    async with world.portal.services.store.reading() as transaction:
        return {
            table.name: (await transaction.execute(select(func.count()).select_from(table))).scalar_one()
            for table in schema.metadata.sorted_tables
            if not table.name.endswith(("_logs", "schedules")) and table.name != "jobs"
        }


async def concrete(path: str, world: World) -> str:
    """Fill in ids of objects that exist, so that a call is refused for its body and for nothing else."""
    async with world.portal.services.store.reading() as transaction:
        relay_token = (await transaction.relay_tokens.load_all())[0]
        tables = transaction.of(world.account_id)
        gateway = await tables.devices.find(tables.devices.c.type == "gateway")
        client = await tables.devices.find(tables.devices.c.type == "client")
        pool = await tables.resources.find(tables.resources.c.type == "static_device_pool")
    owners = {
        "actors": world.actor.id,
        "groups": world.group.id,
        "sites": world.site.id,
        "resources": pool.id if pool and "pool_members" in path else world.resource.id,
        "policies": world.policy.id,
        "gateways": gateway.id if gateway else world.site.id,
        "clients": client.id if client else world.site.id,
        "client_tokens": world.client_token_id,
        "gateway_tokens": world.gateway_token_id,
        "relay_tokens": relay_token.id,
    }
    segments = path.split("/")
    return "/".join(
        str(owners.get(segments[index - 1], "c" * 24)) if segment.startswith("{") else segment
        for index, segment in enumerate(segments)
    )


def caller_of(path: str, api: httpx2.AsyncClient, operator: httpx2.AsyncClient) -> httpx2.AsyncClient:
    nouns = path.split("/")[2:3]
    return operator if path.startswith("/wardgate/") and nouns[0] in OPERATOR_NOUNS else api


def assert_problem(answer: httpx2.Response, statuses: set[int]) -> None:
    assert answer.status_code in statuses, (answer.request.method, answer.url, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert not {"Traceback", "sqlite3", "sqlalchemy", "pydantic"} & set(answer.text.split('"'))


@pytest.mark.parametrize("operation", WITH_BODY, ids=" ".join)
async def test_a_wrong_value_of_a_field_is_refused_whole(
    api: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    world: World,
    caplog: pytest.LogCaptureFixture,
    operation: Operation,
) -> None:
    method, template = operation
    path = await concrete(template, world)
    client = caller_of(path, api, operator)
    wrapper, fields = wrapper_and_fields(operation)
    before = await counted(world)
    for field, (what, value) in itertools.product(fields, WRONG):
        if what == "another type" and field in OBJECTS:
            continue
        answer = await client.request(method.upper(), path, content=ascii_json({wrapper: {field: value}}))
        # A name may be any text; everything else is refused, and told which field it is.
        if answer.status_code in (200, 201):
            assert what == "an injection", (field, what, answer.text)
            before = await counted(world)
            continue
        assert_problem(answer, {400, 404, 422})
        if answer.status_code == 422:
            assert answer.json()["validation_errors"], (field, what)
        assert await counted(world) == before, (field, what)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def ascii_json(value: Any) -> bytes:
    return json.dumps(value).encode()


async def test_a_body_without_its_wrapper_is_refused(
    api: httpx2.AsyncClient, operator: httpx2.AsyncClient, world: World
) -> None:
    before = await counted(world)
    for method, template in WITH_BODY:
        if (method, template) == ("post", "/sites/{site_id}/gateways"):
            continue  # the one body that may be left out
        path, client = await concrete(template, world), caller_of(template, api, operator)
        wrapper, _ = wrapper_and_fields((method, template))
        wrong = [b"", b"{", b"[]", b"{}", ascii_json({wrapper: None}), ascii_json({wrapper: 5}), b"[" * 9999]
        for body in wrong:
            assert_problem(await client.request(method.upper(), path, content=body), {400})
    assert await counted(world) == before


async def test_ten_megabytes_are_refused_everywhere_and_nothing_is_written(
    api: httpx2.AsyncClient, operator: httpx2.AsyncClient, world: World
) -> None:
    before, body = await counted(world), b" " * 10_000_000
    for method, template in WRITING:
        path, client = await concrete(template, world), caller_of(template, api, operator)
        assert_problem(await client.request(method.upper(), path, content=body), {413})
    assert await counted(world) == before


async def test_every_parameter_withstands_injection(
    api: httpx2.AsyncClient, operator: httpx2.AsyncClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    before = await counted(world)
    for template in READING:
        path, client = await concrete(template, world), caller_of(template, api, operator)
        base = {"type": "change"} if template.endswith(("/logs", "/export")) else {}
        for parameter in openapi()["paths"][template]["get"].get("parameters", []):
            if parameter["in"] != "query":
                continue
            for value in (INJECTED, "\x00", "' OR 1=1 --", "n" * 5000, "%", "[]"):
                answer = await client.get(path, params={**base, parameter["name"]: value})
                assert answer.status_code in (200, 400, 404), (template, parameter["name"], answer.text)
    assert await counted(world) == before
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not [record for record in caplog.records if "\n" in record.getMessage()]


async def test_another_accounts_ids_name_nothing(api: httpx2.AsyncClient, foreign: World) -> None:
    before = await counted(foreign)
    for template, operations in openapi()["paths"].items():
        if "{" not in template or template.startswith("/wardgate/"):
            continue
        path = await concrete(template, foreign)
        for method in operations:
            answer = await api.request(method.upper(), path, json=body_for((method, template)))
            if answer.status_code == 200:
                assert answer.json()["data"] in ([], {"deleted_count": 0}), (method, template, answer.text)
            else:
                assert_problem(answer, {404})
    assert await counted(foreign) == before


def body_for(operation: Operation) -> Any:
    """Return a body that would be accepted."""
    if operation not in WITH_BODY:
        return None
    wrapper, _ = wrapper_and_fields(operation)
    if wrapper in ("memberships", "pool_members"):
        return {wrapper: [] if operation[0] == "put" else {"add": []}}
    return {wrapper: {"name": "mine"}}
