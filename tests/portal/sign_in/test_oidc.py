"""Signing in with an identity provider, from the first page to the session, against a provider of the tests' own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx2
import pytest

from support.browser import caller
from support.identity_provider import CLIENT, ISSUER, SECRET, FakeProvider, rsa_key
from support.portal import World, make_world, portal_running
from wardgate.portal.app import Portal
from wardgate.portal.bus.encoding_bus import EncodingBus
from wardgate.portal.environment import Environment
from wardgate.portal.outbound import Answer, Failure
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.tables import OidcAuthProvider

pytestmark = pytest.mark.one_database  # an environment of its own stands on SQLite

ADMIN = "ada@example.org"


@dataclass(slots=True)
class Office:
    """An account whose people sign in with one provider; `browser` is somebody's who has not yet."""

    world: World
    idp: FakeProvider
    provider: OidcAuthProvider
    browser: httpx2.AsyncClient
    slug: str

    @property
    def portal(self) -> Portal:
        return self.world.portal

    @property
    def start(self) -> str:
        return f"/{self.slug}/sign_in/oidc/{self.provider.id}"

    async def begin(self, browser: httpx2.AsyncClient | None = None, **flow: str) -> str:
        """Return where the portal sends a browser."""
        answer = await (browser or self.browser).get(self.start, params=flow)
        assert answer.status_code == 303, answer.text
        return answer.headers["location"]

    async def come_back(self, query: str, browser: httpx2.AsyncClient | None = None) -> httpx2.Response:
        return await (browser or self.browser).get(f"/auth/oidc/callback?{query}")

    async def sign_in(self, **flow: str) -> httpx2.Response:
        return await self.come_back(self.idp.authorize(await self.begin(**flow)))

    async def failure(self, **flow: str) -> str:
        """Sign in, which must fail; return the word for why."""
        return failure_of(await self.sign_in(**flow))

    async def change(self, **values: Any) -> None:
        async with self.portal.services.store.writing() as transaction:
            providers = transaction.of(self.world.account_id).oidc_auth_providers
            self.provider = await providers.save(replace(self.provider, **values))

    async def people(self, **values: Any) -> Actor:
        async with self.portal.services.store.writing() as transaction:
            tables = transaction.of(self.world.account_id)
            return await tables.actors.insert(
                Actor(id=tables.new_id(), account_id=tables.account_id, **values)
            )


def failure_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 303, answer.text
    assert "set-cookie" not in answer.headers or "sess_" not in answer.headers["set-cookie"]
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))["error"]


@pytest.fixture
async def idp() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def office(idp: FakeProvider) -> AsyncIterator[Office]:
    environment = replace(Environment.of_this_process(outbound=idp.outbound), bus=EncodingBus())
    async with portal_running(environment=environment) as portal:
        world = await make_world(portal)
        async with portal.services.store.writing() as transaction:
            tables = transaction.of(world.account_id)
            account = await tables.account()
            assert account is not None
            await tables.actors.save(replace(world.actor, type="account_admin_user"))
            provider = await tables.oidc_auth_providers.insert(
                OidcAuthProvider(
                    id=tables.new_id(),
                    account_id=tables.account_id,
                    name="Keycloak",
                    issuer=ISSUER,
                    client_id=CLIENT,
                    client_secret=SECRET,
                    discovery_document_uri=f"{ISSUER}/.well-known/openid-configuration",
                    is_verified=True,
                )
            )
        async with caller(portal) as browser:
            yield Office(world, idp, provider, browser, account.slug)


