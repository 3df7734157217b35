"""Signing in by a code that is sent by e-mail, in every flow, and what strangers learn from trying."""

import asyncio
import logging
import re
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest

from support.portal import World
from support.sign_in import (
    GUI,
    HEADLESS,
    NONCE,
    PORTAL,
    STATE,
    Scene,
    ask_for_code,
    follow,
    load_admin,
    on_virtual_time,
    rows_of,
    save_actor,
    send_form,
    store_provider,
)
from wardgate.portal.credentials import find_client_token
from wardgate.portal.people.tables import ACTORS
from wardgate.portal.sign_in.passcodes import ALPHABET, DrawnCode, draw_code, store_code, use_code
from wardgate.wire.tokens import InvalidToken

ADMIN = "admin@acme.example"


async def sign_in_to_the_portal(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN, {"redirect_to": "/acme/account"})
    signed_in = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/acme/account")
    assert (await scene.browser.get("/acme/account")).status_code == 200
    (session,) = await rows_of(scene.world, "portal_sessions")
    (provider,) = await rows_of(scene.world, "email_otp_auth_providers")
    assert session.auth_provider_id == provider.id
    assert not await rows_of(scene.world, "one_time_passcodes")


test_an_administrator_signs_in_to_the_portal = on_virtual_time(sign_in_to_the_portal)


async def hand_off_to_a_gui_client(scene: Scene) -> None:
    world = scene.world
    await save_actor(world, replace(world.actor, allow_email_otp_sign_in=True))
    page = await ask_for_code(scene.browser, "ADA@example.org", GUI)
    assert await rows_of(world, "portal_sessions") == []
    handed = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    assert handed.status_code == 200
    assert '<meta http-equiv="refresh" content="0;url=/acme/sign_in/client_redirect">' in handed.text
    assert NONCE not in handed.text
    answer = await scene.browser.get("/acme/sign_in/client_redirect")
    assert answer.status_code == 302
    scheme, _, query = answer.headers["location"].partition("?")
    assert scheme == "firezone-fd0020211111://handle_client_sign_in_callback"
    assert NONCE not in query
    told = parse_qs(query, strict_parsing=True)
    fragment = told.pop("fragment")[0]
    assert told == {
        "account_name": ["acme"],
        "account_slug": ["acme"],
        "actor_name": ["Ada"],
        "identity_provider_identifier": ["ada@example.org"],
        "state": [STATE],
    }
    assert fragment.startswith(".")
    services = world.portal.services
    async with services.store.reading() as transaction:
        _account, actor, token = await find_client_token(
            NONCE + fragment, transaction=transaction, keys=services.keys
        )
        assert actor.id == world.actor.id
        assert token.expires_at == transaction.now.replace(
            microsecond=token.expires_at.microsecond
        ) + timedelta(days=7)
        with pytest.raises(InvalidToken):  # whoever sees the redirect has no token
            await find_client_token(fragment, transaction=transaction, keys=services.keys)
    async with world.client(token=NONCE + fragment) as client:
        await client.join()
    async with scene.another_browser() as other:
        refused = await other.get("/acme/sign_in/client_redirect")
        assert refused.headers["location"] == "/acme/sign_in/client_auth_error?error=timed-out"


test_a_gui_client_is_handed_a_token_bound_to_its_nonce = on_virtual_time(hand_off_to_a_gui_client)


async def show_a_headless_token(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN, HEADLESS)
    shown = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    found = re.search(r">(\.wg_client_[a-z0-9]+)<", shown.text)
    assert found is not None
    assert shown.headers["cache-control"] == "no-store"
    async with scene.world.client(token=found[1]) as client:
        await client.join()


test_a_headless_client_gets_its_token_to_copy = on_virtual_time(show_a_headless_token)


async def end_hand_off_after_two_minutes(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN, GUI)
    await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    cookies = {"cookie": "; ".join(f"{name}={value}" for name, value in scene.browser.cookies.items())}
    async with scene.another_browser() as other:
        assert (await other.get("/acme/sign_in/client_redirect", headers=cookies)).status_code == 302
        await asyncio.sleep(121)
        assert (await other.get("/acme/sign_in/client_redirect", headers=cookies)).status_code == 303


