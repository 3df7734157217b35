"""The middle of each country, for an address of which only the country is known.

`centroids.csv` is our own table: one line for each code of ISO 3166-1 (`wardgate.model.regions`) and one for
XK, which databases use for Kosovo though the standard lacks it. The points were read off a map by hand, to
about half a degree: near the middle of the land, on the main island or island group where there are many, in
the contiguous part of the United States. They rank gateways and relays by distance and say nothing finer; no
country's border or claim is meant by them.
"""

import csv
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from wardgate.policy.selection import Position


def centroid_of(region: str | None) -> Position | None:
    """Return the centre of a country; None if no country has this code."""
    return None if region is None else _table().get(region)


def is_country(code: str) -> bool:
    """Tell whether this is a country's code; EU, AP, T1, XX and the like stand for none."""
    return code in _table()


@cache
def _table() -> Mapping[str, Position]:
    lines = (files(__package__) / "centroids.csv").read_text(encoding="ascii").splitlines()
    return {row["code"]: Position(float(row["lat"]), float(row["lon"])) for row in csv.DictReader(lines)}
