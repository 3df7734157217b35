"""What a column's declaration says of its values is the rule for what people give."""

from typing import Annotated

import pytest

from wardgate.portal.edits import Edit
from wardgate.portal.outcomes import Invalid
from wardgate.portal.schema.columns import Editable, Words, column_of
from wardgate.portal.sites.tables import SITES

BEFORE = {"name": "Berlin", "health_threshold": 1, "managed_by": "account", "id": "an id"}


def test_each_value_is_checked_by_its_column() -> None:
    edit = Edit({"name": " Hamburg ", "health_threshold": 3}, BEFORE)
    edit.columns(SITES)
    assert edit.finish() == {**BEFORE, "name": "Hamburg", "health_threshold": 3}


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"name": "  "}, {"name": ["can't be blank"]}),
        ({"name": None}, {"name": ["can't be blank"]}),
        ({"name": "x" * 65}, {"name": ["should be at most 64 character(s)"]}),
        ({"health_threshold": 0}, {"health_threshold": ["must be between 1 and 1000"]}),
        ({"health_threshold": None}, {"health_threshold": ["can't be blank"]}),
    ],
)
def test_what_the_column_cannot_hold_is_refused(
    given: dict[str, object], errors: dict[str, list[str]]
) -> None:
    edit = Edit(given, BEFORE)
    edit.columns(SITES)
    with pytest.raises(Invalid) as refused:
        edit.finish()
    assert refused.value.errors == errors


def test_a_column_that_is_not_marked_is_nobodys_to_give() -> None:
    edit = Edit({"managed_by": "system", "id": "another", "account_id": "another's"}, BEFORE)
    edit.columns(SITES)
    assert edit.finish() == BEFORE


def test_an_annotation_says_how_a_field_is_stored() -> None:
    place = column_of("place", Annotated[str | None, Words(1, 64), Editable()])
    assert (place.type.length, place.nullable) == (64, True)
    assert not column_of("count", int).nullable
    with pytest.raises(TypeError, match="does not say how it is stored"):
        column_of("unbounded", str)
