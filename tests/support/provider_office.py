"""An account that signs in with a provider which a test runs on loopback, over TLS with an authority of its own, as an
operator would set it up: its network and its authority are named in the settings.
"""

import contextlib
import html
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import httpx2

from support.browser import caller
from support.patience import PATIENCE_S
from support.portal import HeldClock, World, make_world, portal_running
from wardgate.portal.app import Portal
from wardgate.portal.bus.encoding_bus import EncodingBus
from wardgate.portal.environment import Environment
from wardgate.portal.outbound.client import GuardedClient
from wardgate.portal.settings import PortalSettings

CLIENT = "wardgate"
SECRET = "s3cret+/="
PORTAL = "https://portal.example"
CALLBACK = f"{PORTAL}/auth/oidc/callback"
ADMIN = "ada"


class ForeignProvider(Protocol):
    """A provider on `localhost`."""

    @property
    def issuer(self) -> str: ...

    @property
    def ca_file(self) -> Path:
        """The authority that signed its certificate."""

    def form_of(self, page: str, person: str) -> dict[str, str]:
        """Return what a person types into the form of one of its pages."""


@dataclass(slots=True)
class Office:
    """An account with the provider, verified and enabled by a trial."""

    world: World
    idp: ForeignProvider
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
        async with httpx2.AsyncClient(mounts=mounts, base_url=PORTAL, timeout=PATIENCE_S) as client:
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
            url = urljoin(url, html.unescape(action[1]))
            answer = await browser.post(url, data=self.idp.form_of(answer.text, person))
        raise AssertionError("the provider asks again and again")

    @property
    def start(self) -> str:
        return f"{PORTAL}/acme/sign_in/oidc/{self.path.rpartition('/')[2]}"

    async def make_provider(self, **fields: Any) -> None:
        place = f"/wardgate/accounts/{self.world.account_id}/oidc_auth_providers"
        given = {
            "name": "Foreign",
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
async def office_of(idp: ForeignProvider, settings: PortalSettings) -> AsyncIterator[Office]:
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


def settings_for(idp: ForeignProvider) -> PortalSettings:
    return PortalSettings(
        external_url=PORTAL,
        outbound_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
        outbound_ca=idp.ca_file,
    )


def told(answer: httpx2.Response) -> str:
    """Return what a page says of a failure."""
    found = re.search(r'role="alert"[^>]*>(.*?)</', answer.text, re.DOTALL)
    assert found is not None, answer.text
    return found[1]
