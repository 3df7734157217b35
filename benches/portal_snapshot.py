"""An account's snapshot in the portal: its load on both databases, `init`, a change's way in one process and
in two, memory.

The portal is whole and in this process; only the sockets are missing. Times are of the wall clock, because
waiting for the disk or the server counts; where a step only computes, its CPU time stands beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import wardgate
from benches import decisions
from benches.portal_account import SHOWN, Organisation, Stopwatch, Taken, fill, percentiles
from wardgate.cli.garbage import settle
from wardgate.model.ids import ActorId, PolicyId
from wardgate.portal.app import Portal
from wardgate.portal.channels import Journal, Precedence
from wardgate.portal.channels.client_session import ClientSession
from wardgate.portal.channels.connecting import ConnectedClient
from wardgate.portal.database.row_changes import RowChange
from wardgate.portal.devices.tables import Device
from wardgate.portal.environment import Environment, SystemClock
from wardgate.portal.http.origin import Origin
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.services import Services
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.snapshot.accounts import Accounts, AccountView
from wardgate.portal.snapshot.audience import Interest
from wardgate.portal.store import Database, PostgresServer, SqliteFile
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.frames import Framing
from wardgate.wire.user_agent import build_user_agent

MASTER_SECRET: Final = b"k" * 32
CHANGES: Final = 100
DISTANT_CHANGES: Final = 40
SESSIONS: Final = 200
TOLD: Final = 1_000
USER_AGENT: Final = build_user_agent(
    PeerKind.CLIENT,
    os_name="Debian",
    os_version="12.0.0",
    product_version=wardgate.__version__,
    arch="x86_64",
    kernel="6.8.0",
)
JOIN: Final = '{"topic":"client","event":"phx_join","payload":{},"ref":0}'


async def measure_all(runs: int) -> dict[str, Any]:
    """Measure on a SQLite file that is durable at commit, and, where Debian's PostgreSQL is installed, on a
    server without sync.
    """
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory:
        file = SqliteFile(Path(directory) / "wardgate.db")
        async with opened(file, f"sqlite:///{file.path}") as account:
            results["sqlite"] = await account.measure(runs)
            results |= await account.measure_sessions(runs)
    async with postgres() as url:
        if url is not None:
            async with opened(PostgresServer(url), url) as account:
                results["postgres"] = await account.measure(runs)
    return results


@contextlib.asynccontextmanager
async def opened(database: Database, url: str) -> AsyncIterator[Measured]:
    """Run a portal on a database with the account in it, as a process of its own would."""
    settings = PortalSettings(database_url=database, api_capacity=1e9)
    portal = await Portal.open(settings, Keys.derive(MASTER_SECRET), Environment.of_this_process())
    try:
        organisation = await fill(portal.services)
        settle()
        async with portal.running():
            yield Measured(portal, organisation, database, url)
    finally:
        gc.unfreeze()
        await portal.close()


@contextlib.asynccontextmanager
async def postgres() -> AsyncIterator[str | None]:
    """Start the tests' own server; none: it is not installed."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    support = importlib.import_module("support.postgres")
    try:
        support.binaries()
    except RuntimeError:
        yield None
        return
    async with support.postgres_database() as url:
        yield url


