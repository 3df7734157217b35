"""The metrics listener beside the portal's: on loopback only, and nothing of it on the portal's own port."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.patience import PATIENCE_S
from wardgate.portal.app import Portal
from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.listening import listen
from wardgate.portal.server import serve
from wardgate.portal.settings import PortalSettings


@pytest.fixture
async def ports() -> AsyncIterator[tuple[int, int]]:
    """A portal on every address, and its metrics; yields both ports."""
    listener = listen("0.0.0.0", 0)
    metrics = listen("127.0.0.1", 0)
    port, metrics_port = listener.getsockname()[1], metrics.getsockname()[1]
    settings = PortalSettings(external_url=f"http://127.0.0.1:{port}")
    portal = await Portal.open(settings, Keys.derive(b"k" * 32), Environment.of_this_process())
    ready, stop = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(serve(portal, listener, metrics=metrics, on_ready=ready.set, until=stop))
    await asyncio.wait_for(ready.wait(), PATIENCE_S)
    yield port, metrics_port
    stop.set()
    await asyncio.wait_for(task, PATIENCE_S)


async def test_a_scrape_sees_what_the_portal_answered(ports: tuple[int, int]) -> None:
    port, metrics_port = ports
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        scrape = await http.get(f"http://127.0.0.1:{metrics_port}/metrics")
        assert (await http.get(f"http://127.0.0.1:{metrics_port}/else")).status_code == 404
    assert scrape.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(scrape.text)
        for sample in family.samples
    }
    assert samples["wardgate_portal_requests_total", "health", "200"] == 1
    assert samples["wardgate_portal_channels", "client"] == 0
    assert ("wardgate_portal_jobs", "available") in samples


async def test_metrics_are_on_loopback_and_not_on_the_portals_port(ports: tuple[int, int]) -> None:
    port, metrics_port = ports
    async with httpx2.AsyncClient() as http:
        assert "wardgate_portal" not in (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    # The portal listens there, its metrics do not.
    _, writer = await asyncio.open_connection("127.0.0.2", port)
    writer.close()
    await writer.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", metrics_port)
