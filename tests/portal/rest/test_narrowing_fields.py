"""Fields that would have narrowed access are refused where nobody looks at them; `docs/rest.md` lists them.

The list is read off the page, and the operations off the document, so that a new operation is tried as soon
as it is documented.
"""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio

from support.browser import caller, make_api_token
from support.portal import World, make_world, portal_running
from support.rest_operations import Furnished, Operation, furnish, operations, resolved
from wardgate.portal.rest.fields import NARROWING
from wardgate.portal.settings import PortalSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE: Final = Path(__file__).parents[3] / "docs" / "rest.md"
WITH_BODY: Final = [one for one in operations() if one.body is not None]
REPEATABLE: Final = [one for one in WITH_BODY if not one.path.endswith("/deletion")]
MAKES_A_TOKEN: Final = [
    "/sites/{site_id}/gateways/{gateway_id}/token",
    "/sites/{site_id}/gateways/{gateway_id}/token/rotate",
    "/sites/{site_id}/gateway_tokens",
]


def rows() -> Iterator[tuple[str, set[str]]]:
    """Yield the lines of the page's table: where, and what is refused there."""
    for where, names in re.findall(r"^\| ([^|]+) \| (`[^|]+) \|$", PAGE.read_text(), re.MULTILINE):
        yield where, set(re.findall(r"`(\w+)`", names))


def refused(operation: Operation) -> set[str]:
    wanted: set[str] = set()
    for where, names in rows():
        is_it = f"`{operation.wrapper}`" in where and ("new" not in where or operation.method == "post")
        if where == "everything" or is_it:
            wanted |= names
    return wanted - operation.fields().keys()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    async with portal_running(PortalSettings(api_capacity=1e9, connect_capacity=1000.0)) as portal:
        yield await make_world(portal, "acme")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def furnished(world: World) -> Furnished:
    return await furnish(world, "acme")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    token, _ = await make_api_token(world)
    async with caller(world.portal, token) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operator(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(world.portal, world.operator_token) as client:
        yield client


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
async def test_a_field_that_would_narrow_access_is_refused_by_its_name(
    furnished: Furnished, api: httpx2.AsyncClient, operator: httpx2.AsyncClient, operation: Operation
) -> None:
    names = refused(operation)
    assert "expires_at" in names or operation.wrapper.endswith("_token")
    client = operator if operation.is_operators else api
    at = await position(furnished)
    for name in sorted(names):
        value = name not in ("enabled", "active", "is_enabled", "is_active", "verified", "is_verified")
        good = furnished.good(operation)
        assert good is not None
        inner = good[operation.wrapper]
        spoiled = [{**inner[0], name: value}] if isinstance(inner, list) else {**inner, name: value}
        answer = await client.request(
            operation.method, furnished.path(operation), json={operation.wrapper: spoiled}
        )
        assert answer.status_code == 422, (name, answer.text)
        assert NARROWING in answer.text
        assert name in answer.text
    assert await position(furnished) == at


@pytest.mark.parametrize("operation", REPEATABLE, ids=str)
async def test_what_narrows_nothing_is_ignored(
    furnished: Furnished, api: httpx2.AsyncClient, operator: httpx2.AsyncClient, operation: Operation
) -> None:
    harmless: dict[str, Any] = {"enabled": True, "disabled": False, "postures": None, "ttl": "", "colour": 1}
    good = furnished.good(operation)
    assert good is not None
    inner = good[operation.wrapper]
    given = [{**inner[0], **harmless}] if isinstance(inner, list) else {**inner, **harmless}
    if operation.path == "/policies":
        given["group_id"] = await new_group(api)
    client = operator if operation.is_operators else api
    answer = await client.request(
        operation.method, furnished.path(operation), json={operation.wrapper: given}
    )
    assert answer.status_code in (200, 201), answer.text


async def test_every_part_of_conditions_and_filters_is_known_or_refused(
    furnished: Furnished, api: httpx2.AsyncClient
) -> None:
    condition = {"property": "client_verified", "operator": "is", "values": ["true"]}
    policy = {
        "group_id": await new_group(api),
        "resource_id": str(furnished.ids["resources"]),
        "conditions": [condition, {"values": ["DE"], "negate": True}],
    }
    answer = await api.post("/policies", json={"policy": policy})
    assert answer.json()["validation_errors"] == {"conditions": [{}, {"negate": [NARROWING]}]}
    path = f"/resources/{furnished.ids['resources']}"
    filters = [{"protocol": "tcp", "port_range_start": 80, "port_range_end": 80}]
    answer = await api.patch(path, json={"resource": {"filters": filters}})
    told = {"port_range_start": [NARROWING], "port_range_end": [NARROWING]}
    assert answer.json()["validation_errors"] == {"filters": [told]}


async def test_an_unknown_limit_is_refused(operator: httpx2.AsyncClient) -> None:
    fields = {"name": "Globex", "slug": "globex", "admin_email": "a@example.org", "limits": {"gateways": 1}}
    answer = await operator.post("/wardgate/accounts", json={"account": fields})
    assert answer.status_code == 422
    assert answer.json()["validation_errors"] == {"limits": [f"gateways {NARROWING}"]}


@pytest.mark.parametrize("path", MAKES_A_TOKEN)
async def test_a_body_that_would_narrow_a_gateways_token_is_refused(
    furnished: Furnished, api: httpx2.AsyncClient, path: str
) -> None:
    at, filled = await position(furnished), furnished.path(Operation("post", path))
    for body in ({"expires_at": "2099-01-01T00:00:00Z"}, {"gateway_token": {"ttl": 60}}):
        answer = await api.post(filled, json=body)
        assert answer.status_code == 422, answer.text
    assert await position(furnished) == at
    for ignored in (b'{"gateway_token": {"note": "x"}}', b"{", b"[" * 99_999):
        assert (await api.post(filled, content=ignored)).status_code in (201, 409)


async def test_a_policy_that_is_made_disabled_grants_nothing(world: World, api: httpx2.AsyncClient) -> None:
    made = (
        await api.post(
            "/policies",
            json={
                "policy": {
                    "group_id": str(world.group.id),
                    "resource_id": await new_resource(world, api),
                    "is_disabled": True,
                }
            },
        )
    ).json()["data"]
    assert made["is_disabled"] is True
    asked = {"actor_id": str(world.actor.id), "resource_id": made["resource_id"]}
    told = (await api.get("/wardgate/explain", params=asked)).json()["data"]
    assert (told["outcome"], told["others"][0]["reason"]) == ("denied", "disabled")


@pytest.mark.one_database  # asks no portal
async def test_nested_objects_that_narrow_are_documented_as_closed() -> None:
    for path, field in (("/policies", "conditions"), ("/resources", "filters")):
        (described,) = [one.fields()[field] for one in WITH_BODY if (one.method, one.path) == ("post", path)]
        items = next(one for one in described["anyOf"] if "items" in one)["items"]
        assert resolved(items)["additionalProperties"] is False


async def new_group(api: httpx2.AsyncClient) -> str:
    answer = await api.post("/groups", json={"group": {"name": f"group {uuid4()}"}})
    return str(answer.json()["data"]["id"])


async def new_resource(world: World, api: httpx2.AsyncClient) -> str:
    fields = {"name": "x", "type": "ip", "address": "10.9.9.9", "site_id": str(world.site.id)}
    answer = await api.post("/resources", json={"resource": fields})
    return str(answer.json()["data"]["id"])


async def position(furnished: Furnished) -> Any:
    async with furnished.world.portal.services.store.reading() as transaction:
        sequences = await transaction.sequences()
    return sequences.get(furnished.world.account_id), len(sequences)
