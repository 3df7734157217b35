"""Signing in by password, and choosing one."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from support.browser import caller, make_api_token
from support.portal import World
from support.sign_in import (
    GUI,
    Scene,
    load_admin,
    on_virtual_time,
    rows_of,
    save_actor,
    send_form,
    store_provider,
)
from wardgate.portal.outcomes import Invalid, Unsuitable
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.hashing import AT_ONCE, MOST_WAITING, hash_text, is_text_of
from wardgate.portal.sign_in.password import TRIES, TRIES_FROM_ONE_PLACE, Password
from wardgate.portal.sign_in.password_rules import check_password, has_password, make_link, read_link
from wardgate.portal.sign_in.tables import UserpassAuthProvider

ADMIN = "admin@acme.example"
PASSWORD = "correct horse battery"


async def set_up(scene: Scene, *, context: str = "clients_and_portal") -> UserpassAuthProvider:
    """Let the account's people sign in by password; the administrator has one."""
    world = scene.world
    provider = UserpassAuthProvider(
        id=world.portal.services.environment.new_id(), account_id=world.account_id, context=context
    )
    await store_provider(world, provider)
    await save_actor(
        world, replace(await load_admin(world), password_hash=hash_text(PASSWORD, salt=b"s" * 16))
    )
    return provider


async def sign_in(
    scene: Scene,
    email: str = ADMIN,
    password: str = PASSWORD,
    flow: dict[str, str] | None = None,
    browser: httpx2.AsyncClient | None = None,
) -> str:
    """Try it; returns where the browser is sent."""
    browser = browser or scene.browser
    page = await browser.get("/acme/sign_in", params=flow or {})
    fields = {"userpass[idp_id]": email, "userpass[secret]": password}
    answer = await send_form(browser, page, fields)
    return answer.headers.get("location", f"{answer.status_code}")


async def sign_in_by_password(scene: Scene) -> None:
    await set_up(scene)
    assert await sign_in(scene, ADMIN.upper()) == "/acme"
    assert (await scene.browser.get("/acme")).status_code == 200


test_an_administrator_signs_in = on_virtual_time(sign_in_by_password)


async def fail_alike(scene: Scene) -> None:
    await set_up(scene)
    loop, seen = asyncio.get_running_loop(), set()
    await save_actor(
        scene.world,
        replace(scene.world.actor, password_hash=hash_text(PASSWORD, salt=b"t" * 16), is_disabled=True),
    )
    for email, password in (
        (ADMIN, "wrong horse battery"),
        ("nobody@acme.example", PASSWORD),
        ("ada@example.org", PASSWORD),  # disabled
        ("", ""),
        (ADMIN, ""),
    ):
        began_at = loop.time()
        seen.add((await sign_in(scene, email, password), round(loop.time() - began_at, 3)))
    assert seen == {("/acme/sign_in?error=credentials", 3.0)}


test_whatever_is_wrong_the_answer_is_one_and_as_late = on_virtual_time(fail_alike)


async def keep_the_address(scene: Scene) -> None:
    await set_up(scene)
    for flow in ({}, GUI):
        typed = "<b>ada</b>@example.org"
        await sign_in(scene, typed, "wrong horse battery", flow=flow)
        page = await scene.browser.get("/acme/sign_in", params=flow)
        assert 'value="&lt;b&gt;ada&lt;/b&gt;@example.org"' in page.text
        assert "wrong horse battery" not in page.text
        assert "ada" not in (await scene.browser.get("/acme/sign_in", params=flow)).text, "shown once"
    forged = {"typed_address_" + str(scene.world.account_id): "eve@example.org"}
    scene.browser.cookies.update(forged)
    assert "eve@example.org" not in (await scene.browser.get("/acme/sign_in")).text


test_a_wrong_password_keeps_the_address_that_was_typed = on_virtual_time(keep_the_address)


async def look_at_the_role_afterwards(scene: Scene) -> None:
    await set_up(scene)
    await save_actor(
        scene.world, replace(scene.world.actor, password_hash=hash_text(PASSWORD, salt=b"t" * 16))
    )
    assert await sign_in(scene, "ada@example.org", "wrong horse battery") == "/acme/sign_in?error=credentials"
    assert await sign_in(scene, "ada@example.org") == "/acme/sign_in?error=needs-admin"


test_the_role_is_looked_at_after_the_password = on_virtual_time(look_at_the_role_afterwards)


