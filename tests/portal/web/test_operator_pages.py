"""The operator in the browser: how the session begins and ends, and what its pages do."""

import html
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import httpx2
import pytest

from support.browser import caller, operator_link, sign_in_link
from support.certificates import write_certificate
from support.pages import hidden_of, post, rows_of, shown_names, toast_after
from support.portal import World, make_world
from wardgate.portal.app import Portal
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.installation.operator import health
from wardgate.portal.installation.operator.accounts import FEATURES, LIMITS
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import INSTALLATION
from wardgate.portal.web.operator_sessions import LIFETIME

COOKIE = "operator"


async def sign_in(visitor: httpx2.AsyncClient, token: str) -> httpx2.Response:
    """Fill in the form of the sign-in page."""
    page = (await visitor.get("/operator/sign_in")).text
    (form_token,) = re.findall(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    return await visitor.post("/operator/sign_in", data={"csrf_token": form_token, "token": token})


# The session


async def test_the_operators_token_signs_in(visitor: httpx2.AsyncClient, world: World) -> None:
    assert (await visitor.get("/operator")).headers["location"] == "/operator/sign_in"
    answer = await sign_in(visitor, f"  {world.operator_token} ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/operator")
    cookie = answer.headers["set-cookie"]
    for part in (f"{COOKIE}=", "HttpOnly", "Path=/operator", "SameSite=lax"):
        assert part in cookie
    page = (await visitor.get("/operator")).text
    assert "token “o”" in html.unescape(page)
    assert (await visitor.get("/operator/sign_in")).headers["location"] == "/operator"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda world: "",
        lambda world: "x" * 5000,
        lambda world: world.client_token,
        lambda world: world.operator_token[:-8] + "aaaaaaaa",
        lambda world: world.relay_token,
    ],
)
async def test_another_token_is_refused_in_words(
    visitor: httpx2.AsyncClient, world: World, wrong: Callable[[World], str]
) -> None:
    answer = await sign_in(visitor, wrong(world))
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    assert COOKIE not in visitor.cookies
    assert world.portal.services.counters["operator_sign_ins_refused"] == 1


async def test_the_form_of_another_site_signs_nobody_in(visitor: httpx2.AsyncClient, world: World) -> None:
    answer = await visitor.post("/operator/sign_in", data={"token": world.operator_token})
    assert answer.status_code == 403


async def test_one_address_has_a_bounded_number_of_tries(visitor: httpx2.AsyncClient, world: World) -> None:
    answers = [(await sign_in(visitor, "wrong")).status_code for _ in range(25)]
    assert answers[0] == 422
    assert answers[-1] == 429


async def test_a_link_signs_in_once_and_a_preview_does_not_use_it_up(
    visitor: httpx2.AsyncClient, portal: Portal
) -> None:
    link = await operator_link(portal)
    await visitor.head(link)
    await visitor.get(link, headers={"sec-purpose": "prefetch"})
    assert (await visitor.get(link)).headers["location"] == "/operator"
    async with caller(portal) as other:
        again = await other.get(link)
        assert again.status_code == 401
        assert "wardgate sign-in-link --operator" in again.text
        assert (await other.get("/operator")).status_code == 303


async def test_an_old_link_and_an_accounts_link_open_nothing(
    visitor: httpx2.AsyncClient, world: World
) -> None:
    old = await operator_link(world.portal, lifetime_s=-1)
    assert (await visitor.get(old)).status_code == 401
    of_account = (await sign_in_link(world)).replace("/acme/", "/operator/")
    assert (await visitor.get(of_account)).status_code == 401
    of_operator = (await operator_link(world.portal)).replace("/operator/", "/acme/")
    assert (await visitor.get(of_operator)).status_code == 401
    first, _second = await operator_link(world.portal), await operator_link(world.portal)
    assert (await visitor.get(first)).status_code == 401


async def test_the_two_kinds_of_session_open_nothing_of_each_other(
    operator: httpx2.AsyncClient, admin: httpx2.AsyncClient, world: World
) -> None:
    assert (await operator.get("/acme")).headers["location"].startswith("/acme/sign_in")
    assert (await admin.get("/operator")).headers["location"] == "/operator/sign_in"
    of_operator, of_account = operator.cookies[COOKIE], admin.cookies[f"sess_{world.account_id}"]
    async with caller(world.portal) as other:
        forged = {"cookie": f"sess_{world.account_id}={of_operator}; {COOKIE}={of_account}"}
        assert (await other.get("/acme", headers=forged)).status_code == 303
        assert (await other.get("/operator", headers=forged)).status_code == 303


