"""`wardgate bench control`: a crowd of peers at a portal behind its real server, over real TCP."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NamedTuple

import pytest

from support.patience import PATIENCE_S
from support.portal import World, make_world
from support.served_portal import served_portal
from wardgate.net.portal_link import PortalRefused
from wardgate.peer.crowd import Crowd, Percentiles, Plan
from wardgate.portal.app import Portal
from wardgate.portal.settings import PortalSettings

pytestmark = pytest.mark.timeout(20 * PATIENCE_S)  # more than all that is waited for in a test


class Stand(NamedTuple):
    portal: Portal
    world: World
    plan: Plan


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    def settings(port: int) -> PortalSettings:
        return PortalSettings(external_url=f"http://127.0.0.1:{port}", connect_capacity=1000.0)

    async with served_portal(settings) as (portal, port):
        world = await make_world(portal)
        plan = Plan(
            url=f"ws://127.0.0.1:{port}",
            client_token=world.client_token,
            gateway_token=world.gateway_token,
            clients=12,
            gateways=2,
            connects_per_s=200.0,
            resource_id=world.resource.id,
            requests=40,
            requests_per_s=200.0,
            hold_s=0.0,
            product_version="0",
        )
        yield Stand(portal, world, plan)


def crowd(plan: Plan, said: list[str] | None = None) -> Crowd:
    return Crowd(plan, rng=random.Random(7), say=[].append if said is None else said.append)


async def test_a_crowd_connects_asks_and_is_granted(stand: Stand) -> None:
    report = await asyncio.wait_for(crowd(stand.plan).run(), 8 * PATIENCE_S)
    assert report.connect is not None
    assert report.authorise is not None
    assert report.granted is not None
    asked = 40 - report.failed.pop("nobody free to ask", 0)
    assert report.connect.count == 12
    assert (report.authorise.count, report.granted.count) == (asked, asked)
    assert 0 < report.authorise.p50_ms <= report.granted.max_ms
    assert (report.failed, report.refused, report.lost) == ({}, {}, {})
    assert (report.absent, report.unanswered, report.returned) == (0, 0, 0)


async def test_a_crowd_comes_back_after_a_restart_and_nobody_is_revoked(stand: Stand) -> None:
    portal, plan = stand.portal, stand.plan
    counters: Counter[str] = portal.services.counters
    said: list[str] = []
    going = crowd(plan, said)
    async with asyncio.timeout(8 * PATIENCE_S), going.gathered():
        assert plan.resource_id is not None
        await going.ask(plan.resource_id, requests=1, per_s=plan.requests_per_s)
        await portal.channels.drain()
        portal.channels._is_draining = False
        while going.returned < plan.clients + plan.gateways:  # noqa: ASYNC110 - nothing tells of each
            await asyncio.sleep(0.02)
        report = going.report()
    assert counters["closed_drained"] >= 12
    assert report.granted is not None
    assert report.absent == 0
    assert "all are back" in said
    assert report.late is not None
    assert counters["revocations"] == 0


async def test_a_token_that_the_portal_refuses_ends_the_crowd(stand: Stand) -> None:
    with pytest.RaisesGroup(PortalRefused):
        await asyncio.wait_for(crowd(replace(stand.plan, client_token="nonsense")).run(), 4 * PATIENCE_S)


def test_percentiles_are_of_what_was_seen() -> None:
    assert Percentiles.of([]) is None
    assert Percentiles.of([0.001]) == Percentiles(1, 1.0, 1.0, 1.0)
    assert Percentiles.of([n / 1000 for n in range(1, 201)]) == Percentiles(200, 100.5, 199.0, 200.0)
