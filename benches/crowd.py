"""A thousand clients through one gateway: what passes and how fairly, how fast flows open, what records of flows cost,
and what the gateway takes in memory and while nobody says anything. Engine, I/O thread and TUN device are those that
ship, without Python: `native/crates/io/examples/crowd`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_NATIVE: Final = Path(__file__).parents[1] / "native"
_CLIENTS: Final = 1_000
_FLOWS_OF_EACH: Final = 10
_BYTES_OF_CLIENT: Final = 20_000  # what the gateway may take for each
_BUDGETS: Final[tuple[tuple[str, Callable[[Any], float], str, float], ...]] = (
    ("Jain index of the clients' shares", lambda found: found["load"]["jain"], ">=", 0.95),
    ("share of a core with all quiet", lambda found: found["quiet"]["core"], "<=", 0.03),
    (
        "bytes a client",
        lambda found: (
            1e6 * (found["memory_mb"]["connected"] - found["memory_mb"]["fresh"]) / found["clients"]
        ),
        "<=",
        _BYTES_OF_CLIENT,
    ),
    (
        "share of packets/s lost to records",
        lambda found: found["records"]["lost_throughput"],
        "<=",
        0.03,
    ),
    (
        "share of a core for records of 10,000 flows/s",
        lambda found: found["records"]["flow_us"] / 100,
        "<=",
        0.03,
    ),
)


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Print what the example tells, and what it was to stay within; return its figures."""
    command = ["cargo", "run", "--quiet", "--release", "-p", "wardgate-io", "--example", "crowd", "--"]
    words = [str(_CLIENTS), str(_FLOWS_OF_EACH), str(max(3 * seconds, 6))]
    done = subprocess.run([*command, *words], cwd=_NATIVE, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines()
    if done.returncode != 0:
        raise RuntimeError(f"the crowd gave up: {' '.join(lines[-3:])}")
    print("\n" + "\n".join(lines[:-1]))
    found: dict[str, Any] = json.loads(lines[-1])
    for name, figure, sign, budget in _BUDGETS:
        value = figure(found)
        is_kept = value >= budget if sign == ">=" else value <= budget
        print(f"  {name:46} {value:10,.3f}  {sign} {budget:<8g} {'kept' if is_kept else 'MISSED'}")
    return found
