"""How soon each cause that ends access reaches who enforces it: `python -m benches.revocations [RUNS]`.

The rows are those of tests/portal/channels (`test_hooks`, `test_pool_hooks`), which hold the frames; here each is
timed, from the commit of its transaction until its last frame is handed over to the socket, on SQLite (a file, durable)
and PostgreSQL (a local server without sync). Prints the table of docs/revocations.md: medians of RUNS, by the wall.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from benches.portal_snapshot import postgres
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Database, PostgresServer, SqliteFile

RUNS: Final = 3
ENDS: Final = ("reject_access", "disconnect", "phx_close")
"""Frames by which a receiver stops letting packets through."""

_TESTS: Final = str(Path(__file__).parents[1] / "tests")


class Stamps:
    """When the latest commit was, and when each peer was last told something after it."""

    def __init__(self, peer_class: Any) -> None:
        self.committed_at = 0.0
        self.told_at: dict[int, float] = {}
        take = peer_class._take  # noqa: SLF001 - where the portal hands frames over

        async def stamped(peer: Any, event: dict[str, Any]) -> None:
            if event["type"] != "websocket.send" or '"event":"phx_reply"' not in event["text"]:
                self.told_at[id(peer)] = time.perf_counter()
            await take(peer, event)

        peer_class._take = stamped  # noqa: SLF001

    def note(self, _moved: frozenset[Any]) -> None:
        self.committed_at = time.perf_counter()
        self.told_at.clear()

    def of(self, peer: Any) -> float | None:
        """Return the milliseconds from the commit to the last frame; None if there was none."""
        at = self.told_at.get(id(peer))
        return None if at is None else (at - self.committed_at) * 1e3


async def measure(runs: int) -> list[dict[str, Any]]:
    """Return for each row what both ends hear and, by database, how many milliseconds after the commit."""
    sys.path.append(_TESTS)
    hooks = importlib.import_module("portal.channels.test_hooks")
    pool_hooks = importlib.import_module("portal.channels.test_pool_hooks")
    stamps = Stamps(importlib.import_module("support.portal").Peer)
    rows = [
        {"cause": hook.row, "kind": kind, "client": client, "receiver": receiver, "hook": hook}
        for kind, some in (
            ("gateway", [*hooks.ACCOUNTS, *hooks.PEOPLE, *hooks.DEVICES, *hooks.POLICIES, *hooks.RESOURCES]),
            ("device of a pool", [*pool_hooks.HOOKS, *pool_hooks.CAUSES_AT_GATEWAYS]),
        )
        for hook in some
        for client, receiver in [
            (hook.client, hook.gateway) if kind == "gateway" else (hook.laptop, hook.nas)
        ]
        if any(frame.startswith(ENDS) for frame in (*client, *receiver))
    ]
    for database in ("sqlite", "postgres"):
        async with _portal(database) as portal:
            for number, row in enumerate(rows):
                row[database] = [None, None]
                if portal is not None:
                    taken = [await _play(row, portal, f"a{number}-{run}", stamps) for run in range(runs)]
                    row[database] = [_median([one[end] for one in taken]) for end in (0, 1)]
    return rows


async def _play(
    row: dict[str, Any], portal: Any, slug: str, stamps: Stamps
) -> tuple[float | None, float | None]:
    """Return how soon the client and the receiver heard all that they are told, in an account of their own."""
    world = await importlib.import_module("support.portal").make_world(portal, slug)
    scene = _at_gateway if row["kind"] == "gateway" else _at_device
    return await scene(row["hook"], world, stamps)


@contextlib.asynccontextmanager
async def _portal(database: str) -> AsyncIterator[Any]:
    async with _location(database) as location:
        if location is None:
            yield None
            return
        support = importlib.import_module("support.portal")
        settings = PortalSettings(database_url=location, connect_capacity=1e6, connect_refill_per_s=1e6)
        async with support.portal_running(settings) as portal:
            yield portal


async def _at_gateway(hook: Any, world: Any, stamps: Stamps) -> tuple[float | None, float | None]:
    hooks = importlib.import_module("support.hooks")
    async with hooks.before(hook, world) as (client, gateway, change):
        stop = world.portal.services.store.on_commit(stamps.note)
        await change()
        stop()
        await client.news()
        await gateway.news()
        return stamps.of(client), stamps.of(gateway)


async def _at_device(hook: Any, world: Any, stamps: Stamps) -> tuple[float | None, float | None]:
    hooks = importlib.import_module("support.hooks")
    pool_hooks = importlib.import_module("portal.channels.test_pool_hooks")
    pools = importlib.import_module("support.pools")
    async with pool_hooks.granted(hook, world) as pair:
        stop = world.portal.services.store.on_commit(stamps.note)
        async with world.portal.services.store.writing() as transaction:
            await hook.change(hooks.Stage(world, transaction), pair)
        stop()
        await pools.caught_up(world)
        await pair.laptop.news()
        await pair.nas.news()
        return stamps.of(pair.laptop), stamps.of(pair.nas)


@contextlib.asynccontextmanager
async def _location(database: str) -> AsyncIterator[Database | None]:
    if database == "postgres":
        async with postgres() as url:
            yield None if url is None else PostgresServer(url)
    else:
        with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as place:
            yield SqliteFile(Path(place) / "wardgate.db")


def _median(taken: list[float | None]) -> float | None:
    known = [one for one in taken if one is not None]
    return statistics.median(known) if known else None


def _line(row: dict[str, Any]) -> str:
    times = " | ".join(
        "–" if one is None else f"{one:.1f}" for name in ("sqlite", "postgres") for one in row[name]
    )
    return f"| {row['cause']} | {row['kind']} | {_frames(row['client'])} | {_frames(row['receiver'])} | {times} |"


def _frames(frames: tuple[str, ...]) -> str:
    return ", ".join(f"`{one}`" for one in frames) or "nothing"


HEAD: Final = """\
| cause | enforced by | the client hears | who enforces hears | SQLite: client | it | PostgreSQL: client | it |
| --- | --- | --- | --- | ---: | ---: | ---: | ---: |"""


if __name__ == "__main__":
    measured = asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS))
    print("\n".join([HEAD, *map(_line, measured)]))
