"""Reading a request log of a million rows, and what health takes meanwhile: search, count and export
(`/logs`, `/wardgate/logs/export`).

    python -m benches.portal_logs [ROWS]

The portal runs in this process behind its real listener; the callers are a process of their own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import insert

from benches.portal_account import percentiles
from benches.portal_snapshot import postgres
from wardgate.cli.garbage import settle
from wardgate.portal import credentials, provisioning
from wardgate.portal.app import Portal
from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.listening import listen
from wardgate.portal.logs.tables import API_REQUEST_LOGS
from wardgate.portal.people.tables import Actor
from wardgate.portal.server import serve
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Database, PostgresServer, SqliteFile

ROWS: Final = 1_000_000
SLICE: Final = 10_000
PROBE_EVERY_S: Final = 0.01
IDLE_S: Final = 5.0
READINGS: Final = {
    "nothing": "",
    "search": "/logs?type=api_request&q=nowhere-to-be-found",
    "first page": "/logs?type=api_request",
    "export": "/wardgate/logs/export?type=api_request",
}


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Each reading once, on both databases."""
    results = asyncio.run(measure(ROWS))
    print(f"\nlogs: reading {ROWS:,} calls of the API, and /healthz meanwhile")
    report(results)
    return results


async def measure(rows: int) -> dict[str, Any]:
    """Return, for each database and reading, seconds by the wall and of this process's CPU, lines a second,
    and percentiles of `/healthz` meanwhile in milliseconds.
    """
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory:
        results = {"sqlite": await _measure(SqliteFile(Path(directory) / "wardgate.db"), rows)}
    async with postgres() as url:
        if url is not None:
            results["postgresql"] = await _measure(PostgresServer(url), rows)
    return results


async def _measure(database: Database, rows: int) -> dict[str, Any]:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    settings = PortalSettings(
        database_url=database,
        external_url=f"http://127.0.0.1:{port}",
        api_capacity=1e9,
    )
    portal = await Portal.open(settings, Keys.derive(b"k" * 32), Environment.of_this_process())
    token = await _fill(portal, rows)
    settle()  # as the command does: a pass over all objects takes 0.14 s, in which nobody is served
    ready, stop = asyncio.Event(), asyncio.Event()
    serving = asyncio.create_task(serve(portal, listener, on_ready=ready.set, until=stop))
    await ready.wait()
    try:
        context = multiprocessing.get_context("spawn")
        results = {}
        for name, path in READINGS.items():
            receiving, sending = context.Pipe(duplex=False)
            before = time.process_time()
            caller = context.Process(target=_call, args=(sending, port, path, token))
            caller.start()
            results[name] = await asyncio.to_thread(receiving.recv)
            results[name]["cpu_s"] = time.process_time() - before
            await asyncio.to_thread(caller.join)
        return results
    finally:
        stop.set()
        await serving


def _call(sending: Any, port: int, path: str, token: str) -> None:
    """Read while another thread asks for health; in a process of its own."""
    taken: list[float] = []
    is_over = threading.Event()

    def probe() -> None:
        while not is_over.is_set():
            started = time.perf_counter()
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").read()
            taken.append(time.perf_counter() - started)
            time.sleep(PROBE_EVERY_S)

    probing = threading.Thread(target=probe)
    probing.start()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"authorization": f"Bearer {token}"}
    )
    started, lines = time.perf_counter(), 0
    if path:
        with urllib.request.urlopen(request) as answer:
            while chunk := answer.read(1 << 20):
                lines += chunk.count(b"\n")
    else:
        time.sleep(IDLE_S)
    took_s = time.perf_counter() - started
    is_over.set()
    probing.join()
    sending.send({"took_s": took_s, "rows_per_s": lines / took_s, **percentiles(taken or [0.0, 0.0])})


async def _fill(portal: Portal, rows: int) -> str:
    services = portal.services
    async with services.store.writing() as tx:
        made = await provisioning.provision(tx, name="Acme", slug="acme", admin_email="admin@acme.example")
        account_id, tables = made.account.id, tx.of(made.account.id)
        robot = await tables.actors.insert(
            Actor(id=tx.new_id(), account_id=account_id, type="api_client", name="robot")
        )
        issued = await credentials.issue(
            tables.api_tokens,
            transaction=tx,
            keys=services.keys,
            account_id=account_id,
            actor_id=robot.id,
            name="bench",
            expires_at=tx.now + timedelta(days=1),
        )
    for start in range(0, rows, SLICE):
        async with services.store.writing(is_synced=False) as tx:
            await tx.execute(
                insert(API_REQUEST_LOGS.table),
                [
                    {
                        "account_id": account_id,
                        "log_id": f"a{number:023x}",
                        "actor_id": robot.id,
                        "token_id": issued.id,
                        "method": "GET",
                        "path": f"/policies/{number}",
                        "request_id": f"request-{number}",
                        "user_agent": "bench/1.0",
                        "ip": "192.0.2.7",
                        "inserted_at": tx.now - timedelta(seconds=(rows - number) / 200),
                    }
                    for number in range(start, min(start + SLICE, rows))
                ],
            )
    return issued.text


def report(results: dict[str, Any]) -> None:
    for database, readings in results.items():
        print(f"  {database}")
        for name, one in readings.items():
            rate = f"{one['rows_per_s']:,.0f} rows/s" if name == "export" else ""
            print(
                f"    {name:<12} {one['took_s']:>8.2f} s, {one['cpu_s']:.2f} s of CPU   health p50 "
                f"{one['p50']:.1f} ms, "
                f"p99 {one['p99']:.1f} ms   {rate}"
            )


if __name__ == "__main__":
    report(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)))
