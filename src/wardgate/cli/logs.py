"""Rendering of log records on stderr: stdlib records with fields in, text or JSON lines out."""

import logging
import os
import sys
from collections.abc import MutableMapping
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import structlog

from wardgate.cli.errors import UserError
from wardgate.model.shown_text import shown_text

FILE_BYTES: Final = 10_000_000
FILES: Final = 5

PART: Final = "WARDGATE_LOG_PART"  # set by `wardgate up`, whose parts write to one terminal


def set_up(log_format: str, level: int, directory: Path | None = None) -> None:
    """Send all records from `level` on to stderr.

    Args:
        log_format: `text` or `json`.
        directory: where they are kept in files too.

    Raises:
        UserError: no file can be written there.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _name_part if log_format == "json" else _for_people,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if directory is not None:
        handlers.append(_kept_in(directory))
    for handler in handlers:
        handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(logging.WARNING)
    logging.getLogger("wardgate").setLevel(level)


def _kept_in(directory: Path) -> logging.Handler:
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        return RotatingFileHandler(
            directory / "wardgate.log", maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8"
        )
    except OSError as error:
        raise UserError(f"cannot keep logs in {directory}: {error.strerror}") from error


def _name_part(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    part = os.environ.get(PART)
    return {**record, "part": part} if part else record


def _for_people(_logger: object, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Name the part before the message, round what nobody reads to its last digit, and let no name command
    the terminal."""
    part = os.environ.get(PART)
    readable = {name: _readable(value) for name, value in record.items()}
    return {**readable, "event": f"[{part}] {readable['event']}"} if part else readable


def _readable(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return shown_text(value) if isinstance(value, str) else value
