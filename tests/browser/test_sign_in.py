"""Signing in with a real browser: each page of it in each theme and width, passkeys by Chromium's virtual
authenticator, and everything that is typed without a script.
"""

import asyncio
import re
from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyotp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, CDPSession, Page, expect

from browser.conftest import THEMES, Served, Tab, flaws_of, open_context, open_tab
from support.node_provider import NodeProvider, find_node
from support.patience import PATIENCE_S
from support.provider_office import ADMIN, CLIENT, SECRET
from wardgate.portal.account_config import AccountConfig, SecondFactorFor
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.hashing import hash_text
from wardgate.portal.sign_in.sign_up import Wanted, make_link
from wardgate.portal.sign_in.tables import OidcAuthProvider, UserpassAuthProvider

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "correct horse battery"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest_asyncio.fixture(loop_scope="session")
async def passwords(served: Served) -> None:
    """Let people sign in by password."""
    async with served.world.portal.services.store.writing() as transaction:
        tables = transaction.of(served.world.account_id)
        if await tables.userpass_auth_providers.load_all():
            return
        new_id, account_id = transaction.new_id, served.world.account_id
        await tables.userpass_auth_providers.insert(UserpassAuthProvider(id=new_id(), account_id=account_id))
        await tables.oidc_auth_providers.insert(
            OidcAuthProvider(
                id=new_id(),
                account_id=account_id,
                issuer="https://idp.example",
                client_id="another",
                client_secret="s",
                discovery_document_uri="https://idp.example/.well-known/openid-configuration",
                is_verified=True,
            )
        )


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(chromium: Browser, served: Served) -> Any:
    """A tab of a browser that is not signed in."""
    context = await new_context(chromium)
    yield await open_tab(context, served)
    await context.close()


@pytest.mark.parametrize("theme", THEMES)
async def test_a_page_of_the_sign_in_is_whole_and_open_to_everybody(
    chromium: Browser, served: Served, passwords: None, theme: str, pictures: Path
) -> None:
    context = await new_context(chromium, theme=theme)
    tab = await open_tab(context, served)
    email = await new_admin(served, f"look-{theme}")
    wrong: list[str] = []
    for path in (
        "/getting_started",
        "/sign_in",
        "/find_account",
        "/sign_up",
        "/verify_sign_up?token=ended",
        "/acme/sign_in",
        "/acme/sign_in?error=credentials",
        "/acme/sign_in/client_auth_error?error=timed-out",
        "/acme/sign_in/client_account_disabled",
        "/acme/sign_in/link/used",
        "/acme/sign_in/password/used",
        "/acme/nothing",
    ):
        await tab.go(path)
        # Chromium logs each answer that is no success; here some are none.
        tab.errors[:] = [one for one in tab.errors if "responded with a status of 4" not in one]
        wrong += await flaws_of(tab, name_of(path), theme, pictures)
    await tab.go("/sign_up")
    await tab.page.get_by_label("Work e-mail address").fill(f"{theme}@new.example")
    await tab.page.get_by_label("Organisation").fill("New")
    await tab.page.get_by_label("Your name").fill("Grace Hopper")
    await tab.page.get_by_role("button", name="Write to me").click()
    await tab.wait_for("Its link works for 24 hours")
    wrong += await flaws_of(tab, "sign-up-sent", theme, pictures)
    await tab.go(f"/verify_sign_up?token={sign_up_link(served, f'{theme}@new.example')}")
    wrong += await flaws_of(tab, "sign-up-confirm", theme, pictures)
    await tab.page.get_by_role("button", name="Make the account").click()
    await tab.wait_for("You are its administrator")
    wrong += await flaws_of(tab, "sign-up-done", theme, pictures)
    await tab.go("/acme/sign_in")
    await tab.page.fill('[name="email[email]"]', "nobody@acme.example")
    await tab.page.get_by_role("button", name="Send me a code").click()
    await tab.wait_for("Check your mail")
    wrong += await flaws_of(tab, "email-code", theme, pictures)
    await require(served, "everybody")
    try:
        await give_password(tab.page, served, email)
        await tab.wait_for("Set up a second step")
        wrong += await flaws_of(tab, "second-factor-setup", theme, pictures)
        app = await app_of(tab.page)
        await tab.page.get_by_label("Code that the app shows").fill(app.now())
        await tab.page.get_by_role("button", name="Set up the app").click()
        await tab.wait_for("Keep your recovery codes")
        wrong += await flaws_of(tab, "recovery-codes", theme, pictures)
        await tab.page.get_by_role("button", name="I have kept them").click()
        await tab.page.wait_for_url("**/acme")
        await tab.go("/acme/profile")
        wrong += await flaws_of(tab, "profile-with-factor", theme, pictures)
        await tab.page.get_by_role("button", name="Add a second factor").click()
        await tab.wait_for("Show your second factor")
        wrong += await flaws_of(tab, "confirm-second-factor", theme, pictures)
        await context.clear_cookies()
        await give_password(tab.page, served, email)
        await tab.wait_for("Second step")
        wrong += await flaws_of(tab, "second-factor", theme, pictures)
    finally:
        await require(served, "nobody")
        await context.close()
    assert not wrong, "\n".join(dict.fromkeys(wrong))