async def test_the_session_ends_with_its_token(visitor: httpx2.AsyncClient, world: World) -> None:
    await sign_in(visitor, world.operator_token)
    assert (await visitor.get("/operator/jobs")).status_code == 200
    async with world.portal.services.store.writing() as transaction:
        tokens = transaction.operator_tokens
        await tokens.delete_where(tokens.c.name == "o")
    assert (await visitor.get("/operator/jobs")).status_code == 303


async def test_the_session_ends_after_an_hour_whatever_is_done(
    operator: httpx2.AsyncClient, portal: Portal
) -> None:
    async with portal.services.store.writing() as transaction:
        (session,) = await transaction.operator_sessions.load_all()
        assert session.expires_at - session.inserted_at == LIFETIME == timedelta(hours=1)
        await transaction.operator_sessions.save(replace(session, expires_at=transaction.now))
    assert (await operator.get("/operator")).status_code == 303


async def test_signing_out_needs_the_forms_token_and_ends_the_session(
    operator: httpx2.AsyncClient, portal: Portal
) -> None:
    value = operator.cookies[COOKIE]
    assert (await operator.post("/operator/sign_out")).status_code == 403
    assert (await operator.get("/operator")).status_code == 200
    assert (await post(operator, "/operator/sign_out")).headers["location"] == "/operator/sign_in"
    async with caller(portal) as other:
        assert (await other.get("/operator", headers={"cookie": f"{COOKIE}={value}"})).status_code == 303


async def test_a_second_sign_in_takes_the_place_of_the_first(
    operator: httpx2.AsyncClient, portal: Portal
) -> None:
    before = operator.cookies[COOKIE]
    await operator.get(await operator_link(portal))
    assert operator.cookies[COOKIE] != before
    async with portal.services.store.reading() as transaction:
        assert len(await transaction.operator_sessions.load_all()) == 1


async def test_signing_in_is_in_the_installations_log(operator: httpx2.AsyncClient, portal: Portal) -> None:
    async with portal.services.store.reading() as transaction:
        changes = await transaction.changes(INSTALLATION, limit=50)
    (opened,) = [one for one in changes if one.object == "operator_sessions"]
    assert (opened.operation, opened.audience) == ("insert", "audit")
    assert opened.subject is not None
    assert (opened.subject["actor_type"], opened.subject["ip"]) == ("operator", "192.0.2.9")
    (made,) = [one for one in changes if one.object == "operator_links" and one.operation == "insert"]
    assert made.after is not None
    assert (made.audience, made.after["secret_hash"]) == ("internal", "[redacted]")


# The pages


@pytest.mark.parametrize(
    "path",
    ["", "/accounts", "/accounts/new", "/relays", "/jobs", "/banners", "/tokens", "/changes", "/search?q=a"],
)
async def test_every_page_is_there(operator: httpx2.AsyncClient, world: World, path: str) -> None:
    answer = await operator.get(f"/operator{path}")
    assert answer.status_code == 200
    assert 'href="/operator/accounts"' in answer.text
    assert "/acme/" not in answer.text


async def test_what_is_not_a_page_is_not_there(operator: httpx2.AsyncClient) -> None:
    for path in ("/operator/sites", "/operator/account", "/operator/x/y"):
        assert (await operator.get(path)).status_code == 404


async def test_an_account_is_made_with_its_first_administrator(
    operator: httpx2.AsyncClient, world: World
) -> None:
    fields = {"name": "Globex", "slug": "globex", "admin_email": "hank@globex.example"}
    made = await post(operator, "/operator/accounts/new", **fields)
    assert made.status_code == 200
    (link,) = re.findall(r'id="link"[^>]*>([^<]+)<', made.text)
    assert "wg_api_" in made.text
    assert "wg_api_" not in (await operator.get("/operator/accounts")).text
    async with caller(world.portal) as administrator:
        path = link.removeprefix(world.portal.services.settings.web_url)
        assert (await administrator.get(path)).headers["location"] == "/globex"
        assert (await administrator.get("/globex/sites")).status_code == 200


