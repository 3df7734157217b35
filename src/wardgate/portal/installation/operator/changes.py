"""The installation's own log of changes: sign-ins of the operator, relay and operator tokens, banners.

What the operator does to an account is in that account's log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from wardgate.portal.installation.tables import Account
from wardgate.portal.logs.history import History, read_history
from wardgate.portal.logs.pages.changes import (
    Difference,
    difference_of,
    name_of,
    object_text,
    operation_tag,
)
from wardgate.portal.schema.change_feed import CHANGES, Change
from wardgate.portal.schema.declaration import Recording
from wardgate.portal.schema.row import Row
from wardgate.portal.store import INSTALLATION, Transaction
from wardgate.portal.web.cells import Tag
from wardgate.portal.web.listing import Tab
from wardgate.portal.web.page import Live, Section, TemplatePage
from wardgate.portal.web.visit import OperatorVisit

SHOWN: Final = 50
_MAX_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One entry; `by` is empty for the system's own work, `name` for what has none."""

    change: Change
    object: str
    name: str
    operation: Tag
    by: str
    difference: Difference


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """The newest entries before a place; `older` leads on, None at the log's beginning."""

    changes: Sequence[ChangeView]
    older: str | None
    is_newest: bool


async def load_changes(visit: OperatorVisit) -> ChangesPage:
    before = _place(visit.request.query_params.get("before", ""))
    conditions = [CHANGES.c.audience == Recording.AUDIT.value]
    if before is not None:
        conditions.append(CHANGES.c.sequence < before)
    async with visit.reading() as transaction:
        found = await transaction.changes(INSTALLATION, *conditions, limit=SHOWN + 1, newest_first=True)
    shown = found[:SHOWN]
    older = visit.url(PAGE.path, before=shown[-1].sequence) if len(found) > SHOWN else None
    return ChangesPage([_shown(one) for one in shown], older, before is None)


def history_tab() -> Tab[Any, OperatorVisit, Transaction]:
    """Return the tab of an object of the installation, or of an account, with what its log has on it."""
    return Tab(name="history", label="History", template="logs/history.html", load_apart=_load_history)


async def _load_history(visit: OperatorVisit, row: Row) -> History:
    feed_id = row.id if isinstance(row, Account) else INSTALLATION
    reading = partial(visit.services.store.reading, is_long=True)
    return await read_history(reading, feed_id, row, visit.services.environment.clock.now())


def _shown(change: Change) -> ChangeView:
    subject = change.subject or {}
    by = ", ".join(str(subject[key]) for key in ("actor_name", "ip") if subject.get(key))
    return ChangeView(
        change,
        object_text(change.object),
        "" if change.object == "operator_sessions" else name_of(change),
        operation_tag(change),
        by,
        difference_of(change),
    )


def _place(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    return int(text) if is_number else None


PAGE: Final = TemplatePage(
    name="Changes",
    path="/changes",
    icon="history",
    section=Section.OPERATOR,
    live=Live(tables=frozenset({"operator_sessions", "operator_tokens", "relay_tokens", "banners"})),
    template="installation/operator/changes.html",
    load=load_changes,
)
