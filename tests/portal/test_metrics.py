"""What a scrape says, and that docs/metrics.md says the same."""

import re
import sqlite3
from pathlib import Path
from typing import NoReturn

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import wardgate
from support.browser import caller
from support.portal import CLIENT_AGENT, Peer, Refused, World, make_world, portal_running
from wardgate.portal.app import Portal

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
SOURCES = Path(wardgate.__file__).parent / "portal"

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}


async def test_the_page_names_every_metric_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(wardgate_\w+)` \| (\w+) \| (.*?) \|", PAGE, re.MULTILINE)
    documented = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(documented) == len(rows)
    async with portal_running() as portal:
        await _exercise(await make_world(portal))
        exported = {
            (f"{family.name}_total" if family.type == "counter" else family.name): (
                family.type,
                frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
            )
            for family in await _scrape(portal)
        }
    assert documented == exported


def test_the_page_names_every_event() -> None:
    documented = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", PAGE.partition("## Events")[2], re.MULTILINE)
    counted = {
        name
        for module in SOURCES.rglob("*.py")
        for name in re.findall(r'counters\["(\w+)"\]', module.read_text())
    }
    assert documented == sorted(counted - {"grants"})


async def test_a_grant_a_denial_and_a_change_are_counted_and_timed() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        async with world.gateway() as gateway, world.client() as client:
            await gateway.join()
            await client.join()
            assert await _value(portal, "wardgate_portal_channels", kind="client") == 1
            client.send("request_authorization", {"resource_id": str(world.resource.id)})
            create = await gateway.receive_until("create_authorization")
            gateway.send("authorization_created", {"ref": create["payload"]["ref"]})
            await client.receive_until("authorization_created")
            client.send("request_authorization", {"resource_id": str(world.account_id)})
            await client.receive_until("authorization_creation_failed")
            async with portal.services.store.writing() as transaction:
                await transaction.of(world.account_id).policies.delete(world.policy.id)
            await client.receive_until("resource_deleted")
        assert await _value(portal, "wardgate_portal_grants_total") == 1
        assert await _value(portal, "wardgate_portal_denials_total", reason="not_found") == 1
        assert await _value(portal, "wardgate_portal_decision_seconds_count") == 2
        assert await _value(portal, "wardgate_portal_feed_lag_seconds_count") >= 1
        assert await _value(portal, "wardgate_portal_channels", kind="client") == 0


async def test_requests_are_counted_by_part_and_status_and_never_by_path() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        await _exercise(world)
        expected = {("rest", "401"): 1, ("web", "303"): 1, ("health", "200"): 1, ("upgrade", "101"): 1}
        expected[("upgrade", "401")] = 1
        for (part, status), count in expected.items():
            assert await _value(portal, "wardgate_portal_requests_total", part=part, status=status) == count
        assert "acme" not in (await portal.export_metrics()).decode()
        assert str(world.account_id) not in (await portal.export_metrics()).decode()


async def test_requests_and_decisions_are_told_as_spans_without_paths_once_somebody_collects_them() -> None:
    spans: list[tuple[str, dict[str, str | int], dict[str, str]]] = []
    async with portal_running() as portal:
        world = await make_world(portal)
        await _exercise(world)
        portal.services.spans.record = lambda name, took_s, attributes, caller: spans.append(
            (name, dict(attributes), dict(caller))
        )
        async with caller(portal) as browser:
            await browser.get("/acme/sites", headers={"traceparent": "00-aa-bb-01", "tracestate": "x" * 600})
            await browser.get("/healthz")
        async with world.client(headers=TRACE) as client:
            await client.join()
            client.send("request_authorization", {"resource_id": str(world.resource.id)})
            await client.receive_until("authorization_creation_failed")
        with pytest.raises(Refused):
            await world.client(token=None, headers={"traceparent": "x" * 600}).__aenter__()
    page, upgrade, decision, refused = spans
    assert page == (
        "GET web",
        {"http.request.method": "GET", "wardgate.part": "web", "http.response.status_code": 303},
        {"traceparent": "00-aa-bb-01"},
    )
    told = {"http.request.method": "GET", "wardgate.part": "upgrade"}
    assert upgrade == ("GET upgrade", {**told, "http.response.status_code": 101}, TRACE)
    assert decision == ("decision", {"wardgate.resource_id": str(world.resource.id)}, TRACE)
    assert refused == ("GET upgrade", {**told, "http.response.status_code": 401}, {})


async def test_the_end_of_a_channel_is_counted_once_by_its_code_and_by_who_closed() -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        async with world.client() as client:
            await client.join()
        async with world.client() as client:
            await client.join()
            client.send_text("x" * 300_000)
            assert await client.receive_close() == 1009
        closed = "wardgate_portal_channels_closed_total"
        assert await _value(portal, closed, kind="client", code="1005", by="peer") == 1
        assert await _value(portal, closed, kind="client", code="1009", by="portal") == 1


async def test_without_a_database_everything_but_the_jobs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*, is_long: bool = False) -> NoReturn:
        del is_long
        raise sqlite3.OperationalError("disk I/O error")

    async with portal_running() as portal:
        with monkeypatch.context() as patched:
            patched.setattr(portal.services.store, "reading", refuse)
            names = {family.name for family in await _scrape(portal) if family.samples}
    assert "wardgate_portal_channels" in names
    assert "wardgate_portal_jobs" not in names


async def _exercise(world: World) -> None:
    """Make every family of metrics have a sample."""
    async with caller(world.portal) as visitor:
        for path in ("/account", "/acme", "/healthz"):
            await visitor.get(path)
    with pytest.raises(Refused):
        await Peer(world.portal, "client", None, CLIENT_AGENT).__aenter__()
    async with world.client() as client:
        await client.join()
        client.send("nonsense", {})
        await client.receive("phx_reply")
        client.send("request_authorization", {"resource_id": str(world.account_id)})
        await client.receive_until("authorization_creation_failed")
        client.send_binary(b"x")
        assert await client.is_quiet()


async def _scrape(portal: Portal) -> list[Metric]:
    text = (await portal.export_metrics()).decode()
    return [one for one in text_string_to_metric_families(text) if not one.name.endswith("_created")]


async def _value(portal: Portal, name: str, **labels: str) -> float:
    values = [
        sample.value
        for family in await _scrape(portal)
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(values) == 1, (name, labels, values)
    return values[0]
