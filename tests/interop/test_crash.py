"""A portal that is killed under load loses no write that it acknowledged, and leaves none half done.

The real process, `wardgate portal`, is killed with SIGKILL while eight callers change groups and their
members over REST and the operator makes and ends accounts (`crash_callers`). Then the database is compared
with what each was told: what was acknowledged must stand, and the one call that each had under way is there
whole or not at all, with the members and jobs that belong to it. The feed, which is the audit log, must have
every change of the rows, in order, without gaps, with who did it. The next round goes on with the same
database, and begins with what was answered or cut off at the end of the last: a repeated call is answered as
the first time.
"""

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import select

from interop.crash_callers import Caller, Founded, Founder, Group, LoadedCaller
from support.patience import PATIENCE_S
from support.postgres import CLEARING, postgres_database
from wardgate.portal.environment import Environment
from wardgate.portal.installation.account_lifecycle import REMIND
from wardgate.portal.installation.tables import JOBS
from wardgate.portal.store import Database, PostgresServer, Store, Transaction, parse_database_url

CALLERS = 8
ROUNDS = {"default": 5, "long": 50}
START_S = 4 * PATIENCE_S
LOAD_S = 4 * PATIENCE_S


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/wardgate.db"
    else:
        async with postgres_database() as url:
            yield url


@pytest.mark.timeout(1200)
async def test_a_killed_portal_has_kept_every_acknowledged_write(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str
) -> None:
    installation = Installation(tmp_path, database_url)
    rng = random.Random(9)
    with installation.portal_running() as (_, port):
        actor_ids = made_actors(port, installation.token)
    callers = [Caller(number, installation.token, actor_ids) for number in range(CALLERS)]
    founder = Founder(CALLERS, installation.operator_token)
    everybody: list[LoadedCaller] = [*callers, founder]
    acknowledged = 0
    for _ in range(ROUNDS[request.config.getoption("--profile")]):
        enough = acknowledged + rng.randint(5, 80)
        with installation.portal_running() as (process, port), load_from(everybody, port):
            await reached(everybody, enough)
            process.send_signal(signal.SIGKILL)
            process.wait()
        await compare(parse_database_url(database_url), installation.account_id, callers, founder)
        acknowledged = sum(caller.acknowledged for caller in everybody)
    assert any(caller.repeated for caller in callers)
    assert founder.known