async def test_an_administrator_signs_in(office: Office) -> None:
    url = await office.begin(redirect_to=f"/{office.slug}/account")
    asked = dict(parse_qsl(urlsplit(url).query))
    assert asked["scope"] == "openid email profile"
    assert asked["redirect_uri"] == "http://127.0.0.1:8080/auth/oidc/callback"
    assert len(asked["state"]) == len(asked["nonce"]) == len(asked["code_challenge"]) == 43
    assert "prompt" not in asked
    answer = await office.come_back(office.idp.authorize(url))
    assert (answer.status_code, answer.headers["location"]) == (303, f"/{office.slug}/account")
    assert (await office.browser.get(f"/{office.slug}/account")).status_code == 200
    form = office.idp.exchanges[0].form or {}
    assert (form["grant_type"], form["client_id"]) == ("authorization_code", CLIENT)
    assert "client_secret" not in form
    async with office.portal.services.store.reading() as transaction:
        tables = transaction.of(office.world.account_id)
        (session,) = await tables.portal_sessions.load_all()
        (identity,) = await tables.external_identities.load_all()
    assert session.auth_provider_id == office.provider.id
    assert (identity.issuer, identity.idp_id, identity.actor_id) == (ISSUER, "subject-1", session.actor_id)


async def test_a_secret_goes_into_the_form_where_the_provider_wants_it_there(office: Office) -> None:
    office.idp.announce(token_endpoint_auth_methods_supported=["client_secret_post"])
    await office.sign_in()
    question = office.idp.exchanges[0]
    assert ((question.form or {})["client_secret"], question.headers) == (SECRET, {})


async def test_a_client_is_handed_its_token(office: Office) -> None:
    office.idp.changed = {"email": "grace@example.org", "sub": "subject-2"}
    await office.people(type="account_user", name="Grace", email="grace@example.org")
    answer = await office.sign_in(**{"as": "gui-client", "state": "s" * 64, "nonce": "n" * 64})
    assert answer.status_code == 200
    handed = await office.browser.get(f"/{office.slug}/sign_in/client_redirect")
    assert handed.headers["location"].startswith("firezone-fd0020211111://")
    assert "n" * 64 not in handed.headers["location"]


async def test_who_is_no_administrator_gets_no_session(office: Office) -> None:
    await office.people(type="account_user", name="Grace", email="grace@example.org")
    office.idp.changed = {"email": "grace@example.org"}
    assert await office.failure() == "needs-admin"


async def test_nobody_is_made_by_signing_in(office: Office) -> None:
    office.idp.changed = {"email": "eve@example.org"}
    assert await office.failure() == "unknown-user"


async def test_an_address_counts_only_if_the_provider_has_verified_it(office: Office) -> None:
    office.idp.changed = {"email_verified": False}
    assert await office.failure() == "idp-email"
    await office.change(email_verification_method="none")
    assert (await office.sign_in()).headers["location"] == f"/{office.slug}"


async def test_a_failure_of_a_client_has_a_page_that_tries_again(office: Office) -> None:
    flow = {"as": "gui-client", "state": "s" * 64, "nonce": "n" * 64}
    office.idp.changed = {"aud": "other"}
    answer = await office.sign_in(**flow)
    page = await office.browser.get(answer.headers["location"])
    assert page.status_code == 403
    assert "could not be verified" in page.text
    assert "nonce=" + "n" * 64 in page.text


async def test_a_callback_is_answered_once(office: Office) -> None:
    query = office.idp.authorize(await office.begin())
    kept = office.browser.cookies.get("oidc")
    assert (await office.come_back(query)).status_code == 303
    assert office.browser.cookies.get("oidc") is None
    again = await office.come_back(query)
    assert (again.status_code, len(office.idp.exchanges)) == (400, 1)
    # Not even with the cookie of before.
    office.browser.cookies.set("oidc", kept or "", domain="portal.example")
    office.idp.codes["code-0"] = {}
    again = await office.come_back(query)
    assert (again.status_code, len(office.idp.exchanges)) == (400, 1)