@dataclass(frozen=True, slots=True)
class Measured:
    """A portal with the account in its database, ready to be measured."""

    portal: Portal
    organisation: Organisation
    database: Database
    url: str

    async def measure(self, runs: int) -> dict[str, Any]:
        """What depends on the database: loads and the way of a change."""
        services, organisation = self.portal.services, self.organisation
        loaded = [await load(services, organisation) for _ in range(runs)]
        held = [await longest_hold(services, organisation) for _ in range(runs)]
        async with services.accounts.using(organisation.account.id) as view:
            changes = [await change(services, organisation, view, number) for number in range(CHANGES)]
        return {
            "load_s": statistics.median(one.wall_s for one in loaded),
            "load_cpu_s": statistics.median(one.cpu_s for one in loaded),
            "hold_ms": statistics.median(one.wall_s for one in held) * 1e3,
            "hold_cpu_ms": statistics.median(one.cpu_s for one in held) * 1e3,
            "change_ms": percentiles([after_commit for _, after_commit in changes]),
            "commit_ms": percentiles([commit for commit, _ in changes]),
            "distant_ms": percentiles(await distant_changes(self)),
        }

    async def measure_sessions(self, runs: int) -> dict[str, Any]:
        """What does not: `init`, and memory."""
        services, organisation = self.portal.services, self.organisation
        megabytes = await memory_mb(services, organisation)
        async with services.accounts.using(organisation.account.id) as view:
            first, *inits = [init(services, organisation, view) for _ in range(1 + runs * 5)]
            wide = session_kib(services, organisation, view, organisation.user)
            usual = session_kib(services, organisation, view, organisation.other)
            told = told_ms(services, organisation, view)
        return {
            "first_init_ms": first.taken.wall_s * 1e3,
            "init_ms": statistics.median(one.taken.wall_s for one in inits) * 1e3,
            "init_cpu_ms": statistics.median(one.taken.cpu_s for one in inits) * 1e3,
            "init_bytes": first.frame_bytes,
            "init_resources": first.resources,
            "snapshot_mb": megabytes,
            "session_kib": usual[1],
            "session_resources": usual[0],
            "wide_session_kib": wide[1],
            "told_ms": told,
        }


async def load(services: Services, organisation: Organisation) -> Taken:
    """Load the account as for its first connection."""
    accounts = Accounts(services.store, services.feed, services.environment)
    watch = Stopwatch()
    async with accounts.using(organisation.account.id) as view:
        taken = watch.taken()
        assert len(view.snapshot.actors) > decisions.ACTORS
        assert len(view.snapshot.membership_ids) >= decisions.ACTORS
    await accounts.close()
    return taken


async def longest_hold(services: Services, organisation: Organisation) -> Taken:
    """Return how long the loop is kept from other tasks at a stretch while an account is loaded: by CPU time,
    and the same by the wall.
    """
    longest = Taken(0.0, 0.0)

    async def turn() -> None:
        nonlocal longest
        while True:
            watch = Stopwatch()
            await asyncio.sleep(0)
            taken = watch.taken()
            longest = Taken(max(longest.wall_s, taken.wall_s), max(longest.cpu_s, taken.cpu_s))

    turning = asyncio.create_task(turn())
    await load(services, organisation)
    turning.cancel()
    return longest


async def memory_mb(services: Services, organisation: Organisation) -> float:
    """Return what a loaded view holds, the pages of the database's cache not counted."""
    accounts = Accounts(services.store, services.feed, services.environment)
    gc.collect()
    tracemalloc.start()
    async with accounts.using(organisation.account.id):
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await accounts.close()
    return held / 1e6


def session_kib(
    services: Services, organisation: Organisation, view: AccountView, actor: Actor
) -> tuple[int, float]:
    """Return how many resources an actor's client is shown, and what its session holds beside those that all share."""
    warm = _session(services, view, _connected(organisation, actor))
    warm.handle_text(JOIN)
    frames = [warm.poll_transmit(), warm.poll_transmit()]
    shown = len(json.loads(frames[1] or "")["payload"]["resources"])
    warm.handle_disconnect()
    gc.collect()
    tracemalloc.start()
    sessions = []
    for number in range(2, 2 + SESSIONS):
        session = _session(services, view, _connected(organisation, actor, number))
        session.handle_text(JOIN)
        while session.poll_transmit() is not None:
            session.handle_transmitted()
        sessions.append(session)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for session in sessions:
        session.handle_disconnect()
    return shown, held / SESSIONS / 1024


