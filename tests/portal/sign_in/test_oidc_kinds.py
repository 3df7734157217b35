"""What sets Google, Entra and Okta apart, against fakes that check what they are sent."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest

from support.browser import caller
from support.identity_provider import CLIENT, SECRET, FakeProvider
from support.portal import World, make_world, portal_running
from wardgate.portal.bus.encoding_bus import EncodingBus
from wardgate.portal.environment import Environment

pytestmark = pytest.mark.one_database  # an environment of its own stands on SQLite

GOOGLE, OKTA = "https://accounts.google.com", "https://acme.okta.com"
ENTRA = "https://login.microsoftonline.com/4711/v2.0"
FIELDS: Mapping[str, Mapping[str, str]] = {
    "google": {},
    "okta": {"okta_domain": "Acme.okta.com"},
    "entra": {"issuer": ENTRA},
}
ISSUERS = {"google": GOOGLE, "okta": OKTA, "entra": ENTRA}


@pytest.fixture(params=FIELDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def idp(kind: str) -> FakeProvider:
    return FakeProvider(issuer=ISSUERS[kind])


@pytest.fixture
async def world(idp: FakeProvider) -> AsyncIterator[World]:
    environment = replace(Environment.of_this_process(outbound=idp.outbound), bus=EncodingBus())
    async with portal_running(environment=environment) as portal:
        world = await make_world(portal)
        async with portal.services.store.writing() as transaction:
            actors = transaction.of(world.account_id).actors
            await actors.save(replace(world.actor, type="account_admin_user"))
        yield world


@pytest.fixture
async def operator(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(world.portal, world.operator_token) as client:
        yield client


async def made(operator: httpx2.AsyncClient, world: World, kind: str) -> str:
    """Make a provider of the kind; return its path."""
    place = f"/wardgate/accounts/{world.account_id}/{kind}_auth_providers"
    fields = {"name": kind, "client_id": CLIENT, "client_secret": SECRET, **FIELDS[kind]}
    answer = await operator.post(place, json={f"{kind}_auth_provider": fields})
    assert answer.status_code == 201, answer.text
    return f"{place}/{answer.json()['data']['id']}"


async def tried(operator: httpx2.AsyncClient, world: World, idp: FakeProvider, path: str) -> httpx2.Response:
    answer = await operator.post(f"{path}/verification")
    async with caller(world.portal) as browser:
        sent = await browser.get(urlsplit(answer.json()["data"]["url"]).path)
        assert "prompt=login" in sent.headers["location"]
        return await browser.get(f"/auth/oidc/callback?{idp.authorize(sent.headers['location'])}")


CLAIMS: Mapping[str, Mapping[str, Any]] = {
    "google": {"iss": "accounts.google.com"},
    "okta": {},
    "entra": {
        "tid": "4711",
        "oid": "object-1",
        "upn": "ada@example.org",
        "email": None,
        "email_verified": None,
    },
}


async def test_a_preset_needs_no_more_than_its_client(
    operator: httpx2.AsyncClient, world: World, idp: FakeProvider, kind: str
) -> None:
    path = await made(operator, world, kind)
    idp.changed = dict(CLAIMS[kind])
    assert (await tried(operator, world, idp, path)).status_code == 200
    assert idp.outbound.asked[0].url == f"{ISSUERS[kind]}/.well-known/openid-configuration"
    enabled = await operator.patch(path, json={f"{kind}_auth_provider": {"is_disabled": False}})
    assert enabled.status_code == 200, enabled.text
    async with caller(world.portal) as browser:
        sent = (await browser.get(f"/acme/sign_in/{kind}/{path.rpartition('/')[2]}")).headers["location"]
        asked = dict(parse_qsl(urlsplit(sent).query))
        assert (asked["prompt"], asked["scope"]) == ("select_account", "openid email profile")
        back = await browser.get(f"/auth/oidc/callback?{idp.authorize(sent)}")
    # Entra's addresses are proved by a code.
    expected = "/verify_identity" if kind == "entra" else "/acme"
    assert expected in back.headers["location"]


WRONG: Mapping[str, Mapping[str, Any]] = {
    "google": {"email_verified": False},
    "okta": {"email_verified": None},
    "entra": {"tid": "4712", "oid": "object-1", "upn": "ada@example.org"},
}


async def test_a_trial_finds_what_the_kind_does_not_accept(
    operator: httpx2.AsyncClient, world: World, idp: FakeProvider, kind: str
) -> None:
    path = await made(operator, world, kind)
    idp.changed = dict(WRONG[kind])
    answer = await tried(operator, world, idp, path)
    assert answer.status_code == 422
    told = "another identity provider" if kind == "entra" else "not verified your e-mail"
    assert told in answer.text
    refused = await operator.patch(path, json={f"{kind}_auth_provider": {"is_disabled": False}})
    assert refused.status_code == 422


async def test_a_token_of_another_issuer_proves_nothing(
    operator: httpx2.AsyncClient, world: World, idp: FakeProvider, kind: str
) -> None:
    """A foreign tenant's token verifies by the same keys at Entra (identity §18)."""
    path = await made(operator, world, kind)
    idp.changed = {**CLAIMS[kind], "iss": "https://login.microsoftonline.com/4712/v2.0"}
    answer = await tried(operator, world, idp, path)
    assert (answer.status_code, "another identity provider" in answer.text) == (422, True)
