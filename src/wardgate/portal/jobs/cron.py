"""Schedules in the five fields of cron, in UTC: minute, hour, day of the month, month, day of the week (0 or
7: Sunday).

A field is `*`, a number, a range `1-5`, either with a step `/n`, or several of these with commas. When both
days are restricted, either one suffices, as in crontab(5).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_HORIZON_DAYS: Final = 366 * 8  # a 29 February that falls on a given weekday may be that far away


@dataclass(frozen=True, slots=True)
class Cron:
    """When something is due; `parse` is the way in from text."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    @classmethod
    def parse(cls, text: str) -> "Cron":
        """Parse `*/5 * * * *` and its like.

        Raises:
            ValueError: not five fields, a number out of range, or a moment that never comes.
        """
        fields = text.split()
        if len(fields) != len(_RANGES):
            raise ValueError(f"{text!r} does not have five fields")
        minutes, hours, days, months, weekdays = (
            _parse_field(field, first, last) for field, (first, last) in zip(fields, _RANGES, strict=True)
        )
        cron = cls(
            tuple(sorted(minutes)),
            tuple(sorted(hours)),
            days,
            months,
            frozenset(day % 7 for day in weekdays),
            either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
        )
        if not cron.either_day and all(day > _longest(month) for day in days for month in months):
            raise ValueError(f"{text!r} never comes")
        return cron

    def next_after(self, instant: datetime) -> datetime:
        """Return the first due moment behind `instant`, in its time zone."""
        earliest = instant.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for ahead in range(_HORIZON_DAYS):
            day = earliest + timedelta(days=ahead)
            if not self._has_day(day):
                continue
            floor = (earliest.hour, earliest.minute) if ahead == 0 else (0, 0)
            for hour in self.hours:
                for minute in self.minutes if hour >= floor[0] else ():
                    if (hour, minute) >= floor:
                        return day.replace(hour=hour, minute=minute)
        raise ValueError("a moment that never comes")

    def _has_day(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week


def _parse_field(text: str, first: int, last: int) -> frozenset[int]:
    numbers: set[int] = set()
    for part in text.split(","):
        span, separator, step = part.partition("/")
        begin, dash, end = ("*", "", "") if span == "*" else span.partition("-")
        low = first if begin == "*" else _number(begin)
        high = last if begin == "*" or (separator and not dash) else _number(end) if dash else low
        stride = _number(step) if separator else 1
        if not first <= low <= high <= last or stride < 1:
            raise ValueError(f"{part!r} is not within {first} to {last}")
        numbers.update(range(low, high + 1, stride))
    return frozenset(numbers)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _longest(month: int) -> int:
    return {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}.get(month, 31)
