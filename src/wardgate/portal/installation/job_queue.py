"""The table of background work: enqueue in the caller's transaction, lease, finish, retry. One semantics on
both databases.

    enqueue ──▶ available ──claim──▶ executing ──finish──▶ completed
                    ▲                  │  │
                    └── fail, release, │  └── fail or lost on the last attempt ──▶ discarded
                        lease expired ─┘

A worker that dies leaves its lease to expire; then another takes the job over, so a job runs *at least* once
and must bear repetition. Claims of all workers take turns (`Transaction.hold`), so no job is leased twice.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from wardgate.portal.database.refusals import sanitized
from wardgate.portal.installation.tables import JOB_SCHEDULES, JOBS, Job
from wardgate.portal.outcomes import WrongState
from wardgate.portal.store import Transaction

JOBS_TOPIC: Final = UUID(int=1)
"""The topic of commits that enqueue a job, and what claims are held by."""

STATES: Final = ("available", "executing", "completed", "discarded")
LOST: Final = "the worker stopped without a word"
_C: Final = JOBS.c
_SCHEDULES: Final = JOB_SCHEDULES.c


class JobQueue:
    """The queue inside one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def enqueue(
        self,
        kind: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        run_at: datetime | None = None,
        unique_key: str | None = None,
        max_attempts: int = 3,
    ) -> bool:
        """Add a job that exists exactly if the transaction commits; false: an unfinished one has the same
        `unique_key`.
        """
        self._transaction.require_writable()
        now = self._transaction.now
        row = {
            "id": self._transaction.new_id(),
            "kind": kind,
            "arguments": dict(arguments or {}),
            "unique_key": unique_key,
            "state": "available",
            "attempt": 0,
            "max_attempts": max_attempts,
            "run_at": run_at or now,
            "inserted_at": now,
            "updated_at": now,
        }
        statement = self._insert(JOBS.table).on_conflict_do_nothing(
            index_elements=[_C.unique_key], index_where=_C.finished_at.is_(None)
        )
        added = bool((await self._transaction.execute(statement, row)).rowcount == 1)
        if added:
            self._transaction.hint(JOBS_TOPIC)
        return added

    async def enqueue_scheduled(self, kind: str, due_at: datetime, *, max_attempts: int) -> None:
        """Add the job of one moment of a schedule, whichever worker comes first; none while an earlier one is
        unfinished.
        """
        await self._transaction.hold(JOBS_TOPIC)
        result = await self._transaction.execute(
            update(JOB_SCHEDULES.table)
            .where(_SCHEDULES.kind == kind, _SCHEDULES.enqueued_until < due_at)
            .values(enqueued_until=due_at)
        )
        if result.rowcount == 1:
            await self.enqueue(kind, run_at=due_at, unique_key=f"schedule:{kind}", max_attempts=max_attempts)

    async def enqueued_until(self) -> dict[str, datetime]:
        """Return up to when each schedule has been enqueued."""
        result = await self._transaction.execute(select(JOB_SCHEDULES.table))
        return {row.kind: row.enqueued_until for row in result}

    async def begin_schedules(self, kinds: Collection[str]) -> dict[str, datetime]:
        """Return up to when each of these schedules has been enqueued; one met for the first time begins now."""
        await self._transaction.hold(JOBS_TOPIC)
        known = await self.enqueued_until()
        for kind in sorted(set(kinds) - known.keys()):
            known[kind] = self._transaction.now
            await self._transaction.execute(
                insert(JOB_SCHEDULES.table), {"kind": kind, "enqueued_until": known[kind]}
            )
        return {kind: known[kind] for kind in kinds}

    async def claim(
        self, worker_id: UUID, kinds: Collection[str], *, limit: int, lease_s: float
    ) -> list[Job]:
        """Lease up to `limit` jobs of these kinds that are due, or whose worker was lost, oldest first."""
        await self._transaction.hold(JOBS_TOPIC)
        now = self._transaction.now
        await self._transaction.execute(
            update(JOBS.table)
            .where(_C.state == "executing", _C.lease_expires_at <= now, _C.attempt >= _C.max_attempts)
            .values(state="discarded", last_error=LOST, finished_at=now, updated_at=now)
        )
        due = or_(
            (_C.state == "available") & (_C.run_at <= now),
            (_C.state == "executing") & (_C.lease_expires_at <= now),
        )
        result = await self._transaction.execute(
            select(_C.id).where(due, _C.kind.in_(list(kinds))).order_by(_C.run_at, _C.id).limit(limit)
        )
        ids = list(result.scalars())
        if not ids:
            return []
        await self._transaction.execute(
            update(JOBS.table)
            .where(_C.id.in_(ids))
            .values(
                state="executing",
                attempt=_C.attempt + 1,
                leased_by=worker_id,
                lease_expires_at=now + timedelta(seconds=lease_s),
                updated_at=now,
            )
        )
        result = await self._transaction.execute(
            select(JOBS.table).where(_C.id.in_(ids)).order_by(_C.run_at, _C.id)
        )
        return [Job(**row) for row in result.mappings()]

    async def next_due_at(self, kinds: Collection[str]) -> datetime | None:
        """Return when the next job of these kinds can be claimed, or None if none is waiting."""
        result = await self._transaction.execute(
            select(
                select(func.min(_C.run_at))
                .where(_C.state == "available", _C.kind.in_(list(kinds)))
                .scalar_subquery()
                .label("available"),
                select(func.min(_C.lease_expires_at))
                .where(_C.state == "executing", _C.kind.in_(list(kinds)))
                .scalar_subquery()
                .label("leased"),
            )
        )
        return min((instant for instant in result.one() if instant is not None), default=None)

    async def renew(self, job: Job, *, lease_s: float) -> bool:
        """Prolong a lease; false: it is ours no longer."""
        expires_at = self._transaction.now + timedelta(seconds=lease_s)
        return await self._update(job, lease_expires_at=expires_at)

    async def finish(self, job: Job) -> bool:
        """Note success; false: the lease was lost, another worker has the job."""
        now = self._transaction.now
        return await self._update(job, state="completed", finished_at=now, lease_expires_at=None)

    async def fail(self, job: Job, error: str, *, retry_at: datetime) -> bool:
        """Note a failure: try again at `retry_at`, or never after the last attempt. False: the lease was lost."""
        error = sanitized(JOBS.table, {"last_error": error})["last_error"]
        if job.attempt < job.max_attempts:
            return await self._update(
                job, state="available", run_at=retry_at, last_error=error, lease_expires_at=None
            )
        now = self._transaction.now
        return await self._update(
            job, state="discarded", finished_at=now, last_error=error, lease_expires_at=None
        )

    async def release(self, worker_id: UUID) -> None:
        """Give back what a worker that stops in order has not finished; the attempt does not count."""
        await self._transaction.execute(
            update(JOBS.table)
            .where(_C.leased_by == worker_id, _C.state == "executing")
            .values(
                state="available",
                attempt=_C.attempt - 1,
                lease_expires_at=None,
                updated_at=self._transaction.now,
            )
        )
        self._transaction.hint(JOBS_TOPIC)

    async def cancel(self, unique_keys: Collection[str]) -> int:
        """Delete the jobs with these keys that have not begun; one that runs finds out by itself. Returns how many."""
        self._transaction.require_writable()
        result = await self._transaction.execute(
            delete(JOBS.table).where(_C.unique_key.in_(list(unique_keys)), _C.state == "available")
        )
        return int(result.rowcount)

    async def run_again(self, job: Job) -> None:
        """Let a job that waits or was given up run at once, with all its attempts.

        Raises:
            WrongState: it has been claimed or done meanwhile, or a newer one does the same work.
        """
        self._transaction.require_writable()
        await self._transaction.hold(JOBS_TOPIC)
        twin = None
        if job.unique_key is not None:
            of_same_work = select(_C.id).where(
                _C.unique_key == job.unique_key, _C.finished_at.is_(None), _C.id != job.id
            )
            twin = (await self._transaction.execute(of_same_work.limit(1))).scalar()
        if twin is not None:
            raise WrongState("A newer job does the same work.")
        result = await self._transaction.execute(
            update(JOBS.table)
            .where(_C.id == job.id, _C.state.in_(("available", "discarded")))
            .values(
                state="available",
                attempt=0,
                run_at=self._transaction.now,
                finished_at=None,
                leased_by=None,
                updated_at=self._transaction.now,
            )
        )
        if result.rowcount != 1:
            raise WrongState("The job is running or done already.")
        self._transaction.hint(JOBS_TOPIC)

    async def load(self, *, state: str | None = None, limit: int) -> list[Job]:
        """Return jobs, the newest first."""
        statement = select(JOBS.table).order_by(_C.inserted_at.desc(), _C.id).limit(limit)
        if state is not None:
            statement = statement.where(_C.state == state)
        return [Job(**row) for row in (await self._transaction.execute(statement)).mappings()]

    async def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state, 0 included; for long transactions."""
        if not self._transaction.is_long:
            raise ValueError("counting costs what the table has jobs, and everybody would wait for it")
        result = await self._transaction.execute(
            select(_C.state, func.count().label("jobs")).group_by(_C.state)
        )
        return {**dict.fromkeys(STATES, 0), **{row.state: row.jobs for row in result}}

    async def _update(self, job: Job, **values: Any) -> bool:
        result = await self._transaction.execute(
            update(JOBS.table)
            .where(
                _C.id == job.id,
                _C.state == "executing",
                _C.leased_by == job.leased_by,
                _C.attempt == job.attempt,
            )
            .values(**values, updated_at=self._transaction.now)
        )
        return bool(result.rowcount == 1)

    def _insert(self, table: Any) -> Any:
        return (sqlite if self._transaction.dialect == "sqlite" else postgresql).insert(table)
