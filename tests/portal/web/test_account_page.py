"""The account's page: what it shows, and how an account ends there."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from support.browser import caller, sign_in_link
from support.portal import World
from wardgate.portal.installation.tables import Account, Banner
from wardgate.portal.logs.streams import Logs, Stream
from wardgate.portal.web.account_notice import countdown, notice_of


async def test_the_page_shows_settings_and_what_is_used_of_what_is_allowed(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await changed(
        world, limits={"sites_count": 2, "users_count": 9}, config={"search_domain": "corp.example"}
    )
    page = (await admin.get("/acme/account")).text
    for shown in (str(world.account_id), "corp.example", "2 of 2", "limit reached", "2 of 9", "0 of 100"):
        assert shown in page, shown
    assert "0, no limit" in page


async def test_the_page_is_for_the_signed_in(visitor: httpx2.AsyncClient, world: World) -> None:
    assert (await visitor.get("/acme/account")).status_code == 303
    for path in ("/acme/account/deletion", "/acme/account/deletion/cancel"):
        refused = await visitor.post(path, data={"slug": "acme"})
        assert refused.headers["location"] == "/acme/sign_in"
    assert not (await account_of(world)).is_disabled


async def test_an_admin_deletes_and_cancels_with_the_slug_typed_and_the_forms_token(
    admin: httpx2.AsyncClient, world: World
) -> None:
    form = await form_of(admin)
    wrong = await admin.post("/acme/account/deletion", data={**form, "slug": "other"})
    assert wrong.status_code == 422
    assert (
        "This is not the account&#39;s slug" in wrong.text or "This is not the account's slug" in wrong.text
    )
    assert (await admin.post("/acme/account/deletion", data={"slug": "acme"})).status_code == 403
    assert not (await account_of(world)).is_disabled
    answer = await admin.post("/acme/account/deletion", data={**form, "slug": "acme"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/acme/account")
    scheduled = await account_of(world)
    assert scheduled.is_disabled
    page = (await admin.get("/acme/account")).text
    assert "will be deleted in 6 days and 23 hours" in page
    assert "Cancel the deletion" in (await admin.get("/acme")).text
    again = await admin.post("/acme/account/deletion", data={**form, "slug": "acme"})
    assert (again.status_code, await account_of(world)) == (303, scheduled)
    assert (await admin.post("/acme/account/deletion/cancel", data={})).status_code == 403
    assert (await admin.post("/acme/account/deletion/cancel", data=form)).status_code == 303
    assert not (await account_of(world)).is_disabled
    assert "will be deleted" not in (await admin.get("/acme/account")).text


async def test_the_change_is_the_admins_own_in_the_audit_log(admin: httpx2.AsyncClient, world: World) -> None:
    await admin.post("/acme/account/deletion", data={**await form_of(admin), "slug": "acme"})
    async with world.portal.services.store.reading() as transaction:
        (change,) = await Logs(transaction, world.account_id).load(Stream.CHANGE, limit=1)
    assert change.subject is not None
    assert (change.subject["actor_name"], change.subject["ip"]) == ("admin", "192.0.2.9")


async def test_a_locked_account_offers_no_deletion_and_takes_none(
    admin: httpx2.AsyncClient, world: World
) -> None:
    form = await form_of(admin)
    await changed(world, lock_enabled_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert "cannot be deleted" in (await admin.get("/acme/account")).text
    await admin.post("/acme/account/deletion", data={**form, "slug": "acme"})
    assert not (await account_of(world)).is_disabled


async def test_an_account_that_the_operator_disabled_says_so(admin: httpx2.AsyncClient, world: World) -> None:
    await changed(world, is_disabled=True, disabled_reason="<unpaid>")
    for path in ("/acme", "/acme/account"):
        page = (await admin.get(path)).text
        assert "The operator has disabled this account: &lt;unpaid&gt;" in page
    assert "by the operator only" in page


async def test_banners_are_on_every_page_of_admins_and_on_no_other(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.portal.services.store.writing() as transaction:
        await transaction.banners.insert(Banner(id=transaction.new_id(), message="<b>Maintenance</b>"))
    for path in ("/acme", "/acme/account"):
        assert "&lt;b&gt;Maintenance&lt;/b&gt;" in (await admin.get(path)).text
    async with caller(world.portal) as stranger:
        assert "Maintenance" not in (await stranger.get("/acme")).text


async def test_a_sign_in_is_logged_with_its_session(visitor: httpx2.AsyncClient, world: World) -> None:
    await visitor.get(await sign_in_link(world), headers={"user-agent": "Browser/1.0"})
    await visitor.get("/acme")
    async with world.portal.services.store.reading() as transaction:
        (entry,) = await Logs(transaction, world.account_id).load(Stream.SESSION, limit=10)
        sessions = await transaction.of(world.account_id).portal_sessions.load_all()
    assert entry.context == "portal"  # type: ignore[union-attr]
    assert entry.timestamp == sessions[0].inserted_at  # type: ignore[union-attr]
    subject = entry.subject
    assert subject is not None
    assert set(subject) == {
        "actor_id", "actor_name", "actor_email", "actor_type", "auth_provider_id", "ip", "ip_region",
        "ip_city", "ip_lat", "ip_lon", "user_agent",
    }  # fmt: skip
    assert (subject["actor_email"], subject["ip"], subject["user_agent"]) == (
        "admin@acme.example",
        "192.0.2.9",
        "Browser/1.0",
    )


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (timedelta(days=7), "in 7 days"),
        (timedelta(days=6, hours=23, minutes=59), "in 6 days and 23 hours"),
        (timedelta(days=1, minutes=5), "in 1 day"),
        (timedelta(hours=1, minutes=1), "in 1 hour and 1 minute"),
        (timedelta(minutes=59, seconds=59), "in 59 minutes"),
        (timedelta(seconds=59), "within a minute"),
        (timedelta(days=-1), "within a minute"),
    ],
)
def test_a_countdown_names_its_two_largest_units(left: timedelta, told: str) -> None:
    assert countdown(left) == told


async def test_an_account_that_lives_has_nothing_to_be_told(world: World) -> None:
    assert notice_of(await account_of(world), now=datetime(2026, 12, 1, tzinfo=UTC)) is None


async def form_of(admin: httpx2.AsyncClient) -> dict[str, str]:
    page = (await admin.get("/acme/account")).text
    token = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert token is not None
    return {"csrf_token": token[1]}


async def changed(world: World, **changes: Any) -> None:
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        await transaction.accounts.save(replace(account, **changes))


async def account_of(world: World) -> Account:
    async with world.portal.services.store.reading() as transaction:
        account = await transaction.accounts.load(world.account_id)
    assert account is not None
    return account
