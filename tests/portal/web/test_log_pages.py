"""The pages of the logs: filters, places in the log, panels, and the difference before and after."""

import asyncio
import html
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from support.browser import caller, make_api_token
from support.pages import heading_of, rows_of, toast_after
from support.patience import PATIENCE_S
from support.portal import World, make_world
from wardgate.portal.database import log_reading
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.portal.logs.pages import log_page
from wardgate.portal.logs.streams import Logs
from wardgate.portal.logs.tables import FlowLog
from wardgate.portal.schema.change_feed import CHANGES
from wardgate.portal.sites.tables import Site
from wardgate.portal.web.filters import bounds

NAMES = ("decisions", "changes", "sessions", "flows", "api_requests")


@pytest.mark.parametrize("name", NAMES)
async def test_each_log_says_what_it_is_for_while_it_is_empty_and_answers_hostile_queries(
    admin: httpx2.AsyncClient, world: World, name: str
) -> None:
    page = (await admin.get(f"/acme/logs/{name}?q=surely-not-there")).text
    assert "No results" in page
    for query in (
        "q=" + "x" * 300,
        "period=yesterday,",
        "period=2026-01-02,2026-01-01",
        "period=0001-01-01,9999-12-31T23:59",
        "operation=x&object=y&context=z&method=w&role=v&traffic=tcp/x&outcome=u",
        "after=nonsense&before=-",
        "after=" + "9" * 40,
        "actor_id=nonsense",
        "size=7",
        "q=%00",
    ):
        answer = await admin.get(f"/acme/logs/{name}?{query}")
        assert answer.status_code == 200, query
    for place in ("nonsense", "9" * 40, "1-a", "999999999999999999-f", "c" * 24, "5"):
        told = await toast_after(admin, await admin.get(f"/acme/logs/{name}/{place}"))
        assert told.startswith("This entry does not exist")


