"""A real `wardgate client` that has a connection and nothing to carry: memory, CPU time and wake-ups of the process."""

from __future__ import annotations

import time
from typing import Any, Final

from benches.quiet_gateway import cost_of
from wardgate.lab import Internet
from wardgate.lab.installation import WEB4, Installation

_SETTLED_S: Final = 20.0  # checks of the pairs that are not used have ended by then
_WATCHED_S: Final = 60.0
_CORE: Final = 0.03
"""Of one core, which an idle client may take."""


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Print what a client takes, and what it was to stay within; return the figures."""
    with Internet() as internet:
        lab = Installation(internet)
        lab.init()
        lab.start_portal()
        lab.make_access()
        lab.start_peers()
        done = lab.fetch(f"http://{WEB4}/get", timeout_s=60)
        assert done.error is None, done.error
        time.sleep(_SETTLED_S)
        before = cost_of(lab.client, lab.client_site.host, "client", 8083)
        time.sleep(_WATCHED_S)
        after = cost_of(lab.client, lab.client_site.host, "client", 8083)
    elapsed_s = after.at - before.at
    found = {
        "megabytes": after.resident_kb / 1e3,
        "core": (after.cpu_s - before.cpu_s) / elapsed_s,
        "switches_s": (after.switches - before.switches) / elapsed_s,
        "turns_s": (after.turns - before.turns) / elapsed_s,
    }
    print(
        f"\nan idle client: {found['megabytes']:.1f} MB, {found['switches_s']:.1f} wake-ups of its threads and "
        f"{found['turns_s']:.1f} turns of the packets' a second\n"
        f"  core {found['core']:.4f}  <= {_CORE:g} {'kept' if found['core'] <= _CORE else 'MISSED'}"
    )
    return found
