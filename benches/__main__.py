"""`make bench`: measure in one run, print tables with ratios, write bench-results/<time>.json.

Machines are noisy: subjects alternate within one run, medians are compared, and only ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benches import (
    cold_connect,
    crowd,
    decisions,
    dns,
    idle_client,
    portal,
    portal_connects,
    portal_floods,
    portal_grants,
    portal_logs,
    portal_pages,
    quiet_gateway,
    tunnel,
)
from wardgate.lab import why_unavailable

SUITES = {
    "decisions": decisions.run,
    "portal": portal.run,
    "logs": portal_logs.run,
    "floods": portal_floods.run,
    "connects": portal_connects.run,
    "grants": portal_grants.run,
    "pages": portal_pages.run,
    "tunnel": tunnel.run,
    "crowd": crowd.run,
    "quiet-gateway": quiet_gateway.run,
    "idle-client": idle_client.run,
    "dns": dns.run,
    "cold-connect": cold_connect.run,
}
NEED_LAB = {
    "tunnel",
    "crowd",
    "quiet-gateway",
    "idle-client",
    "dns",
    "cold-connect",
}  # hosts in network namespaces


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...")
    parser.add_argument("--only", choices=SUITES, help="one suite instead of all")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each subject")
    parser.add_argument("--seconds", type=int, default=4, help="length of one throughput run")
    options = parser.parse_args()
    wanted = list(SUITES) if options.only is None else [options.only]
    reason = why_unavailable() if NEED_LAB.intersection(wanted) else None
    if reason is not None:
        sys.exit(f"bench: {reason}")
    results = {name: SUITES[name](runs=options.runs, seconds=options.seconds) for name in wanted}
    target = Path("bench-results") / f"{time.strftime('%Y%m%dT%H%M%S')}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten to {target}")


if __name__ == "__main__":
    main()