test_the_hand_off_ends_after_two_minutes_whatever_the_browser_keeps = on_virtual_time(
    end_hand_off_after_two_minutes
)


async def refuse_a_user_the_portal(scene: Scene) -> None:
    await save_actor(scene.world, replace(scene.world.actor, allow_email_otp_sign_in=True))
    page = await ask_for_code(scene.browser, "ada@example.org")
    refused = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    assert refused.headers["location"] == "/acme/sign_in?error=needs-admin"
    assert await rows_of(scene.world, "portal_sessions") == []


test_a_user_is_refused_the_portal_after_the_proof_and_not_before = on_virtual_time(refuse_a_user_the_portal)


async def tell_strangers_nothing(scene: Scene) -> None:
    world, loop = scene.world, asyncio.get_running_loop()
    disabled = await save_actor(world, replace(world.actor, allow_email_otp_sign_in=True, is_disabled=True))
    assert disabled.email is not None
    seen, took = set(), set()
    for email in (ADMIN, "nobody@acme.example", disabled.email):
        async with scene.another_browser() as browser:
            began_at = loop.time()
            page = await ask_for_code(browser, email)
            took.add(round(loop.time() - began_at, 3))
            wrong = await send_form(browser, page, {"secret": "zzzzzz"}, action="/verify")
            took.add(round(loop.time() - began_at, 3))
            for answer in (page, wrong):
                seen.add((answer.status_code, anonymous(answer.text, email)))
    assert len(seen) == 2  # the page, and the page with its error
    assert took == {3.0, 6.0}
    assert len(scene.letterbox.taken) == 1


test_strangers_learn_nothing_about_addresses = on_virtual_time(tell_strangers_nothing)


def anonymous(page: str, email: str) -> str:
    page = re.sub(r'nonce="[^"]*"|name="csrf_token" value="[^"]*"', "", page)
    return page.replace(email, "EMAIL")


async def spend_three_attempts(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN)
    code = await scene.find_code()
    for _ in range(3):
        wrong = await send_form(scene.browser, page, {"secret": "zzzzzz"}, action="/verify")
        assert wrong.status_code == 422
    assert (await send_form(scene.browser, page, {"secret": code}, action="/verify")).status_code == 422
    assert not await rows_of(scene.world, "one_time_passcodes")
    again = await follow(scene.browser, await send_form(scene.browser, page, {"resend": "true"}))
    fresh = {"secret": await scene.find_code()}
    assert (await send_form(scene.browser, again, fresh, action="/verify")).status_code == 303


test_after_three_wrong_codes_the_right_one_is_worth_nothing = on_virtual_time(spend_three_attempts)


async def accept_the_code_however_it_is_typed(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN)
    code = (await scene.find_code()).upper()
    typed = {"secret": f" {code[:3]}-{code[3:]} "}
    assert (await send_form(scene.browser, page, typed, action="/verify")).status_code == 303


test_a_code_is_taken_however_it_is_typed = on_virtual_time(accept_the_code_however_it_is_typed)


async def end_a_code(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN)
    code = await scene.find_code()
    await asyncio.sleep(900)
    late = await send_form(scene.browser, page, {"secret": code}, action="/verify")
    assert late.headers["location"] == "/acme/sign_in?error=timed-out"
    (stored,) = await rows_of(scene.world, "one_time_passcodes")
    admin = await load_admin(scene.world)
    assert not await use_code(scene.world.portal.services, scene.world.account_id, stored.id, admin.id, code)


test_a_code_ends_after_fifteen_minutes = on_virtual_time(end_a_code)


async def bind_to_the_browser(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN)
    code = await scene.find_code()
    async with scene.another_browser() as other:
        verify = urlsplit(str(page.url)).path
        assert (await other.get(verify)).headers["location"] == "/acme/sign_in?error=timed-out"
        theirs = await ask_for_code(other, "nobody@acme.example")
        assert (await send_form(other, theirs, {"secret": code}, action="/verify")).status_code == 422
    assert (await send_form(scene.browser, page, {"secret": code}, action="/verify")).status_code == 303
    again = await send_form(scene.browser, page, {"secret": code}, action="/verify")
    assert again.headers["location"] == "/acme"  # signed in already; the code is used up


