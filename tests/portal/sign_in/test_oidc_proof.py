"""A provider whose addresses nobody vouches for: the first sign-in is completed by a code that goes to the address."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from support.identity_provider import CLIENT, ISSUER, SECRET, FakeProvider
from support.sign_in import (
    GUI,
    Scene,
    follow,
    on_virtual_time,
    rows_of,
    save_actor,
    send_form,
    store_provider,
)
from support.virtual_portal import VirtualClock
from wardgate.portal.people.tables import ExternalIdentity
from wardgate.portal.sign_in.tables import EntraAuthProvider, IdentityProviderDetails, OidcAuthProvider

ENTRA = "https://login.microsoftonline.com/4711/v2.0"


@dataclass(slots=True)
class Office:
    scene: Scene
    idp: FakeProvider
    provider: IdentityProviderDetails

    async def come_back(self, browser: httpx2.AsyncClient | None = None, **flow: str) -> httpx2.Response:
        """Sign in at the provider; return the portal's answer to the callback."""
        browser = browser or self.scene.browser
        start = f"/acme/sign_in/{self.provider.type}/{self.provider.id}"
        sent = await browser.get(start, params=flow)
        return await browser.get(f"/auth/oidc/callback?{self.idp.authorize(sent.headers['location'])}")

    async def asked_for_code(self, **flow: str) -> httpx2.Response:
        """Sign in at the provider; return the page that asks for the code."""
        answer = await self.come_back(**flow)
        assert "/verify_identity" in answer.headers["location"]
        return await follow(self.scene.browser, answer)

    async def identities(self) -> list[ExternalIdentity]:
        return await rows_of(self.scene.world, "external_identities")


def proving(
    scene: Callable[[Office], Coroutine[Any, Any, None]], *, is_entra: bool = False
) -> Callable[[], None]:
    """Make a test of a scene with a provider that needs proof."""
    idp = FakeProvider(issuer=ENTRA if is_entra else ISSUER)
    idp.now = lambda: VirtualClock().now().timestamp()

    async def play(at: Scene) -> None:
        world = at.world
        common: dict[str, Any] = {
            "id": world.portal.services.environment.new_id(),
            "account_id": world.account_id,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "issuer": idp.issuer,
            "is_verified": True,
        }
        provider: IdentityProviderDetails = OidcAuthProvider(
            **common,
            discovery_document_uri=f"{ISSUER}/.well-known/openid-configuration",
            email_verification_method="proof",
        )
        if is_entra:
            provider = EntraAuthProvider(**common)
        await store_provider(world, provider)
        await save_actor(world, replace(world.actor, type="account_admin_user"))
        await scene(Office(at, idp, provider))

    play.__name__, play.__doc__ = scene.__name__, scene.__doc__
    return on_virtual_time(play, outbound=idp.outbound)


