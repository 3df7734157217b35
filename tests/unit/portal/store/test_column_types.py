from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import DateTime
from sqlalchemy.dialects import sqlite

from wardgate.portal.schema.column_types import UtcDateTime

DIALECT = sqlite.dialect()
AT = datetime(2026, 11, 29, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "at", [AT, AT.replace(microsecond=5), AT.astimezone(timezone(timedelta(hours=5, minutes=30)))]
)
def test_sqlite_keeps_an_instant_in_the_library_s_words(at: datetime) -> None:
    ours = UtcDateTime().bind_processor(DIALECT)
    theirs = DateTime().dialect_impl(DIALECT).bind_processor(DIALECT)
    assert ours is not None
    assert theirs is not None
    assert ours(at) == theirs(at.astimezone(UTC).replace(tzinfo=None))


def test_an_instant_without_a_zone_does_not_reach_the_store() -> None:
    to_text = UtcDateTime().bind_processor(DIALECT)
    assert to_text is not None
    assert to_text(None) is None
    with pytest.raises(ValueError, match="without zone"):
        to_text(AT.replace(tzinfo=None))