test_a_code_is_worth_nothing_in_another_browser = on_virtual_time(bind_to_the_browser)


async def limit_mails(scene: Scene) -> None:
    for _ in range(3):
        await ask_for_code(scene.browser, ADMIN)
    page = await scene.browser.get("/acme/sign_in")
    refused = await send_form(scene.browser, page, {"email[email]": ADMIN.upper()}, action="/email_otp/")
    assert refused.headers["location"] == "/acme/sign_in?error=attempts"
    assert "too many attempts" in (await follow(scene.browser, refused)).text
    await ask_for_code(scene.browser, "nobody@acme.example")  # others are not kept waiting
    assert len(await rows_of(scene.world, "one_time_passcodes")) == 1  # each letter ends the code before
    await asyncio.sleep(300)
    await ask_for_code(scene.browser, ADMIN)


test_three_letters_go_to_an_address_in_five_minutes = on_virtual_time(limit_mails)


async def check_the_context(scene: Scene) -> None:
    (provider,) = await rows_of(scene.world, "email_otp_auth_providers")
    portal_page = await scene.browser.get("/acme/sign_in")
    begun = await ask_for_code(scene.browser, ADMIN)
    code = await scene.find_code()
    await store_provider(scene.world, replace(provider, context="clients_only"))
    refused = await send_form(scene.browser, portal_page, {"email[email]": ADMIN}, action="/email_otp/")
    assert refused.headers["location"] == "/acme/sign_in?error=method"
    refused = await send_form(scene.browser, begun, {"secret": code}, action="/verify")
    assert refused.headers["location"] == "/acme/sign_in?error=method"
    assert await rows_of(scene.world, "portal_sessions") == []


test_a_method_for_clients_only_does_not_lead_into_the_portal = on_virtual_time(check_the_context)


async def put_another_in_its_place(scene: Scene) -> None:
    world = scene.world
    (provider,) = await rows_of(world, "email_otp_auth_providers")
    page = await ask_for_code(scene.browser, ADMIN)
    code = await scene.find_code()
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).email_otp_auth_providers.delete(provider.id)
    id_ = world.portal.services.environment.new_id()
    await store_provider(world, replace(provider, id=id_))
    moved = httpx2.Response(200, text=page.text.replace(str(provider.id), str(id_)))
    refused = await send_form(scene.browser, moved, {"secret": code}, action="/verify")
    assert refused.headers["location"] == "/acme/sign_in?error=timed-out"
    assert await rows_of(world, "portal_sessions") == []


test_a_code_goes_with_the_provider_that_it_was_asked_of = on_virtual_time(put_another_in_its_place)


async def fill_in_by_link(scene: Scene) -> None:
    await ask_for_code(scene.browser, ADMIN)
    letter = (await scene.letterbox.receive()).message
    link = re.search(r"https?://\S+/verify\?\S+", letter.text)
    assert link is not None
    address = urlsplit(link[0])
    page = await scene.browser.get(f"{address.path}?{address.query}")
    assert page.status_code == 200
    assert await rows_of(scene.world, "portal_sessions") == []  # opening it signs nobody in
    code = parse_qs(address.query)["secret"][0]
    assert f'value="{code}"' in page.text
    assert (await send_form(scene.browser, page, {"secret": code}, action="/verify")).status_code == 303
    await ask_for_code(scene.another_browser(), ADMIN, GUI)
    assert "http" not in (await scene.letterbox.receive()).message.text.split("Asked for")[0]


test_the_letter_of_a_portal_sign_in_has_a_link_and_that_of_a_client_has_none = on_virtual_time(
    fill_in_by_link
)