async def guess_from_many_places(scene: Scene) -> None:
    await set_up(scene)
    with pytest.MonkeyPatch.context() as patched:
        # Comparing a hash takes long, and what is counted is counted before.
        patched.setattr("wardgate.portal.sign_in.password.is_text_of", lambda _stored, _typed: False)
        for number in range(TRIES // TRIES_FROM_ONE_PLACE):
            async with caller(scene.world.portal, address=f"198.51.100.{number}") as place:
                for _ in range(TRIES_FROM_ONE_PLACE):
                    answer = await sign_in(scene, browser=place)
                    assert answer == "/acme/sign_in?error=credentials"
    async with caller(scene.world.portal, address="198.51.100.200") as place:
        assert await sign_in(scene, browser=place) == "/acme/sign_in?error=attempts"


test_guesses_from_many_places_are_counted_together = on_virtual_time(guess_from_many_places)


async def lock_out(scene: Scene) -> None:
    await set_up(scene)
    for _ in range(5):
        assert await sign_in(scene, password="wrong horse battery") == "/acme/sign_in?error=credentials"
    assert await sign_in(scene) == "/acme/sign_in?error=attempts"
    for _ in range(5):
        assert await sign_in(scene, "nobody@acme.example") == "/acme/sign_in?error=credentials"
    assert await sign_in(scene, "nobody@acme.example") == "/acme/sign_in?error=attempts"
    await asyncio.sleep(300)
    assert await sign_in(scene) == "/acme"


test_guessing_ends_after_five_tries_also_for_addresses_that_nobody_has = on_virtual_time(lock_out)


async def come_while_very_many_do(scene: Scene) -> None:
    await set_up(scene)
    hashing = scene.world.portal.services.hashing
    hashing._under_way = AT_ONCE + MOST_WAITING
    assert await sign_in(scene) == "503"
    token, _ = await make_api_token(scene.world)
    admin = await load_admin(scene.world)
    async with caller(scene.world.portal, token) as api:
        body = {"password": {"secret": "another horse battery"}}
        answer = await api.put(f"/wardgate/actors/{admin.id}/password", json=body)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    hashing._under_way = 0
    assert await sign_in(scene) == "/acme"


test_who_comes_while_very_many_do_is_told_to_come_again = on_virtual_time(come_while_very_many_do)


async def check_the_context(scene: Scene) -> None:
    provider = await set_up(scene)
    page = await scene.browser.get("/acme/sign_in")
    await store_provider(scene.world, replace(provider, context="clients_only"))
    fields = {"userpass[idp_id]": ADMIN, "userpass[secret]": PASSWORD}
    refused = await send_form(scene.browser, page, fields)
    assert refused.headers["location"] == "/acme/sign_in?error=method"
    assert "userpass[secret]" not in (await scene.browser.get("/acme/sign_in")).text
    assert await sign_in(scene, flow=GUI) == "200"  # the page that leads to the client


test_a_provider_for_clients_only_signs_nobody_in_to_the_portal = on_virtual_time(check_the_context)


async def choose(scene: Scene) -> None:
    world = scene.world
    await set_up(scene)
    token, _ = await make_api_token(world)
    async with caller(world.portal, token) as api:
        sent = await api.post(f"/wardgate/actors/{world.actor.id}/password_links")
        assert sent.status_code == 201, sent.text
        assert sent.json()["data"]["url"] is None
    letter = (await scene.letterbox.receive()).message
    link = next(word for word in letter.text.split() if "/sign_in/password/" in word)
    path = link.removeprefix(world.portal.services.settings.web_url)
    page = await scene.browser.get(path)
    assert (await send_form(scene.browser, page, {"password": "short"})).status_code == 422
    assert (await send_form(scene.browser, page, {"password": "Ada@example.org"})).status_code == 422
    assert (await send_form(scene.browser, page, {"password": PASSWORD})).status_code == 200
    assert (await send_form(scene.browser, page, {"password": "another horse battery"})).status_code == 410
    assert (await scene.browser.get(path)).status_code == 410
    assert await sign_in(scene, "ada@example.org", flow=GUI) == "200"


test_a_person_chooses_a_password_by_a_link_that_works_once = on_virtual_time(choose)


async def disable_meanwhile(scene: Scene) -> None:
    await set_up(scene)
    admin = await load_admin(scene.world)

    async def hashed(_: Password, function: Callable[[], Any]) -> Any:
        result = function()
        await save_actor(scene.world, replace(admin, is_disabled=True))
        return result

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Password, "_hashed", hashed)
        assert "error=" in await sign_in(scene)
    assert await rows_of(scene.world, "portal_sessions") == []


