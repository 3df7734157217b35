"""Adds up what all seeds exercised and prints it: a run that exercised nothing proves nothing."""

from __future__ import annotations

from collections import Counter

import pytest

_totals: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        for name, value in report.user_properties:
            if name.startswith("exercised."):
                _totals[name.removeprefix("exercised.")] += int(value)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _totals:
        what = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in _totals.items())
        terminalreporter.write_line(f"simulation exercised: {what}")
