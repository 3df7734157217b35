"""Who may what: every route of the pages and of the API, by every kind of caller.

The routes are read from those that are served, so that a new one cannot be forgotten: whoever adds a page that anybody
may see has to put it among those of the sign-in, and a page beside the frames fails here.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
from starlette.responses import Response
from starlette.routing import Route

from support.browser import make_api_token
from support.patience import PATIENCE_S
from support.portal import World, make_world, portal_running
from support.rest_operations import Furnished, Operation, furnish, operations
from wardgate.portal.app import Portal
from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.installation.tables import OperatorSession
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.tables import PortalSession
from wardgate.portal.store import INSTALLATION
from wardgate.portal.web import application
from wardgate.portal.web.listing import ListPage
from wardgate.portal.web.operator_sessions import OPERATOR_PATH, OperatorSignedIn
from wardgate.portal.web.pages import OPERATOR_PAGES, PAGES
from wardgate.portal.web.sessions import SignedIn

SIGN_IN, NOT_THERE, ALLOWED, FORGED = "led to sign-in", "404", "allowed", "403"

PAGES_OF_AN_ACCOUNT = {
    "nobody": SIGN_IN,
    "administrator": ALLOWED,
    "administrator of another account": SIGN_IN,
    "person": NOT_THERE,
    "service account": NOT_THERE,
    "API client": NOT_THERE,
    "disabled administrator": SIGN_IN,
    "expired session": SIGN_IN,
    "session that is gone": SIGN_IN,
    "operator": SIGN_IN,
    "operator's cookie under an account's name": SIGN_IN,
    "API token": NOT_THERE,
    "operator's token": "401",
}
PAGES_OF_THE_OPERATOR = {
    **dict.fromkeys(PAGES_OF_AN_ACCOUNT, SIGN_IN),  # a program's token is none of a browser's
    "operator": ALLOWED,
    "administrator's cookie under the operator's name": SIGN_IN,
    "expired operator": SIGN_IN,
    "operator whose token is gone": SIGN_IN,
}
API = {  # for an account's operations, and for the operator's
    "nobody": ("401", "401"),
    "administrator": ("401", "401"),
    "operator": ("401", "401"),
    "API token": (ALLOWED, "401"),
    "operator's token": ("401", ALLOWED),
    "expired API token": ("401", "401"),
    "API token of a disabled client": ("401", "401"),
    "client's token": ("401", "401"),
    "gateway's token": ("401", "401"),
    "relay's token": ("401", "401"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    location: str
    body: bytes = field(repr=False)

    def told(self, sign_in: str) -> str:
        """Say what the answer amounts to; `sign_in` is where who may not is led."""
        if self.status == 204 or (self.status == 303 and self.location.split("?")[0] == sign_in):
            return SIGN_IN
        return {401: "401", 403: FORGED, 404: NOT_THERE}.get(self.status, ALLOWED)


@dataclass(slots=True)
class Matrix:
    """One portal with two accounts, and how each kind of caller shows who it is."""

    world: World
    furnished: Furnished
    callers: Mapping[str, Mapping[str, str]]
    form_tokens: Mapping[str, str]

    @property
    def services(self) -> Services:
        return self.world.portal.services

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        """Ask the portal, and read a stream's beginning only."""
        content, media_type = b"", ""
        if form is not None:
            content, media_type = urlencode(form).encode(), "application/x-www-form-urlencoded"
        elif body is not None:
            content, media_type = json.dumps(body, default=str).encode(), "application/json"
        given = {**headers, "content-type": media_type, "content-length": str(len(content))}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
            "client": ("192.0.2.9", 1),
            "server": ("portal.example", 80),
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
        }
        sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        received = iter([{"type": "http.request", "body": content, "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in received:
                return message
            await asyncio.Event().wait()
            raise AssertionError

        task = asyncio.create_task(self.world.portal(scope, receive, sent.put))
        try:
            async with asyncio.timeout(PATIENCE_S):
                started = await sent.get()
                found = {name.decode().lower(): value.decode() for name, value in started["headers"]}
                text = b""
                if not found.get("content-type", "").startswith("text/event-stream"):
                    await task
                    while not sent.empty():
                        text += sent.get_nowait().get("body", b"")
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        return Answer(started["status"], found.get("location", ""), text)

    async def feeds(self) -> dict[UUID, int]:
        sequences = await self.services.store.sequences()
        return {id_: sequences.get(id_, 0) for id_ in (self.world.account_id, INSTALLATION)}

    async def changes_since(self, before: dict[UUID, int]) -> list[str]:
        """Return what somebody has changed since; the system's own work goes on beside a test."""
        async with self.services.store.reading() as transaction:
            return [
                f"{change.object} {change.operation} by {change.subject['actor_name']}"
                for id_, sequence in before.items()
                for change in await transaction.changes_after(id_, sequence, 1000)
                if change.subject is not None
            ]


def cookie(services: Services, kind: str, session_id: UUID, of: object = None) -> str:
    """Return the cookie of a session, signed as the portal does it."""
    response = Response()
    now = services.environment.clock.now()
    signed = SignedCookie(services.keys.cookies, kind, is_secure=False)
    signed.set(response, session_id.hex, lifetime=timedelta(hours=8), now=now, of=of)
    return response.headers["set-cookie"].split(";")[0]


async def session_of(world: World, actor: Actor, *, lifetime: timedelta = timedelta(hours=1)) -> UUID:
    async with world.portal.services.store.writing() as transaction:
        session = await transaction.of(world.account_id).portal_sessions.insert(
            PortalSession(
                id=transaction.new_id(),
                account_id=world.account_id,
                actor_id=actor.id,
                user_agent="",
                remote_ip="192.0.2.9",
                expires_at=transaction.now + lifetime,
            )
        )
    return session.id


async def operator_session(
    world: World, *, token_id: UUID | None = None, lifetime: timedelta = timedelta(hours=1)
) -> UUID:
    async with world.portal.services.store.writing() as transaction:
        session = await transaction.operator_sessions.insert(
            OperatorSession(
                id=transaction.new_id(),
                token_id=token_id,
                user_agent="",
                remote_ip="192.0.2.9",
                remote_ip_location_region=None,
                remote_ip_location_city=None,
                expires_at=transaction.now + lifetime,
            )
        )
    return session.id


async def actor_of(world: World, type_: str, **fields: Any) -> Actor:
    if type_.startswith("account"):
        fields["email"] = f"{uuid4()}@example.org"
    async with world.portal.services.store.writing() as transaction:
        return await transaction.of(world.account_id).actors.insert(
            Actor(id=transaction.new_id(), account_id=world.account_id, type=type_, name=type_, **fields)
        )


@pytest.fixture
async def matrix() -> AsyncIterator[Matrix]:
    generous = PortalSettings(api_capacity=1_000_000.0, api_refill_per_s=1_000_000.0)
    async with portal_running(generous) as portal:
        yield await make_matrix(portal)


async def make_matrix(portal: Portal) -> Matrix:
    world, other = await make_world(portal), await make_world(portal, "other")
    services = portal.services
    admin = await actor_of(world, "account_admin_user")
    sessions = {
        "administrator": await session_of(world, admin),
        "person": await session_of(world, await actor_of(world, "account_user")),
        "service account": await session_of(world, await actor_of(world, "service_account")),
        "API client": await session_of(world, await actor_of(world, "api_client")),
        "disabled administrator": await session_of(
            world, await actor_of(world, "account_admin_user", is_disabled=True)
        ),
        "expired session": await session_of(world, admin, lifetime=timedelta(0)),
        "session that is gone": uuid4(),
    }
    callers = {
        name: {"cookie": cookie(services, "sess", id_, world.account_id)} for name, id_ in sessions.items()
    }
    foreign = await session_of(other, await actor_of(other, "account_admin_user"))
    callers["administrator of another account"] = {
        "cookie": f"{cookie(services, 'sess', foreign, other.account_id)};"
        f" {cookie(services, 'sess', foreign, world.account_id)}"
    }
    operator = await operator_session(world)
    callers["operator"] = {"cookie": cookie(services, "operator", operator)}
    callers["operator's cookie under an account's name"] = {
        "cookie": cookie(services, "sess", operator, world.account_id)
    }
    callers["administrator's cookie under the operator's name"] = {
        "cookie": cookie(services, "operator", sessions["administrator"])
    }
    callers["expired operator"] = {
        "cookie": cookie(services, "operator", await operator_session(world, lifetime=timedelta(0)))
    }
    callers["operator whose token is gone"] = {
        "cookie": cookie(services, "operator", await operator_session(world, token_id=uuid4()))
    }
    callers["nobody"] = {}
    token, _ = await make_api_token(world)
    expired, _ = await make_api_token(world, lifetime=timedelta(seconds=-1))
    disabled, disabled_id = await make_api_token(world)
    async with services.store.writing() as transaction:
        actors = transaction.of(world.account_id).actors
        client = await actors.load(disabled_id)
        assert client is not None
        await actors.save(replace(client, is_disabled=True))
    foreign_token, _ = await make_api_token(other)
    for name, text in {
        "API token": token,
        "API token of another account": foreign_token,
        "expired API token": expired,
        "API token of a disabled client": disabled,
        "operator's token": world.operator_token,
        "client's token": world.client_token,
        "gateway's token": world.gateway_token,
        "relay's token": world.relay_token,
    }.items():
        callers[name] = {"authorization": f"Bearer {text}"}
    web = application.Pages(services)
    async with services.store.reading() as transaction:
        account = await transaction.accounts.load(world.account_id)
    assert account is not None
    form_tokens = {
        "administrator": web.account.form_token(SignedIn(account, admin, sessions["administrator"])),
        "operator": web.operator.form_token(OperatorSignedIn(operator, "")),
    }
    return Matrix(world, await furnish(world, "acme"), callers, form_tokens)


async def guarded(matrix: Matrix) -> list[tuple[str, str, str]]:
    """Return what is served behind a frame: whose it is, method and path, with ids of objects that are there."""
    routes = application.Pages(matrix.services)
    ids = await ids_of_pages(matrix)
    found = []
    for whose, of_frame in (("account", routes.account_routes()), ("operator", routes.operator_routes())):
        for route in of_frame:
            assert isinstance(route, Route)
            path = route.path.replace("{slug}", "acme")
            page = re.sub(r"/\{.*", "", path)
            path = path.replace("{id}", str(ids.get(page, uuid4()))).replace("{action}", "delete")
            path = re.sub(r"\{\w+\}", lambda _: str(uuid4()), path)
            found += [(whose, method, path) for method in route.methods or () if method != "HEAD"]
    return found


async def ids_of_pages(matrix: Matrix) -> dict[str, UUID]:
    """Return an object of each page that has one, by the page's path."""
    found = {}
    async with matrix.services.store.reading(is_long=True) as transaction:
        tables = transaction.of(matrix.world.account_id)
        for prefix, pages, own in (
            ("/acme", PAGES, tables),
            (OPERATOR_PATH, OPERATOR_PAGES, transaction),
        ):
            for page in pages:
                if isinstance(page, ListPage):
                    row = await page.repository(own).find(*([] if page.only is None else [page.only]))
                    if row is not None:
                        found[f"{prefix}{page.path}"] = row.id
    return found


@pytest.mark.timeout(300)
async def test_every_page_is_shown_to_those_it_is_for_and_to_nobody_else(matrix: Matrix) -> None:
    before, wrong = await matrix.feeds(), []
    routes = await guarded(matrix)
    assert {whose for whose, _, _ in routes} == {"account", "operator"}
    for whose, method, path in routes:
        expected = PAGES_OF_AN_ACCOUNT if whose == "account" else PAGES_OF_THE_OPERATOR
        sign_in = "/acme/sign_in" if whose == "account" else "/operator/sign_in"
        for name, wanted in expected.items():
            if wanted == ALLOWED:
                continue
            form = None
            if method == "POST":
                # With a form token that would do for who may.
                may = "administrator" if whose == "account" else "operator"
                form = {"csrf_token": matrix.form_tokens[may], "typed": "acme", "slug": "acme"}
            answer = await matrix.ask(method, path, matrix.callers[name], form)
            if answer.told(sign_in) != wanted:
                wrong.append(f"{method} {path}: {name}: {answer}, not {wanted}")
            if b'id="navigation"' in answer.body:
                wrong.append(f"{method} {path}: {name} is shown the page")
    assert wrong == []
    assert await matrix.changes_since(before) == []


@pytest.mark.timeout(300)
async def test_every_page_is_shown_to_whom_it_is_for(matrix: Matrix) -> None:
    """Without this the other tests would be content with pages that nobody gets."""
    wrong = []
    for whose, method, path in await guarded(matrix):
        if method == "GET":
            caller = "administrator" if whose == "account" else "operator"
            answer = await matrix.ask(method, path, matrix.callers[caller])
            is_there = answer.status in (200, 303) and "/sign_in" not in answer.location
            # Some pages are of a second object that is not there.
            if not is_there and not (answer.status == 404 and path.count("-") > 4):
                wrong.append(f"{path}: {answer}")
    assert wrong == []


@pytest.mark.timeout(300)
async def test_every_form_wants_the_token_of_its_own_session(matrix: Matrix) -> None:
    before, wrong, count = await matrix.feeds(), [], 0
    for whose, method, path in await guarded(matrix):
        if method != "POST":
            continue
        caller, other = ("administrator", "operator") if whose == "account" else ("operator", "administrator")
        own = matrix.form_tokens[caller]
        for form in (
            {},
            {"csrf_token": ""},
            {"csrf_token": matrix.form_tokens[other]},
            {"csrf_token": own[:-1]},
            {"csrf_token": own.upper() if own.upper() != own else "0" * 64},
        ):
            count += 1
            answer = await matrix.ask(
                method, path, matrix.callers[caller], {**form, "typed": "acme", "slug": "acme"}
            )
            if answer.status != 403:
                wrong.append(f"{path} with {form}: {answer}")
        answer = await matrix.ask(
            method, f"{path}?csrf_token={own}", matrix.callers[caller], {"slug": "acme"}
        )
        if answer.status != 403:
            wrong.append(f"{path} with its token in the address: {answer}")
    assert wrong == []
    assert count > 100
    assert await matrix.changes_since(before) == []


async def test_nothing_is_served_beside_the_frames_but_the_sign_in(matrix: Matrix) -> None:
    pages = application.Pages(matrix.services)
    open_to_all = {
        route.path for route in (*pages.sign_in_routes(), *pages.other_routes()) if isinstance(route, Route)
    }
    guarded_paths = {
        route.path
        for route in (*pages.account_routes(), *pages.operator_routes())
        if isinstance(route, Route)
    }
    served = {route.path for route in pages.routes() if isinstance(route, Route)}
    assert served == open_to_all | guarded_paths
    assert {
        path for path in open_to_all if not re.search("/sign_(in|up)|/auth/|/verification/", path)
    } == OPEN


OPEN = {
    "/",
    "/assets/{name}",
    "/find_account",
    "/getting_started",
    "/install/{name}",
    "/operator/{rest:path}",
    "/operator/sign_out",
    "/try",
    "/verify_sign_up",
    "/{slug}",
    "/{slug}/sign_out",
}
"""What strangers are answered beside the steps of a sign-in; `/{slug}` is where clients begin."""


# The API


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [*API, "API token of another account"])
async def test_every_operation_of_the_api_is_refused_to_whom_it_is_not_for(matrix: Matrix, name: str) -> None:
    before, wrong = await matrix.feeds(), []
    for operation in operations():
        wanted = (
            "401" if name == "API token of another account" else API[name][1 if operation.is_operators else 0]
        )
        if wanted == ALLOWED:
            continue
        path, body = matrix.furnished.path(operation), matrix.furnished.good(operation)
        answer = await matrix.ask(operation.method.upper(), path, matrix.callers[name], body=body)
        if name == "API token of another account" and not operation.is_operators:
            if not is_isolated(operation, answer, matrix):
                wrong.append(f"{operation}: {answer}")
        elif answer.told("") != wanted:
            wrong.append(f"{operation}: {answer}, not {wanted}")
    assert wrong == []
    assert await matrix.changes_since(before) == []


def is_isolated(operation: Operation, answer: Answer, matrix: Matrix) -> bool:
    """Tell whether a call with the account's ids by another account's token came to nothing there."""
    if "{" in operation.path and answer.status in (400, 404, 422):
        return True
    if "{" in operation.path:
        # Lists below an object of another account are empty, and nothing of them is deleted.
        return json.loads(answer.body)["data"] in ([], {"deleted_count": 0})
    told = answer.body.decode()
    return not any(str(id_) in told for id_ in matrix.furnished.ids.values())
