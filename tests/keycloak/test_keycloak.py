"""Sign-in with a real Keycloak, set up as docs/sign-in/keycloak.md tells."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from keycloak.conftest import Realm, mapper
from support.provider_office import ADMIN, PORTAL, Office, office_of, settings_for, told
from support.sign_in import send_form
from wardgate.portal.sign_in.oidc.discovery import FAILURE_LIFETIME_S

pytestmark = pytest.mark.timeout(900)  # the first test waits until Keycloak has begun

HOME_PAGE = f"{PORTAL}/acme"


@pytest.fixture
async def office(realm: Realm) -> AsyncIterator[Office]:
    async with office_of(realm, settings_for(realm)) as office:
        await office.make_provider(fills_groups=True)
        answer = await office.verify()
        assert answer.status_code == 200, answer.text
        await office.enable()
        yield office


async def test_sessions_end_here_and_there(office: Office, realm: Realm) -> None:
    async with office.browser() as browser:
        page = await office.sign_in(browser, office.start)
        assert str(page.url) == HOME_PAGE
        async with office.portal.services.store.reading() as transaction:
            (identity,) = await transaction.of(office.world.account_id).external_identities.load_all()
        assert (identity.issuer, identity.name) == (realm.issuer, "Ada Lovelace")
        assert realm.person().endswith(identity.idp_id)

        # Signing out ends the portal's session; Keycloak's goes on, so nothing is typed to come back.
        await sign_out(browser, page)
        begun = await browser.get(office.start)
        assert (await browser.get(begun.headers["location"])).status_code == 302
        page = await office.sign_in(browser, office.start)
        assert str(page.url) == HOME_PAGE

        # What is ended at Keycloak is asked for at the next sign-in; the portal's session is its own.
        realm.admin("POST", f"{realm.person()}/logout")
        assert (await browser.get(HOME_PAGE)).status_code == 200
        await sign_out(browser, page)
        begun = await browser.get(office.start)
        form = await browser.get(begun.headers["location"])
        assert (form.status_code, 'name="password"' in form.text) == (200, True)

        # Somebody who is disabled there comes back no more.
        realm.admin("PUT", realm.person(), {**realm.admin("GET", realm.person()), "enabled": False})
        action = re.search(r'<form[^>]*action="([^"]+)"', form.text)
        assert action is not None
        refused = await browser.post(action[1].replace("&amp;", "&"), data=realm.form_of(form.text, ADMIN))
        assert (refused.status_code, "disabled" in refused.text) == (200, True)


async def test_groups_are_filled_and_emptied(office: Office, realm: Realm) -> None:
    assert await sign_in_and_list_groups(office) == {"dev"}
    groups = {one["name"]: one["id"] for one in realm.admin("GET", "/groups")}
    realm.admin("PUT", f"{realm.person()}/groups/{groups['ops']}")
    realm.admin("DELETE", f"{realm.person()}/groups/{groups['dev']}")
    assert await sign_in_and_list_groups(office) == {"ops"}
    place = f"{realm.client()}/protocol-mappers/models"
    realm.admin("DELETE", f"{place}/{realm.admin('GET', place)[0]['id']}")
    assert await sign_in_and_list_groups(office) == set()


async def test_rotated_keys_are_found(office: Office, realm: Realm) -> None:
    keys = "/components?type=org.keycloak.keys.KeyProvider"
    (old,) = (one for one in realm.admin("GET", keys) if one["providerId"] == "rsa-generated")
    new = {**old, "name": "next", "config": {"priority": ["200"], "algorithm": ["RS256"]}}
    realm.admin("POST", "/components", {name: value for name, value in new.items() if name != "id"})
    realm.admin("DELETE", f"/components/{old['id']}")
    # Keycloak lets nobody keep its document or its keys: there is no time to wait.
    async with office.browser() as browser:
        assert str((await office.sign_in(browser, office.start)).url) == HOME_PAGE


async def test_what_is_not_for_us_signs_nobody_in(office: Office, realm: Realm) -> None:
    # A code that Keycloak gave to another client, from a browser that was sent there in the middle.
    async with office.browser() as browser:
        sent = (await browser.get(office.start)).headers["location"]
        answer = await office.sign_in(browser, sent.replace("client_id=wardgate", "client_id=another"))
        assert "expired or was used already" in told(answer)
    # A way there from which PKCE was taken: this client insists on it.
    async with office.browser() as browser:
        sent = (await browser.get(office.start)).headers["location"]
        answer = await office.sign_in(browser, re.sub(r"&code_challenge(_method)?=[^&]*", "", sent))
        assert "did not sign you in" in told(answer)
    # A token for somebody else.
    config = {
        "claim.name": "aud",
        "claim.value": "another",
        "jsonType.label": "String",
        "id.token.claim": "true",
    }
    realm.admin(
        "POST",
        f"{realm.client()}/protocol-mappers/models",
        mapper("audience", "oidc-hardcoded-claim-mapper", config),
    )
    async with office.browser() as browser:
        assert "could not be verified" in told(await office.sign_in(browser, office.start))


async def test_who_is_unknown_here_or_unverified_there_gets_nothing(office: Office, realm: Realm) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, person="eve")
        assert "Nobody with this identity" in told(answer)
    realm.admin("PUT", realm.person(), {**realm.admin("GET", realm.person()), "emailVerified": False})
    async with office.browser() as browser:
        assert "not verified your e-mail" in told(await office.sign_in(browser, office.start))


async def test_a_realm_that_goes_is_told_at_every_step(office: Office, realm: Realm) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, until="/auth/oidc/callback")
        realm.admin("DELETE", "")
        page = await browser.get(answer.headers["location"], follow_redirects=True)
        assert "no discovery document at this address (404)" in told(page)
    async with office.browser() as browser:
        page = await browser.get(office.start, follow_redirects=True)
        assert "no discovery document at this address (404)" in told(page)
    # One of the same name that is made anew has other keys and other people, whose addresses are the same.
    realm.make()
    office.clock.at_s += FAILURE_LIFETIME_S
    async with office.browser() as browser:
        assert str((await office.sign_in(browser, office.start)).url) == HOME_PAGE
    async with office.portal.services.store.reading() as transaction:
        (identity,) = await transaction.of(office.world.account_id).external_identities.load_all()
    assert realm.person().endswith(identity.idp_id)


async def test_a_new_secret_is_tried_before_it_replaces_the_old_one(office: Office, realm: Realm) -> None:
    made = realm.admin("POST", f"{realm.client()}/client-secret")
    async with office.browser() as browser:
        assert "client id or secret" in told(await office.sign_in(browser, office.start))
    assert (await office.verify(client_secret=made["value"])).status_code == 200
    async with office.browser() as browser:
        assert str((await office.sign_in(browser, office.start)).url) == HOME_PAGE


async def sign_out(browser: httpx2.AsyncClient, page: httpx2.Response) -> None:
    assert (await send_form(browser, page, {}, action="/sign_out")).status_code == 303
    assert (await browser.get(HOME_PAGE)).headers["location"].startswith("/acme/sign_in")


async def sign_in_and_list_groups(office: Office) -> set[str]:
    """Return the groups that the provider's claim filled and Ada is in."""
    async with office.browser() as browser:
        answer: httpx2.Response = await office.sign_in(browser, office.start)
        assert str(answer.url) == HOME_PAGE, answer.text
    async with office.portal.services.store.reading() as transaction:
        tables = transaction.of(office.world.account_id)
        ada = await tables.actors.find(tables.actors.c.email == "ada@example.org")
        assert ada is not None
        mine = await tables.memberships.load_all(tables.memberships.c.actor_id == ada.id)
        groups = await tables.groups.load_all(tables.groups.c.id.in_([one.group_id for one in mine]))
    return {group.name for group in groups if (group.idp_id or "").startswith("claim:")}
