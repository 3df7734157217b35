"""Two checkouts side by side: CPU time of the portal for the same work, the two alternating in one run.

    python -m benches.portal_paired ../before            # this checkout against another one, each with its own .venv

Each side is a process that fills an account of `benches.portal_account` once and then, whenever it is its turn, loads
the account, builds an `init`, brings changes into the snapshot and answers a list of the REST API. Process CPU time
tells what the code costs even where the machine is busy; the wall's clock stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
CHANGES: Final = 20
LISTS: Final = 20
INITS: Final = 5


async def serve() -> None:
    """Be one side: measure for each line of standard input, and answer with a line of JSON."""
    from benches import portal_lists, portal_snapshot
    from wardgate.portal.store import SqliteFile

    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory:
        file = SqliteFile(Path(directory) / "wardgate.db")
        async with portal_snapshot.opened(file, f"sqlite:///{file.path}") as account:
            portal, organisation = account.portal, account.organisation
            services, number = portal.services, 0

            async def load() -> None:
                await portal_snapshot.load(services, organisation)

            async def inits() -> None:
                for _ in range(INITS):
                    portal_snapshot.init(services, organisation, view)

            async def changes() -> None:
                nonlocal number
                for _ in range(CHANGES):
                    await portal_snapshot.change(services, organisation, view, number)
                    number += 1

            async def lists() -> None:
                for _ in range(LISTS):
                    await portal_lists.get(portal, organisation.api_token, "/policies", status=200)

            async with services.accounts.using(organisation.account.id) as view:
                print("ready", flush=True)
                while await asyncio.to_thread(sys.stdin.readline):
                    taken = {
                        "load": await timed(load, 1),
                        "init": await timed(inits, INITS),
                        "change": await timed(changes, CHANGES),
                        "list": await timed(lists, LISTS),
                    }
                    print(json.dumps(taken), flush=True)


async def timed(work: Callable[[], Awaitable[None]], times: int) -> tuple[float, float]:
    """Return CPU time and wall time of one of `times` repetitions, in milliseconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    await work()
    return (time.process_time() - cpu) * 1e3 / times, (time.perf_counter() - wall) * 1e3 / times


class Side:
    """One checkout at work."""

    def __init__(self, tree: Path) -> None:
        self._process = subprocess.Popen(
            [tree / ".venv/bin/python", __file__, "--serve"],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.rounds: list[dict[str, tuple[float, float]]] = []

    def wait_until_ready(self) -> None:
        if self._answer() != "ready\n":
            raise SystemExit("a side could not start")

    def measure(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        self.rounds.append(json.loads(self._answer()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def compare(before: Path, after: Path, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each figure: medians of both sides, and the median of the rounds' ratios."""
    sides = [Side(before), Side(after)]
    try:
        for side in sides:
            side.wait_until_ready()
        for number in range(1 + rounds):
            for side in sides if number % 2 else reversed(sides):
                side.measure()
    finally:
        for side in sides:
            side.close()
    rows = []
    for figure in sides[0].rounds[0]:
        # The first round warms up.
        pairs = [
            (old[figure], new[figure]) for old, new in zip(*(one.rounds[1:] for one in sides), strict=True)
        ]
        rows.append(
            {
                "figure": figure,
                "before_cpu_ms": statistics.median(old[0] for old, _ in pairs),
                "after_cpu_ms": statistics.median(new[0] for _, new in pairs),
                "ratio": statistics.median(new[0] / old[0] for old, new in pairs),
                "ratios": (
                    min(new[0] / old[0] for old, new in pairs),
                    max(new[0] / old[0] for old, new in pairs),
                ),
                "before_wall_ms": statistics.median(old[1] for old, _ in pairs),
                "after_wall_ms": statistics.median(new[1] for _, new in pairs),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, nargs="?", help="the other checkout, with its .venv")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve())
        return
    if given.before is None:
        parser.error("name the other checkout")
    print("| CPU time, ms | before | after | ratio (least to most) | wall: before | after |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in compare(given.before.resolve(), ROOT, given.rounds):
        least, most = row["ratios"]
        print(
            f"| {row['figure']} | {row['before_cpu_ms']:.2f} | {row['after_cpu_ms']:.2f} "
            f"| {row['ratio']:.2f} ({least:.2f} to {most:.2f}) "
            f"| {row['before_wall_ms']:.2f} | {row['after_wall_ms']:.2f} |"
        )


if __name__ == "__main__":
    main()
