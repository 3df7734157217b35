"""Pages of administrators with many rows behind them, and 500 that are open: idle, and when something changes; and what
a person sees of them in headless Chromium, whose processor is slowed down to a quarter.

    python -m benches.portal_pages

The portal runs in this process on a file of SQLite's; requests are handed over as a server does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx2
from playwright.async_api import Page, async_playwright
from sqlalchemy import insert

from benches.portal_account import Stopwatch, Taken, percentiles
from wardgate.cli.garbage import settle
from wardgate.portal import credentials, provisioning
from wardgate.portal.access.tables import RESOURCES
from wardgate.portal.app import Portal
from wardgate.portal.environment import Environment
from wardgate.portal.http.asgi import Message
from wardgate.portal.keys import Keys
from wardgate.portal.listening import listen
from wardgate.portal.people.tables import Actor
from wardgate.portal.server import serve
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import SqliteFile

ROWS: Final = (1_000, 100_000)
CALLS: Final = 100
WARM_UP: Final = 5
SLICE: Final = 10_000
STREAMS: Final = 500
SESSIONS: Final = 10  # of 50 streams each, which is what one may have
CHANGES: Final = 10
IDLE_S: Final = 45.0  # more than two keep-alives
LOADS: Final = 7
SLOWED_BY: Final = 4
PATHS: Final = {
    "first page": "/acme/resources",
    "search": "/acme/resources?q=0042",
    "by address": "/acme/resources?sort=-address&page=3",
    "panel": "/acme/resources/{id}",
}


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Each page with few and with many rows behind it, then idle streams."""
    results = asyncio.run(measure())
    print("\npages: milliseconds of one page, and kilobytes of its HTML, as it is and compressed by a proxy")
    for rows, pages in results["pages"].items():
        for name, one in pages.items():
            print(
                f"  {int(rows):>7,} rows  {name:<11} p50 {one['p50']:6.1f}  p99 {one['p99']:6.1f}"
                f"  CPU {one['cpu']:6.1f}  {one['kB']:6.1f} kB  {one['gzip_kB']:5.1f} kB"
            )
    streams = results["streams"]
    print(
        f"  {STREAMS} open pages: {streams['opened_s']:.2f} s until all follow that begin at once;"
        f" idle {streams['idle_core_percent']:.1f} % of a core;"
        f" a change is told after {streams['first_ms']:.0f} ms, to the last page after {streams['last_ms']:.0f} ms"
    )
    _print_seen(results["seen"])
    return results


def _print_seen(seen: dict[str, Any] | None) -> None:
    if seen is None:
        print("  there is no Chromium here: what a person sees was not measured")
        return
    for name, one in seen["loads"].items():
        print(
            f"  {name:<11} in Chromium, {SLOWED_BY} times slower: largest contentful paint after"
            f" p50 {one['p50']:.0f} ms, p99 {one['p99']:.0f} ms; layout shift {one['shift']:.3f} at most"
        )
    print(
        f"  a change is in an open page after p50 {seen['change_ms']:.0f} ms, {seen['last_change_ms']:.0f} ms at most"
    )


async def measure() -> dict[str, Any]:
    pages: dict[str, Any] = {}
    streams: dict[str, float] = {}
    for rows in ROWS:
        with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory:
            settings = PortalSettings(database_url=SqliteFile(Path(directory) / "wardgate.db"))
            portal = await Portal.open(settings, Keys.derive(b"k" * 32), Environment.of_this_process())
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(portal.close)
                await stack.enter_async_context(portal.running())
                admin, id_ = await _fill(portal, rows)
                settle()
                transport = httpx2.ASGITransport(app=portal, client=("192.0.2.9", 40000))
                browsers = [
                    await stack.enter_async_context(
                        httpx2.AsyncClient(transport=transport, base_url="http://portal.example")
                    )
                    for _ in range(SESSIONS)
                ]
                for each in browsers:
                    await _sign_in(portal, admin, each)
                browser = browsers[0]
                pages[str(rows)] = {
                    name: await _page(browser, path.format(id=id_)) for name, path in PATHS.items()
                }
                if rows == min(ROWS):
                    streams = await _streams(portal, browsers, id_)
    return {"pages": pages, "streams": streams, "seen": await _seen()}


