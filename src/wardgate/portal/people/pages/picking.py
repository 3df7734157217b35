"""Choosing some of many, over any number of searches: what was ticked stays ticked. It works without a script, since
each search is the form itself, sent with another button.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from wardgate.portal.web.choices import Option
from wardgate.portal.web.filters import MAX_WORDS_CHARS
from wardgate.portal.web.visit import Visit

FOUND_AT_ONCE: Final = 25
MOST_CHOSEN: Final = 1000

FIELD: Final = "chosen"


@dataclass(frozen=True, slots=True)
class Picking:
    """A form in which some are being chosen.

    Attributes:
        chosen: what is ticked so far.
        found: what the words find beside these, as many as are shown at once.
        has_more: whether they find more than that.
    """

    words: str
    chosen: Sequence[Option]
    found: Sequence[Option]
    has_more: bool
    error: str = ""


Find = Callable[[str, Sequence[UUID], int], Awaitable[Sequence[Option]]]
"""Finds by words what is not among the ids, so many at most."""

Name = Callable[[Sequence[UUID]], Awaitable[Sequence[Option]]]
"""Returns which of the ids may be chosen, with their names."""


async def pick(visit: Visit, *, find: Find, name: Name, error: str = "") -> Picking:
    """Return the form as it stands after what was posted."""
    words = str(visit.form.get("find", "")).strip()[:MAX_WORDS_CHARS].replace("\x00", "")
    chosen = await name(chosen_ids(visit))
    found = await find(words, [UUID(one.value) for one in chosen], FOUND_AT_ONCE + 1)
    return Picking(words, chosen, found[:FOUND_AT_ONCE], len(found) > FOUND_AT_ONCE, error)


def chosen_ids(visit: Visit) -> list[UUID]:
    """Return what was ticked; what is no id is left out."""
    ids: dict[UUID, None] = {}
    for text in visit.form.getlist(FIELD)[:MOST_CHOSEN]:
        try:
            ids[UUID(str(text))] = None
        except ValueError:
            continue
    return list(ids)


def is_search(visit: Visit) -> bool:
    """Tell whether the form was sent to look for more."""
    return "search" in visit.form
