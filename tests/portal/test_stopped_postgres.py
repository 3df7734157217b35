"""A PostgreSQL that is stopped and started again while callers, browsers and peers are served."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from support.browser import caller, make_api_token
from support.portal import Peer, Refused, World, make_world, portal_running
from support.postgres import PostgresCluster
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import PostgresServer

COMPLAINT = "the database does not answer as it should"

# A server is made, stopped and started, on either run.
pytestmark = [pytest.mark.timeout(120), pytest.mark.one_database]


@pytest.fixture
def server() -> Iterator[PostgresCluster]:
    """A server of this test's own."""
    made = PostgresCluster()
    yield made
    made.stop()


@pytest.fixture
async def world(server: PostgresCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("WARDGATE_TESTS_DATABASE", "sqlite")  # this one is named here
    await server.ready()
    settings = PortalSettings(
        database_url=PostgresServer(server.url(await server.empty_database())),
        connect_capacity=1000.0,
        api_capacity=1e6,
    )
    async with portal_running(settings) as portal:
        yield await make_world(portal)


async def test_everybody_is_asked_to_come_back_and_served_when_the_server_is_back(
    world: World, server: PostgresCluster, caplog: pytest.LogCaptureFixture
) -> None:
    token, _ = await make_api_token(world)
    seen: Counter[tuple[str, int]] = Counter()

    async def call() -> None:
        async with caller(world.portal, token) as api:
            answer = await api.post("/sites", json={"site": {"name": f"Site {seen.total()}"}})
        assert answer.status_code == 201 or answer.headers["retry-after"] == "5", answer.text
        seen["call", answer.status_code] += 1

    async def browse() -> None:
        async with caller(world.portal) as browser:
            page = await browser.get("/acme/sign_in/link/none")
        seen["page", page.status_code] += 1

    async def connect() -> None:
        try:
            async with world.client(external_id="another") as another:
                await another.join()
            seen["socket", 101] += 1
        except Refused as refused:
            seen["socket", refused.refusal.status] += 1

    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        with caplog.at_level(logging.WARNING):
            async with _repeated(call), _repeated(browse), _repeated(connect):
                await _until(lambda: {("call", 201), ("socket", 101)} <= seen.keys())
                seen.clear()
                server.halt()
                await _until(lambda: {("call", 503), ("page", 503), ("socket", 503)} <= seen.keys())
                # Whoever is connected stays so, and is granted nothing that is not written down.
                assert await _readiness(world) == (503, "database_unavailable")
                await _ask(world, client, gateway)
                assert "authorization_created" not in [frame["event"] for frame in await client.news()]
                seen.clear()
                server.start()
                await server.ready()
                await _until(lambda: {("call", 201), ("socket", 101)} <= seen.keys())
                while await _readiness(world) != (200, "ready"):  # noqa: ASYNC110 - nobody announces that it is back
                    await asyncio.sleep(0.01)
        await gateway.news()
        await _ask(world, client, gateway)
        assert "authorization_created" in [frame["event"] for frame in await client.news()]
        # The change feed is followed again: what is deleted ends what it granted.
        async with caller(world.portal, token) as api:
            assert (await api.delete(f"/policies/{world.policy.id}")).status_code == 200
        await gateway.receive_until("reject_access")
    assert not [status for (_who, status) in seen if status not in (101, 201, 401, 404, 503)]
    assert [one.message for one in caplog.records] == [COMPLAINT]


@contextlib.asynccontextmanager
async def _repeated(once: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do something again and again beside the block; a fault of it is the test's."""
    is_over = False

    async def repeat() -> None:
        while not is_over:
            await once()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        is_over = True
        await task


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(0.01)


async def _ask(world: World, client: Peer, gateway: Peer) -> None:
    client.send("request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []})
    offer = await gateway.receive_until("create_authorization")
    gateway.send("authorization_created", {"ref": offer["payload"]["ref"]})
    await gateway.receive_until("phx_reply")
    await world.portal.journal.flush()


async def _readiness(world: World) -> tuple[int, str]:
    async with caller(world.portal) as probe:
        answer = await probe.get("/readyz")
    return answer.status_code, answer.json()["status"]
