"""Every method of signing in, for every purpose, by everybody and with everything that can be wrong: the exact status,
where the browser is sent, and which cookies it gets.

The flaws of identity §18 that concern sign-in, and what holds them off besides this table:

    1   a provider's context is ignored    test_a_method_for_clients_only_does_not_lead_into_the_portal (e-mail),
                                           test_a_provider_for_clients_only_signs_nobody_in_to_the_portal (password)
    2   `iss` is not compared              test_a_token_of_another_issuer_proves_nothing,
                                           test_entra_knows_people_by_tenant_and_object_id
    3   passwords can be guessed, and the  test_guessing_ends_after_five_tries_also_for_addresses_that_nobody_has,
        role is told before the proof      test_the_role_is_looked_at_after_the_password
    10  methods are offered that will      test_only_methods_that_can_be_used_here_are_offered
        refuse
"""

import asyncio
import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import httpx2
import pyotp
import pytest

from support.identity_provider import CLIENT, ISSUER, SECRET, FakeProvider
from support.sign_in import (
    GUI,
    HEADLESS,
    PORTAL,
    STATE,
    Scene,
    ask_for_code,
    follow,
    on_virtual_time,
    send_form,
    store_provider,
)
from support.virtual_portal import VirtualClock
from wardgate.portal.people.tables import Actor
from wardgate.portal.provisioning import provision
from wardgate.portal.sealing import seal
from wardgate.portal.sign_in.hashing import hash_text
from wardgate.portal.sign_in.tables import (
    AuthProviderDetails,
    OidcAuthProvider,
    TotpAuthenticator,
    UserpassAuthProvider,
)

PASSWORD: Final = "correct horse battery"
FLOWS: Final = {"portal": PORTAL, "gui": GUI, "headless": HEADLESS}

SIGNED_IN = {"portal": "session", "gui": "handed", "headless": "token"}
CLIENTS_ONLY = {"portal": "needs-admin", "gui": "handed", "headless": "token"}
NOBODY = {
    "email": "422",  # there is no code: whatever is typed is wrong
    "password": "credentials",
    "oidc": "unknown-user",
    "second_factor": "credentials",
}

OUTCOMES: Final[dict[str, dict[str, Any]]] = {
    # method:           e-mail, password, identity provider, password and second factor
    "admin":            dict.fromkeys(("email", "password", "oidc", "second_factor"), SIGNED_IN),
    "user":             dict.fromkeys(("email", "password", "oidc", "second_factor"), CLIENTS_ONLY),
    "disabled":         NOBODY,
    "deleted":          NOBODY,
    "foreign":          NOBODY,
    "wrong":            {"email": "422", "password": "credentials", "oidc": "400", "second_factor": "422"},
    "expired":          {"email": "timed-out", "password": SIGNED_IN, "oidc": "400", "second_factor": "second-factor"},
    "replayed":         {"email": "422", "password": SIGNED_IN, "oidc": "400", "second_factor": "422"},
    "other_browser":    {"email": "timed-out", "password": SIGNED_IN, "oidc": "400", "second_factor": "second-factor"},
    "missing_cookie":   {"email": "403", "password": "403", "oidc": "400", "second_factor": "403"},
    "provider_disabled": dict.fromkeys(("email", "password", "oidc", "second_factor"), "method"),
}  # fmt: skip
"""By what is the matter, then by method: `session`, `handed` or `token`, a status, or the word of a failure."""


@dataclass(slots=True)
class Method(ABC):
    """One way of signing in: a first step, which leads to a page or an answer, and the proof."""

    name: ClassVar[str]
    scene: Scene
    flow: dict[str, str]
    provider: AuthProviderDetails = field(init=False)

    @abstractmethod
    async def begin(self, browser: httpx2.AsyncClient, email: str) -> httpx2.Response: ...

    @abstractmethod
    async def proof(self, email: str, *, is_wrong: bool = False) -> Any:
        """Return what proves it."""

    @abstractmethod
    async def complete(
        self, browser: httpx2.AsyncClient, begun: httpx2.Response, proof: Any, **form: str
    ) -> httpx2.Response:
        """Send the proof; `form` replaces the form's token."""

    @abstractmethod
    async def set_up(self) -> None:
        """Make the provider."""

    async def give(self, actor: Actor) -> None:
        """Give a person what they need for the method."""
        del actor


