"""The pages around the methods: where a browser is sent, and what it may choose from."""

from dataclasses import replace
from urllib.parse import urlencode

import httpx2
import pytest

from support.browser import caller, sign_in_link
from support.portal import World, make_world, portal_running
from support.sign_in import GUI, HEADLESS, NONCE, STATE, rows_of, send_form, store_provider
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.steps import MAX_FIELDS, MAX_FORM_BYTES
from wardgate.portal.sign_in.tables import OidcAuthProvider


async def test_a_browser_that_is_new_here_learns_what_this_is(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    first = await visitor.get("/")
    assert (first.status_code, first.headers["location"]) == (303, "/getting_started")
    page = await visitor.get("/getting_started")
    assert page.status_code == 200
    assert "wardgate sign-in-link" in page.text


async def test_a_browser_that_was_here_chooses_among_its_accounts(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    await make_world(world.portal, "other")
    await visitor.get(await sign_in_link(world))
    assert (await visitor.get("/")).headers["location"] == "/sign_in"
    page = (await visitor.get("/sign_in")).text
    assert 'href="/acme/sign_in"' in page
    assert 'href="/other/sign_in"' not in page


async def test_an_account_is_found_by_name_whatever_the_case(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    page = await visitor.get("/sign_in")
    chosen = await send_form(visitor, page, {"account_id_or_slug": " ACME "})
    assert (chosen.status_code, chosen.headers["location"]) == (303, "/acme/sign_in")
    assert (await visitor.get("/acme/sign_in")).status_code == 200
    assert (await visitor.get(f"/{world.account_id}/sign_in")).status_code == 200


@pytest.mark.parametrize("chosen", ["nobody", "", "//evil.example", "a b", "../x", "<b>", "x" * 101])
async def test_what_is_no_account_is_told_beside_the_field(
    visitor: httpx2.AsyncClient, world: World, chosen: str
) -> None:
    page = await visitor.get("/sign_in")
    refused = await send_form(visitor, page, {"account_id_or_slug": chosen})
    assert refused.status_code == 422
    assert 'aria-invalid="true"' in refused.text
    assert 'href="/find_account"' in refused.text


async def test_an_unknown_account_is_asked_for_again_while_a_client_waits(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    assert (await visitor.get("/nobody/sign_in")).status_code == 404
    answer = await visitor.get(f"/nobody/sign_in?{urlencode(GUI)}")
    assert answer.headers["location"] == f"/sign_in?{urlencode(GUI)}"


@pytest.mark.parametrize("start", ["/", "/acme", "/acme/sign_in", "/sign_in"])
@pytest.mark.parametrize("flow", [GUI, HEADLESS], ids=["gui", "headless"])
async def test_what_a_client_began_with_reaches_the_methods(
    visitor: httpx2.AsyncClient, world: World, start: str, flow: dict[str, str]
) -> None:
    visitor.follow_redirects = True
    page = await visitor.get(start, params=flow)
    if page.url.path == "/sign_in":
        page = await send_form(visitor, page, {"account_id_or_slug": "acme"})
    assert page.status_code == 200
    assert page.url.path == "/acme/sign_in"
    assert dict(page.url.params) == flow


async def test_a_client_signs_in_anew_though_the_browser_is_signed_in(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    await visitor.get(await sign_in_link(world))
    assert (await visitor.get("/acme/sign_in")).headers["location"] == "/acme"
    back = await visitor.get("/acme/sign_in?redirect_to=/acme/account")
    assert back.headers["location"] == "/acme/account"
    started = await visitor.get(f"/acme?{urlencode(GUI)}")
    assert started.headers["location"] == f"/acme/sign_in?{urlencode(GUI)}"
    assert (await visitor.get(f"/acme/sign_in?{urlencode(GUI)}")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/sign_in", "/acme", "/acme/sign_in"])
async def test_a_client_without_a_nonce_is_refused_before_anybody_signs_in(
    visitor: httpx2.AsyncClient, world: World, path: str
) -> None:
    for given in (
        {"as": "gui-client", "state": STATE},
        {"as": "gui-client", "state": "a\r\nb", "nonce": NONCE},
    ):
        assert (await visitor.get(path, params=given)).status_code == 400


async def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    answer = await visitor.get("/acme/account?x=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/acme/sign_in?redirect_to=%2Facme%2Faccount%3Fx%3D1"
    assert (await visitor.get("/%5Cevil.example/account")).status_code == 404


async def test_only_methods_that_can_be_used_here_are_offered(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    (email,) = await rows_of(world, "email_otp_auth_providers")
    oidc = OidcAuthProvider(
        id=world.portal.services.environment.new_id(), account_id=world.account_id, name="Example IdP",
        issuer="https://idp.example", client_id="c", client_secret="s",
        discovery_document_uri="https://idp.example/d", context="clients_only",
    )  # fmt: skip
    await store_provider(world, oidc)
    client_page = f"/acme/sign_in?{urlencode(GUI)}"
    assert "Example IdP" not in (await visitor.get("/acme/sign_in")).text
    offered = (await visitor.get(client_page)).text
    assert f"/acme/sign_in/oidc/{oidc.id}?as=gui-client" in offered
    await store_provider(world, replace(oidc, is_disabled=True))
    await store_provider(world, replace(email, context="portal_only"))
    assert "No method is set up" in (await visitor.get(client_page)).text


async def test_a_client_goes_to_the_default_provider_at_once_and_a_person_chooses(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    oidc = OidcAuthProvider(
        id=world.portal.services.environment.new_id(), account_id=world.account_id, issuer="https://idp.example",
        client_id="c", client_secret="s", discovery_document_uri="https://idp.example/d", is_default=True,
    )  # fmt: skip
    await store_provider(world, oidc)
    at_once = await visitor.get(f"/acme/sign_in?{urlencode(GUI)}")
    assert at_once.headers["location"] == f"/acme/sign_in/oidc/{oidc.id}?{urlencode(GUI)}"
    assert (await visitor.get("/acme/sign_in")).status_code == 200
    after_a_failure = await visitor.get(f"/acme/sign_in?{urlencode({**GUI, 'error': 'context'})}")
    assert after_a_failure.status_code == 200


async def test_no_link_puts_words_into_the_portals_mouth(visitor: httpx2.AsyncClient, world: World) -> None:
    page = (await visitor.get("/acme/sign_in?error=Call+0900+now")).text
    assert "0900" not in page
    assert 'role="alert"' not in page
    assert 'role="alert"' in (await visitor.get("/acme/sign_in?error=context")).text


async def test_a_form_from_elsewhere_is_refused(visitor: httpx2.AsyncClient, world: World) -> None:
    page = await visitor.get("/sign_in")
    fields = {"account_id_or_slug": "acme"}
    assert (await visitor.post("/sign_in", data=fields)).status_code == 403
    assert (await visitor.post("/sign_in", data={**fields, "csrf_token": "0" * 64})).status_code == 403
    visitor.headers["sec-fetch-site"] = "same-site"
    assert (await send_form(visitor, page, fields)).status_code == 403
    visitor.headers["sec-fetch-site"] = "same-origin"
    assert (await send_form(visitor, page, fields)).status_code == 303
    async with caller(world.portal) as other:
        await other.get("/sign_in")
        assert (await send_form(other, page, fields)).status_code == 403


@pytest.mark.parametrize(
    ("external_url", "is_told"),
    [("http://portal.example.org", True), ("https://portal.example.org", False), ("http://10.0.0.5", False)],
)
async def test_plain_http_on_a_public_address_is_told_on_every_page(external_url: str, is_told: bool) -> None:
    async with portal_running(PortalSettings(external_url=external_url)) as portal:
        world = await make_world(portal)
        async with caller(portal) as browser:
            pages = [await browser.get("/acme/sign_in"), await browser.get("/getting_started")]
            await browser.get(await sign_in_link(world))
            # Where cookies are secure, this browser, which comes by plain HTTP, does not send them.
            pages += [await browser.get("/acme")] if is_told else []
    assert {"reached by plain HTTP" in page.text for page in pages} == {is_told}


async def test_a_form_has_so_many_fields_of_such_a_length_and_no_files(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    page = await visitor.get("/sign_in")
    fields = {"account_id_or_slug": "acme"}
    for too_much in (
        {"data": {**fields, "more": "x" * (MAX_FORM_BYTES + 1)}},
        {"data": {**fields, **{f"more{number}": "x" for number in range(MAX_FIELDS)}}},
        {"data": fields, "files": {"more": ("logo.png", b"x")}},
    ):
        assert (await visitor.post("/sign_in", **too_much)).status_code == 400
        assert (await send_form(visitor, page, fields)).status_code == 303


async def test_one_address_sends_so_many_forms_and_others_are_not_kept_waiting(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    page = await visitor.get("/sign_in")
    for _ in range(20):
        assert (await send_form(visitor, page, {"account_id_or_slug": "acme"})).status_code == 303
    refused = await send_form(visitor, page, {"account_id_or_slug": "acme"})
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
