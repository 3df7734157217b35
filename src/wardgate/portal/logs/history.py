"""The history of one object in its panel: its entries in the log of changes, with before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from wardgate.portal.database.log_reading import LogReader, Reading
from wardgate.portal.logs.pages.changes import (
    PAGE,
    Difference,
    difference_of,
    is_of_object,
    operation_tag,
    told_fields,
)
from wardgate.portal.logs.pages.log_page import reading_of
from wardgate.portal.logs.pages.subjects import actor_cell
from wardgate.portal.logs.streams import LOGS, Stream, within
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.schema.row import Row, TenantRow
from wardgate.portal.web.cells import Cell, Tag
from wardgate.portal.web.listing import Tab
from wardgate.portal.web.visit import Visit

SHOWN: Final = 20
SLICES: Final = 3
"""How far the log is searched for a panel; the page of the log goes on from there."""


@dataclass(frozen=True, slots=True)
class PastChange:
    """One entry of an object's history."""

    change: Change
    place: str
    operation: Tag
    by: Cell
    fields: str
    difference: Difference


@dataclass(frozen=True, slots=True)
class History:
    """The newest entries; `has_more`: the log may have others, which are at `all_path` where there is such a page."""

    changes: Sequence[PastChange]
    has_more: bool
    all_path: str | None


def history_tab() -> Tab[Any]:
    """Return the tab of any object that the log of changes has: `tabs=(…, history_tab())`."""
    return Tab(name="history", label="History", template="logs/history.html", load_apart=load_history)


async def load_history(visit: Visit, row: TenantRow) -> History:
    """Read the log of the visitor's account."""
    reading = reading_of(visit, LOGS[Stream.CHANGE])
    now = visit.services.environment.clock.now()
    return await read_history(reading, visit.account.id, row, now, visit.url(PAGE.path, id=row.id))


async def read_history(
    reading: Reading, feed_id: UUID, row: Row, now: datetime, all_path: str | None = None
) -> History:
    """Read a log from now back to when the object was made."""
    log = LOGS[Stream.CHANGE]
    window = within(Stream.CHANGE, row.inserted_at, max(now, row.inserted_at))
    reader = LogReader(reading, log, feed_id, is_of_object(row.id), window=window)
    part = await reader.search(limit=SHOWN + 1, slices=SLICES)
    changes = [Change(**one) for one in part.rows[:SHOWN]]
    return History(
        [
            PastChange(
                change=one,
                place=PAGE.place_text(found),
                operation=operation_tag(one),
                by=actor_cell(one.subject),
                fields=", ".join(told_fields(one)) if one.operation == "update" else "",
                difference=difference_of(one),
            )
            for one, found in zip(changes, part.rows, strict=False)
        ],
        part.end is not None or len(part.rows) > SHOWN,
        all_path,
    )
