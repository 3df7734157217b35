"""When a schedule is due."""

from datetime import UTC, datetime

import pytest

from wardgate.portal.jobs import Cron


@pytest.mark.parametrize(
    ("text", "instant", "due_at"),
    [
        ("* * * * *", "2026-11-22T18:00:00", "2026-11-22T18:01"),
        ("* * * * *", "2026-11-22T18:00:59", "2026-11-22T18:01"),
        ("*/5 * * * *", "2026-11-22T18:01:00", "2026-11-22T18:05"),
        ("15 */2 * * *", "2026-11-22T18:15:00", "2026-11-22T20:15"),
        ("30 3 * * *", "2026-12-31T03:30:00", "2027-01-01T03:30"),
        ("0 9 * * 1", "2026-11-22T18:00:00", "2026-11-23T09:00"),
        ("0 9 * * 7", "2026-11-22T18:00:00", "2026-11-29T09:00"),
        ("0 9 * * 0", "2026-11-22T08:00:00", "2026-11-22T09:00"),
        ("0 0 1,15 * *", "2026-11-22T18:00:00", "2026-12-01T00:00"),
        ("0 0 29 2 *", "2026-11-22T18:00:00", "2028-02-29T00:00"),
        ("0 0 1 * 1", "2026-11-22T18:00:00", "2026-11-23T00:00"),
        ("10-20/5 0 * * *", "2026-11-22T00:15:00", "2026-11-22T00:20"),
        ("50/5 0 * * *", "2026-11-22T00:50:00", "2026-11-22T00:55"),
    ],
)
def test_the_next_moment_lies_behind_the_last(text: str, instant: str, due_at: str) -> None:
    after = Cron.parse(text).next_after(datetime.fromisoformat(instant).replace(tzinfo=UTC))
    assert after == datetime.fromisoformat(due_at).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "a * * * *",
        "-1 * * * *",
        "1- * * * *",
        ", * * * *",
        "0 0 31 4 *",
        "0 0 30 2 *",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Cron.parse(text)
