"""Background work: what waits, runs, is done, or was given up."""

from collections.abc import Sequence
from typing import Final

from wardgate.portal.installation.job_queue import STATES, JobQueue
from wardgate.portal.installation.tables import JOBS, Job
from wardgate.portal.store import Repository, Transaction
from wardgate.portal.web.cells import Fact, Moment, Status, Text
from wardgate.portal.web.filters import Choice, Period, Search
from wardgate.portal.web.listing import Column, Empty, ListPage, Panel, PanelAction
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.toasts import Tone
from wardgate.portal.web.visit import OperatorVisit

EVERY_S: Final = 5.0
"""Jobs have no feed: they change with each step of their work."""

_STATES: Final[dict[str, tuple[str, Tone]]] = {
    "available": ("Waiting", "neutral"),
    "executing": ("Running", "caution"),
    "completed": ("Done", "good"),
    "discarded": ("Given up", "bad"),
}


def _status(job: Job) -> Status:
    if job.state == "available" and job.last_error is not None:
        return Status("Waiting, failed before", "caution")
    return Status(*_STATES[job.state])


def _kind(job: Job) -> str:
    return job.kind.replace("_", " ")


async def facts_of(_visit: OperatorVisit, _: Transaction, job: Job) -> Sequence[Fact]:
    facts = [
        Fact("Attempts", Text(f"{job.attempt} of {job.max_attempts}")),
        Fact("Due", Moment(job.run_at)),
        Fact("Enqueued", Moment(job.inserted_at)),
        Fact("Finished", Moment(job.finished_at, never="Not yet")),
    ]
    if job.lease_expires_at is not None:
        facts.append(Fact("Leased until", Moment(job.lease_expires_at)))
    if job.last_error is not None:
        facts.append(Fact("Last error", Text(job.last_error)))
    if job.unique_key is not None:
        facts.append(Fact("Unique as", Text(job.unique_key, is_code=True)))
    return (*facts, Fact("ID", Text(str(job.id), is_code=True)))


async def status_of(_visit: OperatorVisit, _: Transaction, job: Job) -> Status:
    return _status(job)


async def _run_again(_visit: OperatorVisit, _: Transaction, transaction: Transaction, job: Job) -> str:
    await JobQueue(transaction).run_again(job)
    return f"“{_kind(job)}” runs as soon as a worker is free."


async def _no_facts(_visit: OperatorVisit, _: Transaction, _jobs: Sequence[Job]) -> None:
    return None


PAGE: Final[ListPage[Job, None, OperatorVisit, Transaction]] = ListPage(
    name="Jobs",
    singular="job",
    path="/jobs",
    icon="clipboard-check",
    section=Section.INSTALLATION,
    about="Background work of all accounts: mail, clean-up, deletions. What is finished is kept for a week.",
    live=Live(every_s=EVERY_S),
    repository=lambda transaction: Repository(transaction, JOBS),
    load_facts=_no_facts,
    default_sort="-enqueued",
    label_of=_kind,
    columns=(
        Column(name="kind", label="Job", cell=lambda job, _: Text(_kind(job)), sort=JOBS.c.kind),
        Column(name="state", label="State", cell=lambda job, _: _status(job)),
        Column(
            name="attempt",
            label="Attempts",
            cell=lambda job, _: Text(f"{job.attempt} of {job.max_attempts}"),
            is_secondary=True,
            is_number=True,
        ),
        Column(name="due", label="Due", cell=lambda job, _: Moment(job.run_at), sort=JOBS.c.run_at),
        Column(
            name="enqueued",
            label="Enqueued",
            cell=lambda job, _: Moment(job.inserted_at),
            sort=JOBS.c.inserted_at,
            is_secondary=True,
        ),
        Column(
            name="error",
            label="Last error",
            cell=lambda job, _: Text(job.last_error or ""),
            is_secondary=True,
        ),
    ),
    filters=(
        Search(label="Kind or error", columns=(JOBS.c.kind, JOBS.c.last_error)),
        Choice(
            name="state",
            label="State",
            options={state: _STATES[state][0] for state in STATES},
            condition_of=lambda _visit, value: JOBS.c.state == value,
        ),
        Period(name="due", label="Due", column=JOBS.c.run_at),
    ),
    empty=Empty(
        "No jobs", "Mail, clean-up and the deletion of accounts are done in the background, and seen here."
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        actions=(
            PanelAction(
                name="again",
                label="Run again",
                run=_run_again,
                warning="It begins anew, with all its attempts. Every job bears repetition.",
                is_offered=lambda _visit, job: job.state == "discarded",
            ),
            PanelAction(
                name="now",
                label="Run now",
                run=_run_again,
                warning="It does not wait for its time any longer, and has all its attempts again.",
                is_offered=lambda _visit, job: job.state == "available",
            ),
        ),
    ),
)
