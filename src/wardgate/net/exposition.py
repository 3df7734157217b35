"""What a hosted engine counts, in Prometheus' text format (docs/peer-metrics.md)."""

from collections.abc import Mapping
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# All else only grows.
GAUGES: Final = frozenset(
    {
        "allocations",
        "channels",
        "connections",
        "connections_established",
        "flow_spool_bytes",
        "flows_open",
        "host_refusals",
        "io_busy_seconds",
        "sockets",
        "sockets_most",
    }
)


def exposition(kind: str, stats: Mapping[str, int]) -> str:
    """Write each number as `wardgate_<kind>_<name>`, with `_total` behind what only grows."""
    lines = []
    for name, value in sorted(stats.items()):
        is_gauge = name in GAUGES
        metric = f"wardgate_{kind}_{name}" + ("" if is_gauge else "_total")
        lines += [f"# TYPE {metric} {'gauge' if is_gauge else 'counter'}", f"{metric} {value}"]
    return "".join(f"{line}\n" for line in lines)