test_who_is_disabled_while_the_password_is_compared_is_not_signed_in = on_virtual_time(disable_meanwhile)


async def choose_twice_at_once(scene: Scene) -> None:
    world, environment = scene.world, scene.world.portal.services.environment
    await set_up(scene)
    link = make_link(world.actor, now=environment.clock.now(), keys=world.portal.services.keys)
    async with scene.another_browser() as other:
        forms = [(one, await one.get(f"/acme/sign_in/password/{link}")) for one in (scene.browser, other)]
        answers = await asyncio.gather(
            *(
                send_form(browser, page, {"password": f"correct horse battery {number}"})
                for number, (browser, page) in enumerate(forms)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200, 410]


test_of_two_who_use_a_link_at_once_one_chooses = on_virtual_time(choose_twice_at_once)


async def end_sessions(scene: Scene) -> None:
    world, provider = scene.world, await set_up(scene)
    assert await sign_in(scene) == "/acme"
    await sign_in(scene, flow=GUI)
    admin = await load_admin(world)
    assert len(await rows_of(world, "client_tokens")) == 2  # with that of the world's user
    link = make_link(
        admin, now=world.portal.services.environment.clock.now(), keys=world.portal.services.keys
    )
    token, _ = await make_api_token(world)
    async with caller(world.portal, token) as api:
        body = {"password": {"secret": "another horse battery"}}
        changed = await api.put(f"/wardgate/actors/{admin.id}/password", json=body)
        assert (changed.status_code, changed.json()["data"]) == (
            200,
            {"actor_id": str(admin.id), "is_set": True},
        )
        assert (await scene.browser.get("/acme")).status_code == 303
        assert [one.auth_provider_id for one in await rows_of(world, "client_tokens")] == [None]
        assert (await scene.browser.get(f"/acme/sign_in/password/{link}")).status_code == 410
        assert await sign_in(scene) == "/acme/sign_in?error=credentials"
        assert await sign_in(scene, password="another horse battery") == "/acme"
        removed = await api.delete(f"/wardgate/actors/{admin.id}/password")
        assert removed.json()["data"]["is_set"] is False
        assert await sign_in(scene, password="another horse battery") == "/acme/sign_in?error=credentials"
        weak = await api.put(
            f"/wardgate/actors/{admin.id}/password", json={"password": {"secret": "aaaaaaaaaaaa"}}
        )
        assert weak.status_code == 422
    assert not has_password(await load_admin(world))
    assert provider.type == "userpass"


test_setting_a_password_ends_what_another_one_gave = on_virtual_time(end_sessions)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "short",
        "aaaaaaaaaaaa",
        "abababababab",
        "adalovelace1",
        "Ada Lovelace 1",
        "ada-lovelace1@example.org",
        "x" * 257,
        "nul\x00 within it all",
    ],
)
def test_a_password_that_is_easily_guessed_is_refused(typed: str) -> None:
    actor = _actor(email="ada-lovelace1@example.org")
    with pytest.raises(Invalid):
        check_password(actor, typed)


def test_letters_that_look_alike_are_one_password() -> None:
    decomposed, composed = "pa\u0308ssword of mine", "p\u00e4ssword of mine"
    assert check_password(_actor(), decomposed) == check_password(_actor(), composed) == composed


def test_programs_have_no_password() -> None:
    with pytest.raises(Unsuitable):
        check_password(_actor(type_="service_account", email=None), PASSWORD)


def test_nobodys_hash_and_what_is_no_hash_match_nothing() -> None:
    assert is_text_of(hash_text(PASSWORD, salt=b"s" * 16), PASSWORD)
    assert not is_text_of(None, "")
    assert not is_text_of("!0123", "")
    assert not is_text_of("", "")


async def test_a_link_ends_after_a_day_and_is_signed(world: World) -> None:
    services, admin = world.portal.services, await load_admin(world)
    now = services.environment.clock.now()
    secret = make_link(admin, now=now, keys=services.keys)
    read = read_link(secret, now=now + timedelta(hours=23, minutes=59), keys=services.keys)
    assert read is not None
    assert read.actor_id == admin.id
    assert read_link(secret, now=now + timedelta(hours=24), keys=services.keys) is None
    assert read_link(secret[:-2] + "xx", now=now, keys=services.keys) is None


def _actor(*, type_: str = "account_user", email: str | None = "ada@example.org") -> Actor:
    return Actor(id=UUID(int=1), account_id=UUID(int=2), type=type_, name="Ada Lovelace 1", email=email)
