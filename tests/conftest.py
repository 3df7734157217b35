"""Profiles of the property tests, and the one list of skips that a machine may excuse."""

from __future__ import annotations

import gc
import inspect
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_ALLOWED_SKIPS = Path(__file__).parent / "allowed_skips.txt"

settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "long", parent=settings.get_profile("default"), derandomize=False, max_examples=2000
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--profile",
        choices=["default", "long"],
        default="default",
        help="how much property and simulation tests try",
    )

    parser.addoption(
        "--database",
        choices=["sqlite", "postgres"],
        default="sqlite",
        help="what the portal of the tests stands on",
    )
    parser.addoption(
        "--feed-lag",
        type=float,
        default=0.0,
        metavar="MS",
        help="how late the change feed tells of a commit: whoever assumes that it has told fails",
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile(config.getoption("--profile"))
    os.environ["WARDGATE_TESTS_DATABASE"] = config.getoption("--database")
    lag_ms: float = config.getoption("--feed-lag")
    if lag_ms:
        # The program is loaded only where it is wanted: other tests start sooner without it.
        from support.feed_lag import delay_feeds

        patches = pytest.MonkeyPatch()
        config.add_cleanup(patches.undo)
        delay_feeds(lag_ms / 1000, patches)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--database") == "postgres":
        repeats = [item for item in items if not _meets_postgres(item)]
        config.hook.pytest_deselected(items=repeats)
        items[:] = [item for item in items if _meets_postgres(item)]


def pytest_collection_finish(session: pytest.Session) -> None:
    # What ten thousand tests are made of never becomes garbage: the collector need not go through it again and again.
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A skip whose reason is not on the committed list fails the run in CI: skipped must never come to mean passed."""
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(allowed in reason for allowed in _allowed_skips()):
            report.outcome = "failed"
            report.longrepr = (
                f"{report.nodeid} was skipped for a reason that {_ALLOWED_SKIPS.name} does not list: {reason}"
            )


def _meets_postgres(item: pytest.Item) -> bool:
    """Tell whether another database is another case for a test; a plain function awaits none."""
    is_coroutine = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)
    return is_coroutine and item.get_closest_marker("one_database") is None


def _allowed_skips() -> list[str]:
    lines = (line.split("#")[0].strip() for line in _ALLOWED_SKIPS.read_text().splitlines())
    return [line for line in lines if line]