async def test_a_change_is_shown_before_and_after_with_who_and_from_where(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await renamed(world, "Potsdam", by_admin=True)
    page = (await admin.get("/acme/logs/changes?q=potsdam")).text
    (row,) = rows_of(page)
    assert ("Potsdam" in row, "changed" in row, "name" in row, "admin@acme.example" in row) == (True,) * 4
    panel = (await admin.get(link_of(row))).text
    assert heading_of(panel) == "Site changed"
    assert differences_of(panel) == [("name", "Berlin", "Potsdam")]
    assert "192.0.2.44" in panel
    assert "Firefox" in panel
    assert "updated_at" not in panel


async def test_changes_are_narrowed_by_operation_object_author_time_and_object_id(
    admin: httpx2.AsyncClient, world: World
) -> None:
    await renamed(world, "Potsdam", by_admin=True)
    now = datetime.now(UTC)
    tomorrow, yesterday = (f"{now + timedelta(days=days):%Y-%m-%dT%H:%M}" for days in (1, -1))
    for query, count in {
        f"id={world.site.id}": 2,
        f"id={world.site.id}&operation=update": 1,
        f"id={world.site.id}&operation=delete": 0,
        "object=sites&operation=update": 1,
        "object=sites&object=groups&q=potsdam": 1,
        "object=groups&q=potsdam": 0,
        f"id={world.site.id}&by=system": 1,
        f"id={world.site.id}&by=actors": 1,
        f"id={world.site.id}&actor_id={world.actor.id}": 0,
        f"id={world.site.id}&period={yesterday},{tomorrow}": 2,
        f"id={world.site.id}&period={tomorrow},": 0,
        f"id={world.site.id}&period=,{yesterday}": 0,
    }.items():
        assert len(rows_of((await admin.get(f"/acme/logs/changes?{query}")).text)) == count, query
    assert "Changes by Ada" in (await admin.get(f"/acme/logs/changes?actor_id={world.actor.id}")).text


async def test_a_log_is_read_page_by_page_there_and_back(admin: httpx2.AsyncClient, world: World) -> None:
    for number in range(60):
        await renamed(world, f"Berlin {number}")
    path: str | None = "/acme/logs/changes?object=sites&operation=update&q=Berlin"
    forth: list[str] = []
    pages: list[list[str]] = []
    while path is not None:
        page = (await admin.get(path)).text
        names = re.findall(r"Berlin \d+", " ".join(re.findall(r"<td role.*?</td>", page, re.DOTALL)))
        pages.append(names)
        forth += names
        path = to(page, "next")
    assert [len(one) for one in pages] == [25, 25, 10]
    assert forth == [f"Berlin {number}" for number in reversed(range(60))]
    path = to(page, "prev")
    assert path is not None
    assert "Berlin 34" in (await admin.get(path)).text


async def test_a_search_for_what_is_rare_stops_and_goes_on_when_asked(
    admin: httpx2.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reading, "SCANNED_AT_ONCE", 2)
    monkeypatch.setattr(log_page, "SLICES_AT_ONCE", 2)
    await renamed(world, "Potsdam")
    for number in range(9):
        await renamed(world, f"Hamburg {number}")
    path = "/acme/logs/changes?q=Potsdam&operation=update"
    page = (await admin.get(path)).text
    seen = 0
    while not rows_of(page):
        (further,) = re.findall(r'<a href="([^"]+)">Search further</a>', page)
        page = (await admin.get(html.unescape(further))).text
        seen += 1
    assert seen == 2
    assert "Potsdam" in rows_of(page)[0]


async def test_what_is_new_is_shown_live_unless_the_page_is_narrowed(
    admin: httpx2.AsyncClient, world: World
) -> None:
    assert 'data-live="/acme/live?page=' in (await admin.get("/acme/logs/changes")).text
    assert 'data-live=""' in (await admin.get("/acme/logs/changes?q=a")).text


async def test_sessions_name_who_connected_and_from_where(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
    await world.portal.journal.flush()
    async with world.portal.services.store.reading() as transaction:
        devices = {one.type: one for one in await transaction.of(world.account_id).devices.load_all()}
    gateway_link = f'href="/acme/sites/{world.site.id}" class="over">{devices["gateway"].name}</a>'
    for context, who in (("client", "Ada"), ("portal", "admin@acme.example"), ("gateway", gateway_link)):
        (row,) = rows_of((await admin.get(f"/acme/logs/sessions?context={context}")).text)
        assert who in row, context
        panel = (await admin.get(link_of(row))).text
        assert who in panel
        client_link = f'href="/acme/clients/{devices["client"].id}" class="over">'
        assert (client_link in panel) == (context == "client")
    (row,) = rows_of((await admin.get(f"/acme/logs/sessions?actor_id={world.actor.id}")).text)
    assert "Ada" in row
    async with world.portal.services.store.writing() as transaction:
        await transaction.of(world.account_id).devices.delete(devices["gateway"].id)
    (row,) = rows_of((await admin.get("/acme/logs/sessions?context=gateway")).text)
    assert "Deleted gateway" in row


async def test_where_somebody_was_is_marked_on_a_map(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.client(remote_ip="193.0.6.139") as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
    await world.portal.journal.flush()
    (row,) = rows_of((await admin.get("/acme/logs/sessions?context=client")).text)
    panel = (await admin.get(link_of(row))).text
    lat, lon = map(float, re.findall(r'<span class="code">(-?[\d.]+), (-?[\d.]+)</span>', panel)[0])
    assert "NL" in panel
    assert (50 < lat < 54, 3 < lon < 8) == (True, True), "the middle of the Netherlands"
    assert re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5"', panel) == [
        (f"{(lon + 180) * 2}", f"{(90 - lat) * 2}")
    ]
    assert f"https://www.openstreetmap.org/?mlat={lat:.4f}&amp;mlon={lon:.4f}#map=" in panel
    (row,) = rows_of((await admin.get("/acme/logs/sessions?context=gateway")).text)
    assert 'class="world"' not in (await admin.get(link_of(row))).text, "nobody knows where 192.0.2.7 is"
    clients = (await admin.get("/acme/clients")).text
    assert "View on a map" in (await admin.get(link_of(rows_of(clients)[0]))).text


async def test_a_period_is_on_the_clocks_of_the_zone_beside_it(
    admin: httpx2.AsyncClient, world: World
) -> None:
    # Of the last weeks, as old flows are deleted meanwhile, and in zones whose clocks are not changed.
    started = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=7)
    day = started.date().isoformat()
    await reported(
        world, flow(world, started), flow(world, started + timedelta(hours=1), log_id="f" + "2" * 23)
    )
    for period, count in {
        f"{day}T12:30,": 1,
        f"{day}T12:30,,UTC": 1,
        f"{day}T21:30,,Asia/Tokyo": 1,  # nine hours ahead
        f"{day}T21:00,{day}T21:30,Asia/Tokyo": 1,
        f"{day}T12:30,,Asia/Tokyo": 2,
        f",{day}T05:30,America/Phoenix": 1,  # seven behind
        ",,Europe/Berlin": 2,
    }.items():
        assert len(rows_of((await admin.get("/acme/logs/flows", params={"period": period})).text)) == count, (
            period
        )

    # As the form sends it without a script; the page shows what was chosen, and its links keep it.
    given = [("period", f"{day}T21:00"), ("period", ""), ("period", "Asia/Tokyo"), ("size", "25")]
    page = (await admin.get("/acme/logs/flows", params=given)).text
    assert len(rows_of(page)) == 2
    assert "<option selected>Asia/Tokyo</option>" in page
    assert f"period={day}T21%3A00%2C%2CAsia%2FTokyo" in page

    for wrong in ("Nowhere/Here", "../../etc/passwd", "UTC0", "Europe/Berlin\x00"):
        page = (await admin.get("/acme/logs/flows", params={"period": f"2026-07-01T14:00,,{wrong}"})).text
        assert "an invalid period" in page, wrong
    edge = {"period": "0001-01-01T00:00,9999-12-31T23:59,Asia/Tokyo"}
    assert "an invalid period" in (await admin.get("/acme/logs/flows", params=edge)).text


def test_a_period_in_summer_is_on_the_clocks_of_summer() -> None:
    begins_at, _ = bounds(("2026-07-01T14:30", "", "Europe/Berlin"))
    assert begins_at == datetime(2026, 7, 1, 12, 30, tzinfo=UTC)


def test_a_period_has_both_of_an_hour_that_clocks_show_twice() -> None:
    begins_at, ends_at = bounds(("2026-10-25T02:30", "2026-10-25T02:30", "Europe/Berlin"))
    assert begins_at is not None
    assert ends_at is not None
    assert ends_at - begins_at == timedelta(hours=1)


async def test_calls_of_the_api_name_their_program_and_client(
    admin: httpx2.AsyncClient, world: World
) -> None:
    token, actor_id = await make_api_token(world)
    async with caller(world.portal, token, **{"user-agent": "terraform/1.4"}) as api:
        await api.get("/sites")
        await api.delete(f"/sites/{world.site.id}")
    (row,) = rows_of((await admin.get("/acme/logs/api_requests?method=DELETE")).text)
    assert (f"/sites/{world.site.id}" in row, "terraform/1.4" in row, "robot" in row) == (True, True, True)
    panel = (await admin.get(link_of(row))).text
    assert f'href="/acme/settings/api_clients/{actor_id}"' in panel
    assert len(rows_of((await admin.get(f"/acme/logs/api_requests?actor_id={actor_id}")).text)) == 2


async def test_a_flow_is_shown_with_its_paths_and_the_other_sides_report(
    admin: httpx2.AsyncClient, world: World
) -> None:
    now = datetime.now(UTC)
    mine = flow(world, now, role="initiator")
    await reported(
        world,
        mine,
        replace(mine, role="responder", log_id="f" + "2" * 23, flow_start=now + timedelta(seconds=2)),
        replace(mine, log_id="f" + "3" * 23, inner_src_port=9, flow_end=None, tx_bytes=None, rx_bytes=None),
        replace(mine, log_id="f" + "4" * 23, inner_src_port=8, flow_end=now - timedelta(seconds=9)),
    )
    for query, count in {
        "role=responder": 1,
        "state=incomplete": 1,
        "traffic=443": 4,
        "traffic=TCP": 4,
        "traffic=tcp/443": 4,
        "traffic=udp/443": 0,
        "traffic=80": 0,
        f"resource_id={world.resource.id}": 4,
    }.items():
        assert len(rows_of((await admin.get(f"/acme/logs/flows?{query}")).text)) == count, query
    (row,) = rows_of((await admin.get("/acme/logs/flows?role=responder")).text)
    assert ("1m 5s" in row, "1.5 KB" in row) == (True, True)
    panel = (await admin.get(link_of(row))).text
    assert "Opened" in panel
    assert "198.51.100.7:51820 → 203.0.113.1:51820" in html.unescape(panel)
    (other,) = re.findall(r'class="item-link" href="([^"]+)"', panel)
    assert "reported by the initiator" in (await admin.get(other)).text
    page = (await admin.get("/acme/logs/flows")).text
    assert ("Incomplete" in page, "Clock skew" in page) == (True, True)


async def test_a_flow_leads_to_the_decision_that_let_it_pass_and_back(
    admin: httpx2.AsyncClient, world: World
) -> None:
    logged = asyncio.Event()
    world.portal.services.environment.bus.watch(f"decisions:{world.account_id}", logged.set)
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        offered = (await gateway.receive_until("create_authorization"))["payload"]
        gateway.send("authorization_created", {"ref": offered["ref"]})
        await client.receive_until("authorization_created")
        async with asyncio.timeout(PATIENCE_S):
            await logged.wait()
    async with world.portal.services.store.reading() as transaction:
        (decision,) = await newest_decisions(transaction.of(world.account_id), limit=2)
    explained = f"/acme/explain?log_id={decision.log_id}"
    assert "No flow was reported" in (await admin.get(explained)).text

    now = datetime.now(UTC)
    passed = flow(
        world, now, initiator_device_id=decision.device_id, policy_authorization_id=decision.authorization_id
    )
    stranger = flow(world, now, log_id="f" + "9" * 23, inner_src_port=9)
    await reported(world, passed, replace(passed, role="responder", log_id="f" + "2" * 23), stranger)
    answer = (await admin.get(explained)).text
    assert "2 reports of flows" in answer
    (listed,) = re.findall(r'href="([^"]+)">\s*2 reports', answer)
    rows = rows_of((await admin.get(html.unescape(listed))).text)
    assert len(rows) == 2
    panel = (await admin.get(link_of(rows[0]))).text
    (back,) = re.findall(r'href="(/acme/explain\?authorization_id=[^"]+)"', panel)
    assert "2 reports of flows" in (await admin.get(back)).text

    # The decision is gone, or the link is somebody's invention.
    gone = f"/acme/explain?authorization_id={stranger.policy_authorization_id}"
    assert "is not in the log any more" in (await admin.get(gone)).text
    assert "does not exist any more" in (await admin.get("/acme/explain?authorization_id=x")).text


async def test_a_decision_is_shown_with_its_reasons(admin: httpx2.AsyncClient, world: World) -> None:
    logged = asyncio.Event()
    world.portal.services.environment.bus.watch(f"decisions:{world.account_id}", logged.set)
    async with world.client() as client:
        await client.join()
        asked = {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        client.send("request_authorization", asked)
        await client.receive("authorization_creation_failed")
        async with asyncio.timeout(PATIENCE_S):
            await logged.wait()
    (row,) = rows_of((await admin.get("/acme/logs/decisions")).text)
    assert ("Denied" in row, "Ada" in row, ">net</a>" in row, "offline" in row) == (True, True, True, True)
    panel = (await admin.get(link_of(row))).text
    (why,) = re.findall(r'<pre class="code-block">(.*?)</pre>', panel, re.DOTALL)
    assert "no gateway of its site is online" in why
    (explained,) = re.findall(r'<a href="(/acme/explain[^"]+)">', panel)
    answer = (await admin.get(explained)).text
    assert ("Denied" in answer, "There is no such decision" in answer) == (True, False)
    for query, count in {
        "outcome=granted": 0,
        "outcome=denied": 1,
        "q=ADA": 1,
        "q=eve": 0,
        f"actor_id={world.actor.id}": 1,
        f"resource_id={world.resource.id}": 1,
        f"client_id={world.resource.id}": 0,
        f"policy_id={world.policy.id}": 0,
    }.items():
        assert len(rows_of((await admin.get(f"/acme/logs/decisions?{query}")).text)) == count, query


async def test_logs_of_another_account_are_not_there(admin: httpx2.AsyncClient, world: World) -> None:
    other = await make_world(world.portal, "other")
    await renamed(other, "Elsewhere")
    assert "No results" in (await admin.get("/acme/logs/changes?q=Elsewhere")).text
    async with world.portal.services.store.reading() as transaction:
        (change,) = await transaction.of(other.account_id).changes(CHANGES.c.operation == "update", limit=1)
    answer = await admin.get(f"/acme/logs/changes/{change.log_id}")
    assert answer.status_code == 303


def link_of(row: str) -> str:
    return html.unescape(re.findall(r'href="([^"]+)" class="row-link', row)[0])


def to(page: str, rel: str) -> str | None:
    found = re.findall(rf'rel="{rel}" href="([^"]+)"', page)
    return html.unescape(found[0]) if found else None


def differences_of(page: str) -> list[tuple[str, ...]]:
    """Return the rows of the table before and after."""
    (table,) = re.findall(r'<table class="diff">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    return [
        tuple(
            html.unescape(re.sub("<[^>]+>", "", cell)).strip()
            for cell in re.findall(r"<(?:th|td).*?</(?:th|td)>", row, re.DOTALL)
        )
        for row in rows
    ]


async def renamed(world: World, name: str, *, by_admin: bool = False) -> None:
    services = world.portal.services
    subject: Any = None
    if by_admin:
        async with services.store.reading() as transaction:
            actors = transaction.of(world.account_id).actors
            admin = await actors.find(actors.c.type == "account_admin_user")
        assert admin is not None
        subject = {
            "actor_id": str(admin.id),
            "actor_name": admin.name,
            "actor_email": admin.email,
            "ip": "192.0.2.44",
            "user_agent": "Firefox",
        }
    async with services.store.writing(subject) as transaction:
        sites = transaction.of(world.account_id).sites
        site = await sites.load(world.site.id)
        assert isinstance(site, Site)
        await sites.save(replace(site, name=name))


async def reported(world: World, *flows: FlowLog) -> None:
    async with world.portal.services.store.writing() as transaction:
        await Logs(transaction, world.account_id).report_flows(flows)


def flow(world: World, at: datetime, **values: Any) -> FlowLog:
    client, gateway = world.client_token_id, world.gateway_token_id
    given: dict[str, Any] = dict.fromkeys(one.name for one in fields(FlowLog))
    given |= {
        "account_id": world.account_id,
        "log_id": "f" + "1" * 23,
        "role": "initiator",
        "initiator_device_id": client,
        "responder_device_id": gateway,
        "policy_authorization_id": client,
        "policy_id": world.policy.id,
        "resource_id": world.resource.id,
        "resource_name": "net",
        "initiator_actor_id": world.actor.id,
        "initiator_actor_name": "Ada",
        "authorized_at": at,
        "authorization_expires_at": at,
        "protocol": "tcp",
        "inner_src_ip": "100.64.0.1",
        "inner_src_port": 40000,
        "inner_dst_ip": "10.20.0.1",
        "inner_dst_port": 443,
        "outers": [
            {"src_ip": "198.51.100.7", "src_port": 51820, "dst_ip": "203.0.113.1", "dst_port": 51820},
            {"src_ip": None, "src_port": None, "dst_ip": "203.0.113.1", "dst_port": 3478},
        ],
        "flow_start": at,
        "flow_end": at + timedelta(seconds=67),
        "tx_bytes": 1500,
        "rx_bytes": 20,
        "tx_packets": 3,
        "rx_packets": 1,
        "inserted_at": at,
    }
    return FlowLog(**{**given, **values})
