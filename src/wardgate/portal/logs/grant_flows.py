"""Decisions and flows meet in the authorization: which decision let a flow pass, and what passed by a decision."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from wardgate.portal.database.log_reading import LogReader, Reading, Window
from wardgate.portal.logs.streams import DECISION_LOG, LOGS, Stream
from wardgate.portal.logs.tables import DECISIONS, FLOW_LOGS, Decision

CLOCKS_APART: Final = timedelta(minutes=5)
"""How far a device's clock may be off for its reports to be found."""
SLICES_SEARCHED: Final = 50


@dataclass(frozen=True, slots=True)
class ReportedFlows:
    """How many reports there are, or at least how many, and when the newest of their flows began."""

    number: int
    is_exact: bool
    last_at: datetime | None


async def find_decision(reading: Reading, account_id: UUID, authorization_id: UUID) -> Decision | None:
    """Return the decision that made an authorization; None if it is not among the newest of the log."""
    reader = LogReader(reading, DECISION_LOG, account_id, DECISIONS.c.authorization_id == authorization_id)
    part = await reader.search(limit=1, slices=SLICES_SEARCHED)
    return Decision(**part.rows[0]) if part.rows else None


async def flows_by(reading: Reading, account_id: UUID, decision: Decision) -> ReportedFlows | None:
    """Return what was reported of flows that passed by a decision; None if it granted nothing."""
    if decision.authorization_id is None or decision.expires_at is None:
        return None
    c = FLOW_LOGS.c
    window = Window(
        newest=(decision.expires_at + CLOCKS_APART, ""), oldest=(decision.decided_at - CLOCKS_APART, "")
    )
    reader = LogReader(
        reading,
        LOGS[Stream.FLOW],
        account_id,
        c.policy_authorization_id == decision.authorization_id,
        c.initiator_device_id == decision.device_id,
        window=window,
    )
    count = await reader.count()
    newest = (await reader.search(limit=1, slices=SLICES_SEARCHED)).rows if count.number else []
    return ReportedFlows(count.number, count.is_exact, newest[0]["flow_start"] if newest else None)