async def test_a_code_from_the_mailbox_signs_in(stranger: Tab, served: Served) -> None:
    page, email = stranger.page, await new_admin(served, "mailbox", allow_email_otp_sign_in=True)
    await stranger.go("/acme/sign_in")
    await page.fill('[name="email[email]"]', email)
    await page.get_by_role("button", name="Send me a code").click()
    await stranger.wait_for("Check your mail")
    letter = await letter_to(served, email)
    await page.get_by_label("Code").fill("wrong1")
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await expect(page.locator("#secret-error")).to_contain_text("This code is wrong, or has ended")
    # The letter's link fills the code in and does no more.
    link = re.search(rf"{served.url}/\S+secret=([a-z0-9]{{6}})", letter)
    assert link is not None
    await page.goto(link[0])
    await expect(page.get_by_label("Code")).to_have_value(link[1])
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url("**/acme")
    assert await stranger.complaints() == []


async def test_an_identity_provider_is_set_up_tried_and_hands_a_client_its_token(
    chromium: Browser, signed_in: Any, served: Served, passwords: None
) -> None:
    idp = NodeProvider.installed(find_node(), served.idp_folder)
    idp.client = {"redirect_uris": [f"{served.url}/auth/oidc/callback"]}
    await idp.start()
    admin = await new_context(chromium, storage_state=signed_in, ignore_https_errors=True)
    person = await new_context(chromium, ignore_https_errors=True)
    try:
        await set_up_provider(await open_tab(admin, served), idp)
        tab = await open_tab(person, served)
        await tab.go("/acme?as=gui-client&state=" + "5a" * 32 + "&nonce=" + "0c" * 32)
        async with tab.page.expect_response("**/acme/sign_in/client_redirect") as handed:
            await tab.page.get_by_role("link", name="Continue with Company sign-in").click()
            await sign_in_there(tab.page)
        url = urlsplit((await handed.value).headers["location"])
        assert f"{url.scheme}://{url.netloc}" == "firezone-fd0020211111://handle_client_sign_in_callback"
        query = dict(parse_qsl(url.query))
        fragment = query.pop("fragment")
        assert query == {
            "account_name": "acme",
            "account_slug": "acme",
            "actor_name": "Ada",
            "identity_provider_identifier": "ada@example.org",
            "state": "5a" * 32,
        }
        await tab.wait_for("your client takes over from here")
        async with served.world.client(token="0c" * 32 + fragment, external_id="laptop") as client:
            await client.join()
    finally:
        await idp.stop()
        await admin.close()
        await person.close()


async def test_a_passkey_is_set_up_and_signs_in_with_user_verification(
    stranger: Tab, served: Served, passwords: None
) -> None:
    email, page = await new_admin(served, "passkey"), stranger.page
    cdp, authenticator = await add_authenticator(page)
    await give_password(page, served, email)
    await page.wait_for_url("**/acme")
    await stranger.go("/acme/profile")
    await page.get_by_role("button", name="Add a second factor").click()
    await page.locator("#passkey-name").fill("Laptop")
    await page.get_by_role("button", name="Set up a passkey").click()
    await stranger.wait_for("Keep your recovery codes")
    codes = await page.locator("#recovery-codes li").all_inner_texts()
    await page.get_by_role("link", name="I have kept them").click()
    await expect(page.locator("#factor-list")).to_contain_text("Laptop")

    await page.context.clear_cookies()
    await give_password(page, served, email)
    await page.get_by_role("button", name="Use a passkey").click()
    await page.wait_for_url("**/acme")
    (stored,) = await passkeys_of(served, email)
    assert stored.sign_count > 0
    assert stored.last_used_at is not None

    # Without the fingerprint or PIN a passkey is worth nothing.
    await page.context.clear_cookies()
    await cdp.send("WebAuthn.setUserVerified", {"authenticatorId": authenticator, "isUserVerified": False})
    await give_password(page, served, email)
    await page.get_by_role("button", name="Use a passkey").click()
    await expect(page.get_by_role("alert")).to_contain_text("No passkey was used")
    await page.get_by_label("Recovery code").fill(codes[0])
    await page.get_by_role("button", name="Continue").click()
    await page.wait_for_url("**/acme")
    assert await stranger.complaints() == []


