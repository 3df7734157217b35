"""What the worker does with jobs as time passes, in virtual seconds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from itertools import pairwise
from typing import Any

from support.virtual_portal import STARTED_AT, playing
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.installation.tables import Job
from wardgate.portal.jobs import Cron, JobKind, Runner
from wardgate.portal.jobs.runner import LEASE_S
from wardgate.portal.services import Services


class Work:
    """A handler that notes when it ran, and fails or takes long as it is told."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.begun: list[float] = []
        self.ended = 0
        self.others = 0
        self.failures = 0
        self.takes_s = 0.0

    async def handle(self, services: Services, _arguments: Mapping[str, Any]) -> None:
        self.begun.append((services.environment.clock.now() - STARTED_AT).total_seconds())
        await asyncio.sleep(self.takes_s)
        if len(self.begun) <= self.failures:
            raise ValueError("not today\nsecond line")
        self.ended += 1

    async def handle_other(self, _services: Services, _arguments: Mapping[str, Any]) -> None:
        self.others += 1

    async def enqueue(self, kind: str = "work") -> None:
        async with self.services.store.writing() as transaction:
            await JobQueue(transaction).enqueue(kind)

    async def jobs(self) -> list[Job]:
        async with self.services.store.reading() as transaction:
            return await JobQueue(transaction).load(limit=100)

    @contextlib.asynccontextmanager
    async def worker(self, schedule: str | None = None, **options: Any) -> AsyncIterator[None]:
        cron = None if schedule is None else Cron.parse(schedule)
        other = JobKind("other", self.handle_other)
        runner = Runner(self.services, [JobKind("work", self.handle, schedule=cron, **options), other])
        task = asyncio.create_task(runner.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def on_virtual_time(scene: Callable[[Work], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return playing(lambda portal: scene(Work(portal.services)), named=scene.__name__)


@on_virtual_time
async def test_a_job_runs_as_soon_as_it_is_committed(work: Work) -> None:
    async with work.worker():
        await asyncio.sleep(3)
        await work.enqueue()
        await asyncio.sleep(0.001)
        assert work.begun == [3.0]
    (job,) = await work.jobs()
    assert job.state == "completed"


@on_virtual_time
async def test_what_another_process_enqueued_is_found_by_polling(work: Work) -> None:
    await work.enqueue()
    async with work.worker():
        await asyncio.sleep(20)
    assert work.ended == 1


@on_virtual_time
async def test_a_schedule_is_kept_and_begins_with_its_next_moment(work: Work) -> None:
    async with work.worker("*/5 * * * *"):
        await asyncio.sleep(901)
    assert work.begun == [300.0, 600.0, 900.0]


@on_virtual_time
async def test_of_the_moments_missed_while_nobody_worked_one_is_made_up_for(work: Work) -> None:
    async with work.worker("*/5 * * * *"):
        await asyncio.sleep(301)
    await asyncio.sleep(3600)
    async with work.worker("*/5 * * * *"):
        await asyncio.sleep(1)
        assert work.begun == [300.0, 3901.0]
        await asyncio.sleep(300)
    assert work.begun == [300.0, 3901.0, 4200.0]


@on_virtual_time
async def test_two_workers_share_a_schedule(work: Work) -> None:
    async with work.worker("* * * * *"), work.worker("* * * * *"):
        await asyncio.sleep(181)
    assert len(work.begun) == 3


@on_virtual_time
async def test_a_failure_is_tried_again_later_each_time(work: Work) -> None:
    work.failures = 2
    async with work.worker():
        await work.enqueue()
        await asyncio.sleep(600)
    first, second, third = work.begun
    assert 11 <= second - first <= 19
    assert 22 <= third - second <= 38
    (job,) = await work.jobs()
    assert (job.state, job.attempt, job.last_error) == ("completed", 3, "ValueError: not today")


@on_virtual_time
async def test_the_last_failure_is_kept_to_be_seen(work: Work) -> None:
    work.failures = 9
    async with work.worker():
        await work.enqueue()
        await asyncio.sleep(3600)
    (job,) = await work.jobs()
    assert (job.state, len(work.begun), job.last_error) == ("discarded", 3, "ValueError: not today")
    assert work.services.counters["job_failures"] == 3


@on_virtual_time
async def test_a_long_job_keeps_its_lease(work: Work) -> None:
    work.takes_s = 10 * LEASE_S
    async with work.worker(), work.worker():
        await work.enqueue()
        await asyncio.sleep(11 * LEASE_S)
    assert (len(work.begun), work.ended) == (1, 1)


@on_virtual_time
async def test_a_job_whose_lease_was_lost_is_stopped(work: Work) -> None:
    work.takes_s = 10 * LEASE_S
    async with work.worker():
        await work.enqueue()
        await asyncio.sleep(1)
        async with work.services.store.writing() as transaction:
            (job,) = await JobQueue(transaction).load(limit=1)
            assert await JobQueue(transaction).finish(job)
        await asyncio.sleep(LEASE_S)
    await asyncio.sleep(20 * LEASE_S)
    assert (len(work.begun), work.ended) == (1, 0)


@on_virtual_time
async def test_a_worker_that_stops_gives_its_job_to_the_next_at_once(work: Work) -> None:
    work.takes_s = 5
    async with work.worker():
        await work.enqueue()
        await asyncio.sleep(1)
    async with work.worker():
        await asyncio.sleep(6)
    assert work.begun == [0.0, 1.0]
    (job,) = await work.jobs()
    assert (job.state, job.attempt) == ("completed", 1)


@on_virtual_time
async def test_jobs_run_side_by_side(work: Work) -> None:
    work.takes_s = 5
    async with work.worker():
        for _ in range(12):
            await work.enqueue()
        await asyncio.sleep(5.5)
        assert work.ended == 10
        await asyncio.sleep(5)
    assert work.ended == 12


@on_virtual_time
async def test_a_kind_with_a_bound_runs_no_more_at_once_and_does_not_hold_up_others(work: Work) -> None:
    work.takes_s = 5
    async with work.worker(concurrent=1):
        for _ in range(3):
            await work.enqueue()
        for _ in range(12):
            await work.enqueue("other")
        await asyncio.sleep(4)
        assert (len(work.begun), work.others) == (1, 12)
        await asyncio.sleep(12)
    assert work.ended == 3
    assert [later - earlier for earlier, later in pairwise(work.begun)] == [5.0, 5.0]


@on_virtual_time
async def test_a_kind_may_have_more_patience_between_its_attempts(work: Work) -> None:
    work.failures = 2
    async with work.worker(retry_first_s=300.0):
        await work.enqueue()
        await asyncio.sleep(3600)
    first, second, third = work.begun
    assert 225 <= second - first <= 375
    assert 450 <= third - second <= 750
    assert work.ended == 1
