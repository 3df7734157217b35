"""Background work that fails is logged, counted, and begun again or given up (virtual time)."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from wardgate import supervision
from wardgate.simulation.virtual_time import run_virtual
from wardgate.supervision import FIRST_PAUSE_S, MAX_FAILURES, STEADY_S, Supervisor, Tasks


class Clock:
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Fault(Exception):
    """Something that nobody expected."""


def on_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run(caplog: pytest.LogCaptureFixture) -> None:
        run_virtual(test(caplog))

    run.__name__ = test.__name__
    return run


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [getattr(record, "work", "") for record in caplog.records if record.levelno == logging.ERROR]


async def fail_at_once() -> None:
    raise Fault


@on_virtual_time
async def test_a_task_that_fails_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    counted: list[str] = []
    tasks = Tasks(lambda: counted.append("failure"))
    tasks.start(fail_at_once(), name="it")
    tasks.start(asyncio.sleep(1), name="another")
    await asyncio.sleep(0.5)
    assert (errors_in(caplog), counted, tasks.failures, len(tasks)) == (["it"], ["failure"], 1, 1)


@on_virtual_time
async def test_tasks_end_with_their_owner_and_that_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks, ended = Tasks(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.start(work(), name="it")
    await asyncio.sleep(0)
    await tasks.close()
    assert ended.is_set()
    assert (len(tasks), tasks.failures, errors_in(caplog)) == (0, 0, [])


@on_virtual_time
async def test_endless_work_that_fails_is_begun_again_and_counts_as_failing_until_it_is_steady(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun: list[float] = []
    counted: list[str] = []

    async def work() -> None:
        begun.append(asyncio.get_running_loop().time())
        if len(begun) == 1:
            raise Fault
        await asyncio.Event().wait()

    supervisor = Supervisor(Clock(), lambda: counted.append("failure"))
    supervisor.keep(work, name="poll")
    assert supervisor.failing == []
    await asyncio.sleep(FIRST_PAUSE_S / 2)
    assert supervisor.failing == ["poll"]
    await asyncio.sleep(FIRST_PAUSE_S)
    assert begun[1] - begun[0] == pytest.approx(FIRST_PAUSE_S)
    assert supervisor.failing == ["poll"]
    await asyncio.sleep(STEADY_S)
    assert supervisor.failing == []
    assert (errors_in(caplog), counted) == (["poll"], ["failure"])
    await supervisor.close()


@on_virtual_time
async def test_endless_work_that_returns_is_begun_again_too(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []

    async def work() -> None:
        begun.append(1)

    supervisor = Supervisor(Clock())
    supervisor.keep(work, name="poll")
    await asyncio.sleep(FIRST_PAUSE_S * 1.5)
    assert len(begun) == 2
    assert errors_in(caplog) == ["poll", "poll"]
    await supervisor.close()


@on_virtual_time
async def test_work_that_fails_again_and_again_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor(Clock())
    supervisor.keep(fail_at_once, name="poll")
    async with asyncio.timeout(MAX_FAILURES * supervision.LONGEST_PAUSE_S):
        await supervisor.has_given_up.wait()
    assert len(errors_in(caplog)) == MAX_FAILURES
    await supervisor.close()


@on_virtual_time
async def test_work_that_fails_once_an_hour_is_never_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        await asyncio.sleep(3600)
        raise Fault

    supervisor = Supervisor(Clock())
    supervisor.keep(work, name="poll")
    await asyncio.sleep(3 * MAX_FAILURES * 3600)
    assert not supervisor.has_given_up.is_set()
    assert len(errors_in(caplog)) > 2 * MAX_FAILURES
    await supervisor.close()