async def test_a_passkeys_answer_is_worth_nothing_a_second_time(
    stranger: Tab, served: Served, passwords: None
) -> None:
    email, page = await new_admin(served, "replay"), stranger.page
    await add_authenticator(page)
    await require(served, "admins")
    try:
        await give_password(page, served, email)
        await page.get_by_role("button", name="Set up a passkey").click()
        await stranger.wait_for("Keep your recovery codes")
        await page.get_by_role("button", name="I have kept them").click()
        await page.wait_for_url("**/acme")
    finally:
        await require(served, "nobody")
    await page.context.clear_cookies()
    await give_password(page, served, email)
    async with page.expect_request(lambda one: one.method == "POST" and "second_factor" in one.url) as sent:
        await page.get_by_role("button", name="Use a passkey").click()
    await page.wait_for_url("**/acme")
    body = (await sent.value).post_data
    assert body is not None
    credential = dict(part.split("=", 1) for part in body.split("&"))["credential"]
    # The same signature in a sign-in of its own: another challenge.
    await page.context.clear_cookies()
    await give_password(page, served, email)
    await page.evaluate(
        """credential => {
          const form = document.querySelector("[data-passkey]");
          form.elements.credential.value = decodeURIComponent(credential);
          form.submit();
        }""",
        credential,
    )
    await expect(page.get_by_role("alert").first).to_contain_text("This passkey was not accepted")
    await stranger.go("/acme")
    assert "/sign_in" in page.url


async def test_a_passkey_made_elsewhere_proves_nothing(
    stranger: Tab, served: Served, passwords: None
) -> None:
    """Another person's passkey, with everything else right."""
    mine, theirs = await new_admin(served, "mine"), await new_admin(served, "theirs")
    page = stranger.page
    await add_authenticator(page)
    await require(served, "admins")
    try:
        for email in (mine, theirs):
            await page.context.clear_cookies()
            await give_password(page, served, email)
            await page.get_by_role("button", name="Set up a passkey").click()
            await stranger.wait_for("Keep your recovery codes")
    finally:
        await require(served, "nobody")
    (key,) = await passkeys_of(served, mine)
    await page.context.clear_cookies()
    await give_password(page, served, theirs)
    await page.evaluate(
        """id => {
          const form = document.querySelector("[data-passkey]");
          const options = JSON.parse(form.dataset.options);
          options.allowCredentials = [{type: "public-key", id}];
          form.dataset.options = JSON.stringify(options);
        }""",
        key.credential_id,
    )
    await page.get_by_role("button", name="Use a passkey").click()
    await expect(page.get_by_role("alert").first).to_contain_text("This passkey was not accepted")


async def test_signing_in_with_an_app_needs_no_script(
    chromium: Browser, served: Served, passwords: None
) -> None:
    context = await new_context(chromium, java_script_enabled=False)
    page = await context.new_page()
    email = await new_admin(served, "scriptless")
    await require(served, "admins")
    try:
        await give_password(page, served, email)
        await expect(page.get_by_role("button", name="Set up a passkey")).to_be_hidden()
        await expect(page.get_by_text("A passkey needs JavaScript")).to_be_visible()
        app = await app_of(page)
        await page.get_by_label("Code that the app shows").fill(app.now())
        await page.get_by_role("button", name="Set up the app").click()
        code = await page.locator("#recovery-codes li").first.inner_text()
        await page.get_by_role("button", name="I have kept them").click()
        await page.wait_for_url("**/acme")
        await context.clear_cookies()
        await give_password(page, served, email)
        await page.get_by_label("Code").fill(code)
        await page.get_by_role("button", name="Continue").click()
        await page.wait_for_url("**/acme")
        await page.goto(f"{served.url}/acme/profile")
        await expect(page.get_by_text("9 of your recovery codes are left")).to_be_visible()
    finally:
        await require(served, "nobody")
        await context.close()


async def new_context(chromium: Browser, *, theme: str = "light", **options: Any) -> BrowserContext:
    context = await open_context(chromium, viewport={"width": 390, "height": 844}, **options)
    await context.add_init_script(
        f"localStorage.setItem('theme', '{theme}'); window.violations = [];"
        "document.addEventListener('securitypolicyviolation', event =>"
        " window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));"
    )
    return context


