"""The page of the ways to sign in, as an administrator uses it without JavaScript."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx2
import pytest

from support.browser import caller, sign_in_link
from support.identity_provider import CLIENT, ISSUER, SECRET, FakeProvider
from support.portal import World, make_world, portal_running
from wardgate.portal.bus.encoding_bus import EncodingBus
from wardgate.portal.environment import Environment

pytestmark = pytest.mark.one_database  # an environment of its own stands on SQLite

URI = f"{ISSUER}/.well-known/openid-configuration"
PATH = "/acme/settings/authentication"
NEW = {
    "type": "oidc",
    "name": "Keycloak",
    "client_id": CLIENT,
    "client_secret": SECRET,
    "discovery_document_uri": URI,
    "email_verification_method": "claim",
    "context": "clients_and_portal",
    "email_claim": "upn",
}


@dataclass(slots=True)
class Office:
    """An administrator's browser, and a provider that answers."""

    world: World
    idp: FakeProvider
    browser: httpx2.AsyncClient

    async def page(self, path: str = "") -> str:
        answer = await self.browser.get(f"{PATH}{path}")
        assert answer.status_code == 200, answer.text
        return answer.text

    async def post(self, path: str, **form: str) -> httpx2.Response:
        page = await self.page()
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token is not None
        return await self.browser.post(f"{PATH}{path}", data={"csrf_token": token[1], **form})

    async def make(self, **changed: str) -> str:
        """Make a provider; return the path of its panel behind the page's."""
        answer = await self.post("/new", **{**NEW, **changed})
        assert answer.status_code == 303, answer.text
        return urlsplit(answer.headers["location"]).path.removeprefix(PATH)

    async def try_(self, panel: str, **form: str) -> httpx2.Response:
        """Begin a trial and come back from it."""
        page = await self.post(f"{panel}/trial", client_id=CLIENT, discovery_document_uri=URI, **form)
        assert page.status_code == 200, page.text
        link = re.search(r'href="[^"]*(/auth/oidc/trial/[0-9a-f]+)"', page.text)
        assert link is not None
        sent = await self.browser.get(link[1])
        return await self.browser.get(f"/auth/oidc/callback?{self.idp.authorize(sent.headers['location'])}")

    async def use(self, panel: str) -> None:
        """Try a provider and enable it."""
        assert (await self.try_(panel)).status_code == 200
        assert (await self.post(f"{panel}/enable")).status_code == 303


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    idp = FakeProvider()
    environment = replace(Environment.of_this_process(outbound=idp.outbound), bus=EncodingBus())
    async with portal_running(environment=environment) as portal:
        world = await make_world(portal)
        async with portal.services.store.writing() as transaction:
            actors = transaction.of(world.account_id).actors
            await actors.save(replace(world.actor, type="account_admin_user"))
        async with caller(portal) as browser:
            await browser.get(await sign_in_link(world))
            yield Office(world, idp, browser)


async def test_a_provider_is_made_tried_and_enabled(office: Office) -> None:
    panel = await office.make()
    page = await office.page(panel)
    assert "Not tried yet" in page
    assert SECRET not in page
    assert "http://127.0.0.1:8080/auth/oidc/callback" in page
    assert f'action="{PATH}{panel}/enable"' not in page
    assert (await office.try_(panel)).status_code == 200
    assert (await office.post(f"{panel}/enable")).status_code == 303
    assert "Enabled" in await office.page(panel)
    async with caller(office.world.portal) as other:
        assert "Continue with Keycloak" in (await other.get("/acme/sign_in")).text


async def test_a_secret_that_is_left_empty_stays(office: Office) -> None:
    panel = await office.make()
    await office.use(panel)
    assert SECRET not in await office.page(f"{panel}/trial")
    assert (await office.try_(panel, client_secret="")).status_code == 200
    office.idp.secret = "rotated"
    assert (await office.try_(panel, client_secret="rotated")).status_code == 200
    assert "Enabled" in await office.page(panel)


async def test_values_that_cannot_be_tried_are_told_beside_the_form(office: Office) -> None:
    panel = await office.make()
    answer = await office.post(
        f"{panel}/trial", client_id=CLIENT, discovery_document_uri="https://10.0.0.1/x"
    )
    assert answer.status_code == 422
    assert "not an https address of a public host" in answer.text