async def test_what_is_wrong_with_a_new_account_is_told_beside_the_field(
    operator: httpx2.AsyncClient, world: World
) -> None:
    fields = {"name": "x", "slug": "operator", "admin_email": "nobody"}
    refused = await post(operator, "/operator/accounts/new", **fields)
    assert refused.status_code == 422
    for name in fields:
        assert f'id="{name}-error"' in refused.text
    taken = await post(
        operator,
        "/operator/accounts/new",
        name="Other",
        slug="acme",
        admin_email="a@b.example",
    )
    assert "has already been taken" in taken.text


async def test_an_account_is_changed_and_its_limits_are_checked(
    operator: httpx2.AsyncClient, world: World
) -> None:
    path = f"/operator/accounts/{world.account_id}"
    form = hidden_of((await operator.get(f"{path}/edit")).text)
    kept = {"name": "Acme & Sons", "slug": "acme", "legal_name": "Acme GmbH", **dict.fromkeys(FEATURES, "on")}
    wrong = await post(operator, f"{path}/edit", **form, **kept, sites_count="-1")
    assert wrong.status_code == 422
    assert 'id="sites_count-error"' in wrong.text
    saved = await post(operator, f"{path}/edit", **form, **kept | {"policy_conditions": ""}, sites_count="7")
    assert await toast_after(operator, saved) == "Account “Acme & Sons” was saved."
    async with world.portal.services.store.reading() as transaction:
        account = await transaction.accounts.load(world.account_id)
    assert account is not None
    assert account.limits["sites_count"] == 7
    assert account.features == {"policy_conditions": False, "internet_resource": True}
    used = (await operator.get(path)).text
    for label in LIMITS.values():
        assert label in used


async def test_an_account_is_disabled_locked_and_given_back(
    operator: httpx2.AsyncClient, world: World
) -> None:
    path = f"/operator/accounts/{world.account_id}"
    for action, told in (
        ("disable", "is disabled"),
        ("enable", "is enabled"),
        ("lock", "are locked"),
        ("unlock", "are unlocked"),
    ):
        assert told in await toast_after(operator, await post(operator, f"{path}/{action}"))
    history = (await operator.get(f"{path}?tab=history")).text
    assert [history.count(field) for field in ("is_disabled</p>", "lock_enabled_at</p>")] == [2, 2]
    assert "/logs/changes" not in history, "the operator has no part in the account's log"
    assert (await post(operator, f"{path}/enable")).headers["location"] == "/operator/accounts"


async def test_an_account_is_deleted_only_by_its_slug_typed_and_can_be_kept(
    operator: httpx2.AsyncClient, world: World
) -> None:
    path = f"/operator/accounts/{world.account_id}"
    assert (await post(operator, f"{path}/delete", typed="acm")).status_code == 422
    told = await toast_after(operator, await post(operator, f"{path}/delete", typed="acme"))
    assert "will be deleted in 7 days" in told
    listed = (await operator.get("/operator/accounts?state=deleted")).text
    assert len(rows_of(listed)) == 1
    assert "enabled again" in await toast_after(operator, await post(operator, f"{path}/keep"))


async def test_accounts_are_found_by_name_slug_and_state(
    operator: httpx2.AsyncClient, world: World, portal: Portal
) -> None:
    await make_world(portal, "other")
    every = shown_names((await operator.get("/operator/accounts")).text)
    assert len(every) == 2
    assert len(shown_names((await operator.get("/operator/accounts?q=othe")).text)) == 1
    assert "No results" in (await operator.get("/operator/accounts?q=nobody")).text
    assert "No results" in (await operator.get("/operator/accounts?state=locked")).text
    found = (await operator.get("/operator/search/results?q=othe")).text
    assert "/operator/accounts/" in found