async def test_a_callback_in_another_browser_finds_nothing(office: Office) -> None:
    """Somebody else's callback does not sign in the browser that it is sent to (RFC 6749 §10.12)."""
    query = office.idp.authorize(await office.begin())
    async with caller(office.portal) as other:
        assert (await office.come_back(query, other)).status_code == 400
        await office.begin(other)
        assert (await office.come_back(query, other)).status_code == 400
    assert office.idp.exchanges == []
    assert (await office.come_back(query)).status_code == 303, "and takes nothing from whose it is"


async def test_a_forged_or_old_cookie_is_none(office: Office) -> None:
    query = office.idp.authorize(await office.begin())
    office.browser.cookies.set(
        "oidc", "x" + (office.browser.cookies.get("oidc") or ""), domain="portal.example"
    )
    assert (await office.come_back(query)).status_code == 400


async def test_parameters_that_come_twice_are_refused(office: Office) -> None:
    query = office.idp.authorize(await office.begin())
    assert (await office.come_back(f"{query}&code=other")).status_code == 400
    assert office.idp.exchanges == []


@pytest.mark.parametrize(
    ("changed", "failure"),
    [
        ({"nonce": "m" * 43}, "idp-token"),
        ({"aud": "other"}, "idp-token"),
        ({"iss": "https://evil.test"}, "idp-issuer"),
        ({"exp": 1}, "idp-clock"),
        ({"email": None}, "idp-profile"),
    ],
)
async def test_a_token_that_is_not_for_us_signs_nobody_in(
    office: Office, changed: dict[str, Any], failure: str
) -> None:
    office.idp.changed = changed
    assert await office.failure() == failure


async def test_a_token_by_a_key_that_is_not_published_signs_nobody_in(office: Office) -> None:
    url = await office.begin()
    office.idp.key = rsa_key("k2")
    assert failure_of(await office.come_back(office.idp.authorize(url))) == "idp-token"


async def test_the_answer_of_another_provider_is_refused(office: Office) -> None:
    """Mix-up (RFC 9207): the browser was at another provider than the portal had sent it to."""
    query = office.idp.authorize(await office.begin())
    assert failure_of(await office.come_back(f"{query}&iss=https%3A%2F%2Fevil.test")) == "idp-issuer"
    assert office.idp.exchanges == [], "the code went nowhere"
    query = office.idp.authorize(await office.begin())
    assert (await office.come_back(f"{query}&iss=https%3A%2F%2Fidp.test")).headers[
        "location"
    ] == f"/{office.slug}"


async def test_a_provider_that_always_names_itself_must(office: Office) -> None:
    office.idp.announce(authorization_response_iss_parameter_supported=True)
    assert await office.failure() == "idp-issuer"
    assert office.idp.exchanges == []


async def test_a_discovery_document_of_another_issuer_is_refused(office: Office) -> None:
    office.idp.announce(issuer="https://evil.test")
    answer = await office.browser.get(office.start)
    assert failure_of(answer) == "idp-issuer"


async def test_a_provider_without_s256_is_refused(office: Office) -> None:
    office.idp.announce(code_challenge_methods_supported=["plain"])
    assert failure_of(await office.browser.get(office.start)) == "idp-unsuitable"


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Failure.CONNECTION_REFUSED, "idp-refused"),
        (Failure.TIMED_OUT, "idp-timeout"),
        (Answer(400, {}, b'{"error": "invalid_grant"}'), "idp-code"),
        (Answer(400, {}, b'{"error": "invalid_client"}'), "idp-credentials"),
        (Answer(401, {}, b"{}"), "idp-credentials"),
        (Answer(502, {}, b"<html>"), "idp-failed"),
        (Answer(200, {}, b"<html>"), "idp-malformed"),
        (Answer(200, {}, b"{}"), "idp-token"),
        (Answer(200, {}, b'{"id_token": 1}'), "idp-token"),
    ],
)
async def test_what_goes_wrong_at_the_token_endpoint_is_told(
    office: Office, answer: Answer | Failure, failure: str
) -> None:
    office.idp.at_token = answer
    assert await office.failure() == failure
    page = await office.browser.get(f"/{office.slug}/sign_in", params={"error": failure})
    assert 'role="alert"' in page.text


