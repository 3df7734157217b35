"""A foreign tester reads the OpenAPI document, calls every operation with data that fits and data that does
not, and checks the answers.

Every operation meets a fresh account of a portal behind the real server. 422 and 412 answers to data that
fits the schema are expected: rules such as "this name is taken" cannot be written in a schema. Nor can what a
cursor is and what parameters of a query have to do with each other, hence 400 to a GET, and for two rules of
the published API.
"""

import asyncio
import base64
import itertools
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import negative_data_rejection
from schemathesis.config import SchemathesisConfig

from support.browser import make_api_token
from support.portal import World, make_world
from support.served_portal import served_portal
from wardgate.portal.app import Portal
from wardgate.portal.rest.application import openapi, paths
from wardgate.portal.settings import PortalSettings

pytest_plugins = ["schemathesis.pytest.plugin"]

EXAMPLES = 3
EXPECTED = ["2xx", "401", "403", "404", "409", "412", "422"]
RULES_ANSWERED_WITH_400 = (
    {"include-method": "GET"},
    {"include-path": "/actors/{actor_id}/client_tokens"},  # the actor must be a service account
    {"include-path": "/resources/{resource_id}/pool_members"},  # the resource must be a static pool
)
REFUSALS = ["400", "401", "403", "404", "405", "406", "409", "412", "422"]

T = TypeVar("T")

STAND_INS = [f"00000000-0000-4000-8000-{number:012}" for number in range(8)]
"""What the tester draws for ids of objects that exist; each call gets the real ones in their place."""

schemathesis.openapi.format("uuid", st.one_of(st.uuids().map(str), st.sampled_from(STAND_INS)))
schemathesis.openapi.format(
    "page-cursor",
    st.tuples(st.sampled_from(["after", "before"]), st.integers(0, 2**50), st.uuids()).map(
        lambda parts: _unpadded(f'["{parts[0]}",{parts[1]},"{parts[2]}"]')
    ),
)
schemathesis.openapi.format("entity-tags", st.sampled_from(["*", '"a"', '"a", "b"']))


def _is_a_twin(context: Any) -> bool:
    """Tell whether an operation is the PUT that is the same as the PATCH beside it, body and handler; lists
    have a PUT of their own.
    """
    body = context.operation.definition.raw.get("requestBody")
    twin = openapi()["paths"][context.operation.path].get("patch")
    return context.operation.method == "put" and twin is not None and twin.get("requestBody") == body


api = schemathesis.openapi.from_dict(
    openapi(),
    config=SchemathesisConfig.from_dict(
        {
            "seed": 7,
            "checks": {
                "positive_data_acceptance": {"expected-statuses": EXPECTED},
                "negative_data_rejection": {"expected-statuses": REFUSALS},
            },
            "phases": {"coverage": {"unexpected-methods": ["TRACE"]}},
            "operations": [
                {
                    **which,
                    "checks": {"positive_data_acceptance": {"expected-statuses": [*EXPECTED, "400"]}},
                }
                for which in RULES_ANSWERED_WITH_400
            ],
        }
    ),
).exclude(_is_a_twin)


@dataclass(frozen=True, slots=True)
class Target:
    """A served portal and who calls it."""

    url: str
    api_token: str
    operator_token: str
    ids: dict[str, str]

    def token_for(self, path: str) -> str:
        return self.operator_token if paths().is_operators(path) else self.api_token


@dataclass(frozen=True, slots=True)
class Served:
    """A portal that runs in another thread, for the tester's calls block."""

    loop: asyncio.AbstractEventLoop
    portal: Portal
    url: str
    numbers: Iterator[int]

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="portal")
    thread.start()
    serving = served_portal(_settings)
    portal, port = asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result()
    made = Served(loop, portal, f"http://127.0.0.1:{port}", itertools.count())
    try:
        yield made
    finally:
        made.run(serving.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """One connection for all calls: making one costs more than most calls."""
    with requests.Session() as kept:
        yield kept


@pytest.fixture
def target(served: Served) -> Target:
    """Make an account of its own for the operation."""
    return served.run(_account(served, f"account-{next(served.numbers)}"))


@api.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_the_api_keeps_its_document(
    case: schemathesis.Case[Any], target: Target, session: requests.Session
) -> None:
    token = target.token_for(case.path)
    for part in ("path_parameters", "query", "body"):
        setattr(case, part, _with_real_ids(getattr(case, part), target.ids))
    # Calls carry a real token: where the tester had spoilt that, a good answer is right.
    excluded = [negative_data_rejection] if _spoils_the_token(case) else []
    headers = {"Authorization": f"Bearer {token}"}
    case.call_and_validate(base_url=target.url, session=session, headers=headers, excluded_checks=excluded)


def _settings(port: int) -> PortalSettings:
    url = f"http://127.0.0.1:{port}"
    return PortalSettings(external_url=url, api_capacity=1e9, api_refill_per_s=1e9)


async def _account(served: Served, slug: str) -> Target:
    world = await make_world(served.portal, slug)
    api_token, _ = await make_api_token(world)
    ids = dict(zip(STAND_INS, await _ids_of(world), strict=True))
    return Target(served.url, api_token, world.operator_token, ids)


async def _ids_of(world: World) -> list[str]:
    """Return ids of everything but the caller, who shall not be deleted."""
    objects = (world.actor, world.group, world.site, world.resource, world.policy)
    tokens = (world.client_token_id, world.gateway_token_id)
    async with world.portal.services.store.reading() as transaction:
        relay_token = (await transaction.relay_tokens.load_all())[-1]
    return [str(id_) for id_ in (*(row.id for row in (*objects, relay_token)), *tokens)]


def _spoils_the_token(case: schemathesis.Case[Any]) -> bool:
    mutations = [] if case.meta is None else getattr(case.meta.phase.data, "mutations", [])
    return any(one.parameter == "Authorization" for one in mutations)


def _with_real_ids(value: Any, ids: dict[str, str]) -> Any:
    match value:
        case str():
            return ids.get(value, value)
        case dict():
            return type(value)({name: _with_real_ids(inner, ids) for name, inner in value.items()})
        case list():
            return [_with_real_ids(inner, ids) for inner in value]
        case _:
            return value


def _unpadded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