def told_ms(services: Services, organisation: Organisation, view: AccountView) -> dict[str, float]:
    """Return CPU time until `TOLD` clients, each of an actor of its own, have dealt with a batch of the feed."""
    sessions = []
    for number, actor in enumerate(organisation.actors[:TOLD], start=2):
        session = _session(services, view, _connected(organisation, actor, number))
        session.handle_text(JOIN)
        view.attach(session, Interest.in_(actor.id, actor_id=ActorId(actor.id)))
        sessions.append(session)
    group_id, actor_id = organisation.policies[0].group_id, organisation.actors[-1].id
    batches = {
        "memberships": [
            _change("memberships", {"actor_id": str(actor_id), "group_id": str(group_id)}) for _ in range(500)
        ],
        "grants": [
            _change(
                "policy_authorizations",
                {"initiating_device_id": str(UUID(int=0)), "receiving_device_id": str(UUID(int=0))},
            )
            for _ in range(50)
        ],
    }
    taken = {}
    for name, changes in batches.items():
        batch = [
            replace(change, sequence=view.sequence + number) for number, change in enumerate(changes, start=1)
        ]
        watch = Stopwatch()
        view.apply(batch)
        taken[name] = watch.taken().cpu_s * 1e3
    for session in sessions:
        view.detach(session)
        session.handle_disconnect()
    return taken


def _change(table: str, row: dict[str, Any]) -> Change:
    return Change(
        account_id=UUID(int=0),
        sequence=0,
        log_id="",
        object=table,
        operation="insert",
        audience="internal",
        before=None,
        after={"id": str(UUID(int=1)), **row},
        subject=None,
        committed_at=decisions.NOW,
    )


async def distant_changes(account: Measured) -> list[float]:
    """Change policies while another process follows the account; returns seconds from each commit until its
    snapshot has it.
    """
    services, organisation = account.portal.services, account.organisation
    follower = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benches.portal_follower",
        account.url,
        str(organisation.account.id),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert follower.stdin is not None
    assert follower.stdout is not None
    rng, lags = random.Random(1), []
    try:
        assert await asyncio.wait_for(follower.stdout.readline(), 60) == b"ready\n"
        for number in range(DISTANT_CHANGES):
            # At no fixed distance from the follower's polls.
            await asyncio.sleep(rng.random() * 0.3)
            before = organisation.policies[number]
            async with services.store.writing() as tx:
                policies = tx.of(organisation.account.id).policies
                await policies.save(replace(before, description=f"distant change {number}"))
            committed = time.monotonic()
            arrived = float(await asyncio.wait_for(follower.stdout.readline(), 10))
            lags.append(arrived - committed)
    finally:
        follower.stdin.close()
        await follower.wait()
    return lags


class OfficeHours(SystemClock):
    """An instant that the conditions on the time allow."""

    def now(self) -> datetime:
        return decisions.NOW


@dataclass(frozen=True, slots=True)
class Init:
    """What one `init` took, and its size."""

    taken: Taken
    frame_bytes: int
    resources: int


def init(services: Services, organisation: Organisation, view: AccountView) -> Init:
    """From the join of a client to the frame of `init`."""
    session = _session(services, view, _connected(organisation, organisation.user))
    watch = Stopwatch()
    session.handle_text(JOIN)
    reply, frame = session.poll_transmit(), session.poll_transmit()
    taken = watch.taken()
    session.handle_disconnect()
    assert reply is not None
    assert frame is not None
    message = json.loads(frame)
    assert message["event"] == "init"
    resources = len(message["payload"]["resources"])
    assert resources >= SHOWN
    return Init(taken, len(frame.encode()), resources)


def _session(services: Services, view: AccountView, connected: ConnectedClient) -> ClientSession:
    environment = replace(services.environment, clock=OfficeHours())
    return ClientSession(
        Dialect(PeerKind.CLIENT),
        Framing.OBJECT,
        services=replace(services, environment=environment),
        journal=Journal(services, Precedence(environment.clock)),
        connected=connected,
        view=view,
    )


