"""Work is leased once, survives its workers, and ends."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from wardgate.portal.environment import Environment, SystemClock
from wardgate.portal.installation.job_queue import JOBS_TOPIC, LOST, JobQueue
from wardgate.portal.installation.tables import JOBS, Job
from wardgate.portal.store import Database, Store

pytestmark = pytest.mark.slow

KIND = "sweep"
LEASE_S = 60.0


class SteppedClock(SystemClock):
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.instant = datetime(2026, 11, 22, 18, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def move(self, seconds: float) -> None:
        self.instant += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def environment(clock: SteppedClock) -> Environment:
    return replace(Environment.of_this_process(), clock=clock)


async def test_a_job_exists_exactly_if_its_transaction_commits(store: Store) -> None:
    with pytest.raises(RuntimeError):  # noqa: PT012
        async with store.writing() as transaction:
            assert await JobQueue(transaction).enqueue(KIND)
            raise RuntimeError
    assert await claim(store) == []
    await enqueue(store)
    (job,) = await claim(store)
    assert (job.kind, job.attempt, job.state) == (KIND, 1, "executing")


async def test_the_commit_tells_listeners(store: Store) -> None:
    heard: list[object] = []
    store.on_commit(heard.append)
    await enqueue(store)
    assert heard == [frozenset({JOBS_TOPIC})]


async def test_a_job_waits_for_its_time(store: Store, clock: SteppedClock) -> None:
    await enqueue(store, run_at=clock.now() + timedelta(seconds=10))
    assert await claim(store) == []
    async with store.reading() as transaction:
        assert await JobQueue(transaction).next_due_at([KIND]) == clock.now() + timedelta(seconds=10)
    clock.move(10)
    assert len(await claim(store)) == 1


async def test_jobs_of_other_kinds_are_left_alone(store: Store) -> None:
    async with store.writing() as transaction:
        await JobQueue(transaction).enqueue("of a newer version")
    assert await claim(store) == []


async def test_only_one_unfinished_job_has_a_unique_key(store: Store) -> None:
    assert await enqueue(store, unique_key="once")
    assert not await enqueue(store, unique_key="once")
    (job,) = await claim(store)
    assert not await enqueue(store, unique_key="once")
    await end(store, job)
    assert await enqueue(store, unique_key="once")


async def test_a_cancelled_job_never_runs_and_one_that_runs_is_left_alone(store: Store) -> None:
    await enqueue(store, unique_key="running")
    (running,) = await claim(store)
    await enqueue(store, unique_key="waiting")
    await enqueue(store, unique_key="other")
    async with store.writing() as transaction:
        assert await JobQueue(transaction).cancel(["running", "waiting", "unknown"]) == 1
    (job,) = await claim(store)
    assert job.unique_key == "other"
    await end(store, running)


async def test_no_job_is_leased_twice(
    location: Database | None, environment: Environment, store: Store
) -> None:
    stores = [store, store] if location is None else [store, await Store.open(location, environment)]
    for _ in range(20):
        await enqueue(store)
    claimed = await asyncio.gather(*(claim(stores[index % 2], limit=3) for index in range(10)))
    ids = [job.id for jobs in claimed for job in jobs]
    assert len(ids) == len(set(ids)) == 20
    await stores[1].close()


async def test_a_dead_workers_job_is_taken_over_when_its_lease_ends(
    store: Store, clock: SteppedClock
) -> None:
    await enqueue(store)
    (lost,) = await claim(store)
    clock.move(LEASE_S - 1)
    assert await claim(store) == []
    clock.move(1)
    (taken,) = await claim(store)
    assert (taken.id, taken.attempt) == (lost.id, 2)
    assert not await end(store, lost)
    assert await end(store, taken)


async def test_a_renewed_lease_holds(store: Store, clock: SteppedClock) -> None:
    await enqueue(store)
    (job,) = await claim(store)
    clock.move(LEASE_S - 1)
    async with store.writing() as transaction:
        assert await JobQueue(transaction).renew(job, lease_s=LEASE_S)
    clock.move(LEASE_S - 1)
    assert await claim(store) == []


async def test_a_job_that_takes_its_workers_down_is_given_up(store: Store, clock: SteppedClock) -> None:
    await enqueue(store, max_attempts=2)
    for _ in range(2):
        assert len(await claim(store)) == 1
        clock.move(LEASE_S)
    assert await claim(store) == []
    (job,) = await jobs_of(store)
    assert (job.state, job.last_error) == ("discarded", LOST)


async def test_a_failure_is_tried_again_and_the_last_one_is_final(store: Store, clock: SteppedClock) -> None:
    await enqueue(store, max_attempts=2)
    (first,) = await claim(store)
    assert await fail(store, first, clock.now() + timedelta(seconds=5))
    assert await claim(store) == []
    clock.move(5)
    (second,) = await claim(store)
    assert await fail(store, second, clock.now())
    (job,) = await jobs_of(store)
    assert (job.state, job.attempt, job.last_error) == ("discarded", 2, "it broke")
    assert job.finished_at == clock.now()


async def test_a_worker_that_stops_in_order_gives_back_what_it_has(store: Store) -> None:
    await enqueue(store, max_attempts=1)
    (job,) = await claim(store)
    assert job.leased_by is not None
    async with store.writing() as transaction:
        await JobQueue(transaction).release(job.leased_by)
    (again,) = await claim(store)
    assert (again.id, again.attempt) == (job.id, 1)


async def test_a_moment_of_a_schedule_is_enqueued_once(store: Store, clock: SteppedClock) -> None:
    async with store.writing() as transaction:
        assert await JobQueue(transaction).begin_schedules([KIND]) == {KIND: clock.now()}
    clock.move(60)

    async def enqueue_moment() -> None:
        async with store.writing() as transaction:
            await JobQueue(transaction).enqueue_scheduled(KIND, clock.now(), max_attempts=3)

    await asyncio.gather(*(enqueue_moment() for _ in range(5)))
    (job,) = await claim(store, limit=5)
    await end(store, job)
    await enqueue_moment()
    assert await claim(store) == []
    clock.move(60)
    await enqueue_moment()
    assert len(await claim(store)) == 1


async def test_finished_jobs_are_kept_for_a_while(store: Store, clock: SteppedClock) -> None:
    await enqueue(store)
    (job,) = await claim(store)
    await end(store, job)
    await enqueue(store)
    async with store.writing() as transaction:
        assert await transaction.delete_oldest(JOBS.c.finished_at, clock.now()) == 0
        assert await transaction.delete_oldest(JOBS.c.finished_at, clock.now() + timedelta(seconds=1)) == 1
    async with store.reading(is_long=True) as transaction:
        assert await JobQueue(transaction).counts() == {
            "available": 1,
            "executing": 0,
            "completed": 0,
            "discarded": 0,
        }


async def enqueue(store: Store, **options: object) -> bool:
    async with store.writing() as transaction:
        return await JobQueue(transaction).enqueue(KIND, {"n": 1}, **options)  # type: ignore[arg-type]


async def claim(store: Store, *, limit: int = 1) -> list[Job]:
    async with store.writing() as transaction:
        return await JobQueue(transaction).claim(transaction.new_id(), [KIND], limit=limit, lease_s=LEASE_S)


async def end(store: Store, job: Job) -> bool:
    async with store.writing() as transaction:
        return await JobQueue(transaction).finish(job)


async def fail(store: Store, job: Job, retry_at: datetime) -> bool:
    async with store.writing() as transaction:
        return await JobQueue(transaction).fail(job, "it broke", retry_at=retry_at)


async def jobs_of(store: Store) -> list[Job]:
    async with store.reading() as transaction:
        return await JobQueue(transaction).load(limit=10)