async def _page(browser: httpx2.AsyncClient, path: str) -> dict[str, float]:
    taken: list[Taken] = []
    for number in range(WARM_UP + CALLS):
        watch = Stopwatch()
        answer = await browser.get(path)
        if number >= WARM_UP:
            taken.append(watch.taken())
        assert answer.status_code == 200, (path, answer.status_code)
    size, compressed = len(answer.content), len(gzip.compress(answer.content))
    cpu = statistics.median(one.cpu_s for one in taken) * 1e3
    wall = percentiles([one.wall_s for one in taken])
    return {**wall, "cpu": cpu, "kB": size / 1e3, "gzip_kB": compressed / 1e3}


async def _streams(portal: Portal, browsers: list[httpx2.AsyncClient], resource_id: str) -> dict[str, float]:
    """Open many streams in the same instant; let nothing happen, then change a resource that all of them show.

    Returns how long until all follow, the share of a core that they take while nothing happens, and medians of when the
    first and the last of them are told of a change.
    """
    following: asyncio.Queue[int] = asyncio.Queue()
    told: asyncio.Queue[float] = asyncio.Queue()

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200, message["status"]
        elif b"event: following" in message["body"]:
            following.put_nowait(1)
        elif b"event: changed" in message["body"]:
            told.put_nowait(time.perf_counter())

    began = time.perf_counter()
    streams = [
        asyncio.create_task(portal(_scope(browsers[number % len(browsers)]), receive, send))
        for number in range(STREAMS)
    ]
    try:
        for _ in streams:
            await following.get()
        opened_s = time.perf_counter() - began
        await asyncio.sleep(1.0)
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(IDLE_S)
        idle = (time.process_time() - cpu) / (time.perf_counter() - wall) * 100
        first, last = [], []
        for number in range(CHANGES):
            async with portal.services.store.writing() as transaction:
                (account,) = await transaction.accounts.load_all()
                resources = transaction.of(account.id).resources
                row = await resources.load(UUID(resource_id))
                assert row is not None
                await resources.save(replace(row, name=f"Changed {number}"))
            began = time.perf_counter()
            times = sorted([await told.get() - began for _ in streams])
            first.append(times[0] * 1e3)
            last.append(times[-1] * 1e3)
        return {
            "opened_s": opened_s,
            "idle_core_percent": idle,
            "first_ms": statistics.median(first),
            "last_ms": statistics.median(last),
        }
    finally:
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


def _scope(browser: httpx2.AsyncClient) -> dict[str, Any]:
    """Return what a server makes of a browser's request for the stream of the page of resources."""
    request = browser.build_request("GET", "/acme/live?page=/resources")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/acme/live",
        "raw_path": b"/acme/live",
        "query_string": b"page=/resources",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("192.0.2.9", 40000),
        "server": ("portal.example", 80),
    }


_LARGEST_PAINT: Final = """() => new Promise((done) => {
  let paint = 0, shift = 0;
  new PerformanceObserver((list) => { for (const one of list.getEntries()) paint = one.startTime; })
    .observe({type: "largest-contentful-paint", buffered: true});
  new PerformanceObserver((list) => { for (const one of list.getEntries()) shift += one.value; })
    .observe({type: "layout-shift", buffered: true});
  setTimeout(() => done([paint, shift]), 1000);
})"""
_WHEN_SHOWN: Final = """(text) => {
  const shows = () => document.querySelector("tbody").textContent.includes(text);
  window.shown = new Promise((done) => new MutationObserver((_, observer) => {
    if (!shows()) return;
    observer.disconnect();
    done(performance.timeOrigin + performance.now());
  }).observe(document.body, {subtree: true, childList: true, characterData: true}));
}"""


