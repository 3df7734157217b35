"""Writes grants, decisions and connection records in group commits, concurrently with the connections' own
work.

A grant is written in parallel with the gateway's round trip; its client is notified only when both are done,
so there is no window in which a live grant has no row. A grant that cannot be written, or is no longer valid
by then (`claims`), is withdrawn from the gateway (fail closed).

Grants are committed without waiting for the disk, which is synced in another thread while the next ones are
committed (`decisions/0011`); a client is notified when its grant is on it. Each commit waits for some time
in proportion to what the last one took, so that at a high rate more grants share one and the loop has time
for everything else, and between its pieces gives way to peers that ask (`precedence`).

A receiver's session loads the grants that are stored, and follows the journal for those that are not stored
yet (`follow`).

A connect is recorded in its device's latest-session columns and in the session log. Its session is notified
of the outcome; without notification it ends by itself (portal-domain §7.4).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from wardgate.model.ids import AuthorizationId
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.bus.messages import GrantQueued, WithdrawGrant
from wardgate.portal.channels.claims import Claim, valid_claims
from wardgate.portal.channels.connect_records import Connect, record_connects
from wardgate.portal.channels.held_grants import holding_of
from wardgate.portal.channels.precedence import Precedence
from wardgate.portal.channels.session import Record
from wardgate.portal.environment import Environment
from wardgate.portal.logs.decision_log import append_decisions
from wardgate.portal.logs.tables import Decision
from wardgate.portal.services import Services
from wardgate.portal.store import UNAVAILABLE, DanglingReference, Store
from wardgate.supervision import Tasks

log = logging.getLogger(__name__)

WINDOW_S: Final = 0.004
"""How long a row waits for others to be committed with; the gateway's round trip takes about as long."""

LONGEST_WINDOW_S: Final = 0.020  # docs/control-plane.md
IDLE_SHARE: Final = 3
"""How many times as long as the last commit the next one waits."""
WINDOW_PER_GRANT_S: Final = 0.000_75
"""How long it waits for each grant of the last one: where many come, a larger group costs each of them less."""

CONNECTS_WINDOW_S: Final = 0.1
"""How long the record of a connect waits for others, unless so many wait or a grant's commit is under way: nobody
waits for it, and a commit costs as much for one as for ten.
"""

SLICE: Final = 50
CONNECTS_SLICE: Final = 25
"""Records of connects in one commit: some three milliseconds in all."""
CONNECTS_WORTH_A_TURN: Final = 4 * CONNECTS_SLICE
"""Connects that wait to be recorded before nobody goes first any more."""
CONNECTS_SHARE: Final = 4
"""Of more than a hundred that wait, a quarter is committed together: a commit takes several iterations of the loop, and
these are long when all peers come back at once. Sessions end whose connect is not recorded in time.
"""
ROWS_A_TURN: Final = 25
"""Rows of a slice that are worked on before everybody else has a turn: a statement or two, some two milliseconds."""
TOLD_A_TURN: Final = 8
"""Grants whose clients are told before everybody else has a turn."""

_News = TypeVar("_News")

Done = Callable[[bool], None]
GrantListener = Callable[[GrantQueued | WithdrawGrant], None]


@dataclass(frozen=True, slots=True)
class _Grant:
    claim: Claim
    done: Done

    @property
    def row(self) -> PolicyAuthorization:
        return self.claim.row


@dataclass(slots=True)
class _Slice:
    """What is committed together, and what became of it."""

    grants: list[_Grant]
    connects: list[Connect]
    decisions: list[Decision]
    stored: set[UUID] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)