class Email(Method):
    name = "email"

    async def set_up(self) -> None:
        async with self.scene.world.portal.services.store.reading() as transaction:
            (self.provider,) = await transaction.of(
                self.scene.world.account_id
            ).email_otp_auth_providers.load_all()

    async def begin(self, browser: httpx2.AsyncClient, email: str) -> httpx2.Response:
        return await ask_for_code(browser, email, self.flow)

    async def proof(self, email: str, *, is_wrong: bool = False) -> str:
        # Nobody is sent a letter who may not sign in.
        await asyncio.sleep(1)
        taken = [one for one in self.scene.letterbox.taken if email in one.recipients]
        found = re.search(r"^  ([a-z0-9]{6})$", taken[-1].message.text, re.MULTILINE) if taken else None
        return "aaaaaa" if is_wrong or found is None else found[1]

    async def complete(
        self, browser: httpx2.AsyncClient, begun: httpx2.Response, proof: Any, **form: str
    ) -> httpx2.Response:
        return await send_form(browser, begun, {"secret": proof, **form})


class Password(Method):
    name = "password"

    async def set_up(self) -> None:
        new_id = self.scene.world.portal.services.environment.new_id
        self.provider = UserpassAuthProvider(id=new_id(), account_id=self.scene.world.account_id)
        await store_provider(self.scene.world, self.provider)

    async def begin(self, browser: httpx2.AsyncClient, email: str) -> httpx2.Response:
        return await browser.get("/acme/sign_in", params=self.flow)

    async def proof(self, email: str, *, is_wrong: bool = False) -> Any:
        return {"userpass[idp_id]": email, "userpass[secret]": "wrong horse" if is_wrong else PASSWORD}

    async def complete(
        self, browser: httpx2.AsyncClient, begun: httpx2.Response, proof: Any, **form: str
    ) -> httpx2.Response:
        return await send_form(browser, begun, {**proof, **form})


class SecondFactor(Password):
    name = "second_factor"

    async def give(self, actor: Actor) -> None:
        services = self.scene.world.portal.services
        async with services.store.writing() as transaction:
            id_, key = transaction.new_id(), services.keys.second_factors
            sealed = seal(key, SECRET_BYTES, owner=str(id_), random_bytes=transaction.random_bytes)
            await transaction.of(actor.account_id).totp_authenticators.insert(
                TotpAuthenticator(
                    id=id_,
                    account_id=actor.account_id,
                    actor_id=actor.id,
                    name="App",
                    sealed_secret=sealed,
                    last_step=0,
                )
            )

    async def begin(self, browser: httpx2.AsyncClient, email: str) -> httpx2.Response:
        page = await browser.get("/acme/sign_in", params=self.flow)
        given = await send_form(browser, page, {"userpass[idp_id]": email, "userpass[secret]": PASSWORD})
        return await follow(browser, given) if "second_factor" in given.headers.get("location", "") else given

    async def proof(self, email: str, *, is_wrong: bool = False) -> Any:
        code = pyotp.TOTP(base64.b32encode(SECRET_BYTES).decode()).at(VirtualClock().now())
        return {"code": "000000" if is_wrong else code}


class Oidc(Method):
    name = "oidc"

    async def set_up(self) -> None:
        new_id = self.scene.world.portal.services.environment.new_id
        self.provider = OidcAuthProvider(
            id=new_id(),
            account_id=self.scene.world.account_id,
            client_id=CLIENT,
            client_secret=SECRET,
            issuer=ISSUER,
            is_verified=True,
            discovery_document_uri=f"{ISSUER}/.well-known/openid-configuration",
        )
        await store_provider(self.scene.world, self.provider)

    async def begin(self, browser: httpx2.AsyncClient, email: str) -> httpx2.Response:
        IDP.changed = {"email": email, "sub": f"subject of {email}"}
        return await browser.get(f"/acme/sign_in/oidc/{self.provider.id}", params=self.flow)

    async def proof(self, email: str, *, is_wrong: bool = False) -> str:
        return "wrong" if is_wrong else ""

    async def complete(
        self, browser: httpx2.AsyncClient, begun: httpx2.Response, proof: Any, **_form: str
    ) -> httpx2.Response:
        query = IDP.authorize(begun.headers["location"])
        if proof:
            query = query.replace("state=", "state=x")
        return await browser.get(f"/auth/oidc/callback?{query}")


SECRET_BYTES: Final = b"12345678901234567890"
IDP: Final = FakeProvider()
IDP.now = lambda: VirtualClock().now().timestamp()


def matrix(method: type[Method], context: str) -> Callable[[], None]:
    async def play(scene: Scene) -> None:
        at = method(scene, FLOWS[context])
        await at.set_up()
        for case, expected in OUTCOMES.items():
            outcome = expected[method.name]
            wanted = outcome[context] if isinstance(outcome, dict) else outcome
            answer = await play_case(at, case)
            assert told(answer, context) == wanted, f"{case}: {answer.status_code} {answer.headers}"
            check_cookies(answer, wanted)
            await asyncio.sleep(30)  # so many forms of one address a minute

    return on_virtual_time(play, outbound=IDP.outbound)


