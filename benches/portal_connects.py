"""What a peer costs the portal: CPU time of a connect, memory of an idle connection, everybody's way back after a
restart. A real portal and a crowd (`wardgate bench control`), a process each, over real sockets.

    python -m benches.portal_connects [--clients 2000] [--rate 200] [--database sqlite|postgres]

CPU time is that of the portal's process and depends little on what else runs; milliseconds by the clock do.
Memory is what the system counts as resident in the portal with everybody connected, over what it has with nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benches.portal_snapshot import postgres
from benches.portal_sockets import free_port, running
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.portal import credentials, provisioning
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.app import Portal
from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import Database, PostgresServer, SqliteFile

MASTER_SECRET: Final = b"k" * 32
RESOURCES: Final = 30  # each client is shown
CLIENTS: Final = 2_000
RATE: Final = 200.0
SETTLED_S: Final = 5.0
"""After the start, until its jobs have run; after the last connect, until what was done for it has been freed."""

BACK_WITHIN_S: Final = 90.0
"""How long the crowd stays, until the portal has started again and everybody is back; what is left of it is idle."""

BUDGETS: Final = {"connect_p99_ms": 20.0, "idle_kib": 40.0, "back_s": 10.0}
_WARDGATE: Final = str(Path(sys.executable).with_name("wardgate"))


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """One crowd, new to the portal and then known to it, and a restart below it."""
    results = measure(CLIENTS, RATE, "sqlite")
    assert results is not None
    report(results)
    return results


def measure(clients: int, rate: float, database: str) -> dict[str, Any] | None:
    """Return CPU time, latencies, memory and the way back of a crowd; None if the database is not installed."""
    raise_descriptor_limit()
    with (
        tempfile.TemporaryDirectory(prefix="wardgate-bench-") as name,
        asyncio.Runner() as runner,
        _served(runner, Path(name), database) as location,
    ):
        if location is None:
            return None
        token = runner.run(_fill(Path(name), location))
        stand = Stand(Path(name), location, free_port(), token, clients, rate)
        with stand.portal() as portal:
            new = _connected(stand, portal)
        with stand.portal() as portal:
            known = _connected(stand, portal)
        return {
            "clients": clients,
            "rate": rate,
            "database": database,
            "new": new,
            "known": known,
            "restart": _restarted(stand),
        }


@contextlib.contextmanager
def _served(runner: asyncio.Runner, directory: Path, database: str) -> Iterator[Database | None]:
    """Give an empty database; a server ends with the block."""
    if database == "sqlite":
        yield SqliteFile(directory / "wardgate.db")
        return
    server = postgres()
    try:
        url = runner.run(server.__aenter__())
        yield None if url is None else PostgresServer(url)
    finally:
        runner.run(server.__aexit__(None, None, None))


@dataclass(frozen=True, slots=True)
class Stand:
    """A portal's directory and database, and a crowd for it."""

    directory: Path
    database: Database
    port: int
    token: str
    clients: int
    rate: float

    def portal(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        environment = {
            **os.environ,
            "WARDGATE_DATA_DIR": str(self.directory),
            "WARDGATE_DATABASE_URL": self._database_url(),
            "WARDGATE_LISTEN": f"127.0.0.1:{self.port}",
            "WARDGATE_CONNECT_CAPACITY": "1000000",
            "WARDGATE_CONNECT_REFILL_RATE": "1000000",
            "WARDGATE_MAX_CONNECTIONS_PER_ADDRESS": "100000",
            "WARDGATE_LOG_LEVEL": "warning",
        }
        return running([_WARDGATE, "portal"], self.port, environment)

    def _database_url(self) -> str:
        return (
            self.database.url
            if isinstance(self.database, PostgresServer)
            else f"sqlite:///{self.database.path}"
        )

    @contextlib.contextmanager
    def crowd(self, hold_s: float) -> Iterator[subprocess.Popen[str]]:
        plan = [
            "--clients",
            str(self.clients),
            "--rate",
            str(self.rate),
            "--gateways",
            "0",
            "--hold",
            f"{hold_s}s",
        ]
        url = ["--api-url", f"ws://127.0.0.1:{self.port}"]
        process = subprocess.Popen(
            [_WARDGATE, "bench", "control", *url, *plan, "--json"],
            env={**os.environ, "WARDGATE_CLIENT_TOKEN": self.token},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _connected(stand: Stand, portal: subprocess.Popen[bytes]) -> dict[str, Any]:
    time.sleep(SETTLED_S)  # what a portal does at its start is not what a connect costs
    empty_kib, before_s = _resident_kib(portal.pid), _cpu_s(portal.pid)
    with stand.crowd(hold_s=SETTLED_S) as crowd:
        _wait_for(crowd, "clients are connected")
        cpu_s = _cpu_s(portal.pid) - before_s
        crowd_cpu_s = _cpu_s(crowd.pid)
        time.sleep(SETTLED_S - 1)
        held_kib = _resident_kib(portal.pid)
        seen = json.loads(crowd.communicate()[0])
    return {
        "cpu_ms": cpu_s / stand.clients * 1e3,
        "crowd_cpu_ms": crowd_cpu_s / stand.clients * 1e3,
        "connect": seen["connect"],
        "late": seen["late"],
        "refused": seen["refused"],
        "absent": seen["absent"],
        "idle_kib": (held_kib - empty_kib) / stand.clients,
    }


def _restarted(stand: Stand) -> dict[str, Any]:
    """Kill the portal below its peers and start it again; the crowd tells how long each was away."""
    with contextlib.ExitStack() as stack:
        portal = stack.enter_context(stand.portal())
        crowd = stack.enter_context(stand.crowd(hold_s=BACK_WITHIN_S))
        _wait_for(crowd, "clients are connected")
        left_crowd_cpu_s = _cpu_s(crowd.pid)
        os.kill(portal.pid, signal.SIGKILL)
        portal.wait()
        killed_at = time.perf_counter()
        portal = stack.enter_context(stand.portal())
        down_s, start_cpu_s = time.perf_counter() - killed_at, _cpu_s(portal.pid)
        are_all_back = _hears(crowd, "all are back")
        back_at, back_cpu_s, crowd_cpu_s = time.perf_counter(), _cpu_s(portal.pid), _cpu_s(crowd.pid)
        seen = json.loads(crowd.communicate()[0])
        idle_s = time.perf_counter() - back_at
        return {
            "down_s": down_s,
            "idle_us_per_s": (_cpu_s(portal.pid) - back_cpu_s) / idle_s / stand.clients * 1e6
            if are_all_back
            else None,
            "away": seen["away"],
            "returned": seen["returned"],
            "absent": seen["absent"],
            "refused": seen["refused"],
            "late": seen["late"],
            "cpu_ms": (back_cpu_s - start_cpu_s) / stand.clients * 1e3,
            "crowd_cpu_ms": (crowd_cpu_s - left_crowd_cpu_s) / stand.clients * 1e3,
        }


def _wait_for(crowd: subprocess.Popen[str], line: str) -> None:
    if not _hears(crowd, line):
        raise RuntimeError(f"the crowd ended before it said: {line}")


def _hears(crowd: subprocess.Popen[str], line: str) -> bool:
    """Wait until the crowd has said something; False if it ends without."""
    assert crowd.stderr is not None
    return any(line in said for said in crowd.stderr)


async def _fill(directory: Path, location: Database) -> str:
    """Make an account with a site, resources and one service account that all clients are; return its token."""
    secret = directory / "secret.key"
    secret.touch(mode=0o600)
    secret.write_bytes(MASTER_SECRET)
    settings = PortalSettings(database_url=location)
    portal = await Portal.open(settings, Keys.derive(MASTER_SECRET), Environment.of_this_process())
    services = portal.services
    try:
        async with services.store.writing() as tx:
            made = await provisioning.provision(tx, name="Acme", slug="acme", admin_email="ada@acme.example")
            account_id, tables = made.account.id, tx.of(made.account.id)
            robot = await tables.actors.insert(
                Actor(id=tx.new_id(), account_id=account_id, type="service_account", name="crowd")
            )
            group = await tables.groups.insert(Group(id=tx.new_id(), account_id=account_id, name="crowd"))
            await tables.memberships.insert(
                Membership(id=tx.new_id(), account_id=account_id, actor_id=robot.id, group_id=group.id)
            )
            site = await tables.sites.insert(Site(id=tx.new_id(), account_id=account_id, name="Berlin"))
            for number in range(RESOURCES):
                resource = await tables.resources.insert(
                    Resource(
                        id=tx.new_id(),
                        account_id=account_id,
                        type="dns",
                        name=f"app-{number}",
                        address=f"app-{number}.acme.example",
                        ip_stack="dual",
                        site_id=site.id,
                    )
                )
                await tables.policies.insert(
                    Policy(id=tx.new_id(), account_id=account_id, group_id=group.id, resource_id=resource.id)
                )
            issued = await credentials.issue(
                tables.client_tokens,
                transaction=tx,
                keys=services.keys,
                account_id=account_id,
                actor_id=robot.id,
                expires_at=tx.now + timedelta(days=1),
            )
        return issued.text
    finally:
        await portal.close()


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise ValueError(pid)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(results: dict[str, Any]) -> None:
    print(
        f"\nconnects: {results['clients']:,} clients, {results['rate']:g} a second, {RESOURCES} resources each, "
        f"{results['database']}"
    )
    for name in ("new", "known"):
        one = results[name]
        took = one["connect"]
        print(
            f"    devices {name:<6} {one['cpu_ms']:6.2f} ms of CPU a connect; to init p50 {took['p50_ms']:.1f}, "
            f"p99 {took['p99_ms']:.1f} ms (budget {BUDGETS['connect_p99_ms']:g})"
        )
        print(
            f"    {'':<14} {one['crowd_cpu_ms']:6.2f} ms of CPU of the crowd, which was late by p50 "
            f"{one['late']['p50_ms']:.1f}, p99 {one['late']['p99_ms']:.1f} ms itself"
        )
        print(
            f"    {'':<14} {one['idle_kib']:6.1f} KiB each (budget {BUDGETS['idle_kib']:g}); "
            f"refused {one['refused']}, absent {one['absent']}"
        )
    one = results["restart"]
    away = one["away"] or {"p50_ms": 0.0, "max_ms": 0.0}
    print(
        f"    killed, there again after {one['down_s']:.1f} s: {one['returned']:,} came back, {one['absent']} did not; "
        f"{one['cpu_ms']:.2f} ms of CPU each, {one['crowd_cpu_ms']:.2f} of the crowd"
    )
    print(
        f"    {'':<14} away p50 {away['p50_ms'] / 1e3:.1f}, at most {away['max_ms'] / 1e3:.1f} s "
        f"(budget {BUDGETS['back_s']:g} for 5,000); refused {one['refused']}"
    )
    if one["idle_us_per_s"] is not None:
        print(f"    {'':<14} then {one['idle_us_per_s']:.0f} µs of CPU a second for each quiet client")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benches.portal_connects")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    options = parser.parse_args()
    seen = measure(options.clients, options.rate, options.database)
    if seen is None:
        sys.exit("skipped: PostgreSQL is not installed")
    report(seen)
