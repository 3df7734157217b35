"""A provider is used once somebody has signed in with it for a trial (identity §11)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from support.browser import caller
from support.identity_provider import CLIENT, ISSUER, SECRET, FakeProvider
from support.portal import World, make_world, portal_running
from wardgate.portal.bus.encoding_bus import EncodingBus
from wardgate.portal.environment import Environment
from wardgate.portal.outbound import Failure
from wardgate.portal.sign_in.oidc.trials import LIFETIME_S, MAX_WAITING, Trials

pytestmark = pytest.mark.one_database  # an environment of its own stands on SQLite

URI = f"{ISSUER}/.well-known/openid-configuration"


@dataclass(slots=True)
class Office:
    """An account with a provider that was just made."""

    world: World
    idp: FakeProvider
    operator: httpx2.AsyncClient
    browser: httpx2.AsyncClient
    path: str

    async def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.operator.get(self.path)).json()["data"]
        return found

    async def change(self, **fields: Any) -> httpx2.Response:
        return await self.operator.patch(self.path, json={"oidc_auth_provider": fields})

    async def trial(self, **tried: Any) -> str:
        """Ask for a trial; return the path at which a browser begins it."""
        body = {"oidc_auth_provider": tried} if tried else None
        answer = await self.operator.post(f"{self.path}/verification", json=body)
        assert answer.status_code == 201, answer.text
        return urlsplit(answer.json()["data"]["url"]).path

    async def at_provider(self, **tried: Any) -> str:
        """Ask for a trial and begin it; return the callback's query."""
        sent = await self.browser.get(await self.trial(**tried))
        assert sent.status_code == 303, sent.text
        assert "prompt=login" in sent.headers["location"]
        return self.idp.authorize(sent.headers["location"])

    async def come_back(self, query: str) -> httpx2.Response:
        return await self.browser.get(f"/auth/oidc/callback?{query}")

    async def verify(self, **tried: Any) -> httpx2.Response:
        return await self.come_back(await self.at_provider(**tried))


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    idp = FakeProvider()
    environment = replace(Environment.of_this_process(outbound=idp.outbound), bus=EncodingBus())
    async with portal_running(environment=environment) as portal:
        world = await make_world(portal)
        async with caller(portal, world.operator_token) as operator, caller(portal) as browser:
            place = f"/wardgate/accounts/{world.account_id}/oidc_auth_providers"
            fields = {
                "name": "Keycloak",
                "client_id": CLIENT,
                "client_secret": SECRET,
                "discovery_document_uri": URI,
            }
            made = (await operator.post(place, json={"oidc_auth_provider": fields})).json()["data"]
            yield Office(world, idp, operator, browser, f"{place}/{made['id']}")


async def test_a_new_provider_is_out_of_use_until_a_trial_has_succeeded(office: Office) -> None:
    made = await office.shown()
    assert (made["is_disabled"], made["is_verified"], made["client_id"]) == (True, False, CLIENT)
    refused = await office.change(is_disabled=False)
    assert refused.json()["validation_errors"] == {
        "is_disabled": ["cannot be false before a trial sign-in has succeeded"]
    }
    done = await office.verify()
    assert done.status_code == 200
    assert "Keycloak works" in done.text
    assert ISSUER in done.text
    assert (await office.shown())["is_verified"] is True
    assert (await office.change(is_disabled=False)).status_code == 200


async def test_the_issuer_is_whom_the_trial_proves(office: Office) -> None:
    await office.change(discovery_document_uri=f"{ISSUER}/realms/a{'/.well-known/openid-configuration'}")
    office.idp.outbound.answers[f"{ISSUER}/realms/a/.well-known/openid-configuration"] = (
        office.idp.outbound.answers[URI]
    )
    await office.change(issuer=None)
    assert (await office.shown())["issuer"] == f"{ISSUER}/realms/a"
    assert (await office.verify()).status_code == 200
    assert (await office.shown())["issuer"] == ISSUER


@pytest.mark.parametrize(
    "fields", [{"client_secret": "other"}, {"client_id": "other"}, {"issuer": "https://b.example"}]
)
async def test_another_client_needs_another_trial(office: Office, fields: dict[str, str]) -> None:
    await office.verify()
    await office.change(is_disabled=False)
    await office.change(name="Sign-in")
    assert (await office.shown())["is_disabled"] is False, "a name is no matter"
    await office.change(**fields)
    shown = await office.shown()
    assert (shown["is_verified"], shown["is_disabled"]) == (False, True)


