"""What connections write: grants, decisions and latest-session columns, in group commits beside the connections' own work.

A grant is written in parallel with the gateway's round trip; its client is told only when both are done, so there is no
window in which a live grant has no row. A grant that cannot be written is withdrawn at the gateway (fail closed).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from wardgate.portal.environment import Environment
from wardgate.portal.services import Services
from wardgate.portal.store import Store
from wardgate.portal.store.logs import Logs
from wardgate.portal.store.rows import Decision, Device, PolicyAuthorization

log = logging.getLogger(__name__)

WINDOW_S: Final = 0.004
"""How long a row waits for company; the gateway's round trip takes about as long (design §4: at most 20 ms)."""

SLICE: Final = 50

Done = Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class _Grant:
    row: PolicyAuthorization
    done: Done


class Journal:
    """One writer a process. `run` commits until it is cancelled; `flush` commits what waits."""

    def __init__(self, services: Services) -> None:
        self._store: Store = services.store
        self._environment: Environment = services.environment
        self._counters = services.counters
        self._grants: list[_Grant] = []
        self._committing: list[_Grant] = []
        self._decisions: list[Decision] = []
        self._sessions: dict[UUID, tuple[Device, dict[str, Any]]] = {}
        self._connects: list[tuple[UUID, str, dict[str, Any]]] = []
        self._waiting = asyncio.Event()
        self._flushing = asyncio.Lock()

    def write_grant(self, row: PolicyAuthorization, done: Done) -> None:
        """Queue a grant; `done(stored)` is called after its commit."""
        self._grants.append(_Grant(row, done))
        self._waiting.set()

    def write_decision(self, decision: Decision) -> None:
        """Queue one entry of the decision log."""
        self._decisions.append(decision)
        self._waiting.set()

    def write_session(self, device: Device, columns: dict[str, Any]) -> None:
        """Queue the latest-session columns of a device; the newest of a device wins."""
        self._sessions[device.id] = (device, columns)
        self._waiting.set()

    def write_connect(self, account_id: UUID, context: str, subject: dict[str, Any]) -> None:
        """Queue an entry of the session log: a `client` or `gateway` connected."""
        self._connects.append((account_id, context, subject))
        self._waiting.set()

    def unwritten_grants(self, receiving_device_id: UUID) -> list[PolicyAuthorization]:
        """Return grants of a receiver that no query finds yet."""
        return [
            grant.row
            for grant in (*self._committing, *self._grants)
            if grant.row.receiving_device_id == receiving_device_id
        ]

    async def run(self) -> None:
        """Commit whatever waits, for ever."""
        while True:
            await self._waiting.wait()
            await self._environment.clock.sleep(WINDOW_S)
            # A commit that has begun ends, also when this task is cancelled: its rows are in no queue any more.
            await asyncio.shield(self.flush())

    async def flush(self) -> None:
        """Commit everything that waits, in slices; returns when all that waited at the call is committed."""
        async with self._flushing:
            while self._grants or self._decisions or self._sessions or self._connects:
                await self._commit_slice()
            self._waiting.clear()

    async def _commit_slice(self) -> None:
        grants, self._grants = self._grants[:SLICE], self._grants[SLICE:]
        decisions, self._decisions = self._decisions[:SLICE], self._decisions[SLICE:]
        connects, self._connects = self._connects[:SLICE], self._connects[SLICE:]
        sessions = [self._sessions.pop(device_id) for device_id in list(self._sessions)[:SLICE]]
        self._committing = grants
        stored: set[UUID] = set()
        try:
            async with self._store.writing() as transaction:
                await transaction.hold(
                    *(grant.row.account_id for grant in grants),
                    *(device.account_id for device, _ in sessions),
                )
                for account_id in dict.fromkeys(grant.row.account_id for grant in grants):
                    rows = [grant.row for grant in grants if grant.row.account_id == account_id]
                    stored |= {
                        row.id for row in await transaction.of(account_id).authorizations.insert_each(rows)
                    }
                await transaction.append_decisions(decisions)
                for account_id, context, subject in connects:
                    await Logs(transaction, account_id).append_session(context, subject)
                for device, columns in sessions:
                    devices = transaction.of(device.account_id).devices
                    current = await devices.load(device.id)
                    if current is not None:
                        await devices.save(replace(current, **columns))
        except Exception:
            # Whatever the database's trouble is: nothing of this slice holds, and the next one is tried.
            log.exception("a group of grants could not be written")
            self._counters["journal_failures"] += 1
            stored = set()
        finally:
            self._committing = []
        for grant in grants:
            grant.done(grant.row.id in stored)
        for account_id in dict.fromkeys(decision.account_id for decision in decisions):
            self._environment.bus.wake(f"decisions:{account_id}")