class Installation:
    """An installation on one database, made by `wardgate init`."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self._log = directory / "portal.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "WARDGATE_DATA_DIR": str(directory / "data"),
            "WARDGATE_DATABASE_URL": database_url,
            "WARDGATE_LISTEN": "127.0.0.1:0",
            "WARDGATE_LOG_FORMAT": "json",
            "WARDGATE_API_CAPACITY": "1000000",
            "WARDGATE_API_REFILL_RATE": "1000000",
        }
        made = subprocess.run(
            [
                *_WARDGATE, "init", "--json", "--account-name", "Acme", "--account-slug", "acme",
                "--admin-email", "ada@acme.example",
            ],
            env=self._environment,
            check=True,
            capture_output=True,
        )  # fmt: skip
        told = json.loads(made.stdout)
        self.token: str = told["api_token"]
        self.operator_token: str = told["operator_token"]
        self.account_id = UUID(told["account_id"])

    @contextlib.contextmanager
    def portal_running(self) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [*_WARDGATE, "portal"],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process, self._port(process)
        finally:
            process.kill()
            process.wait()

    def _port(self, process: "subprocess.Popen[bytes]") -> int:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            for line in self._log.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if entry.get("event") == "portal ready":
                        return int(entry["listen"].rpartition(":")[2])
            time.sleep(0.02)
        raise AssertionError(f"the portal did not become ready: {self._log.read_text()}")


_WARDGATE = (sys.executable, "-m", "wardgate.cli.main")


def made_actors(port: int, token: str) -> list[str]:
    """Make whoever will be in groups; their ids."""
    caller = Caller(CALLERS + 1, token, [])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        bodies = [{"actor": {"name": f"Robot {number}", "type": "service_account"}} for number in range(6)]
        return [caller.call(connection, "POST", "/actors", body).body["data"]["id"] for body in bodies]


@contextlib.contextmanager
def load_from(callers: list[LoadedCaller], port: int) -> Iterator[None]:
    failures: list[BaseException] = []

    def work(caller: LoadedCaller) -> None:
        try:
            caller.work(port)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    assert failures == []


async def reached(callers: list[LoadedCaller], acknowledged: int) -> None:
    deadline = time.monotonic() + LOAD_S
    while sum(caller.acknowledged for caller in callers) < acknowledged:
        assert time.monotonic() < deadline, "the portal acknowledges too little to be killed at work"
        await asyncio.sleep(0.001)


async def ended(database: PostgresServer) -> None:
    """Wait until the server has done with what the dead portal had asked of it."""
    connection = await asyncpg.connect(database.url)
    try:
        deadline = time.monotonic() + LOAD_S
        while await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> $1",
            CLEARING,
        ):
            assert time.monotonic() < deadline, "a transaction outlives its program"
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def compare(database: Database, account_id: UUID, callers: list[Caller], founder: Founder) -> None:
    if isinstance(database, PostgresServer):
        await ended(database)
    store = await Store.open(database, Environment.of_this_process())
    try:
        async with store.reading() as transaction:
            await compare_groups(transaction, account_id, callers)
            await compare_accounts(transaction, account_id, founder)
            for each, counter in (await transaction.sequences()).items():
                changes = await transaction.changes_after(each, 0, 1_000_000)
                assert [change.sequence for change in changes] == list(range(1, counter + 1))
    finally:
        await store.close()


async def compare_groups(transaction: Transaction, account_id: UUID, callers: list[Caller]) -> None:
    tables = transaction.of(account_id)
    groups, memberships = await tables.groups.load_all(), await tables.memberships.load_all()
    members: dict[UUID, set[str]] = {}
    for membership in memberships:
        members.setdefault(membership.group_id, set()).add(str(membership.actor_id))
    stored = {str(one.id): Group(one.name, frozenset(members.get(one.id, ()))) for one in groups}
    for caller in callers:
        caller.settle({id_: group for id_, group in stored.items() if group.name.startswith(caller.mark)})

    replayed: dict[str, dict[str, dict[str, Any]]] = {"groups": {}, "memberships": {}}
    for change in await transaction.changes_after(account_id, 0, 1_000_000):
        images = replayed.get(change.object)
        if images is None:
            continue
        id_ = (change.after or change.before or {})["id"]
        assert images.get(id_) == change.before, "a change begins where the one before has ended"
        if change.after is None:
            del images[id_]
        else:
            images[id_] = change.after
        if change.object == "groups" and str((change.after or change.before or {})["name"]).startswith(
            "caller "
        ):
            assert change.subject is not None
    assert {id_: image["name"] for id_, image in replayed["groups"].items()} == {
        str(group.id): group.name for group in groups
    }
    assert {
        id_: (image["group_id"], image["actor_id"]) for id_, image in replayed["memberships"].items()
    } == {str(one.id): (str(one.group_id), str(one.actor_id)) for one in memberships}


async def compare_accounts(transaction: Transaction, first_id: UUID, founder: Founder) -> None:
    """Each account is there with its administrator and token; exactly those that are ending have a job that
    will remind of it.
    """
    accounts = [one for one in await transaction.accounts.load_all() if one.id != first_id]
    founder.settle(
        {str(one.id): Founded(one.slug, is_ending=one.scheduled_deletion_at is not None) for one in accounts}
    )
    jobs = await transaction.execute(
        select(JOBS.c.arguments).where(JOBS.c.kind == REMIND, JOBS.c.finished_at.is_(None))
    )
    reminded = sorted(arguments["account_id"] for (arguments,) in jobs)
    assert reminded == sorted(str(one.id) for one in accounts if one.scheduled_deletion_at is not None)
    for account in accounts:
        tables = transaction.of(account.id)
        actors = await tables.actors.load_all()
        assert [one.type for one in actors if one.email is not None] == ["account_admin_user"]
        assert await tables.api_tokens.count() == 1
        assert account.is_disabled is (account.scheduled_deletion_at is not None)