async def test_a_new_secret_is_tried_before_it_replaces_the_old_one(office: Office) -> None:
    await office.verify()
    await office.change(is_disabled=False, is_default=True)
    refused = await office.change(client_secret="rotated")
    assert "try the new value" in refused.json()["validation_errors"]["client_secret"][0]
    office.idp.secret = "rotated"
    assert (await office.verify(client_secret="wrong")).status_code == 422
    assert (await office.verify(client_secret="rotated")).status_code == 200
    shown = await office.shown()
    assert (shown["is_verified"], shown["is_disabled"], shown["is_default"]) == (True, False, True)
    async with office.world.portal.services.store.reading() as transaction:
        (row,) = await transaction.of(office.world.account_id).oidc_auth_providers.load_all()
    assert row.client_secret == "rotated"


async def test_a_trial_works_once(office: Office) -> None:
    path = await office.trial()
    sent = await office.browser.get(path)
    assert (await office.browser.get(path)).status_code == 400
    query = office.idp.authorize(sent.headers["location"])
    assert (await office.come_back(query)).status_code == 200
    assert (await office.come_back(query)).status_code == 400
    assert len(office.idp.exchanges) == 1


async def test_looking_ahead_begins_nothing(office: Office) -> None:
    path = await office.trial()
    assert (await office.browser.get(path, headers={"sec-purpose": "prefetch"})).status_code == 204
    assert (await office.browser.head(path)).status_code == 204
    assert (await office.browser.get(path)).status_code == 303


async def test_a_trial_that_was_not_at_the_provider_proves_nothing(office: Office) -> None:
    name = (await office.trial()).rpartition("/")[2]
    assert (await office.come_back(f"state={name}&code=c")).status_code == 422
    assert (await office.shown())["is_verified"] is False


async def test_a_provider_changed_while_it_is_tried_is_tried_again(office: Office) -> None:
    query = await office.at_provider()
    await office.change(client_id="other")
    answer = await office.come_back(query)
    assert answer.status_code == 422
    assert "changed while it was tried" in answer.text
    assert (await office.shown())["is_verified"] is False


async def test_a_provider_deleted_while_it_is_tried_stays_deleted(office: Office) -> None:
    query = await office.at_provider()
    await office.operator.delete(office.path)
    assert (await office.come_back(query)).status_code == 422


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"email_verified": False}, "not verified your e-mail"),
        ({"aud": "other"}, "could not be verified"),
        ({"iss": "https://evil.test"}, "another identity provider"),
    ],
)
async def test_a_trial_that_fails_says_why(office: Office, changed: dict[str, Any], told: str) -> None:
    office.idp.changed = changed
    answer = await office.verify()
    assert answer.status_code == 422
    assert told in answer.text
    assert (await office.shown())["is_verified"] is False


async def test_a_provider_that_cannot_be_asked_is_told_where_the_trial_begins(office: Office) -> None:
    office.idp.outbound.answers[URI] = Failure.ADDRESS_REFUSED
    answer = await office.browser.get(await office.trial())
    assert answer.status_code == 422
    assert "private address" in answer.text


async def test_values_that_cannot_be_tried_are_refused_at_once(office: Office) -> None:
    body = {"oidc_auth_provider": {"discovery_document_uri": "https://10.0.0.1/x"}}
    answer = await office.operator.post(f"{office.path}/verification", json=body)
    assert set(answer.json()["validation_errors"]) == {"discovery_document_uri"}


async def test_there_is_one_default_and_it_stays_in_use(office: Office) -> None:
    assert (await office.change(is_default=True)).status_code == 422
    await office.verify()
    assert (await office.change(is_disabled=False, is_default=True)).status_code == 200
    refused = await office.change(is_disabled=True)
    assert "default provider" in refused.json()["validation_errors"]["is_disabled"][0]
    async with office.world.portal.services.store.writing() as transaction:
        providers = transaction.of(office.world.account_id).oidc_auth_providers
        (first,) = await providers.load_all()
        other = replace(first, id=transaction.new_id(), name="Other", client_id="o", is_default=False)
        await providers.insert(other)
    path = office.path.replace(str(first.id), str(other.id))
    await office.operator.patch(path, json={"oidc_auth_provider": {"is_default": True}})
    assert (await office.shown())["is_default"] is False
    assert (await office.change(is_disabled=True)).status_code == 200


async def test_sessions_of_a_provider_are_ended_together(office: Office) -> None:
    answer = await office.operator.delete(f"{office.path}/sessions")
    assert answer.json()["data"] == {"portal_sessions": 0, "client_tokens": 0}


def test_trials_wait_so_long_and_are_so_many() -> None:
    trials = Trials()
    for number in range(MAX_WAITING + 1):
        trials.add(str(number), _Trial(expires_at=LIFETIME_S))  # type: ignore[arg-type]
    assert trials.take("0", now=0.0) is None
    assert trials.take("1", now=LIFETIME_S - 1) is not None
    assert trials.take("1", now=LIFETIME_S - 1) is None
    assert trials.take("2", now=LIFETIME_S) is None


@dataclass(frozen=True)
class _Trial:
    expires_at: float
