"""From the wire's filters to the engine's."""

from collections.abc import Iterable

from msgspec import UNSET

from wardgate.datapath.commands import Filter
from wardgate.model.filters import LAST_PORT
from wardgate.wire.messages import Filter as WireFilter


def engine_filters(filters: Iterable[WireFilter]) -> tuple[Filter, ...]:
    """Absent bounds mean all ports; ranges are clipped to valid ports, which can leave them empty."""
    return tuple(_engine_filter(one) for one in filters)


def _engine_filter(one: WireFilter) -> Filter:
    first = 0 if one.port_range_start is UNSET else max(one.port_range_start, 0)
    last = LAST_PORT if one.port_range_end is UNSET else min(one.port_range_end, LAST_PORT)
    if first > LAST_PORT or last < 0:
        # The filter must stay: a resource without filters admits everything. This one admits no port.
        first, last = LAST_PORT, 0
    return Filter(protocol=one.protocol, first_port=first, last_port=last)