async def test_nobody_disables_or_deletes_what_they_are_signed_in_with(office: Office) -> None:
    panel = await office.make()
    await office.use(panel)
    async with caller(office.world.portal) as browser:
        sent = await browser.get(f"/acme/sign_in/oidc{panel}")
        await browser.get(f"/auth/oidc/callback?{office.idp.authorize(sent.headers['location'])}")
        own = Office(office.world, office.idp, browser)
        await own.post(f"{panel}/disable")
        assert "Enabled" in await own.page(panel)
        await own.post(f"{panel}/delete", typed="Keycloak")
        assert "Enabled" in await own.page(panel)
    # Somebody who is signed in otherwise may.
    await office.post(f"{panel}/disable")
    assert "Disabled" in await office.page(panel)
    assert (await office.post(f"{panel}/delete", typed="Keycloak")).headers["location"] == PATH


async def test_the_default_is_one_and_stays_enabled(office: Office) -> None:
    panel = await office.make()
    await office.use(panel)
    await office.post(f"{panel}/make-default")
    assert ">default<" in await office.page()
    await office.post(f"{panel}/disable")
    assert "Enabled" in await office.page(panel)
    await office.post(f"{panel}/remove-default")
    await office.post(f"{panel}/disable")
    assert "Disabled" in await office.page(panel)


async def test_sign_ins_are_ended_together(office: Office) -> None:
    panel = await office.make()
    await office.use(panel)
    async with caller(office.world.portal) as browser:
        sent = await browser.get(f"/acme/sign_in/oidc{panel}")
        await browser.get(f"/auth/oidc/callback?{office.idp.authorize(sent.headers['location'])}")
        assert (await browser.get("/acme")).status_code == 200
        assert "1 in the portal, 0 clients" in await office.page(panel)
        await office.post(f"{panel}/revoke")
        assert (await browser.get("/acme")).status_code == 303


async def test_a_wrong_value_is_told_and_what_was_typed_stays(office: Office) -> None:
    answer = await office.post(
        "/new", **{**NEW, "discovery_document_uri": "http://idp.test/", "name": "Mine"}
    )
    assert answer.status_code == 422
    assert "not an https address of a public host" in answer.text
    assert 'value="Mine"' in answer.text


async def test_the_code_by_mail_has_lifetimes_but_neither_trial_nor_deletion(office: Office) -> None:
    page = await office.page()
    found = re.search(rf'href="{PATH}/([0-9a-f-]+)', page)
    assert found is not None
    panel = await office.page(f"/{found[1]}")
    assert "Email" in panel
    assert "Delete provider" not in panel
    assert (await office.browser.get(f"{PATH}/{found[1]}/trial")).status_code == 303
    assert (await office.post(f"/{found[1]}/trial")).status_code == 303
    version = re.search(r'name="version" value="([^"]+)"', await office.page(f"/{found[1]}/edit"))
    assert version is not None
    form = {"name": "Mail", "context": "portal_only", "portal_session_lifetime_secs": "300"}
    answer = await office.post(f"/{found[1]}/edit", version=version[1].replace("&#34;", '"'), **form)
    assert answer.status_code == 303, answer.text
    assert "5 min" in await office.page(f"/{found[1]}")


async def test_names_and_passwords_are_a_provider_too_and_there_is_one(office: Office) -> None:
    assert "User name and password" in await office.page("/new")
    kept = {"type": "userpass", "name": "Passwords", "context": "clients_only", "email_claim": "upn"}
    made = await office.post("/new", **kept)
    assert made.status_code == 303, made.text
    page = await office.page(urlsplit(made.headers["location"]).path.removeprefix(PATH))
    assert "Enabled" in page
    assert "Delete provider" not in page
    assert "Client ID" not in page
    again = await office.post("/new", **{**kept, "name": "Others"})
    assert again.status_code == 422
    for odd in ("email_otp", "nothing", ""):
        assert (await office.post("/new", **{**kept, "type": odd})).status_code == 422