async def apply_lifetimes(scene: Scene) -> None:
    (provider,) = await rows_of(scene.world, "email_otp_auth_providers")
    changed = replace(provider, portal_session_lifetime_secs=300, client_session_lifetime_secs=3600)
    await store_provider(scene.world, changed)
    page = await ask_for_code(scene.browser, ADMIN)
    answer = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith("sess_")]
    assert "Max-Age=300;" in cookie
    async with scene.another_browser() as other:
        page = await ask_for_code(other, ADMIN, HEADLESS)
        await send_form(other, page, {"secret": await scene.find_code()}, action="/verify")
    now = scene.world.portal.services.environment.clock.now()
    tokens = [one for one in await rows_of(scene.world, "client_tokens") if one.auth_provider_id is not None]
    assert [(one.expires_at - now).total_seconds() for one in tokens] == [pytest.approx(3600, abs=1)]
    assert (await scene.browser.get("/acme")).status_code == 200
    await asyncio.sleep(300)
    assert (await scene.browser.get("/acme")).status_code == 303


test_sessions_and_tokens_live_as_long_as_their_provider_says = on_virtual_time(apply_lifetimes)


async def keep_no_old_session(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN)
    await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    (first,) = await rows_of(scene.world, "portal_sessions")
    name = f"sess_{scene.world.account_id}"
    planted = scene.browser.cookies[name]
    async with scene.another_browser() as victim:
        victim.cookies.set("visitor", "x")
        # Somebody plants a session's cookie that has ended; the victim's own sign-in gets another id.
        async with scene.world.portal.services.store.writing() as transaction:
            await transaction.of(scene.world.account_id).portal_sessions.delete(first.id)
        victim.cookies.set(name, planted)
        page = await ask_for_code(victim, ADMIN)
        await send_form(victim, page, {"secret": await scene.find_code()}, action="/verify")
        (session,) = await rows_of(scene.world, "portal_sessions")
        assert session.id != first.id
    assert (await scene.browser.get("/acme")).status_code == 303


test_a_session_id_that_was_planted_is_nobodys = on_virtual_time(keep_no_old_session)


async def disable_the_provider(scene: Scene) -> None:
    page = await ask_for_code(scene.browser, ADMIN)
    await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    (provider,) = await rows_of(scene.world, "email_otp_auth_providers")
    await store_provider(scene.world, replace(provider, is_disabled=True))
    assert (await scene.browser.get("/acme")).status_code == 303
    assert await rows_of(scene.world, "portal_sessions") == []


test_disabling_the_provider_ends_its_sessions = on_virtual_time(disable_the_provider)


async def refuse_a_disabled_account(scene: Scene) -> None:
    async with scene.world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(scene.world.account_id)
        assert account is not None
        await transaction.accounts.save(replace(account, is_disabled=True))
    page = await ask_for_code(scene.browser, ADMIN, GUI)
    refused = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    assert refused.headers["location"] == f"/acme/sign_in/client_account_disabled?{urlencode(GUI)}"
    assert "is disabled" in (await follow(scene.browser, refused)).text
    assert await rows_of(scene.world, "client_tokens") == []
    page = await ask_for_code(scene.browser, ADMIN, PORTAL)
    admitted = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    assert admitted.headers["location"] == "/acme"


test_a_disabled_account_lets_administrators_in_and_no_client = on_virtual_time(refuse_a_disabled_account)


async def refuse_over_the_limit(scene: Scene) -> None:
    async with scene.world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(scene.world.account_id)
        assert account is not None
        await transaction.accounts.save(replace(account, limits={"users_count": 1}))
    page = await ask_for_code(scene.browser, ADMIN, GUI)
    refused = await send_form(scene.browser, page, {"secret": await scene.find_code()}, action="/verify")
    told = await follow(scene.browser, refused)
    assert (told.status_code, told.url.path) == (403, "/acme/sign_in/client_auth_error")
    assert "more users than it may have" in told.text
    assert f'href="/acme/sign_in?{urlencode(GUI).replace("&", "&amp;")}"' in told.text


test_a_client_is_told_that_there_are_too_many_users_and_can_try_again = on_virtual_time(refuse_over_the_limit)


def test_without_a_mail_server_the_code_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def read_the_log(scene: Scene) -> None:
        with caplog.at_level(logging.WARNING):
            page = await ask_for_code(scene.browser, ADMIN)
        (code,) = [record.code for record in caplog.records if hasattr(record, "code")]
        assert "no mail server" in page.text
        stranger = await ask_for_code(scene.another_browser(), "nobody@acme.example")
        assert anonymous(stranger.text, "nobody@acme.example") == anonymous(page.text, ADMIN)
        assert (await send_form(scene.browser, page, {"secret": code}, action="/verify")).status_code == 303

    on_virtual_time(read_the_log, with_mail=False)()


