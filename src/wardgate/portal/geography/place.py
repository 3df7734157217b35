"""A place as the portal records it: country, city, coordinates, each perhaps unknown."""

from dataclasses import dataclass
from typing import Final

from wardgate.policy.selection import Position

MAX_CITY_CHARS: Final = 255  # protocol §1.5: stored texts


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is.

    Attributes:
        region: ISO 3166-1 alpha-2 code of the country, upper case ("region" everywhere means the country), or XK.
        city: its English name.
    """

    region: str | None = None
    city: str | None = None
    position: Position | None = None


NOWHERE: Final = Place()


def parse_coordinates(text: str) -> Position | None:
    """Parse `lat,lon` in degrees; None for anything else."""
    lat, comma, lon = text.partition(",")
    try:
        return position_of(float(lat), float(lon)) if comma else None
    except ValueError:
        return None


def position_of(lat: float, lon: float) -> Position | None:
    """Return the position; None if the coordinates are not on earth."""
    return Position(lat, lon) if abs(lat) <= 90 and abs(lon) <= 180 else None
