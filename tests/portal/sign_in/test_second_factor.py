"""The second step of a sign-in by e-mail or password: authenticator apps and recovery codes, over HTTP."""

import asyncio
import base64
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pyotp

from support.browser import caller, make_api_token, sign_in_link
from support.pages import post, toast_after
from support.sign_in import (
    GUI,
    HEADLESS,
    Scene,
    follow,
    load_admin,
    on_virtual_time,
    rows_of,
    save_actor,
    send_form,
)
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.hashing import hash_text
from wardgate.portal.sign_in.second_factor import rules

from .test_password import ADMIN, PASSWORD, set_up, sign_in

STEP = "/acme/sign_in/second_factor"
LOST = "/acme/sign_in?error=second-factor"


async def require(scene: Scene, whom: str) -> None:
    """Let the account want second factors of these people."""
    async with scene.world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(scene.world.account_id)
        assert account is not None
        config = replace(AccountConfig.parse(account.config), second_factor_for=whom)  # type: ignore[arg-type]
        await transaction.accounts.save(replace(account, config=config.within(account.config)))


async def set_up_requiring(scene: Scene, whom: str) -> None:
    """Give the administrator a password, and let the account want second factors of these people."""
    await set_up(scene)
    await require(scene, whom)


def key_of(page: httpx2.Response) -> pyotp.TOTP:
    """Return the authenticator app that has scanned a page."""
    found = re.search(r'aria-label="Key for the app">([A-Z2-7 ]+)<', page.text)
    assert found is not None, page.text
    return pyotp.TOTP(found[1].replace(" ", ""))


def recovery_codes_of(page: httpx2.Response) -> list[str]:
    return re.findall(r"<li>([a-z1-9]{4}-[a-z1-9]{4}-[a-z1-9]{4})</li>", page.text)


def code_now(scene: Scene, app: pyotp.TOTP, *, steps: int = 0) -> str:
    now = scene.world.portal.services.environment.clock.now()
    return app.at(now + timedelta(seconds=30 * steps))


async def enrol(
    scene: Scene, flow: dict[str, str] | None = None, email: str = ADMIN
) -> tuple[pyotp.TOTP, list[str]]:
    """Set up an app during a sign-in that must have one, and complete the sign-in."""
    assert (await sign_in(scene, email, flow=flow)).split("?")[0] == STEP
    page = await scene.browser.get(STEP, params=flow or {})
    app = key_of(page)
    shown = await send_form(scene.browser, page, {"code": code_now(scene, app), "name": "Phone"})
    assert shown.status_code == 200, shown.text
    codes = recovery_codes_of(shown)
    assert len(set(codes)) == 10
    done = await send_form(scene.browser, shown, {}, action="/second_factor/continue")
    assert done.status_code == (200 if flow else 303), done.text
    return app, codes


async def answer(scene: Scene, code: str, flow: dict[str, str] | None = None) -> httpx2.Response:
    """Give the first factor anew, and this code as the second."""
    assert (await sign_in(scene, flow=flow)).split("?")[0] == STEP
    page = await scene.browser.get(STEP, params=flow or {})
    return await send_form(scene.browser, page, {"code": code})


async def anew(scene: Scene) -> Scene:
    """Continue in a browser that knows nothing."""
    return replace(scene, browser=scene.another_browser())