async def test_of_many_guesses_at_once_three_are_looked_at(world: World) -> None:
    services, admin = world.portal.services, await load_admin(world)
    code = await draw_code(services)
    async with services.store.writing() as transaction:
        stored = await store_code(transaction.of(world.account_id), admin.id, code)
    guesses = [use_code(services, world.account_id, stored.id, admin.id, f"zzzz{n:02}") for n in range(12)]
    # The right code comes last: by then, three wrong ones have been counted.
    results = await asyncio.gather(*guesses)
    assert not any(results)
    assert not await use_code(services, world.account_id, stored.id, admin.id, code.text)
    assert await rows_of(world, "one_time_passcodes") == []


async def test_a_code_that_is_sent_twice_at_once_is_used_once(world: World) -> None:
    services, admin = world.portal.services, await load_admin(world)
    code = await draw_code(services)
    async with services.store.writing() as transaction:
        stored = await store_code(transaction.of(world.account_id), admin.id, code)
    uses = [use_code(services, world.account_id, stored.id, admin.id, code.text) for _ in range(3)]
    assert sorted(await asyncio.gather(*uses)) == [False, False, True]


async def send_none(scene: Scene) -> None:
    for changed in (
        replace(scene.world.actor, allow_email_otp_sign_in=False),
        replace(scene.world.actor, allow_email_otp_sign_in=True, is_disabled=True),
    ):
        await save_actor(scene.world, changed)
        await ask_for_code(scene.browser, "ada@example.org")
        assert await rows_of(scene.world, "one_time_passcodes") == []


test_who_could_not_sign_in_by_a_code_is_sent_none = on_virtual_time(send_none)


@pytest.mark.parametrize("change", [{"is_disabled": True}, {"allow_email_otp_sign_in": False}], ids=str)
async def test_a_code_is_worth_nothing_once_its_owner_may_not_sign_in(
    world: World, change: dict[str, bool]
) -> None:
    services, admin = world.portal.services, await load_admin(world)
    code = await draw_code(services)
    async with services.store.writing() as transaction:
        stored = await store_code(transaction.of(world.account_id), admin.id, code)
    await save_actor(world, replace(admin, **change))
    of_actor = ACTORS.c.allow_email_otp_sign_in.is_(True)
    assert not await use_code(services, world.account_id, stored.id, admin.id, code.text, of_actor)


async def test_a_code_is_the_actors_own(world: World) -> None:
    services, admin = world.portal.services, await load_admin(world)
    code = await draw_code(services)
    async with services.store.writing() as transaction:
        stored = await store_code(transaction.of(world.account_id), admin.id, code)
    assert not await use_code(services, world.account_id, stored.id, world.actor.id, code.text)
    assert await use_code(services, world.account_id, stored.id, admin.id, code.text)


async def test_codes_are_drawn_from_all_of_their_alphabet(world: World) -> None:
    drawn: list[DrawnCode] = [await draw_code(world.portal.services) for _ in range(3)]
    assert all(len(one.text) == 6 and set(one.text) <= set(ALPHABET) for one in drawn)
    assert len({one.text for one in drawn}) == 3
    assert not set("lo0") & set(ALPHABET)


async def test_no_character_of_a_code_is_likelier_than_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 is no multiple of the alphabet's length: the bytes beyond the last multiple are skipped."""
    beyond, last = 256 - 256 % len(ALPHABET), len(ALPHABET) - 1
    drawn = bytes([beyond, 0, 255, last, beyond - 1, 1, 2, 3, *[255] * 8])
    rng = world.portal.services.environment.rng
    monkeypatch.setattr(rng, "randbytes", lambda size: drawn[:size].ljust(size, b"s"))
    expected = "".join(ALPHABET[index] for index in (0, last, last, 1, 2, 3))
    assert (await draw_code(world.portal.services)).text == expected