async def test_a_relay_is_made_shown_online_given_a_new_token_and_deleted(
    operator: httpx2.AsyncClient, world: World
) -> None:
    made = await post(operator, "/operator/relays/new", name="fra-1")
    assert "wg_relay_" in made.text
    assert "wardgate relay --api-url" in made.text
    assert "/install/relay.sh | sudo WARDGATE_PUBLIC_IP4_ADDR=203.0.113.7 sh" in made.text
    (id_,) = re.findall(r"/operator/relays/([0-9a-f-]{36})\"", made.text)[:1]
    page = (await operator.get("/operator/relays?status=offline")).text
    assert "fra-1" in shown_names(page)
    async with world.relay() as relay:
        await relay.join({"stamp_secret": "ab" * 32})
        page = (await operator.get("/operator/relays?status=online")).text
        assert len(rows_of(page)) == 1
        assert "Online" in page
    rotated = await post(operator, f"/operator/relays/{id_}/rotate")
    (token,) = re.findall(r"wg_relay_\w+", rotated.text)[:1]
    assert token not in made.text
    (id_,) = re.findall(r"/operator/relays/([0-9a-f-]{36})\"", rotated.text)[:1]
    assert (await post(operator, f"/operator/relays/{id_}/delete", typed="fra-2")).status_code == 422
    deleted = await post(operator, f"/operator/relays/{id_}/delete", typed="fra-1")
    assert "deleted" in await toast_after(operator, deleted)
    gone = await post(operator, f"/operator/relays/{uuid4()}/rotate")
    assert await toast_after(operator, gone) == "This relay does not exist."


async def test_a_job_that_was_given_up_runs_again(operator: httpx2.AsyncClient, portal: Portal) -> None:
    async with portal.services.store.writing() as transaction:
        queue = JobQueue(transaction)
        await queue.enqueue("a_kind_that_nobody_knows", unique_key="twin", max_attempts=1)
        (job,) = await queue.claim(transaction.new_id(), ["a_kind_that_nobody_knows"], limit=1, lease_s=60)
        await queue.fail(job, "OSError: <b>no route</b>", retry_at=transaction.now)
    page = (await operator.get("/operator/jobs?state=discarded")).text
    assert "a kind that nobody knows" in page
    assert "OSError: &lt;b&gt;no route" in page
    path = f"/operator/jobs/{job.id}"
    assert "runs as soon as" in await toast_after(operator, await post(operator, f"{path}/again"))
    async with portal.services.store.reading() as transaction:
        (again,) = [one for one in await JobQueue(transaction).load(limit=50) if one.id == job.id]
    assert (again.state, again.attempt, again.finished_at) == ("available", 0, None)
    assert (await post(operator, f"{path}/again")).headers["location"] == "/operator/jobs"


async def test_a_job_does_not_run_again_beside_its_successor(
    operator: httpx2.AsyncClient, portal: Portal
) -> None:
    async with portal.services.store.writing() as transaction:
        queue = JobQueue(transaction)
        await queue.enqueue("unknown", unique_key="twin", max_attempts=1)
        (job,) = await queue.claim(transaction.new_id(), ["unknown"], limit=1, lease_s=60)
        await queue.fail(job, "x", retry_at=transaction.now)
        assert await queue.enqueue("unknown", unique_key="twin")
    refused = await post(operator, f"/operator/jobs/{job.id}/again")
    assert await toast_after(operator, refused) == "A newer job does the same work."


async def test_a_banner_is_shown_to_every_account_until_it_is_deleted(
    operator: httpx2.AsyncClient, admin: httpx2.AsyncClient
) -> None:
    made = await post(operator, "/operator/banners/new", message="Upgrade <tonight>", color="error")
    path = made.headers["location"]
    assert "Upgrade &lt;tonight&gt;" in (await admin.get("/acme/sites")).text
    await post(operator, f"{path}/delete")
    assert "Upgrade" not in (await admin.get("/acme/sites")).text


async def test_operator_tokens_are_made_used_and_revoked_but_for_the_last(
    operator: httpx2.AsyncClient, visitor: httpx2.AsyncClient, world: World
) -> None:
    page = (await operator.get("/operator/tokens")).text
    (only,) = re.findall(r'data-key="([0-9a-f-]{36})"', page)
    refused = await post(operator, f"/operator/tokens/{only}/delete", typed="o")
    assert "the only operator" in await toast_after(operator, refused)
    made = (await post(operator, "/operator/tokens/new", name="second")).text
    (token,) = re.findall(r"wg_operator_\w+", made)[:1]
    await sign_in(visitor, token)
    (second,) = set(
        re.findall(r'data-key="([0-9a-f-]{36})"', (await operator.get("/operator/tokens")).text)
    ) - {only}
    shown = (await operator.get(f"/operator/tokens/{second}")).text
    assert shown.count("192.0.2.9") == 2
    assert "this browser" in shown
    await post(operator, f"/operator/tokens/{second}/delete", typed="second")
    assert (await visitor.get("/operator")).status_code == 303
    async with caller(world.portal, token) as program:
        assert (await program.get("/wardgate/health")).status_code == 401