async def prove_once(office: Office) -> None:
    office.idp.changed = {"email_verified": False}
    page = await office.asked_for_code(redirect_to="/acme/account")
    assert await office.identities() == []
    answer = await send_form(office.scene.browser, page, {"secret": await office.scene.find_code()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/acme/account")
    (identity,) = await office.identities()
    assert (identity.idp_id, identity.actor_id) == ("subject-1", office.scene.world.actor.id)
    assert await rows_of(office.scene.world, "pending_identities") == []
    async with office.scene.another_browser() as browser:
        again = await office.come_back(browser)
        assert again.headers["location"] == "/acme", "a known subject proves nothing again"


test_an_address_is_proved_once = proving(prove_once)


async def prove_for_a_client(office: Office) -> None:
    page = await office.asked_for_code(**GUI)
    answer = await send_form(office.scene.browser, page, {"secret": await office.scene.find_code()})
    assert answer.status_code == 200
    assert "client_redirect" in answer.text


test_a_client_waits_for_the_proof = proving(prove_for_a_client)


async def guess(office: Office) -> None:
    page = await office.asked_for_code()
    code = await office.scene.find_code()
    for _ in range(3):
        wrong = await send_form(office.scene.browser, page, {"secret": "zzzzzz"})
        assert wrong.status_code == 422
    late = await send_form(office.scene.browser, page, {"secret": code})
    assert late.status_code == 422
    assert await office.identities() == []


test_three_wrong_codes_end_it = proving(guess)


async def wait_too_long(office: Office) -> None:
    page = await office.asked_for_code()
    code = await office.scene.find_code()
    await asyncio.sleep(901)
    answer = await send_form(office.scene.browser, page, {"secret": code})
    assert "timed-out" in answer.headers["location"]
    assert await office.identities() == []


test_a_code_ends_after_a_quarter_of_an_hour = proving(wait_too_long)


async def prove_elsewhere(office: Office) -> None:
    page = await office.asked_for_code()
    code = await office.scene.find_code()
    async with office.scene.another_browser() as browser:
        other = await browser.get(page.url.path)
        assert other.status_code == 303
    assert code
    assert await office.identities() == []


test_a_code_is_worth_nothing_in_another_browser = proving(prove_elsewhere)


async def prove_one_of_two(office: Office) -> None:
    page = await office.asked_for_code()
    first = await office.scene.find_code()
    async with office.scene.another_browser() as browser:
        other = await follow(browser, await office.come_back(browser))
        second = await office.scene.find_code()
        answer = await send_form(office.scene.browser, page, {"secret": first})
        assert answer.status_code == 303
        assert await rows_of(office.scene.world, "pending_identities") == []
        assert await rows_of(office.scene.world, "one_time_passcodes") == []
        late = await send_form(browser, other, {"secret": second})
    assert late.status_code == 422


test_codes_that_wait_for_the_same_proof_end_with_it = proving(prove_one_of_two)


async def prove_at_another_provider(office: Office) -> None:
    assert isinstance(office.provider, OidcAuthProvider)
    id_ = office.scene.world.portal.services.environment.new_id()
    await store_provider(
        office.scene.world, replace(office.provider, id=id_, name="Second", client_id="second")
    )
    page = await office.asked_for_code()
    moved = httpx2.Response(200, text=page.text.replace(str(office.provider.id), str(id_)))
    answer = await send_form(office.scene.browser, moved, {"secret": await office.scene.find_code()})
    assert "error=" in answer.headers["location"]
    assert await office.identities() == []


test_a_proof_belongs_to_its_provider = proving(prove_at_another_provider)


async def ask_often(office: Office) -> None:
    answers = [await office.come_back() for _ in range(4)]
    assert ["verify_identity" in one.headers["location"] for one in answers] == [True, True, True, False]
    assert "error=attempts" in answers[3].headers["location"]


test_an_address_gets_three_letters_in_five_minutes = proving(ask_often)


async def somebody_unknown(office: Office) -> None:
    office.idp.changed = {"email": "eve@example.org"}
    answer = await office.come_back()
    assert "error=unknown-user" in answer.headers["location"]
    assert await rows_of(office.scene.world, "one_time_passcodes") == []


test_a_stranger_gets_no_letter = proving(somebody_unknown)


async def no_administrator(office: Office) -> None:
    await save_actor(office.scene.world, replace(office.scene.world.actor, type="account_user"))
    answer = await office.come_back()
    assert "error=needs-admin" in answer.headers["location"]
    assert await rows_of(office.scene.world, "one_time_passcodes") == []


test_who_would_not_be_admitted_gets_no_letter = proving(no_administrator)


async def taken_meanwhile(office: Office) -> None:
    world = office.scene.world
    page = await office.asked_for_code()
    code = await office.scene.find_code()
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        others = tables.actors
        other = await others.find(others.c.id != world.actor.id, others.c.email.is_not(None))
        assert other is not None
        await tables.external_identities.insert(
            ExternalIdentity(
                id=tables.new_id(),
                account_id=world.account_id,
                actor_id=other.id,
                issuer=ISSUER,
                idp_id="subject-1",
            )
        )
    answer = await send_form(office.scene.browser, page, {"secret": code})
    assert answer.status_code == 422
    (identity,) = await office.identities()
    assert identity.actor_id == other.id


test_a_proof_steals_no_subject = proving(taken_meanwhile)


async def entra_by_object_id(office: Office) -> None:
    claims = {"tid": "4711", "oid": "object-1", "sub": "pairwise", "upn": "ada@example.org", "email": None}
    office.idp.changed = claims
    page = await office.asked_for_code()
    answer = await send_form(office.scene.browser, page, {"secret": await office.scene.find_code()})
    assert answer.headers["location"] == "/acme"
    (identity,) = await office.identities()
    assert (identity.issuer, identity.idp_id) == (ENTRA, "object-1")
    async with office.scene.another_browser() as browser:
        office.idp.changed = {**claims, "tid": "4712"}
        assert "error=idp-issuer" in (await office.come_back(browser)).headers["location"]
        office.idp.changed = {**claims, "upn": "renamed@example.org"}
        assert (await office.come_back(browser)).headers["location"] == "/acme"


test_entra_knows_people_by_tenant_and_object_id = proving(entra_by_object_id, is_entra=True)
