"""What stands in a cell of a table or behind a label of a panel; `ui.html` writes each kind down."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from wardgate.portal.web.toasts import Tone


@dataclass(frozen=True, slots=True)
class Text:
    """Words; `note` stands below them, smaller. `is_code` for addresses and ids."""

    kind: ClassVar[str] = "text"
    text: str
    note: str = ""
    is_code: bool = False
    icon: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead elsewhere in the account; `path` as `Visit.url` takes it."""

    kind: ClassVar[str] = "link"
    text: str
    path: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A dot and a word; never the colour alone."""

    kind: ClassVar[str] = "status"
    text: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class Tag:
    """A word in a box, such as a resource's type."""

    kind: ClassVar[str] = "tag"
    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: relative to now, exact in its title."""

    kind: ClassVar[str] = "moment"
    at: datetime | None
    never: str = "Never"


@dataclass(frozen=True, slots=True)
class Instant:
    """A time to the second: in the reader's own zone where there is a script, else in UTC. `is_exact` for
    microseconds, in UTC at any rate; `note` stands below.
    """

    kind: ClassVar[str] = "instant"
    at: datetime
    note: str = ""
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A point on the earth, in degrees; leads to a map on another site."""

    kind: ClassVar[str] = "coordinates"
    lat: float
    lon: float

    @property
    def text(self) -> str:
        return f"{self.lat:.4f}, {self.lon:.4f}"

    @property
    def map_url(self) -> str:
        point = f"{self.lat:.4f}", f"{self.lon:.4f}"
        return "https://www.openstreetmap.org/?mlat={0}&mlon={1}#map=9/{0}/{1}".format(*point)


def coordinates(lat: float | None, lon: float | None) -> Coordinates | None:
    """Return a point, if both of its numbers are known."""
    return None if lat is None or lon is None else Coordinates(lat, lon)


@dataclass(frozen=True, slots=True)
class Several:
    """Cells beside each other."""

    kind: ClassVar[str] = "several"
    cells: Sequence["Cell"]


Cell = Text | Link | Status | Tag | Moment | Instant | Coordinates | Several


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a panel: a label and what stands behind it."""

    label: str
    cell: Cell


@dataclass(frozen=True, slots=True)
class Grid:
    """A small table within a panel, without paging; `columns` are its headings."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str = "None."