async def set_up_at_sign_in(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    assert (await scene.browser.get("/acme")).status_code == 200
    (stored,) = await rows_of(scene.world, "totp_authenticators")
    assert app.secret not in repr(stored)
    assert base64.b32decode(app.secret) not in base64.urlsafe_b64decode(stored.sealed_secret)
    assert await rows_of(scene.world, "second_factor_attempts") == []
    other = await anew(scene)
    await asyncio.sleep(60)
    signed_in = await answer(other, code_now(other, app))
    assert signed_in.headers["location"] == "/acme"
    assert (await other.browser.get("/acme")).status_code == 200


test_who_must_have_a_second_factor_sets_one_up_while_signing_in = on_virtual_time(set_up_at_sign_in)


async def nothing_before(scene: Scene) -> None:
    await set_up_requiring(scene, "everybody")
    for flow in ({}, GUI, HEADLESS):
        assert (await sign_in(scene, flow=flow)).split("?")[0] == STEP
        page = await scene.browser.get(STEP, params=flow)
        wrong = await send_form(scene.browser, page, {"code": "000000", "name": "Phone"})
        assert wrong.status_code == 422
        assert await rows_of(scene.world, "portal_sessions") == []
        assert await tokens_of(scene) == 0
    assert (await scene.browser.get("/acme")).status_code == 303


test_the_first_factor_alone_gives_neither_a_session_nor_a_token = on_virtual_time(nothing_before)


async def hand_off(scene: Scene) -> None:
    await set_up_requiring(scene, "everybody")
    user = scene.world.actor
    await save_actor(scene.world, replace(user, password_hash=hash_text(PASSWORD, salt=b"t" * 16)))
    app, _ = await enrol(scene, GUI, "ada@example.org")
    sent = await scene.browser.get("/acme/sign_in/client_redirect", params=GUI)
    assert sent.headers["location"].startswith("firezone-fd0020211111://handle_client_sign_in_callback?")
    await asyncio.sleep(60)
    assert (await sign_in(scene, "ada@example.org", flow=HEADLESS)).split("?")[0] == STEP
    page = await scene.browser.get(STEP, params=HEADLESS)
    shown = await send_form(scene.browser, page, {"code": code_now(scene, app)})
    assert "You are signed in" in shown.text
    assert await tokens_of(scene) == 2


test_clients_get_their_token_after_the_second_step = on_virtual_time(hand_off)


async def use_codes_once(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    first = code_now(scene, app)
    assert (await answer(await anew(scene), first)).status_code == 422, (
        "the code that set the app up was used"
    )
    await asyncio.sleep(30)
    code = code_now(scene, app)
    assert (await answer(await anew(scene), code)).status_code == 303
    assert (await answer(await anew(scene), code)).status_code == 422
    await asyncio.sleep(60)
    assert (await answer(await anew(scene), code_now(scene, app, steps=1))).status_code == 303, "a fast clock"
    late = await answer(await anew(scene), code_now(scene, app))
    assert late.status_code == 422, "an earlier step than one that was used"
    await asyncio.sleep(120)
    assert (await answer(await anew(scene), code_now(scene, app, steps=-2))).status_code == 422
    assert (await answer(await anew(scene), code_now(scene, app, steps=-1))).status_code == 303, (
        "a slow clock"
    )


test_a_code_is_taken_once_and_one_step_off_at_most = on_virtual_time(use_codes_once)


async def race(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    await asyncio.sleep(60)
    others = [await anew(scene) for _ in range(4)]
    pages = []
    for one in others:
        await sign_in(one)
        pages.append(await one.browser.get(STEP))
    code = code_now(scene, app)
    answers = await asyncio.gather(
        *(send_form(one.browser, page, {"code": code}) for one, page in zip(others, pages, strict=True))
    )
    assert sorted(one.status_code for one in answers) == [303, 422, 422, 422]


test_a_code_that_is_sent_several_times_at_once_is_used_once = on_virtual_time(race)


async def recover(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    _, codes = await enrol(scene)
    (stored,) = await rows_of(scene.world, "recovery_codes")
    assert not any(code in repr(stored) or code.replace("-", "") in repr(stored) for code in codes)
    assert (await answer(await anew(scene), codes[0].upper().replace("-", " "))).status_code == 303
    assert (await answer(await anew(scene), codes[0])).status_code == 422
    (left,) = await rows_of(scene.world, "recovery_codes")
    assert (left.remaining, len(left.hashes)) == (9, 9)


test_a_recovery_code_works_once = on_virtual_time(recover)


async def guess(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    await asyncio.sleep(60)
    await sign_in(thief := await anew(scene))
    page = await thief.browser.get(STEP)
    for _ in range(4):
        assert (await send_form(thief.browser, page, {"code": "000000"})).status_code == 422
    assert (await send_form(thief.browser, page, {"code": "000000"})).headers["location"] == LOST
    assert (await answer(thief, code_now(scene, app))).status_code == 429, "five tries from one place"
    await asyncio.sleep(301)
    for _ in range(5):
        await answer(thief, "000000")
    await asyncio.sleep(301)
    assert (await answer(thief, code_now(scene, app))).status_code == 429, "ten tries from anywhere"
    await asyncio.sleep(3600)
    assert (await answer(thief, code_now(scene, app))).status_code == 303


test_guessing_is_counted_for_the_attempt_the_place_and_the_person = on_virtual_time(guess)


async def no_second_setup(scene: Scene) -> None:
    """The first factor must not be enough to make a second beside the one that is there."""
    await set_up_requiring(scene, "admins")
    await sign_in(thief := await anew(scene))
    begun = await thief.browser.get(STEP)
    stolen = key_of(begun)
    app, _ = await enrol(scene)
    await asyncio.sleep(60)
    refused = await send_form(thief.browser, begun, {"code": code_now(scene, stolen), "name": "Mine"})
    assert refused.status_code in (303, 422)
    assert "You are signed in" not in refused.text
    assert len(await rows_of(scene.world, "totp_authenticators")) == 1
    assert (await thief.browser.get("/acme")).status_code == 303
    assert (await answer(await anew(scene), code_now(scene, app))).status_code == 303


test_a_sign_in_that_is_under_way_makes_no_factor_beside_another = on_virtual_time(no_second_setup)


async def no_second_setup_by_rule(scene: Scene) -> None:
    """Two forms of one sign-in that arrive together: each page saw no factor, the rule sees the first one's."""
    await set_up_requiring(scene, "admins")
    services, admin = scene.world.portal.services, await load_admin(scene.world)
    answers = []
    for _ in range(2):
        async with services.store.writing() as transaction:
            tables = transaction.of(scene.world.account_id)
            attempt = await rules.begin_attempt(tables, admin, "sign_in", keys=services.keys)
            secret = rules.secret_of(attempt, keys=services.keys)
            assert secret is not None
            code = code_now(scene, pyotp.TOTP(base64.b32encode(secret).decode()))
            answers.append(
                await rules.set_up_authenticator(tables, attempt, code, "Phone", keys=services.keys)
            )
    assert answers == [rules.Answer.RIGHT, rules.Answer.ENDED]
    assert len(await rows_of(scene.world, "totp_authenticators")) == 1


test_of_two_setups_in_sign_ins_at_once_one_is_kept = on_virtual_time(no_second_setup_by_rule)


async def bound(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    await asyncio.sleep(60)
    await sign_in(one := await anew(scene))
    page = await one.browser.get(STEP)
    other = await anew(scene)
    await other.browser.get("/acme/sign_in")
    assert (await other.browser.get(STEP)).headers["location"] == LOST, "another browser"
    await asyncio.sleep(601)
    late = await send_form(one.browser, page, {"code": code_now(scene, app)})
    assert late.headers["location"] == LOST, "after ten minutes"
    answered = await answer(one, code_now(scene, app))
    assert answered.headers["location"] == "/acme"
    assert (await (await anew(scene)).browser.post(f"{STEP}/continue")).status_code == 403


test_the_step_belongs_to_the_browser_and_ends_after_ten_minutes = on_virtual_time(bound)


async def changes_meanwhile(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    await asyncio.sleep(60)
    await sign_in(one := await anew(scene))
    page = await one.browser.get(STEP)
    admin = await load_admin(scene.world)
    other = await another_admin(scene)
    await save_actor(scene.world, replace(admin, is_disabled=True))
    refused = await send_form(one.browser, page, {"code": code_now(scene, app)})
    assert refused.headers["location"] == "/acme/sign_in?error=unknown-user"
    assert other.id != admin.id


test_who_was_disabled_between_the_steps_is_not_signed_in = on_virtual_time(changes_meanwhile)


async def guess_at_several_portals(scene: Scene) -> None:
    """Each process counts what comes from one place for itself, but what comes from anywhere in the database."""
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    await asyncio.sleep(60)
    for _ in range(2):
        thief = await anew(scene)
        for _ in range(5):
            assert (await answer(thief, "000000")).status_code == 422
            await asyncio.sleep(20)  # forms of one address are counted, too
        scene.world.portal.services.second_factor_places.reset(
            (await load_admin(scene.world)).id, "192.0.2.9"
        )
    (counted,) = await rows_of(scene.world, "second_factor_tries")
    assert counted.tried == 10
    assert (await answer(await anew(scene), code_now(scene, app))).status_code == 429
    assert (await rows_of(scene.world, "second_factor_tries"))[0] == counted, "a try that was put off"
    await asyncio.sleep(3600)
    assert (await answer(await anew(scene), code_now(scene, app))).status_code == 303
    assert await rows_of(scene.world, "second_factor_tries") == []


test_tries_from_anywhere_are_counted_for_all_portals_together = on_virtual_time(guess_at_several_portals)


async def audit(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    app, _ = await enrol(scene)
    await asyncio.sleep(60)
    await answer(await anew(scene), "000000")
    async with scene.world.portal.services.store.reading() as transaction:
        changes = await transaction.of(scene.world.account_id).changes(limit=200)
    tried = [
        one for one in changes if one.object == "second_factor_attempts" and (one.after or {}).get("tries")
    ]
    assert tried
    assert tried[0].subject is not None
    assert (tried[0].subject["actor_email"], tried[0].subject["ip"]) == (ADMIN, "192.0.2.9")
    for secret in (app.secret, (await rows_of(scene.world, "totp_authenticators"))[0].sealed_secret):
        assert secret not in repr(changes)


test_wrong_answers_are_in_the_change_log_and_secrets_are_not = on_virtual_time(audit)


async def by_provider_and_link(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    await enrol(scene)
    other = await anew(scene)
    redeemed = await other.browser.get(await sign_in_link(scene.world))
    assert redeemed.headers["location"] == "/acme"
    assert (await other.browser.get("/acme")).status_code == 200


test_a_link_from_the_command_line_gets_in_without_a_second_factor = on_virtual_time(by_provider_and_link)


# On the profile, and by administrators


async def profile_factors(scene: Scene) -> None:
    await set_up(scene)
    assert await sign_in(scene) == "/acme"
    page = await begin_setup(scene)
    app = key_of(page)
    refused = await send_form(scene.browser, page, {"code": code_now(scene, app), "name": " "})
    assert (refused.status_code, "The name can&#39;t be blank" in refused.text) == (422, True)
    mistyped = await send_form(scene.browser, page, {"code": "000000", "name": "My <tablet>"})
    assert 'value="My &lt;tablet&gt;"' in mistyped.text, "what was typed stays"
    shown = await send_form(scene.browser, page, {"code": code_now(scene, app), "name": "Phone"})
    codes = recovery_codes_of(shown)
    assert len(codes) == 10
    asked = await post(scene.browser, "/acme/profile/second_factors")
    assert "Show your second factor" in asked.text, "with one, adding another needs it"
    wrong = await send_form(scene.browser, asked, {"code": "000000"}, action="/confirm")
    assert wrong.status_code == 422
    added = await send_form(scene.browser, wrong, {"code": codes[0]}, action="/confirm")
    second = await follow(scene.browser, added)
    tablet = key_of(second)
    assert tablet.secret != app.secret
    kept = await send_form(scene.browser, second, {"code": code_now(scene, tablet), "name": "Tablet"})
    assert await toast_after(scene.browser, kept) == "Your second factor is set up."
    phone, _ = await rows_of(scene.world, "totp_authenticators")
    fresh = await post(scene.browser, f"/acme/profile/second_factors/{phone.id}/remove")
    assert "Phone" in await toast_after(scene.browser, fresh), "within five minutes nobody is asked again"
    await asyncio.sleep(301)
    (left,) = await rows_of(scene.world, "totp_authenticators")
    asked = await post(scene.browser, f"/acme/profile/second_factors/{left.id}/remove")
    assert "Show your second factor" in asked.text
    gone = await send_form(scene.browser, asked, {"code": code_now(scene, tablet)}, action="/confirm")
    assert "Tablet" in await toast_after(scene.browser, gone)
    assert await rows_of(scene.world, "recovery_codes") == []
    told = [(await scene.letterbox.receive()).message.text for _ in range(4)]
    assert ["“Phone” was added." in text and "New recovery codes" in text for text in told] == [
        True,
        *[False] * 3,
    ]
    assert ["“Tablet” was added." in text for text in told] == [False, True, False, False]
    assert ["was removed." in text for text in told] == [False, False, True, True]
    assert all("Whoever is signed in as you did it, from 192.0.x.x" in text for text in told)
    assert not any(code in text for text in told for code in codes)
    assert await sign_in(await anew(scene)) == "/acme"


test_a_person_adds_and_removes_factors_on_the_profile = on_virtual_time(profile_factors)


async def others_attempts(scene: Scene) -> None:
    """An attempt of somebody else, or of another purpose, proves nothing."""
    await set_up_requiring(scene, "admins")
    _, codes = await enrol(scene)
    asked = await post(scene.browser, "/acme/profile/second_factors")
    (attempt,) = await rows_of(scene.world, "second_factor_attempts")
    colleague = await another_admin(scene)
    other = await anew(scene)
    assert (await sign_in(other, "grace@acme.example")).split("?")[0] == STEP
    shown = await other.browser.get(STEP)
    app = key_of(shown)
    codes_page = await send_form(other.browser, shown, {"code": code_now(scene, app), "name": "Phone"})
    await send_form(other.browser, codes_page, {}, action="/continue")
    form = {"attempt": str(attempt.id), "change": "add", "factor_id": "", "code": codes[0]}
    refused = await post(other.browser, "/acme/profile/second_factors/confirm", **form)
    assert (refused.status_code, "took too long" in refused.text) == (422, True)
    assert (await other.browser.get(f"/acme/profile/second_factors/setup/{attempt.id}")).status_code == 303
    accepted = await send_form(scene.browser, asked, {"code": codes[0]}, action="/confirm")
    assert accepted.status_code == 303
    assert colleague.email == "grace@acme.example"


test_an_attempt_is_its_persons_own = on_virtual_time(others_attempts)


async def reset_by_admin(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    await another_admin(scene)
    grace = await anew(scene)
    await enrol(grace, email="grace@acme.example")
    await enrol(scene)
    (hers,) = [one for one in await rows_of(scene.world, "actors") if one.email == "grace@acme.example"]
    own = await load_own(scene, ADMIN)
    panel = await scene.browser.get(f"/acme/actors/{hers.id}?tab=second_factors")
    assert "Phone" in panel.text
    assert "Reset second factors" in panel.text
    assert (
        "Reset second factors"
        not in (await scene.browser.get(f"/acme/actors/{own.id}?tab=second_factors")).text
    )
    refused = await post(scene.browser, f"/acme/actors/{own.id}/second_factors/reset")
    assert "on your profile" in await toast_after(scene.browser, refused)
    done = await post(scene.browser, f"/acme/actors/{hers.id}/second_factors/reset")
    assert "no second factor" in await toast_after(scene.browser, done)
    told = [await scene.letterbox.receive() for _ in range(3)]
    assert [letter.recipients for letter in told] == [(hers.email,), (own.email,), (hers.email,)]
    assert "All of them were removed" in told[-1].message.text
    assert f"{own.name} did it" in told[-1].message.text
    again = await post(scene.browser, f"/acme/actors/{hers.id}/second_factors/reset")
    assert "no second factor" in await toast_after(scene.browser, again)
    await asyncio.sleep(60)
    assert len(scene.letterbox.taken) == 3, "nothing was there any more"
    assert {one.actor_id for one in await rows_of(scene.world, "totp_authenticators")} == {own.id}
    assert {one.actor_id for one in await rows_of(scene.world, "recovery_codes")} == {own.id}


test_an_administrator_resets_the_factors_of_others_only = on_virtual_time(reset_by_admin)


async def reset_by_api(scene: Scene) -> None:
    await set_up_requiring(scene, "admins")
    await enrol(scene)
    admin = await load_own(scene, ADMIN)
    token, _ = await make_api_token(scene.world)
    async with caller(scene.world.portal, token) as api:
        path = f"/wardgate/actors/{admin.id}/second_factors"
        shown = (await api.get(path)).json()["data"]
        assert [one["name"] for one in shown["second_factors"]] == ["Phone"]
        assert shown["recovery_codes_left"] == 10
        assert "secret" not in repr(shown)
        cleared = await api.delete(path)
        assert (cleared.status_code, cleared.json()["data"]["second_factors"]) == (200, [])
        told = [(await scene.letterbox.receive()).message.text for _ in range(2)]
        assert "All of them were removed" in told[1]
        assert (
            await api.delete(f"/wardgate/actors/{scene.world.account_id}/second_factors")
        ).status_code == 404
    assert (await sign_in(await anew(scene))).split("?")[0] == STEP, "the next sign-in sets one up again"


test_the_api_shows_and_resets_factors = on_virtual_time(reset_by_api)


# What the tests above share


async def tokens_of(scene: Scene) -> int:
    """Return how many client tokens sign-ins have given."""
    return sum(one.auth_provider_id is not None for one in await rows_of(scene.world, "client_tokens"))


async def begin_setup(scene: Scene) -> httpx2.Response:
    return await follow(scene.browser, await post(scene.browser, "/acme/profile/second_factors"))


async def another_admin(scene: Scene) -> Actor:
    values: dict[str, Any] = {"password_hash": hash_text(PASSWORD, salt=b"g" * 16)}
    async with scene.world.portal.services.store.writing() as transaction:
        return await transaction.of(scene.world.account_id).actors.insert(
            Actor(
                id=transaction.new_id(),
                account_id=scene.world.account_id,
                type="account_admin_user",
                name="Grace",
                email="grace@acme.example",
                **values,
            )
        )


async def load_own(scene: Scene, email: str) -> Actor:
    (found,) = [one for one in await rows_of(scene.world, "actors") if one.email == email]
    assert isinstance(found, Actor)
    return found
