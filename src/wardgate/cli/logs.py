"""Rendering of log records on stderr: stdlib records with fields in, text or JSON lines out.

By the standard library alone: what renders for developers loads a terminal toolkit, 8 MB in each client and gateway.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import wardgate
from wardgate.cli.errors import UserError
from wardgate.model.shown_text import shown_text
from wardgate.net.device_id import operating_system

FILE_BYTES: Final = 10_000_000
FILES: Final = 5

PART: Final = "WARDGATE_LOG_PART"  # set by `wardgate up`, whose parts write to one terminal

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What a record of the standard library has; everything else is a field of ours."""

log = logging.getLogger(__name__)


def set_up(log_format: str, level: int, directory: Path | None = None) -> None:
    """Send all records from `level` on to stderr.

    Args:
        log_format: `text` or `json`.
        directory: where they are kept in files too.

    Raises:
        UserError: no file can be written there.
    """
    formatter = JsonLines() if log_format == "json" else TextLines()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if directory is not None:
        handlers.append(_kept_in(directory))
    for handler in handlers:
        handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)
    logging.getLogger("wardgate").setLevel(level)


def say_start(part: str) -> None:
    """Log what begins here, for who reads this log elsewhere."""
    system = operating_system()
    log.info(
        f"{part} starts",
        extra={
            "version": wardgate.__version__,
            "os": f"{system.name} {system.version}",
            "arch": system.arch,
            "kernel": system.kernel,
        },
    )


class JsonLines(logging.Formatter):
    """For programs: an object a line, with numbers whole and the part as a field."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        part = os.environ.get(PART)
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            **_fields(record),
            "timestamp": _timestamp(record),
            **({"part": part} if part else {}),
            **({"exception": trace} if (trace := _trace(self, record)) else {}),
        }
        return json.dumps(line, default=repr)


class TextLines(logging.Formatter):
    """For people: the part before the message, numbers without digits that nobody reads, and no name that commands
    the terminal; the trace of an exception below.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        part = os.environ.get(PART)
        shown = [
            f"{_timestamp(record)} [{record.levelname.lower():9}]",
            *([f"[{part}]"] if part else []),
            shown_text(record.getMessage()),
            *(f"{name}={_readable(value)}" for name, value in sorted(_fields(record).items())),
        ]
        trace = _trace(self, record)
        return " ".join(shown) + (f"\n{trace}" if trace else "")


def _kept_in(directory: Path) -> logging.Handler:
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        return RotatingFileHandler(
            directory / "wardgate.log", maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8"
        )
    except OSError as error:
        raise UserError(f"cannot keep logs in {directory}: {error.strerror}") from error


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _timestamp(record: logging.LogRecord) -> str:
    return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return str(round(value, 3))
    return shown_text(value) if isinstance(value, str) else repr(value)
