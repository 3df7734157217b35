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


def permits(filters: tuple[Filter, ...], protocol: str, port: int | None) -> bool:
    """Tell whether filters admit a protocol (`tcp`, `udp`, `icmp`) to a port; None for any port."""
    return not filters or any(
        one.protocol == protocol and (port is None or one.first_port <= port <= one.last_port)
        for one in filters
    )


def filter_text(one: Filter) -> str:
    """Write a filter for people: `443/tcp`, `8000-8999/udp`, `icmp`."""
    if one.protocol == "icmp" or (one.first_port, one.last_port) == (0, LAST_PORT):
        return one.protocol
    ports = f"{one.first_port}" if one.first_port == one.last_port else f"{one.first_port}-{one.last_port}"
    return f"{ports}/{one.protocol}"