async def test_a_provider_that_is_down_is_told(office: Office) -> None:
    office.idp.outbound.answers[office.provider.discovery_document_uri] = Failure.CONNECTION_REFUSED
    assert failure_of(await office.browser.get(office.start)) == "idp-refused"


async def test_a_provider_that_refuses_is_told(office: Office) -> None:
    state = dict(parse_qsl(urlsplit(await office.begin()).query))["state"]
    assert failure_of(await office.come_back(f"error=access_denied&state={state}")) == "idp-denied"


@pytest.mark.parametrize("values", [{"is_disabled": True}, {"context": "clients_only"}])
async def test_a_provider_that_is_not_to_be_used_is_not(office: Office, values: dict[str, Any]) -> None:
    query = office.idp.authorize(await office.begin())
    await office.change(**values)
    assert failure_of(await office.browser.get(office.start)) == "method"
    assert failure_of(await office.come_back(query)) == "method"
    assert office.idp.exchanges == []


async def test_providers_of_another_kind_or_account_are_none(office: Office) -> None:
    for path in (f"/sign_in/oidc/{UUID(int=1)}", "/sign_in/oidc/x"):
        assert failure_of(await office.browser.get(f"/{office.slug}{path}")) == "method"
    await make_world(office.portal, "other")
    answer = await office.browser.get(f"/other/sign_in/oidc/{office.provider.id}")
    assert failure_of(answer) == "method"


async def test_strangers_make_the_portal_ask_so_often_and_no_more(office: Office) -> None:
    answers = [(await office.browser.get(office.start)).status_code for _ in range(25)]
    assert set(answers) == {303, 429}
    assert office.idp.outbound.count(office.provider.discovery_document_uri) == 1


async def test_two_first_sign_ins_at_once_make_one_identity(office: Office) -> None:
    async with caller(office.portal) as other:
        queries = [office.idp.authorize(await office.begin(one)) for one in (office.browser, other)]
        answers = await asyncio.gather(
            office.come_back(queries[0], office.browser), office.come_back(queries[1], other)
        )
    assert [one.headers["location"] for one in answers] == [f"/{office.slug}"] * 2
    async with office.portal.services.store.reading() as transaction:
        assert await transaction.of(office.world.account_id).external_identities.count() == 1


async def test_the_claim_groups_fills_groups_where_that_is_asked(office: Office) -> None:
    office.idp.changed = {"groups": ["dev", "ops"]}
    await office.sign_in()
    assert await groups_of(office) == set()
    await office.browser.aclose()
    await office.change(fills_groups=True)
    for claim, expected in ((["dev", "ops"], {"dev", "ops"}), (["ops", "qa"], {"ops", "qa"}), (None, set())):
        office.idp.changed = {} if claim is None else {"groups": claim}
        async with caller(office.portal) as browser:
            await office.come_back(office.idp.authorize(await office.begin(browser)), browser)
        assert await groups_of(office) == expected
    async with office.portal.services.store.reading() as transaction:
        tables = transaction.of(office.world.account_id)
        marked = await tables.groups.load_all(tables.groups.c.name.in_(["dev", "ops", "qa"]))
    assert {group.idp_id for group in marked} == {
        f"claim:{office.provider.id}:{name}" for name in ("dev", "ops", "qa")
    }


async def groups_of(office: Office) -> set[str]:
    async with office.portal.services.store.reading() as transaction:
        tables = transaction.of(office.world.account_id)
        ada = await tables.actors.find(tables.actors.c.email == ADMIN)
        assert ada is not None
        mine = await tables.memberships.load_all(tables.memberships.c.actor_id == ada.id)
        groups = await tables.groups.load_all(tables.groups.c.id.in_([one.group_id for one in mine]))
    return {group.name for group in groups} - {"Engineering"}