async def add_authenticator(page: Page) -> tuple[CDPSession, str]:
    """Plug a virtual authenticator into the tab."""
    cdp = await page.context.new_cdp_session(page)
    await cdp.send("WebAuthn.enable", {"enableUI": False})
    added = await cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    return cdp, added["authenticatorId"]


async def give_password(page: Page, served: Served, email: str) -> None:
    await page.goto(f"{served.url}/acme/sign_in")
    await page.fill('[name="userpass[idp_id]"]', email)
    await page.fill('[name="userpass[secret]"]', PASSWORD)
    await page.locator('form[action*="userpass"] button').click()


async def set_up_provider(tab: Tab, idp: NodeProvider) -> None:
    """Make the provider, try it and enable it, as docs/sign-in/openid-connect.md tells."""
    page = tab.page
    await tab.go("/acme/settings/authentication/new")
    await page.get_by_label("Name", exact=True).fill("Company sign-in")
    await page.get_by_label("Client ID").fill(CLIENT)
    await page.get_by_label("Client secret").fill(SECRET)
    await page.get_by_label("Discovery document").fill(f"{idp.issuer}/.well-known/openid-configuration")
    await page.locator("#form").get_by_role("button").last.click()
    await page.get_by_role("link", name="Trial").click()
    await page.get_by_role("link", name="Try it").click()
    await page.get_by_role("button", name="Begin the trial").click()
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Sign in at the provider").click()
    trial = await opened.value
    await sign_in_there(trial)
    await trial.get_by_text("The trial sign-in has succeeded").wait_for()
    # A tab behind another is painted seldom, and Playwright clicks on what is painted.
    await trial.close()
    await page.bring_to_front()
    await page.get_by_role("link", name="go back to the provider").click()
    await page.locator("summary", has_text="Enable").click()
    await page.get_by_role("button", name="Enable").click()
    await tab.wait_for("People can sign in with")


async def sign_in_there(page: Page) -> None:
    """Fill in the forms of `oidc-provider`."""
    await page.locator('[name="login"]').fill(ADMIN)
    await page.locator('[name="password"]').fill("x")
    await page.get_by_role("button", name="Sign-in").click()
    await page.get_by_role("button", name="Continue").click()


async def letter_to(served: Served, email: str) -> str:
    """Return the text of the first letter to an address that comes."""
    arrived = asyncio.Event()
    served.sink.on_message = arrived.set
    async with asyncio.timeout(4 * PATIENCE_S):
        while True:
            for envelope in served.sink.taken:
                if envelope.rcpt_tos == [email]:
                    assert isinstance(envelope.content, bytes)
                    text = message_from_bytes(envelope.content, policy=default).get_body(("plain",))
                    assert text is not None
                    content: str = text.get_content()
                    return content
            await arrived.wait()
            arrived.clear()


def sign_up_link(served: Served, email: str) -> str:
    """Return what the letter to this address would bring."""
    services = served.world.portal.services
    wanted = Wanted(email, "A society of considerable length", "Grace Hopper")
    return make_link(wanted, now=services.environment.clock.now(), keys=services.keys)


async def app_of(page: Page) -> pyotp.TOTP:
    """Return the authenticator app into which the key of the page was typed."""
    return pyotp.TOTP((await page.get_by_label("Key for the app").inner_text()).replace(" ", ""))


async def new_admin(served: Served, name: str, **more: Any) -> str:
    """Make an administrator with a password; returns the address."""
    email = f"{name}@acme.example"
    async with served.world.portal.services.store.writing() as transaction:
        await transaction.of(served.world.account_id).actors.insert(
            Actor(
                id=transaction.new_id(),
                account_id=served.world.account_id,
                type="account_admin_user",
                name=name.capitalize(),
                email=email,
                password_hash=hash_text(PASSWORD, salt=b"s" * 16),
                **more,
            )
        )
    return email


async def passkeys_of(served: Served, email: str) -> list[Any]:
    async with served.world.portal.services.store.reading() as transaction:
        tables = transaction.of(served.world.account_id)
        actor = await tables.actors.find(tables.actors.c.email == email)
        assert actor is not None
        return await tables.passkeys.load_all(tables.passkeys.c.actor_id == actor.id)


async def require(served: Served, whom: SecondFactorFor) -> None:
    async with served.world.portal.services.store.writing() as transaction:
        account = await transaction.accounts.load(served.world.account_id)
        assert account is not None
        config = replace(AccountConfig.parse(account.config), second_factor_for=whom)
        await transaction.accounts.save(replace(account, config=config.within(account.config)))


def name_of(path: str) -> str:
    return "sign-in-" + re.sub(r"[^a-z_]+", "-", path.strip("/"))