def _connected(organisation: Organisation, actor: Actor, number: int = 1) -> ConnectedClient:
    account_id = organisation.account.id
    id_ = UUID(int=number, version=4)
    return ConnectedClient(
        account=organisation.account,
        actor=actor,
        token=ClientToken(
            id=id_,
            account_id=account_id,
            actor_id=actor.id,
            secret_salt="",
            secret_hash="",
            expires_at=decisions.NOW + timedelta(days=1),
        ),
        device=Device(
            id=id_,
            account_id=account_id,
            type="client",
            name="laptop",
            psk_base=bytes(32),
            actor_id=actor.id,
            ipv4="100.64.0.1",
            ipv6="fd00:2021:1111::1",
            verified_at=decisions.NOW,
        ),
        public_key="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        origin=Origin(ip_address("203.0.113.5"), USER_AGENT, region="DE"),
    )


class Arrival:
    """A listener of the account's view, as a connection is one; `at` is when it heard of the next batch."""

    def __init__(self) -> None:
        self.at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def handle_changes(self, _changes: Sequence[RowChange]) -> None:
        self.at.set_result(time.perf_counter())

    def handle_view_lost(self) -> None:
        self.at.cancel()


async def change(
    services: Services, organisation: Organisation, view: AccountView, number: int
) -> tuple[float, float]:
    """Change one policy; returns seconds of the whole transaction, and from its end until the snapshot has it."""
    arrival = Arrival()
    view.attach(arrival)
    before, description = organisation.policies[number], f"change {number}"
    started = time.perf_counter()
    async with services.store.writing() as tx:
        policy = await tx.of(organisation.account.id).policies.save(replace(before, description=description))
    committed = time.perf_counter()
    arrived = await asyncio.wait_for(arrival.at, timeout=10)
    view.detach(arrival)
    assert view.snapshot.policies[PolicyId(policy.id)].description == description
    return committed - started, arrived - committed


def report(results: dict[str, Any]) -> None:
    print("\nportal: an account's snapshot")
    for name, title in (("sqlite", "SQLite, a file"), ("postgres", "PostgreSQL, a local server")):
        if name not in results:
            print(f"  {title}: not measured, PostgreSQL is not installed")
            continue
        one = results[name]
        print(f"  {title}")
        _row("loaded from the database", one["load_s"], "s", f"CPU {one['load_cpu_s']:.2f} s", limit=1)
        _row(
            "  longest hold of the loop, CPU time", one["hold_cpu_ms"], "ms", f"wall {one['hold_ms']:.1f} ms"
        )
        _row("a commit until the snapshot has it, p50", one["change_ms"]["p50"], "ms", limit=20)
        _row("  the same, p99", one["change_ms"]["p99"], "ms", limit=20)
        _row("  in another process, p50", one["distant_ms"]["p50"], "ms")
        _row("  in another process, p99", one["distant_ms"]["p99"], "ms")
        _row(
            "the change's own transaction, p50",
            one["commit_ms"]["p50"],
            "ms",
            f"p99 {one['commit_ms']['p99']:.1f} ms",
        )
    _row("memory of the loaded view", results["snapshot_mb"], "MB", limit=60)
    note = f"CPU {results['init_cpu_ms']:.2f} ms; {results['init_bytes']:,} bytes"
    _row(f"`init`, {results['init_resources']} resources", results["init_ms"], "ms", note, limit=10)
    _row("  the first after the load", results["first_init_ms"], "ms", limit=10)
    _row(
        f"a client's session, {results['session_resources']} resources",
        results["session_kib"],
        "KiB",
        limit=40,
    )
    _row(f"  the same, {results['init_resources']} resources", results["wide_session_kib"], "KiB", limit=40)
    _row(f"500 memberships told to {TOLD:,} clients, CPU", results["told_ms"]["memberships"], "ms")
    _row(f"50 grants told to {TOLD:,} clients, CPU", results["told_ms"]["grants"], "ms")


def _row(what: str, value: float, unit: str, note: str = "", *, limit: float | None = None) -> None:
    budget = "" if limit is None else f"budget < {limit} {unit}: {'met' if value < limit else 'MISSED'}"
    print(
        f"    {what:<42} {value:>8.2f} {unit:<3}  {'; '.join(part for part in (budget, note) if part)}".rstrip()
    )
