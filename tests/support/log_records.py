"""What log records say."""

import logging
from collections.abc import Iterable

_USUAL = {*logging.makeLogRecord({}).__dict__, "message"}


def lines(records: Iterable[logging.LogRecord]) -> list[tuple[str, dict[str, object]]]:
    """The message of each record, and the fields that its writer gave."""
    return [
        (one.getMessage(), {name: value for name, value in one.__dict__.items() if name not in _USUAL})
        for one in records
    ]
