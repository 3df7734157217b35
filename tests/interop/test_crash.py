"""A portal that is killed under load loses no write that it acknowledged, and leaves none half done.

The real process, `wardgate portal`, is killed with SIGKILL while eight callers create, rename and delete over REST. Then the database is
compared with what each caller was told: what was acknowledged must stand, and the one call that each had under way is there
whole or not at all. The feed must have every change of the rows, in order and without gaps. The next round goes on with the same database.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from support.postgres import postgres_database
from wardgate.portal.environment import Environment
from wardgate.portal.store import Database, PostgresServer, Store, parse_database_url

CALLERS = 8
ROUNDS = {"default": 5, "long": 50}
START_S = 20.0
LOAD_S = 20.0


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
    callers = [Caller(number, installation.token) for number in range(CALLERS)]
    acknowledged = 0
    for _ in range(ROUNDS[request.config.getoption("--profile")]):
        enough = acknowledged + rng.randint(5, 80)
        with installation.portal_running() as (process, port), load_from(callers, port):
            await reached(callers, enough)
            process.send_signal(signal.SIGKILL)
            process.wait()
        await compare(parse_database_url(database_url), installation.account_id, callers)
        acknowledged = sum(caller.acknowledged for caller in callers)


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


@dataclass
class Caller:
    """One thread that changes groups of its own over REST, and what it was told of them.

    Attributes:
        known: name by id, of what was acknowledged.
        under_way: the call that has no answer yet: its method, the id it is about, and the name it gives.
    """

    number: int
    token: str
    known: dict[str, str] = field(default_factory=dict)
    under_way: tuple[str, str | None, str | None] | None = None
    acknowledged: int = 0
    _counter: int = 0

    def work(self, port: int) -> None:
        """Call until the connection breaks."""
        rng = random.Random(self.number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                self._step(connection, rng)

    def _step(self, connection: http.client.HTTPConnection, rng: random.Random) -> None:
        self._counter += 1
        name = f"caller {self.number} call {self._counter}"
        chosen = rng.choice(list(self.known)) if self.known and rng.random() < 0.5 else None
        if chosen is None:
            made = self._call(connection, "POST", None, name)
            self.known[made["data"]["id"]] = name
        elif rng.random() < 0.5:
            self._call(connection, "PATCH", chosen, name)
            self.known[chosen] = name
        else:
            self._call(connection, "DELETE", chosen, None)
            del self.known[chosen]
        self.under_way = None
        self.acknowledged += 1

    def _call(
        self, connection: http.client.HTTPConnection, method: str, id_: str | None, name: str | None
    ) -> dict[str, Any]:
        self.under_way = (method, id_, name)
        path = "/groups" if id_ is None else f"/groups/{id_}"
        body = None if name is None else json.dumps({"group": {"name": name}})
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        assert response.status in (200, 201), (response.status, content)
        told: dict[str, Any] = json.loads(content)
        return told

    def settle(self, found: dict[str, str]) -> None:
        """Compare what is stored of this caller's groups with what it knows, and take over the call that was cut off."""
        expected = dict(self.known)
        if self.under_way is not None and found != expected:
            method, id_, name = self.under_way
            if method == "POST":
                (id_,) = found.keys() - expected.keys()
            assert id_ is not None
            if method == "DELETE":
                del expected[id_]
            else:
                assert name is not None
                expected[id_] = name
        assert found == expected
        self.known, self.under_way = expected, None


@contextlib.contextmanager
def load_from(callers: list[Caller], port: int) -> Iterator[None]:
    failures: list[BaseException] = []

    def work(caller: Caller) -> None:
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


async def reached(callers: list[Caller], acknowledged: int) -> None:
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
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ):
            assert time.monotonic() < deadline, "a transaction outlives its program"
            await asyncio.sleep(0.01)
    finally:
        await connection.close()


async def compare(database: Database, account_id: UUID, callers: list[Caller]) -> None:
    if isinstance(database, PostgresServer):
        await ended(database)
    store = await Store.open(database, Environment.of_this_process())
    try:
        async with store.reading() as transaction:
            groups = await transaction.of(account_id).groups.load_all()
            changes = await transaction.changes_after(account_id, 0, 1_000_000)
            counter = (await transaction.sequences())[account_id]
    finally:
        await store.close()
    stored = {str(group.id): group.name for group in groups}
    for caller in callers:
        mark = f"caller {caller.number} "
        caller.settle({id_: name for id_, name in stored.items() if name.startswith(mark)})
    assert [change.sequence for change in changes] == list(range(1, counter + 1))
    replayed: dict[str, str] = {}
    for change in changes:
        if change.object == "groups":
            assert replayed.get(_id(change)) == (None if change.before is None else change.before["name"])
            if change.after is None:
                del replayed[_id(change)]
            else:
                replayed[_id(change)] = change.after["name"]
    assert replayed == stored


def _id(change: Any) -> str:
    id_: str = (change.after or change.before)["id"]
    return id_
