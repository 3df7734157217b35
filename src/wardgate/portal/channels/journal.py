"""Writes grants, decisions and connection records in group commits, concurrently with the connections' own
work.

A grant is written in parallel with the gateway's round trip; its client is notified only when both are done,
so there is no window in which a live grant has no row. A grant that cannot be written, or is no longer valid
by then (`claims`), is withdrawn from the gateway (fail closed).

A receiver's session loads the grants that are stored, and follows the journal for those that are not stored
yet (`follow`).

A connect is recorded in its device's latest-session columns and in the session log. Its session is notified
of the outcome; without notification it ends by itself (portal-domain §7.4).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from uuid import UUID

from wardgate.model.ids import AuthorizationId
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.bus.messages import GrantQueued, WithdrawGrant
from wardgate.portal.channels.claims import Claim, valid_claims
from wardgate.portal.channels.held_grants import holding_of
from wardgate.portal.channels.session import Record
from wardgate.portal.devices.tables import Device
from wardgate.portal.environment import Environment
from wardgate.portal.logs.decision_log import append_decisions
from wardgate.portal.logs.streams import Logs
from wardgate.portal.logs.tables import Decision
from wardgate.portal.services import Services
from wardgate.portal.store import UNAVAILABLE, DanglingReference, Store, Transaction

log = logging.getLogger(__name__)

WINDOW_S: Final = 0.004
"""How long a row waits for others to be committed with; the gateway's round trip takes about as long."""

SLICE: Final = 50

_News = TypeVar("_News")

Done = Callable[[bool], None]
GrantListener = Callable[[GrantQueued | WithdrawGrant], None]
Recorded = Callable[[Record], None]


@dataclass(frozen=True, slots=True)
class Connect:
    """A client or gateway that connected.

    Attributes:
        columns: of its device, for the latest session; `last_seen_at` among them.
        subject: who it is, for the session log.
        recorded: called with the outcome after the commit; not called if the database fails.
    """

    device: Device
    token_id: UUID
    columns: dict[str, Any]
    subject: dict[str, Any]
    recorded: Recorded


@dataclass(frozen=True, slots=True)
class _Grant:
    claim: Claim
    done: Done

    @property
    def row(self) -> PolicyAuthorization:
        return self.claim.row


class Journal:
    """The one writer of a process. `run` commits until it is cancelled; `flush` commits what waits."""

    def __init__(self, services: Services) -> None:
        self._store: Store = services.store
        self._environment: Environment = services.environment
        self._counters = services.counters
        self._grants: list[_Grant] = []
        self._committing: list[_Grant] = []
        self._decisions: list[Decision] = []
        self._connects: list[Connect] = []
        self._followers: dict[UUID, list[GrantListener]] = {}
        self._waiting = asyncio.Event()
        self._flushing = asyncio.Lock()

    def write_grant(self, claim: Claim, done: Done) -> None:
        """Queue a grant; `done(stored)` is called after its commit."""
        self._grants.append(_Grant(claim, done))
        self._tell(claim.row, GrantQueued(holding_of(claim.row)))
        self._waiting.set()

    def write_decision(self, decision: Decision) -> None:
        """Queue one entry of the decision log."""
        self._decisions.append(decision)
        self._waiting.set()

    def write_connect(self, connect: Connect) -> None:
        """Queue the record of a connect."""
        self._connects.append(connect)
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
        while True:
            await self._waiting.wait()
            await self._environment.clock.sleep(WINDOW_S)
            # A commit that has begun ends, also when this task is cancelled: its rows are in no queue any more.
            await asyncio.shield(self.flush())

    async def flush(self) -> None:
        """Commit everything that waits, in slices; returns when all that waited at the call is committed."""
        async with self._flushing:
            while self._grants or self._decisions or self._connects:
                await self._commit_slice()
            self._waiting.clear()

    async def _commit_slice(self) -> None:
        grants, self._grants = self._grants[:SLICE], self._grants[SLICE:]
        decisions, self._decisions = self._decisions[:SLICE], self._decisions[SLICE:]
        connects, self._connects = self._connects[:SLICE], self._connects[SLICE:]
        self._committing = grants
        stored: set[UUID] = set()
        records: list[Record] = []
        try:
            async with self._store.writing() as transaction:
                await transaction.hold(
                    *(grant.row.account_id for grant in grants),
                    *(connect.device.account_id for connect in connects),
                )
                for account_id in dict.fromkeys(grant.row.account_id for grant in grants):
                    claims = [grant.claim for grant in grants if grant.row.account_id == account_id]
                    stored |= await self._store_valid(transaction, claims)
                await append_decisions(transaction, decisions)
                records = await _record(transaction, connects)
        except Exception as error:
            # Whatever the trouble is: nothing of this slice holds, and the next one is tried. The store tells
            # of the database's.
            if not isinstance(error, UNAVAILABLE):
                log.exception("a group of grants and connects could not be written")
            self._counters["journal_failures"] += 1
            stored, records = set(), []
        finally:
            self._committing = []
        for grant in grants:
            if grant.row.id not in stored:
                self._tell(grant.row, WithdrawGrant(AuthorizationId(grant.row.id)))
            self._report(grant.done, grant.row.id in stored)
        for connect, record in zip(connects, records, strict=False):
            self._report(connect.recorded, record)
        for account_id in dict.fromkeys(decision.account_id for decision in decisions):
            self._environment.bus.wake(f"decisions:{account_id}")

    async def _store_valid(self, transaction: Transaction, claims: Sequence[Claim]) -> set[UUID]:
        """Insert those of one account's grants that are still valid; return their ids."""
        valid = await valid_claims(transaction, claims, now=self._environment.clock.now())
        self._counters["grants_overtaken"] += len(claims) - len(valid)
        grants = transaction.of(claims[0].row.account_id).authorizations
        return {row.id for row in await grants.insert_each([claim.row for claim in valid])}

    def _tell(self, row: PolicyAuthorization, news: GrantQueued | WithdrawGrant) -> None:
        for listener in tuple(self._followers.get(row.receiving_device_id, ())):
            self._report(listener, news)

    def _report(self, listener: Callable[[_News], None], news: _News) -> None:
        """Call a listener; its failure must not affect the others."""
        try:
            listener(news)
        except Exception:
            log.exception("a listener of the journal failed")
            self._counters["background_failures"] += 1


async def _record(transaction: Transaction, connects: Sequence[Connect]) -> list[Record]:
    """Record connects in one go; if a token of theirs is gone, each for itself."""
    try:
        async with transaction.savepoint():
            return [await _record_one(transaction, connect) for connect in connects]
    except DanglingReference:
        records = []
        for connect in connects:
            try:
                async with transaction.savepoint():
                    records.append(await _record_one(transaction, connect))
            except DanglingReference:
                records.append(Record.TOKEN_GONE)
        return records


async def _record_one(transaction: Transaction, connect: Connect) -> Record:
    """Record one connect; a newer one of the device may have been recorded before it.

    Raises:
        DanglingReference: its token is gone.
    """
    tables = transaction.of(connect.device.account_id)
    current = await tables.devices.load(connect.device.id)
    if current is None:
        return Record.DEVICE_GONE
    is_gateway = connect.device.type == "gateway"
    if is_gateway and await tables.gateway_tokens.load(connect.token_id) is None:
        return Record.TOKEN_GONE  # devices name a gateway's token without a foreign key
    if current.last_seen_at is None or current.last_seen_at <= connect.columns["last_seen_at"]:
        await tables.devices.save(replace(current, **connect.columns))
    await Logs(transaction, connect.device.account_id).append_session(connect.device.type, connect.subject)
    return Record.STORED
