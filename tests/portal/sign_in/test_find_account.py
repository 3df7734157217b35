"""Finding one's accounts: the letter tells, the page never does."""

import asyncio
import re
from dataclasses import replace

from support.portal import make_world
from support.sign_in import Scene, load_admin, on_virtual_time, save_actor, send_form


async def ask(scene: Scene, email: str) -> str:
    """Type an address; returns the page without what differs in every page."""
    page = await scene.browser.get("/find_account")
    answer = await send_form(scene.browser, page, {"email": email})
    assert answer.status_code == 200
    return re.sub(r'nonce="[^"]*"', "", answer.text).replace(email, "EMAIL")


async def name_accounts(scene: Scene) -> None:
    other = await make_world(scene.world.portal, "other")
    third = await make_world(scene.world.portal, "third")
    await save_actor(other, replace(await load_admin(other), email="ADMIN@acme.example"))
    await save_actor(third, replace(await load_admin(third), email="admin@acme.example", is_disabled=True))
    await ask(scene, "Admin@acme.example")
    received = await scene.letterbox.receive()
    text = received.message.text
    assert received.recipients == ("Admin@acme.example",)
    assert "/acme/sign_in" in text
    assert "/other/sign_in" in text
    assert "third" not in text


test_the_letter_names_the_accounts_of_enabled_people = on_virtual_time(name_accounts)


async def tell_strangers_nothing(scene: Scene) -> None:
    loop, seen = asyncio.get_running_loop(), set()
    for email in ("admin@acme.example", "nobody@acme.example", "no address"):
        began_at = loop.time()
        seen.add((await ask(scene, email), round(loop.time() - began_at, 3)))
    assert len(seen) == 1
    assert {took for _page, took in seen} == {3.0}
    letters = [await scene.letterbox.receive() for _ in range(2)]
    assert "No account" in letters[1].message.text


test_the_page_tells_strangers_nothing = on_virtual_time(tell_strangers_nothing)


async def limit_letters(scene: Scene) -> None:
    pages = {await ask(scene, "admin@acme.example") for _ in range(5)}
    assert len(pages) == 1
    await asyncio.sleep(60)
    assert len(scene.letterbox.taken) == 3
    await asyncio.sleep(1800)
    await ask(scene, "admin@acme.example")
    await asyncio.sleep(60)
    assert len(scene.letterbox.taken) == 4


test_an_address_gets_three_letters_in_half_an_hour = on_virtual_time(limit_letters)
