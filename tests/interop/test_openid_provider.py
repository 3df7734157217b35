"""Sign-in with a real OpenID provider (`oidc-provider` on Node), over TLS with an authority of its own, as a product's
operator would set it up: its network and its authority are named in the settings.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey

from support.browser import caller
from support.certificates import write_certificate
from support.free_port import free_port
from support.patience import PATIENCE_S
from support.portal import HeldClock, World, make_world, portal_running
from wardgate.portal.app import Portal
from wardgate.portal.bus.encoding_bus import EncodingBus
from wardgate.portal.environment import Environment
from wardgate.portal.outbound.client import GuardedClient
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.oidc.discovery import COOL_DOWN_S, FAILURE_LIFETIME_S, LIFETIME_S

SOURCES = Path(__file__).with_name("openid_provider")
CACHE = Path(__file__).parents[2] / ".cache" / "openid-provider"
"""Where the provider's packages stay: none of what they need gets into the project's environment."""

CLIENT = "wardgate"
SECRET = "s3cret+/="
PORTAL = "https://portal.example"
ADMIN = "ada"

pytestmark = pytest.mark.timeout(300)  # the first run fetches the provider


@pytest.fixture(scope="session")
def node() -> str:
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        pytest.skip("no Node on this machine")
    return found


@pytest.fixture(scope="session")
def installed(node: str) -> Path:
    """The provider with what it needs, as the lock says."""
    lock = (SOURCES / "package-lock.json").read_text()
    if not (CACHE / "complete").exists() or (CACHE / "complete").read_text() != lock:
        CACHE.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, CACHE / name)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=CACHE, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        (CACHE / "complete").write_text(lock)
    shutil.copy(SOURCES / "provider.mjs", CACHE / "provider.mjs")
    return CACHE


def new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)


@dataclass(slots=True)
class RealProvider:
    """The provider's process; it may be stopped, and started again as another."""

    node: str
    place: Path
    folder: Path
    port: int = field(default_factory=free_port)
    skew_s: float = 0.0
    key: RSAKey = field(
        default_factory=lambda: RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
    )
    client: dict[str, Any] = field(default_factory=dict)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    async def start(self) -> None:
        options = {
            "issuer": self.issuer,
            "port": self.port,
            "certificate": str(self.ca_file),
            "key": str(self.folder / "key.pem"),
            "jwks": {"keys": [self.key.as_dict(private=True)]},
            "skewMs": self.skew_s * 1000,
            "clients": [
                {
                    "client_id": CLIENT,
                    "client_secret": SECRET,
                    "redirect_uris": [f"{PORTAL}/auth/oidc/callback"],
                    **self.client,
                }
            ],
            "people": {
                ADMIN: {"email": "ada@example.org", "email_verified": True, "name": "Ada", "groups": ["dev"]},
                **self.people,
            },
        }
        self.process = await asyncio.create_subprocess_exec(
            self.node, self.place / "provider.mjs", json.dumps(options),
            cwd=self.place, env={**os.environ, "NODE_NO_WARNINGS": "1"}, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while (line := await self.process.stdout.readline()).strip() != b"ready":
                assert line, "the provider ended"

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await self.process.wait()
            self.process = None

    async def begin_again(self, **changed: Any) -> None:
        """Stop it and start it with something changed."""
        await self.stop()
        for name, value in changed.items():
            setattr(self, name, value)
        await self.start()


@pytest.fixture
async def idp(node: str, installed: Path, tmp_path: Path) -> AsyncIterator[RealProvider]:
    write_certificate(tmp_path / "ca.pem", tmp_path / "key.pem", name="localhost")
    provider = RealProvider(node, installed, tmp_path)
    await provider.start()
    yield provider
    await provider.stop()


@dataclass(slots=True)
class Office:
    """An account with the provider, verified and enabled by a trial."""

    world: World
    idp: RealProvider
    operator: httpx2.AsyncClient
    clock: HeldClock
    path: str = ""

    @property
    def portal(self) -> Portal:
        return self.world.portal

    @contextlib.asynccontextmanager
    async def browser(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A browser that reaches the portal and the provider."""
        context = ssl.create_default_context(cafile=str(self.idp.ca_file))
        mounts = {
            PORTAL: httpx2.ASGITransport(app=self.portal, client=("192.0.2.9", 40000)),
            "https://localhost": httpx2.AsyncHTTPTransport(verify=context),
        }
        async with httpx2.AsyncClient(mounts=mounts, timeout=PATIENCE_S) as client:
            yield client

    async def sign_in(
        self, browser: httpx2.AsyncClient, start: str, *, person: str = ADMIN, until: str = ""
    ) -> httpx2.Response:
        """Follow redirects and fill in the provider's forms until the portal answers, or is about to be asked for
        `until`.
        """
        url, answer = start, await browser.get(start)
        for _ in range(20):
            location = answer.headers.get("location")
            if location is not None:
                url = urljoin(url, location)
                if until and urlsplit(url).path == until:
                    return answer
                answer = await browser.get(url)
                continue
            action = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
            if urlsplit(url).hostname != "localhost" or action is None:
                return answer
            form = {"prompt": "login", "login": person, "password": "x"}
            if 'name="login"' not in answer.text:
                form = {"prompt": "consent"}
            url = urljoin(url, action[1])
            answer = await browser.post(url, data=form)
        raise AssertionError("the provider asks again and again")

    @property
    def start(self) -> str:
        return f"{PORTAL}/acme/sign_in/oidc/{self.path.rpartition('/')[2]}"

    async def make_provider(self, **fields: Any) -> None:
        place = f"/wardgate/accounts/{self.world.account_id}/oidc_auth_providers"
        given = {
            "name": "Node",
            "client_id": CLIENT,
            "client_secret": SECRET,
            "discovery_document_uri": f"{self.idp.issuer}/.well-known/openid-configuration",
            **fields,
        }
        answer = await self.operator.post(place, json={"oidc_auth_provider": given})
        assert answer.status_code == 201, answer.text
        self.path = f"{place}/{answer.json()['data']['id']}"

    async def verify(self, **tried: str) -> httpx2.Response:
        answer = await self.operator.post(
            f"{self.path}/verification", json={"oidc_auth_provider": tried} if tried else None
        )
        async with self.browser() as browser:
            return await self.sign_in(browser, answer.json()["data"]["url"])

    async def enable(self) -> None:
        answer = await self.operator.patch(self.path, json={"oidc_auth_provider": {"is_disabled": False}})
        assert answer.status_code == 200, answer.text


@contextlib.asynccontextmanager
async def office_of(idp: RealProvider, settings: PortalSettings) -> AsyncIterator[Office]:
    outbound = GuardedClient(settings.reachable_addresses, ca_file=settings.outbound_ca)
    clock = HeldClock()
    environment = replace(Environment.of_this_process(outbound=outbound), clock=clock, bus=EncodingBus())
    async with portal_running(settings, environment) as portal:
        world = await make_world(portal)
        async with portal.services.store.writing() as transaction:
            actors = transaction.of(world.account_id).actors
            await actors.save(replace(world.actor, type="account_admin_user"))
        async with caller(portal, world.operator_token) as operator:
            yield Office(world, idp, operator, clock)


def settings_for(idp: RealProvider) -> PortalSettings:
    return PortalSettings(
        external_url=PORTAL,
        outbound_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        outbound_ca=idp.ca_file,
    )


@pytest.fixture
async def office(idp: RealProvider) -> AsyncIterator[Office]:
    async with office_of(idp, settings_for(idp)) as office:
        await office.make_provider()
        assert (await office.verify()).status_code == 200
        await office.enable()
        yield office


def told(answer: httpx2.Response) -> str:
    """Return what a page says of a failure."""
    found = re.search(r'role="alert"[^>]*>(.*?)</', answer.text, re.DOTALL)
    assert found is not None, answer.text
    return found[1]


async def test_signs_in_through_a_trial_and_then_for_good(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start)
        assert answer.status_code == 200, answer.text
        assert str(answer.url) == f"{PORTAL}/acme"
    async with office.portal.services.store.reading() as transaction:
        (identity,) = await transaction.of(office.world.account_id).external_identities.load_all()
    assert (identity.issuer, identity.idp_id, identity.name) == (office.idp.issuer, ADMIN, "Ada")


async def test_a_trial_finds_a_wrong_secret(idp: RealProvider) -> None:
    async with office_of(idp, settings_for(idp)) as office:
        await office.make_provider(client_secret="wrong")
        answer = await office.verify()
        assert answer.status_code == 422
        assert "client id or secret" in told(answer)
        assert (await office.verify(client_secret=SECRET)).status_code == 200


async def test_without_the_setting_a_provider_on_loopback_is_out_of_reach(idp: RealProvider) -> None:
    settings = replace(settings_for(idp), outbound_networks=(ip_network("10.0.0.0/8"),))
    async with office_of(idp, settings) as office:
        await office.make_provider()
        assert "private address" in told(await office.verify())


async def test_without_its_authority_it_is_not_trusted(idp: RealProvider) -> None:
    async with office_of(idp, replace(settings_for(idp), outbound_ca=None)) as office:
        await office.make_provider()
        assert "certificate is not trusted" in told(await office.verify())


async def test_keys_that_were_rotated_are_found(office: Office) -> None:
    # The trial fetched the old keys just now: they are not asked for again for half a minute.
    office.clock.at_s += COOL_DOWN_S
    await office.idp.begin_again(key=new_key())
    async with office.browser() as browser:
        assert str((await office.sign_in(browser, office.start)).url) == f"{PORTAL}/acme"


@pytest.mark.parametrize(("skew_s", "is_accepted"), [(20, True), (120, False), (-120, False)])
async def test_a_providers_clock_may_be_wrong_by_half_a_minute(
    office: Office, skew_s: float, is_accepted: bool
) -> None:
    await office.idp.begin_again(skew_s=skew_s)
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start)
    assert (str(answer.url) == f"{PORTAL}/acme") is is_accepted
    if not is_accepted:
        assert "clock" in told(answer)


async def test_a_replayed_callback_is_refused(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, until="/auth/oidc/callback")
        callback = answer.headers["location"]
        assert (await browser.get(callback)).status_code == 303
        assert (await browser.get(callback)).status_code == 400
        async with office.browser() as other:
            assert (await other.get(callback)).status_code == 400


async def test_the_provider_names_itself_and_a_mixed_up_answer_is_refused(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, until="/auth/oidc/callback")
        callback = answer.headers["location"]
        assert "iss=" in callback
        stripped = re.sub(r"&?iss=[^&]*", "", callback)
        page = await browser.get(stripped, follow_redirects=True)
    assert "another identity provider" in told(page)


async def test_a_code_that_was_asked_for_without_our_challenge_is_worth_nothing(office: Office) -> None:
    """PKCE downgrade: somebody in the middle replaces the challenge; the provider refuses our verifier."""
    async with office.browser() as browser:
        sent = (await browser.get(office.start)).headers["location"]
        downgraded = re.sub(r"code_challenge=[^&]*", "code_challenge=" + "A" * 43, sent)
        answer = await office.sign_in(browser, downgraded)
    assert "expired or was used already" in told(answer)


async def test_a_provider_that_is_down_is_told_at_every_step(office: Office) -> None:
    async with office.browser() as browser:
        answer = await office.sign_in(browser, office.start, until="/auth/oidc/callback")
        await office.idp.stop()
        page = await browser.get(answer.headers["location"], follow_redirects=True)
        assert "refuses the connection" in told(page)
    office.clock.at_s += LIFETIME_S
    async with office.browser() as browser:
        page = await browser.get(office.start, follow_redirects=True)
        assert "refuses the connection" in told(page)
    await office.idp.start()
    office.clock.at_s += FAILURE_LIFETIME_S
    async with office.browser() as browser:
        assert str((await office.sign_in(browser, office.start)).url) == f"{PORTAL}/acme"


async def test_somebody_unknown_and_somebody_unverified_get_nothing(office: Office) -> None:
    await office.idp.begin_again(
        people={
            "eve": {"email": "eve@example.org", "email_verified": True, "name": "Eve"},
            "mallory": {"email": "ada@example.org", "email_verified": False, "name": "Mallory"},
        }
    )
    for person, expected in (("eve", "Nobody with this identity"), ("mallory", "not verified your e-mail")):
        async with office.browser() as browser:
            assert expected in told(await office.sign_in(browser, office.start, person=person))
