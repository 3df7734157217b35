"""The installation's own log of changes: sign-ins of the operator, relay and operator tokens, banners.

What the operator does to an account is in that account's log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wardgate.portal.logs.pages.changes import (
    Difference,
    difference_of,
    name_of,
    object_text,
    operation_tag,
)
from wardgate.portal.schema.change_feed import CHANGES, Change
from wardgate.portal.schema.declaration import Recording
from wardgate.portal.store import INSTALLATION
from wardgate.portal.web.cells import Tag
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