async def test_a_browsers_session_is_ended_from_another(
    operator: httpx2.AsyncClient, visitor: httpx2.AsyncClient, world: World
) -> None:
    await sign_in(visitor, world.operator_token)
    (token_id,) = re.findall(r'data-key="([0-9a-f-]{36})"', (await operator.get("/operator/tokens")).text)
    async with world.portal.services.store.reading() as transaction:
        sessions = transaction.operator_sessions
        session = await sessions.find(sessions.c.token_id.is_not(None))
    assert session is not None
    ended = await post(operator, f"/operator/tokens/{token_id}/sessions/{session.id}/end")
    assert await toast_after(operator, ended) == "The session was ended."
    assert (await visitor.get("/operator")).status_code == 303


async def test_what_the_operator_has_done_is_in_the_installations_log(
    operator: httpx2.AsyncClient, world: World
) -> None:
    await post(operator, "/operator/relays/new", name="fra-<1>")
    page = (await operator.get("/operator/changes")).text
    assert "relay token: fra-&lt;1&gt;" in page
    assert "operator, 192.0.2.9" in page
    assert "operator link" not in page, "an internal table"
    assert "[redacted]" in page or "secret_hash" not in page
    first = re.findall(r'id="change-(\d+)"', page)
    for number in range(60):
        await post(operator, "/operator/banners/new", message=f"banner {number}", color="info")
    page = (await operator.get("/operator/changes")).text
    assert page.count('class="item"') == 50
    (older,) = re.findall(r'href="(/operator/changes\?before=\d+)"', page)
    beyond = (await operator.get(older)).text
    assert f'id="change-{first[0]}"' in beyond
    assert 'href="/operator/changes"' in beyond
    assert "nothing older" in (await operator.get("/operator/changes?before=0")).text
    for odd in ("x", "-1", "9" * 40, "é"):
        assert (await operator.get(f"/operator/changes?before={odd}")).status_code == 200


# Health


async def test_health_says_what_is_wrong_and_what_to_do(operator: httpx2.AsyncClient, world: World) -> None:
    page = html.unescape((await operator.get("/operator")).text)
    assert "No relay is online" in page
    assert "No mail is sent" in page
    assert "No problems" not in page
    async with world.relay() as relay:
        await relay.join({"stamp_secret": "ab" * 32})
        page = html.unescape((await operator.get("/operator")).text)
    assert "No relay is online" not in page


def test_a_certificate_is_told_of_before_it_ends(tmp_path: Path) -> None:
    path, now = tmp_path / "portal.pem", datetime.now(UTC)

    def tone(at: datetime) -> str:
        return health._certificate(path, is_renewed=False, now=at).tone

    assert tone(now) == "bad"
    write_certificate(path, tmp_path / "key.pem", name="portal.example")
    assert tone(now - timedelta(days=30)) == "good"
    assert tone(now - timedelta(days=10)) == "caution"
    assert tone(now + timedelta(days=2)) == "bad"


@pytest.mark.parametrize(
    ("url", "tone"),
    [
        ("https://portal.example", "good"),
        ("http://127.0.0.1:8080", "good"),
        ("http://localhost:8080", "good"),
        ("http://localhost.portal.example", "bad"),
        ("http://192.168.1.5:8080", "bad"),
    ],
)
def test_plain_http_beyond_this_machine_is_wrong(url: str, tone: str) -> None:
    assert health._address(PortalSettings(external_url=url)).tone == tone


def test_a_full_disk_and_one_that_is_gone_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert health._disk(tmp_path / "gone").tone == "bad"
    for free, tone in ((50, "good"), (9, "caution"), (2, "bad")):
        usage = SimpleNamespace(total=100, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _place, usage=usage: usage)
        assert health._disk(tmp_path).tone == tone
