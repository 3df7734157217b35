"""The metrics listener beside the portal's: on loopback only, and nothing of it on the portal's own port."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.served_portal import served_portal
from wardgate.portal.listening import listen
from wardgate.portal.settings import PortalSettings


@pytest.fixture
async def ports() -> AsyncIterator[tuple[int, int]]:
    """A portal on every address, and its metrics; yields both ports."""

    def settings(port: int) -> PortalSettings:
        return PortalSettings(external_url=f"http://127.0.0.1:{port}")

    metrics = listen("127.0.0.1", 0)
    async with served_portal(settings, address="0.0.0.0", metrics=metrics) as (_portal, port):
        yield port, metrics.getsockname()[1]


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
