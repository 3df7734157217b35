"""From the wire's filters to the engine's."""

from collections.abc import Iterable

from msgspec import UNSET

from wardgate.datapath.commands import Filter
from wardgate.wire.messages import Filter as WireFilter


def engine_filters(filters: Iterable[WireFilter]) -> tuple[Filter, ...]:
    """Absent bounds mean all ports; bounds outside a port's range are cut to it."""
    return tuple(
        Filter(
            protocol=one.protocol,
            first_port=0 if one.port_range_start is UNSET else _port(one.port_range_start),
            last_port=65535 if one.port_range_end is UNSET else _port(one.port_range_end),
        )
        for one in filters
    )


def _port(number: int) -> int:
    return min(max(number, 0), 65535)