async def play_case(at: Method, case: str) -> httpx2.Response:
    email = f"{case}@people.example"
    actor = await make_person(at.scene, email, case)
    if actor is not None:
        await at.give(actor)
    async with at.scene.another_browser() as browser, at.scene.another_browser() as other:
        begun = await at.begin(browser, email)
        if "location" in begun.headers and "error=" in begun.headers["location"]:
            return begun
        proof = await at.proof(email, is_wrong=case == "wrong")
        form: dict[str, str] = {}
        match case:
            case "provider_disabled":
                await store_provider(at.scene.world, replace(at.provider, is_disabled=True))
            case "expired":
                await asyncio.sleep(1000)
                proof = await at.proof(email)
            case "replayed":
                cookies = dict(browser.cookies)
                await at.complete(browser, begun, proof)
                await asyncio.sleep(1)
                browser.cookies.clear()  # a session that there is now would lead to the portal
                if at.name == "second_factor":
                    begun = await at.begin(browser, email)
                else:
                    browser.cookies.update(cookies)
            case "other_browser":
                page = await other.get("/acme/sign_in")
                token = re.search(r'name="csrf_token" value="([^"]*)"', page.text)
                assert token is not None
                browser, form = other, {"csrf_token": token[1]}
            case "missing_cookie":
                browser = other
        return await at.complete(browser, begun, proof, **form)


async def make_person(scene: Scene, email: str, case: str) -> Actor | None:
    """Make who is to sign in: an administrator, unless the case says otherwise."""
    store = scene.world.portal.services.store
    async with store.writing() as transaction:
        account_id = scene.world.account_id
        if case == "foreign":
            account_id = (
                await provision(transaction, name="Other", slug="other", admin_email="root@other.example")
            ).account.id
        tables = transaction.of(account_id)
        actor = await tables.actors.insert(
            Actor(
                id=transaction.new_id(),
                account_id=account_id,
                type="account_user" if case == "user" else "account_admin_user",
                name=case,
                email=email,
                password_hash=HASH,
                allow_email_otp_sign_in=True,
                is_disabled=case == "disabled",
            )
        )
        if case == "deleted":
            await tables.actors.delete(actor.id)
            return None
    return actor


HASH: Final = hash_text(PASSWORD, salt=b"s" * 16)


def told(answer: httpx2.Response, context: str) -> str:
    """Say what became of a sign-in; a failure by its word, if it is told where it should be."""
    location = answer.headers.get("location", "")
    if answer.status_code == 303 and location == "/acme":
        return "session"
    if answer.status_code == 303:
        page = "/acme/sign_in" if context == "portal" else "/acme/sign_in/client_auth_error"
        found = re.search(r"[?&]error=([a-z-]+)", location)
        assert found is not None, location
        assert location.split("?")[0] == page
        assert context != "gui" or f"state={STATE}" in location, "the way back carries the flow"
        return found[1]
    if answer.status_code == 200:
        return "handed" if "client_redirect" in answer.text else "token"
    return str(answer.status_code)


def check_cookies(answer: httpx2.Response, outcome: str) -> None:
    """Check that a session, and what a client is handed, are there exactly if they should be; and how they are kept."""
    set_ = {
        cookie.split("=")[0].split("_")[0]: cookie
        for cookie in answer.headers.get_list("set-cookie")
        if "Max-Age=0" not in cookie
    }
    assert ("sess" in set_) == (outcome == "session")
    assert ("client" in set_) == (outcome == "handed")
    for cookie in set_.values():
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie


test_email_portal = matrix(Email, "portal")
test_email_gui_client = matrix(Email, "gui")
test_email_headless_client = matrix(Email, "headless")
test_password_portal = matrix(Password, "portal")
test_password_gui_client = matrix(Password, "gui")
test_password_headless_client = matrix(Password, "headless")
test_identity_provider_portal = matrix(Oidc, "portal")
test_identity_provider_gui_client = matrix(Oidc, "gui")
test_identity_provider_headless_client = matrix(Oidc, "headless")
test_second_factor_portal = matrix(SecondFactor, "portal")
test_second_factor_gui_client = matrix(SecondFactor, "gui")
test_second_factor_headless_client = matrix(SecondFactor, "headless")


def test_the_table_is_complete() -> None:
    methods = {one.name for one in (Email, Password, Oidc, SecondFactor)}
    assert all(set(outcomes) == methods for outcomes in OUTCOMES.values())


pytestmark = pytest.mark.timeout(120)
