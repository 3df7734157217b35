"""Instants as the API takes them: RFC 3339 with an offset."""

import re
from datetime import UTC, datetime
from typing import Final

_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def parse_rfc_3339(text: str) -> datetime:
    """Return the instant in UTC.

    Raises:
        ValueError: another form, no such time, or beyond what a `datetime` holds.
    """
    if _RFC_3339.fullmatch(text) is None:
        raise ValueError(f"{text[:64]!r} is no RFC 3339 time")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None
