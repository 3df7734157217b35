"""The worker of one process: takes jobs off the table, runs them side by side, and notes what became of them.

It sleeps until the next job or schedule is due. A commit of this process that enqueues wakes it at once; what
other processes enqueue it finds within `POLL_S`. While a job runs its lease is renewed; when the lease is
lost all the same (the database was away too long), the job is stopped, because another worker may have it.
Handlers are plain coroutines; a job runs at least once and must bear repetition.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from wardgate.portal.database.base_store import DATABASE_ERRORS, UNAVAILABLE
from wardgate.portal.installation.job_queue import JOBS_TOPIC, JobQueue
from wardgate.portal.installation.tables import Job
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.services import Services
from wardgate.supervision import Tasks

log = logging.getLogger(__name__)

LEASE_S: Final = 60.0
POLL_S: Final = 15.0
CONCURRENT: Final = 10
RETRY_FIRST_S: Final = 15.0
RETRY_LONGEST_S: Final = 3600.0
RETRY_JITTER: Final = 0.25
_AWAY_S: Final = 5.0  # between attempts while the database cannot be reached

Handler = Callable[[Services, Mapping[str, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """One kind of job.

    Attributes:
        handler: gets the job's arguments; what it raises is a failed attempt.
        schedule: when it is enqueued by itself, without arguments; one at a time.
        concurrent: how many of its jobs a process runs at once.
        retry_first_s: how long the second attempt waits; each further one twice as long.
    """

    name: str
    handler: Handler
    max_attempts: int = 3
    schedule: Cron | None = None
    concurrent: int = CONCURRENT
    retry_first_s: float = RETRY_FIRST_S


class Runner:
    """The jobs of one process. `run` works until it is cancelled, then gives back what it has not finished."""

    def __init__(self, services: Services, kinds: Sequence[JobKind]) -> None:
        self._services = services
        self._clock = services.environment.clock
        self._kinds = {kind.name: kind for kind in kinds}
        self._worker_id = services.environment.new_id()
        self._tasks = Tasks(self._count_failure)
        self._running: dict[asyncio.Task[object], str] = {}
        self._awake = asyncio.Event()

    async def run(self) -> None:
        """Work for ever."""
        stop_listening = self._services.store.on_commit(self._hear)
        try:
            while True:
                self._awake.clear()
                try:
                    wait_s = await self._turn()
                except DATABASE_ERRORS:  # of which the store tells
                    wait_s = _AWAY_S
                await self._sleep(wait_s)
        finally:
            stop_listening()
            await self._stop()

    def _hear(self, topics: frozenset[UUID]) -> None:
        if JOBS_TOPIC in topics:
            self._awake.set()

    async def _turn(self) -> float:
        """Begin what is due; returns for how many seconds nothing else will be."""
        rooms = self._rooms()
        due_at = await self._next_due_at(list(rooms))
        now = self._clock.now()
        if due_at is None or due_at > now:
            return POLL_S if due_at is None else min(POLL_S, (due_at - now).total_seconds())
        # Nobody waits for the disk: where a power cut undoes a lease the job is done again, as where one expires.
        async with self._services.store.writing(is_synced=False) as transaction:
            queue = JobQueue(transaction)
            for kind, moment in self._missed(await self._enqueued_until(queue), transaction.now):
                await queue.enqueue_scheduled(kind.name, moment, max_attempts=kind.max_attempts)
            jobs = await self._claim(queue, rooms)
        for job in jobs:
            task = self._tasks.start(self._execute(job), name=f"job {job.kind}")
            self._running[task] = job.kind
            task.add_done_callback(self._ended)
        return 0.0

    def _rooms(self) -> dict[str, int]:
        """Return how many more jobs of each kind may be begun now; kinds without room are left out."""
        free = CONCURRENT - len(self._running)
        begun = Counter(self._running.values())
        rooms = {name: min(free, kind.concurrent - begun[name]) for name, kind in self._kinds.items()}
        return {name: room for name, room in rooms.items() if room > 0}

    async def _claim(self, queue: JobQueue, rooms: Mapping[str, int]) -> list[Job]:
        """Lease what there is room for: kinds with a bound of their own one by one, all others at once,
        oldest first.
        """
        free = CONCURRENT - len(self._running)
        bounded = [[name] for name in rooms if self._kinds[name].concurrent < CONCURRENT]
        others = [name for name in rooms if self._kinds[name].concurrent >= CONCURRENT]
        jobs: list[Job] = []
        for names in (*bounded, others):
            room = min([free - len(jobs), *(rooms[name] for name in names)])
            if names and room > 0:
                jobs += await queue.claim(self._worker_id, names, limit=room, lease_s=LEASE_S)
        return jobs

    async def _next_due_at(self, kinds: Collection[str]) -> datetime | None:
        """Return when a job of these kinds can be claimed, or any schedule is due.

        The end of a job wakes the runner too.
        """
        async with self._services.store.reading() as transaction:
            queue = JobQueue(transaction)
            due_at = await queue.next_due_at(kinds)
            scheduled = await queue.enqueued_until()
        now = self._clock.now()
        moments = [
            now if kind.name not in scheduled else kind.schedule.next_after(scheduled[kind.name])
            for kind in self._kinds.values()
            if kind.schedule is not None
        ]
        return min([*moments, *([] if due_at is None else [due_at])], default=None)

    async def _enqueued_until(self, queue: JobQueue) -> dict[str, datetime]:
        return await queue.begin_schedules(
            [kind.name for kind in self._kinds.values() if kind.schedule is not None]
        )

    def _missed(
        self, enqueued_until: Mapping[str, datetime], now: datetime
    ) -> list[tuple[JobKind, datetime]]:
        """Return the schedules that are due, each with its last moment: what was missed is made up for once."""
        missed = []
        for name, instant in enqueued_until.items():
            kind = self._kinds[name]
            assert kind.schedule is not None
            moment = kind.schedule.next_after(instant)
            if moment <= now:
                missed.append((kind, max(moment, now.replace(second=0, microsecond=0))))
        return missed

    async def _execute(self, job: Job) -> None:
        kind, services = self._kinds[job.kind], self._services
        # Both end with this block; what the handler raises is looked at here.
        work = asyncio.ensure_future(kind.handler(services, job.arguments))
        renewing = self._tasks.start(self._renew(job, work), name=f"lease of {job.kind}")
        try:
            await work
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # this process stops: `_stop` gives the job back
            log.warning("a job was stopped: its lease is lost", extra={"job": job.kind})
        except Exception as error:
            if not isinstance(error, UNAVAILABLE):  # of which the store tells
                log.exception("a job failed", extra={"job": job.kind, "attempt": job.attempt})
            services.counters["job_failures"] += 1
            told, retry_at = _told(error), self._retry_at(job)
            await self._note(lambda queue: queue.fail(job, told, retry_at=retry_at))
        else:
            services.counters["jobs_completed"] += 1
            await self._note(lambda queue: queue.finish(job))
        finally:
            renewing.cancel()

    async def _renew(self, job: Job, work: "asyncio.Future[object]") -> None:
        """Renew the lease until it is lost; however this ends, the work ends too: another worker may have the
        job then.
        """
        is_ours = True
        try:
            while is_ours:
                await self._clock.sleep(LEASE_S / 3)
                with contextlib.suppress(*DATABASE_ERRORS):
                    async with self._services.store.writing() as transaction:
                        is_ours = await JobQueue(transaction).renew(job, lease_s=LEASE_S)
        finally:
            work.cancel()

    async def _note(self, change: Callable[[JobQueue], Awaitable[bool]]) -> None:
        """Write down how a job ended; when the database is away, the lease expires and the job runs again."""
        with contextlib.suppress(*DATABASE_ERRORS):
            async with self._services.store.writing() as transaction:
                await change(JobQueue(transaction))

    def _retry_at(self, job: Job) -> datetime:
        first_s = self._kinds[job.kind].retry_first_s
        wait_s = min(first_s * 2.0 ** (job.attempt - 1), RETRY_LONGEST_S)
        jitter = 1 + RETRY_JITTER * (2 * self._services.environment.rng.random() - 1)
        return self._clock.now() + timedelta(seconds=wait_s * jitter)

    def _count_failure(self) -> None:
        self._services.counters["background_failures"] += 1

    def _ended(self, task: "asyncio.Task[object]") -> None:
        self._running.pop(task, None)
        self._awake.set()

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not beyond a wake-up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()

    async def _stop(self) -> None:
        has_jobs = bool(self._running)
        await self._tasks.close()
        if has_jobs:
            with contextlib.suppress(*DATABASE_ERRORS):
                async with self._services.store.writing() as transaction:
                    await JobQueue(transaction).release(self._worker_id)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
