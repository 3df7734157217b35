"""`wardgate protocol`: what a transcript of control channels tells."""

import json
from dataclasses import asdict
from typing import Final

from wardgate.cli.commands.protocol import FILE
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import AS_JSON
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.model.shown_text import shown_text
from wardgate.wire.transcript import MAX_FINDINGS, Report, check

HAS_ERRORS: Final = 8
"""The exit code; those below it are taken (`cli.errors`, `explain`)."""


def replay(settings: Settings) -> int:
    """Compare a transcript with the types of this program and print what is remarkable.

    Raises:
        UserError: the file cannot be read.
    """
    file = settings[FILE]
    assert file is not None
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            report = check(lines)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    echo(
        json.dumps(asdict(report) | {"errors": report.errors}, indent=2)
        if settings[AS_JSON]
        else _as_text(report)
    )
    return HAS_ERRORS if report.errors else 0


def _as_text(report: Report) -> str:
    lines = [f"{count:6} {shown_text(name)}" for name, count in sorted(report.events.items())]
    for one in report.findings:
        what = shown_text(" ".join(part for part in (one.peer, one.event) if part))
        lines.append(f"line {one.line}: {one.severity}: {what}: {shown_text(one.text)}")
    if len(report.findings) >= MAX_FINDINGS:
        lines.append("and more: reading ended here")
    if report.is_cut:
        lines.append("the transcript is cut: it had reached its bound")
    notes = len(report.findings) - report.errors
    lines.append(f"{sum(report.events.values())} lines, {report.errors} errors, {notes} notes")
    return "\n".join(lines)