async def _seen() -> dict[str, Any] | None:
    """Look at pages in a browser, over a socket; None if there is none here."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory:
        settings = PortalSettings(database_url=SqliteFile(Path(directory) / "wardgate.db"), external_url=url)
        portal = await Portal.open(settings, Keys.derive(b"k" * 32), Environment.of_this_process())
        admin, id_ = await _fill(portal, min(ROWS))
        ready, stop = asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(serve(portal, listener, on_ready=ready.set, until=stop))
        await ready.wait()
        try:
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = await browser.new_page(viewport={"width": 1280, "height": 900})
                await page.goto(f"{url}/acme/sign_in/link/{await _link(portal, admin)}")
                loads = {
                    name: await _loads(page, url + PATHS[name].format(id=id_))
                    for name in ("first page", "panel")
                }
                changes = [await _change_seen(portal, page, url, id_, number) for number in range(CHANGES)]
                await browser.close()
        finally:
            stop.set()
            await serving
    return {"loads": loads, "change_ms": statistics.median(changes), "last_change_ms": max(changes)}


async def _loads(page: Page, url: str) -> dict[str, float]:
    """Load a page again and again, with nothing kept but what the portal lets browsers keep."""
    tools = await page.context.new_cdp_session(page)
    await tools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWED_BY})
    taken, shifts = [], []
    for number in range(1 + LOADS):  # the first fills the browser's store
        await page.goto(url)
        paint, shift = await page.evaluate(_LARGEST_PAINT)
        if number:
            taken.append(paint / 1e3)
            shifts.append(shift)
    await tools.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    return {**percentiles(taken), "shift": max(shifts)}


async def _change_seen(portal: Portal, page: Page, url: str, resource_id: str, number: int) -> float:
    """Change a resource that an open page shows; returns the milliseconds until the page says so."""
    await page.goto(url + PATHS["first page"])
    await page.wait_for_timeout(500)  # until it follows
    await page.evaluate(_WHEN_SHOWN, name := f"Seen {number}")
    async with portal.services.store.writing() as transaction:
        (account,) = await transaction.accounts.load_all()
        resources = transaction.of(account.id).resources
        row = await resources.load(UUID(resource_id))
        assert row is not None
        await resources.save(replace(row, name=name))
    began = time.time() * 1e3
    shown: float = await page.evaluate("window.shown")
    return shown - began


async def _link(portal: Portal, admin: Actor) -> str:
    services = portal.services
    async with services.store.writing() as transaction:
        return await credentials.issue_sign_in_link(
            admin, lifetime_s=3600, transaction=transaction, keys=services.keys
        )


async def _fill(portal: Portal, rows: int) -> tuple[Actor, str]:
    """Make an account with so many resources; returns its admin and the id of a resource."""
    services = portal.services
    async with services.store.writing() as transaction:
        made = await provisioning.provision(
            transaction, name="acme", slug="acme", admin_email="admin@acme.example"
        )
        ids = [transaction.new_id() for _ in range(rows)]
        for first in range(0, rows, SLICE):
            await transaction.execute(
                insert(RESOURCES.table),
                [
                    {
                        "account_id": made.account.id,
                        "id": id_,
                        "type": "dns",
                        "name": f"Service {number:06}",
                        "address": f"host-{number * 7919 % rows:06}.example.com",
                        "address_description": None,
                        "ip_stack": "dual",
                        "filters": [],
                        "site_id": made.site.id,
                        "inserted_at": transaction.now,
                        "updated_at": transaction.now,
                    }
                    for number, id_ in enumerate(ids[first : first + SLICE], first)
                ],
            )
    return made.admin, str(ids[0])


async def _sign_in(portal: Portal, admin: Actor, browser: httpx2.AsyncClient) -> None:
    await browser.get(f"/acme/sign_in/link/{await _link(portal, admin)}")


if __name__ == "__main__":
    run(runs=1, seconds=1)
