"""The pages of settings: names, DNS and notifications of the account."""

from dataclasses import replace
from typing import Any

import httpx2
import pytest

from support.pages import hidden_of, post, toast_after
from support.portal import World
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.installation.tables import Account

DNS = "/acme/settings/dns"


async def test_the_names_are_changed(admin: httpx2.AsyncClient, world: World) -> None:
    seen = await form(admin, "/acme/account/names")
    for name, legal, told in (("ab", "Acme Inc", "at least 3"), ("Acme", "", "can&#39;t be blank")):
        refused = await post(admin, "/acme/account/names", **seen, name=name, legal_name=legal)
        assert (refused.status_code, told in refused.text) == (422, True)
    answer = await post(admin, "/acme/account/names", **seen, name="Acme", legal_name="Acme Inc")
    assert await toast_after(admin, answer) == "Saved."
    account = await stored(world)
    assert (account.name, account.legal_name) == ("Acme", "Acme Inc")


async def test_resolvers_are_chosen_and_those_that_were_listed_stay(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await saved(admin, type="custom", addresses="9.9.9.9\n 2620:fe::fe \n", search_domain="Corp.example.com")
    config = AccountConfig.parse((await stored(world)).config)
    assert (config.upstream_dns.type, config.upstream_dns.addresses) == ("custom", ("9.9.9.9", "2620:fe::fe"))
    assert config.search_domain is not None
    assert config.search_domain.lower() == "corp.example.com"
    assert "9.9.9.9\n2620:fe::fe</textarea>" in (await admin.get(DNS)).text
    await saved(admin, type="secure", doh_provider="quad9", addresses="ignored", search_domain="")
    config = AccountConfig.parse((await stored(world)).config)
    assert (config.upstream_dns.type, config.upstream_dns.doh_provider) == ("secure", "quad9")
    assert (config.search_domain, config.upstream_dns.addresses) == (None, ("9.9.9.9", "2620:fe::fe"))
    await saved(admin, type="system", search_domain="")
    assert AccountConfig.parse((await stored(world)).config).upstream_dns.type == "system"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "custom", "addresses": ""}, "can&#39;t be blank"),
        ({"type": "custom", "addresses": "9.9.9.9:53"}, "9.9.9.9:53 must be an IP address without a port"),
        ({"type": "custom", "addresses": "100.64.0.1"}, "100.64.0.1 cannot be in the CIDR"),
        ({"type": "custom", "addresses": "1.1.1.1 1.1.1.1"}, "must not contain duplicates"),
        ({"type": "custom", "addresses": "\n".join(f"9.9.9.{n}" for n in range(9))}, "at most 8"),
        ({"type": "secure", "doh_provider": ""}, "can&#39;t be blank"),
        ({"type": "secure", "doh_provider": "evil"}, "is invalid"),
        ({"type": "carrier pigeon"}, "is invalid"),
        ({}, "can&#39;t be blank"),
        ({"type": "system", "search_domain": "no domain"}, "must be a domain"),
    ],
)
async def test_what_is_wrong_is_said_beside_the_field(
    admin: httpx2.AsyncClient, world: World, given: dict[str, Any], told: str
) -> None:
    before = await stored(world)
    seen = await form(admin, DNS)
    answer = await post(admin, DNS, **seen, **{"search_domain": "", **given})
    assert answer.status_code == 422
    assert told in answer.text
    assert 'aria-invalid="true"' in answer.text or 'id="type-error"' in answer.text
    assert await stored(world) == before


async def test_the_second_administrator_sees_what_the_first_has_stored(
    admin: httpx2.AsyncClient, world: World
) -> None:
    seen = await form(admin, DNS)
    await saved(admin, type="secure", doh_provider="quad9", search_domain="first.example")
    answer = await post(
        admin, DNS, **seen, type="system", doh_provider="google", search_domain="second.example"
    )
    assert answer.status_code == 422
    assert "<strong>first.example</strong>" in answer.text
    assert 'value="second.example"' in answer.text
    assert AccountConfig.parse((await stored(world)).config).search_domain == "first.example"


async def test_letters_are_switched_off_and_on(admin: httpx2.AsyncClient, world: World) -> None:
    path = "/acme/settings/notifications"
    assert "no letters are sent" in (await admin.get(path)).text
    assert (await post(admin, path, **await form(admin, path))).status_code == 303
    assert not AccountConfig.parse((await stored(world)).config).outdated_gateway_letter.is_enabled
    on = {"outdated_gateway_notifications": "on"}
    assert (await post(admin, path, **await form(admin, path), **on)).status_code == 303
    assert AccountConfig.parse((await stored(world)).config).outdated_gateway_letter.is_enabled


async def test_a_locked_account_cannot_be_changed(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(world.account_id)
        assert account is not None
        locked = await transaction.accounts.save(replace(account, lock_enabled_at=transaction.now))
    for path in (DNS, "/acme/account/names", "/acme/settings/notifications"):
        page = await admin.get(path)
        assert ("is locked" in page.text, "Save changes" in page.text) == (True, False)
        given = {"name": "Other", "legal_name": "Other", "type": "system", "search_domain": "a.example"}
        answer = await post(admin, path, **hidden_of(page.text), **given)
        assert (answer.status_code, "is locked" in answer.text) == (422, True)
    assert await stored(world) == locked


async def test_every_form_needs_its_sessions_token(admin: httpx2.AsyncClient, world: World) -> None:
    before = await stored(world)
    for path in ("settings/dns", "account/names", "settings/notifications"):
        given = {"name": "Other", "legal_name": "Other", "type": "system", "search_domain": "a.example"}
        assert (await admin.post(f"/acme/{path}", data=given)).status_code == 403
    assert await stored(world) == before


async def form(admin: httpx2.AsyncClient, path: str) -> dict[str, str]:
    return hidden_of((await admin.get(path)).text)


async def saved(admin: httpx2.AsyncClient, **given: str) -> None:
    answer = await post(admin, DNS, **await form(admin, DNS), **given)
    assert answer.status_code == 303, answer.text


async def stored(world: World) -> Account:
    async with world.portal.services.store.reading() as transaction:
        account = await transaction.accounts.load(world.account_id)
    assert account is not None
    return account
