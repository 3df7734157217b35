"""The time zones that people choose from."""

import functools
import zoneinfo
from collections.abc import Sequence

from markupsafe import Markup


@functools.cache
def time_zones() -> Sequence[str]:
    """Return their names: UTC and those of a place."""
    names = zoneinfo.available_timezones()
    return ("UTC", *sorted(one for one in names if "/" in one and not one.startswith(("Etc/", "SystemV/"))))


@functools.cache
def zone_options() -> Markup:
    """Return all of them as options of a choice. They are the same for everybody: the page says before them which is
    chosen.
    """
    return Markup("").join(Markup("<option>{}</option>").format(one) for one in time_zones())