class Journal:
    """The one writer of a process. `run` commits until it is cancelled; `flush` commits what waits.

    Attributes:
        grants_written: how many grants have been in a commit, also those that came to nothing.
    """

    def __init__(self, services: Services, precedence: Precedence) -> None:
        self._precedence = precedence
        self._store: Store = services.store
        self._environment: Environment = services.environment
        self._counters = services.counters
        self._grants: list[_Grant] = []
        self._committing: list[_Grant] = []
        self._decisions: list[Decision] = []
        self._connects: list[Connect] = []
        self._are_connects_due = False
        self.grants_written = 0
        self._followers: dict[UUID, list[GrantListener]] = {}
        self._waiting = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._tasks = Tasks(self._count_failure)
        self._telling: set[asyncio.Task[object]] = set()

    def write_grant(self, claim: Claim, done: Done) -> None:
        """Queue a grant; `done(stored)` is called after its commit."""
        self._grants.append(_Grant(claim, done))
        self._tell(claim.row, GrantQueued(holding_of(claim.row)))
        self._waiting.set()

    def write_decision(self, decision: Decision) -> None:
        """Queue one entry of the decision log."""
        self._decisions.append(decision)
        self._waiting.set()

    @property
    def connects_waiting(self) -> int:
        """How many connects are not recorded yet."""
        return len(self._connects)

    def write_connect(self, connect: Connect) -> None:
        """Queue the record of a connect."""
        self._connects.append(connect)
        if len(self._connects) == 1:
            asyncio.get_running_loop().call_later(CONNECTS_WINDOW_S, self._want_connects)
        elif len(self._connects) >= CONNECTS_SLICE:
            self._want_connects()

    def _want_connects(self) -> None:
        if self._connects:
            self._are_connects_due = True
            self._waiting.set()

    def follow(self, receiving_device_id: UUID, listener: GrantListener) -> Callable[[], None]:
        """Call `listener` for a receiver's grants that no query finds yet: those waiting now, each one queued
        or failing later.

        Subscribe before the query, so that a grant stored meanwhile is in one of the two. Returns a function
        that unsubscribes.
        """
        followers = self._followers.setdefault(receiving_device_id, [])
        followers.append(listener)
        for grant in (*self._committing, *self._grants):
            if grant.row.receiving_device_id == receiving_device_id:
                listener(GrantQueued(holding_of(grant.row)))

        def unfollow() -> None:
            if listener in followers:
                followers.remove(listener)
            if not followers and self._followers.get(receiving_device_id) is followers:
                del self._followers[receiving_device_id]

        return unfollow

    async def run(self) -> None:
        """Commit whatever waits, until cancelled."""
        monotonic = self._environment.clock.monotonic
        window_s = WINDOW_S
        while True:
            await self._waiting.wait()
            await self._environment.clock.sleep(min(window_s, LONGEST_WINDOW_S))
            await self._give_way()
            began_at, written_before = monotonic(), self.grants_written
            # A commit that has begun ends, also when this task is cancelled: its rows are in no queue any more.
            await asyncio.shield(self._commit_waiting())
            took_s, written = monotonic() - began_at, self.grants_written - written_before
            window_s = max(WINDOW_S, IDLE_SHARE * took_s, WINDOW_PER_GRANT_S * written)

    async def flush(self) -> None:
        """Commit everything that waits, in slices; returns when all that waited at the call is committed, on the disk,
        and told of.
        """
        self._want_connects()
        await self._commit_waiting()
        await asyncio.gather(*self._telling)

    async def _commit_waiting(self) -> None:
        async with self._flushing:
            while self._grants or self._decisions or self._are_connects_due:
                await self._commit_slice()
            self._waiting.clear()

    async def _commit_slice(self) -> None:
        grants, self._grants = self._grants[:SLICE], self._grants[SLICE:]
        decisions, self._decisions = self._decisions[:SLICE], self._decisions[SLICE:]
        size = max(CONNECTS_SLICE, len(self._connects) // CONNECTS_SHARE)
        connects, self._connects = self._connects[:size], self._connects[size:]
        self._are_connects_due = self._are_connects_due and bool(self._connects)
        slice_ = _Slice(grants, connects, decisions)
        self._committing = grants
        try:
            try:
                await self._write(slice_, is_each_alone=False)
            except DanglingReference:
                # Somebody's row names what is gone: that one is left out.
                await self._write(slice_, is_each_alone=True)
            synced = self._store.start_sync()
        except Exception as error:
            # Whatever the trouble is: nothing of this slice holds, and the next one is tried. The store tells of
            # the database's.
            if not isinstance(error, UNAVAILABLE):
                log.exception("a group of grants and connects could not be written")
            self._fail(slice_)
            synced = None
        finally:
            self._committing = []
            self.grants_written += len(grants)
        task = self._tasks.start(self._tell_when_synced(slice_, synced), name="journal sync")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _write(self, slice_: _Slice, *, is_each_alone: bool) -> None:
        """Write a slice in one transaction.

        Raises:
            DanglingReference: a row names something gone; with `is_each_alone` such rows are left out.
        """
        stored: set[UUID] = set()
        overtaken = 0
        async with self._store.writing(is_synced=False) as transaction:
            transaction.rows_a_turn, transaction.pause = ROWS_A_TURN, self._give_way
            await transaction.hold(
                *(grant.row.account_id for grant in slice_.grants),
                *(connect.device.account_id for connect in slice_.connects),
            )
            for account_id in dict.fromkeys(grant.row.account_id for grant in slice_.grants):
                claims = [grant.claim for grant in slice_.grants if grant.row.account_id == account_id]
                valid = await valid_claims(transaction, claims, now=self._environment.clock.now())
                rows = [claim.row for claim in valid]
                table = transaction.of(account_id).authorizations
                stored |= {
                    row.id
                    for row in await (table.insert_each(rows) if is_each_alone else table.insert_all(rows))
                }
                overtaken += len(claims) - len(valid)
            await append_decisions(transaction, slice_.decisions)
            records = await record_connects(transaction, slice_.connects, is_each_alone=is_each_alone)
        self._counters["grants_overtaken"] += overtaken
        slice_.stored, slice_.records = stored, records

    async def _tell_when_synced(self, slice_: _Slice, synced: Awaitable[None] | None) -> None:
        try:
            if synced is not None:
                await synced
        except Exception:
            # The rows may be there when the database is next opened: a gateway that loads one enforces what was
            # decided, and its end is told of like that of any other.
            log.exception("a group of grants and connects may not have reached the disk")
            self._fail(slice_)
        await self._tell_of(slice_)

    async def _give_way(self) -> None:
        """Let peers that ask go first, unless more waits to be written than a group takes: then it takes turns."""
        if len(self._grants) > SLICE or len(self._connects) > CONNECTS_WORTH_A_TURN:
            await self._environment.clock.sleep(0)
        else:
            await self._precedence.give_way()

    def _fail(self, slice_: _Slice) -> None:
        """Nothing of a slice holds."""
        self._counters["journal_failures"] += 1
        slice_.stored, slice_.records = set(), []

    async def _tell_of(self, slice_: _Slice) -> None:
        for number, grant in enumerate(slice_.grants, 1):
            if grant.row.id not in slice_.stored:
                self._tell(grant.row, WithdrawGrant(AuthorizationId(grant.row.id)))
            self._report(grant.done, grant.row.id in slice_.stored)
            if number % TOLD_A_TURN == 0:
                await self._give_way()
        for connect, record in zip(slice_.connects, slice_.records, strict=False):
            self._report(connect.recorded, record)
        for account_id in dict.fromkeys(decision.account_id for decision in slice_.decisions):
            self._environment.bus.wake(f"decisions:{account_id}")

    def _tell(self, row: PolicyAuthorization, news: GrantQueued | WithdrawGrant) -> None:
        for listener in tuple(self._followers.get(row.receiving_device_id, ())):
            self._report(listener, news)

    def _count_failure(self) -> None:
        self._counters["background_failures"] += 1

    def _report(self, listener: Callable[[_News], None], news: _News) -> None:
        """Call a listener; its failure must not affect the others."""
        try:
            listener(news)
        except Exception:
            log.exception("a listener of the journal failed")
            self._counters["background_failures"] += 1
