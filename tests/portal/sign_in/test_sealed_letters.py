"""Nobody reads a code or a link to sign in out of the table of jobs, or of what is on record of letters sent."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from support.browser import caller, make_api_token
from support.sign_in import Scene, ask_for_code, on_virtual_time
from wardgate.portal.installation.tables import JOBS, OUTBOUND_EMAILS
from wardgate.portal.keys import Keys
from wardgate.portal.mail.delivery import send_mail
from wardgate.portal.mail.letters import SignInCode
from wardgate.portal.mail.queue import post
from wardgate.portal.sealing import SealBroken

from .test_password import set_up


async def all_rows(scene: Scene) -> str:
    """Return everything that the tables of jobs and of letters hold."""
    async with scene.world.portal.services.store.reading() as transaction:
        jobs = (await transaction.execute(select(JOBS.table))).all()
        emails = (await transaction.execute(select(OUTBOUND_EMAILS.table))).all()
    return repr([*jobs, *emails])


async def read_tables(scene: Scene) -> None:
    await set_up(scene)
    scene.letterbox.is_down = True
    await ask_for_code(scene.browser, "admin@acme.example")
    token, _ = await make_api_token(scene.world)
    async with caller(scene.world.portal, token) as api:
        assert (await api.post(f"/wardgate/actors/{scene.world.actor.id}/password_links")).status_code == 201
    waiting = await all_rows(scene)
    scene.letterbox.is_down = False
    await asyncio.sleep(3600)
    secrets = []
    for _ in range(2):
        message = (await scene.letterbox.receive()).message
        secrets += [line.strip() for line in message.text.splitlines() if line.startswith("  ")]
    code = next(one for one in secrets if len(one) == 6)
    link = next(one for one in secrets if "/sign_in/password/" in one)
    for tables in (waiting, await all_rows(scene)):
        assert "send_mail" in tables
        assert code not in tables
        assert link.rpartition("/")[2] not in tables


test_codes_and_links_are_in_no_table_before_or_after_they_are_sent = on_virtual_time(read_tables)


async def post_without_key(scene: Scene) -> None:
    services, now = scene.world.portal.services, scene.world.portal.services.environment.clock.now()
    letter = SignInCode("Acme", "https://portal.example", "ab12cd", now, "Firefox", "192.0.x.x", None)
    with pytest.raises(ValueError, match="holds a secret"):
        async with services.store.writing() as transaction:
            await post(transaction, services.settings, letter, ["ada@example.org"], account_id=None)


test_a_letter_with_a_secret_is_not_posted_unsealed = on_virtual_time(post_without_key)


async def another_key(scene: Scene) -> None:
    await set_up(scene)
    scene.letterbox.is_down = True
    await ask_for_code(scene.browser, "admin@acme.example")
    services = scene.world.portal.services
    async with services.store.reading() as transaction:
        arguments: Any = (
            await transaction.execute(select(JOBS.c.arguments).where(JOBS.c.kind == "send_mail"))
        ).scalar()
    with pytest.raises(SealBroken):
        await send_mail(replace(services, keys=Keys.derive(b"o" * 32)), arguments)


test_under_another_master_secret_a_letter_does_not_open = on_virtual_time(another_key)
