"""Whatever JSON is sent to whatever endpoint: an answer of the documented kind, and the API still works afterwards."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.browser import caller, make_api_token
from support.portal import World, make_world, portal_running
from wardgate.portal.settings import PortalSettings

KEYS = {
    "/actors": "actor",
    "/groups": "group",
    "/sites": "site",
    "/resources": "resource",
    "/policies": "policy",
    "/wardgate/client_tokens": "client_token",
}
FIELDS = [
    "name", "type", "email", "address", "address_description", "ip_stack", "site_id", "filters", "ports", "protocol",
    "group_id", "resource_id", "conditions", "property", "operator", "values", "description", "is_disabled",
    "flow_log_uploads_enabled", "expires_at", "actor_id", "allow_email_otp_sign_in",
]  # fmt: skip
WORDS = [
    "dns", "cidr", "ip", "internet", "static_device_pool", "account_user", "service_account", "tcp", "10.0.0.0/8",
    "*.example.com", "remote_ip", "is_in_cidr", "current_utc_datetime", "M/9-17/UTC", "80", "1 - 65535", "a@b.example",
    "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c", "2030-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "\x00",
    "", "' OR 1=1 --",
]  # fmt: skip

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=15,
)
queries = st.dictionaries(
    st.sampled_from(
        ["limit", "page_cursor", "name", "type", "site_id", "group_id", "directory_id", "ip_stack"]
    ),
    st.sampled_from(WORDS) | st.text(max_size=20),
    max_size=3,
)


class Api:
    """A portal that outlives the examples of one test, on an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, world: World, token: str) -> None:
        self._runner = runner
        self._world = world
        self._token = token

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        async def run() -> httpx2.Response:
            async with caller(self._world.portal, self._token) as client:
                return await client.request(method, path, **options)

        return self._runner.run(run())


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with asyncio.Runner() as runner:
        running = portal_running(PortalSettings(api_capacity=1e9))
        world = runner.run(make_world(runner.run(running.__aenter__())))
        token, _ = runner.run(make_api_token(world))
        yield Api(runner, world, token)
        runner.run(running.__aexit__(None, None, None))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(sorted(KEYS)), values, st.booleans())
def test_any_body_is_answered_and_refusals_are_problems(
    api: Api, path: str, value: Any, wrapped: bool
) -> None:
    content = _json({KEYS[path]: value} if wrapped else value)
    answer = api.request("POST", path, content=content)
    assert answer.status_code in (201, 400, 403, 404, 422), answer.text
    if answer.status_code != 201:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert ("validation_errors" in answer.json()) == (answer.status_code == 422)
    assert api.request("GET", path.replace("/wardgate/client_tokens", "/account")).status_code == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(["/actors", "/groups", "/sites", "/resources", "/policies", "/clients"]), queries)
def test_any_query_is_answered(api: Api, path: str, query: dict[str, str]) -> None:
    answer = api.request("GET", path, params=query)
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        assert set(answer.json()["metadata"]) == {"count", "limit", "next_page", "prev_page"}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
