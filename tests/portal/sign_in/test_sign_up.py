"""Making an account for oneself: nothing before the letter is opened, nothing that tells who has an account."""

import asyncio
import re
from dataclasses import replace
from ipaddress import ip_network

import httpx2

from support.sign_in import (
    Scene,
    follow,
    load_admin,
    on_virtual_time,
    rows_of,
    save_actor,
    send_form,
)
from wardgate.portal.settings import PortalSettings

OPEN = PortalSettings(sign_up=True)
TYPED = {"email": "Grace@new.example", "account_name": "Grâce & Söhne", "name": "Grace Hopper"}


async def sign_up(scene: Scene, **typed: str) -> httpx2.Response:
    page = await scene.browser.get("/sign_up")
    return await send_form(scene.browser, page, TYPED | typed)


async def link_in(scene: Scene) -> str:
    text = (await scene.letterbox.receive()).message.text
    found = re.search(r"^  http\S+(/verify_sign_up\?token=\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return found[1]


async def slugs(scene: Scene) -> set[str]:
    async with scene.world.portal.services.store.reading() as transaction:
        return {account.slug for account in await transaction.accounts.load_all()}


async def make_an_account(scene: Scene) -> None:
    assert "is on its way" in (await sign_up(scene)).text
    link = await link_in(scene)
    assert await slugs(scene) == {"acme"}
    page = await scene.another_browser().get(link)  # as a mail server looks at it
    assert await slugs(scene) == {"acme"}
    page = await scene.browser.get(link)
    assert "Grâce &amp; Söhne" in page.text
    assert 'value="grace-sohne"' in page.text
    for slug, reason in (("sign_up", "reserved"), ("ACME", "already been taken"), ("a b", "is no slug")):
        refused = await send_form(scene.browser, page, {"slug": slug})
        assert (refused.status_code, reason in refused.text) == (422, True)
    done = await send_form(scene.browser, page, {"slug": "Grace"})
    assert "/grace" in done.text
    welcome = await scene.letterbox.receive()
    assert welcome.recipients == ("Grace@new.example",)
    assert "/grace/sign_in" in welcome.message.text
    async with scene.world.portal.services.store.reading() as transaction:
        account = await transaction.accounts.by_slug("grace")
        assert account is not None
        changes = await transaction.changes_after(account.id, 0, 100)
    (admin,) = await rows_of(scene.world, "actors", account.id)
    assert (admin.name, admin.email, admin.type) == (
        "Grace Hopper",
        "Grace@new.example",
        "account_admin_user",
    )
    assert {change.subject["actor_email"] for change in changes if change.subject} == {"Grace@new.example"}
    assert all(change.subject for change in changes)

    # A second time the link leads to the account, and so does the form's answer, by a letter.
    again = await scene.browser.get(link)
    assert again.headers["location"] == "/grace/sign_in"
    repeated = await send_form(scene.browser, page, {"slug": "another"})
    assert repeated.headers["location"] == "/grace/sign_in"
    await sign_up(scene, email="grace@NEW.example")
    assert "/grace/sign_in" in (await scene.letterbox.receive()).message.text
    assert await slugs(scene) == {"acme", "grace"}

    page = await scene.browser.get("/grace/sign_in")
    asked = await send_form(scene.browser, page, {"email[email]": "grace@new.example"}, action="/email_otp/")
    code_page = await follow(scene.browser, asked)
    signed_in = await send_form(scene.browser, code_page, {"secret": await scene.find_code()})
    assert (await follow(scene.browser, signed_in)).url.path.startswith("/grace")


test_the_letters_link_makes_the_account_once_and_its_admin_signs_in = on_virtual_time(
    make_an_account, settings=OPEN
)


async def tell_strangers_nothing(scene: Scene) -> None:
    loop, seen = asyncio.get_running_loop(), set()
    for email, phone in (("admin@acme.example", ""), ("new@new.example", ""), ("bot@new.example", "1")):
        began_at = loop.time()
        page = (await sign_up(scene, email=email, phone=phone)).text
        seen.add((re.sub(r'nonce="[^"]*"', "", page).replace(email, ""), round(loop.time() - began_at, 3)))
    assert len(seen) == 1
    assert {took for _page, took in seen} == {3.0}
    known, new = await scene.letterbox.receive(), await scene.letterbox.receive()
    assert "/acme/sign_in" in known.message.text
    assert "verify_sign_up" in new.message.text
    # What a stranger typed is not sent to whom a stranger named.
    for word in ("Söhne", "Grace"):
        assert word not in new.message.text + new.message.html
    await asyncio.sleep(60)
    assert len(scene.letterbox.taken) == 2


test_the_page_tells_strangers_nothing_and_the_letter_carries_no_words_of_theirs = on_virtual_time(
    tell_strangers_nothing, settings=OPEN
)


async def only_admins_are_known(scene: Scene) -> None:
    """Who only uses an account, or has been disabled in it, makes one."""
    await save_actor(scene.world, replace(await load_admin(scene.world), is_disabled=True))
    await sign_up(scene, email="admin@acme.example")
    await link_in(scene)


test_a_disabled_administrator_may_make_another_account = on_virtual_time(only_admins_are_known, settings=OPEN)


async def bound_letters(scene: Scene) -> None:
    pages = [await sign_up(scene) for _ in range(5)]
    assert {page.status_code for page in pages} == {200}
    await asyncio.sleep(60)
    assert len(scene.letterbox.taken) == 3
    refused = await sign_up(scene, email="other@new.example")
    assert refused.status_code == 429
    assert "Please try again later" in refused.text
    assert 'value="other@new.example"' in refused.text
    # From many places: so many in all.
    answers = [await sign_up_from(scene, f"198.51.100.{number}") for number in range(40)]
    assert 25 <= [answer.status_code for answer in answers].count(200) <= 30
    assert answers[-1].status_code == 429
    await asyncio.sleep(300)
    assert (await sign_up_from(scene, "203.0.113.1")).status_code == 200


async def sign_up_from(scene: Scene, place: str) -> httpx2.Response:
    page = await scene.browser.get("/sign_up")
    form = re.search(r'name="csrf_token" value="([^"]*)"', page.text)
    assert form is not None
    return await scene.browser.post(
        "/sign_up",
        data=TYPED | {"email": f"x{place}@new.example", "csrf_token": form[1]},
        headers={"x-forwarded-for": place},
    )


test_letters_are_bounded_by_address_place_and_in_all = on_virtual_time(
    bound_letters, settings=replace(OPEN, trusted_proxies=(ip_network("192.0.2.9/32"),))
)


async def check_links(scene: Scene) -> None:
    await sign_up(scene)
    link = await link_in(scene)
    forged = await scene.browser.get(f"{link[:-3]}abc")
    assert forged.status_code == 410
    assert "invalid or has expired" in forged.text
    page = await scene.browser.get(link)
    page = replace_token(page, link, "x")
    assert (await send_form(scene.browser, page, {"slug": "grace"})).status_code == 410
    assert await slugs(scene) == {"acme"}


def replace_token(page: httpx2.Response, link: str, token: str) -> httpx2.Response:
    text = page.text.replace(link.partition("=")[2], token)
    return httpx2.Response(page.status_code, text=text)


test_a_link_that_is_not_ours_makes_nothing = on_virtual_time(check_links, settings=OPEN)


async def race(scene: Scene) -> None:
    await sign_up(scene)
    page = await scene.browser.get(await link_in(scene))
    answers = await asyncio.gather(
        *(send_form(scene.browser, page, {"slug": slug}) for slug in ("first", "second", "third"))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 303, 303]
    assert len(await slugs(scene)) == 2


test_one_link_opened_three_times_at_once_makes_one_account = on_virtual_time(race, settings=OPEN)


async def check_fields(scene: Scene) -> None:
    wrong = await sign_up(scene, email="nobody", account_name="ab", name=" ")
    assert wrong.status_code == 422
    assert wrong.text.count('aria-invalid="true"') == 3
    assert 'value="ab"' in wrong.text
    elsewhere = await sign_up(scene, email="grace@elsewhere.example")
    assert "must be at new.example" in elsewhere.text
    below = await sign_up(scene, email="grace@sub.new.example")
    assert below.status_code == 422
    assert (await sign_up(scene)).status_code == 200


test_what_is_wrong_is_told_beside_its_field = on_virtual_time(
    check_fields, settings=replace(OPEN, sign_up_domains=("new.example",))
)


async def closed(scene: Scene) -> None:
    for path in ("/sign_up", "/try", "/verify_sign_up?token=x"):
        assert (await scene.browser.get(path)).status_code == 404
    assert (await scene.browser.post("/sign_up", data=TYPED)).status_code == 404
    for path in ("/getting_started", "/sign_in"):
        assert "/sign_up" not in (await scene.browser.get(path)).text


test_it_is_off_unless_the_operator_opens_it = on_virtual_time(closed)


async def linked(scene: Scene) -> None:
    for path in ("/getting_started", "/sign_in"):
        assert 'href="/sign_up"' in (await scene.browser.get(path)).text
    client = await scene.browser.get("/sign_in", params={"as": "headless-client"})
    assert "/sign_up" not in client.text


test_pages_lead_there_but_not_from_a_clients_sign_in = on_virtual_time(linked, settings=OPEN)
