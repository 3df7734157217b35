"""Decisions and flows meet in the authorization: which decision let a flow pass, and what passed by a decision."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from wardgate.portal.database.log_reading import LogReader, Reading, Window
from wardgate.portal.logs.streams import DECISION_LOG, LOGS, Stream
from wardgate.portal.logs.tables import DECISIONS, FLOW_LOGS, Decision

CLOCKS_APART: Final = timedelta(minutes=5)
"""How far a device's clock may be off for its reports to be found."""
SLICES_SEARCHED: Final = 50
REPORTS_READ: Final = 200
"""The newest that are looked at for the paths of an account."""


@dataclass(frozen=True, slots=True)
class ReportedFlows:
    """How many reports there are, or at least how many, and when the newest of their flows began."""

    number: int
    is_exact: bool
    last_at: datetime | None


class PathKind(Enum):
    """How packets of a flow went, as far as its reports tell."""

    DIRECT = "direct"
    RELAYED = "through a relay"


async def newest_paths(
    reading: Reading, account_id: UUID, relays: Set[str]
) -> Mapping[tuple[UUID, UUID], PathKind]:
    """Return how packets went last between two devices, the initiator first, by the newest reports of flows.

    Args:
        relays: addresses of relays. A peer's packets come from one, or go to one, where it sends over its relay; what
            it sends there itself has no source (data-plane §5.8).
    """
    reader = LogReader(reading, LOGS[Stream.FLOW], account_id, FLOW_LOGS.c.flow_end.is_not(None))
    found: dict[tuple[UUID, UUID], PathKind] = {}
    for row in (await reader.search(limit=REPORTS_READ, slices=1)).rows:
        last = (row["outers"] or [None])[-1]
        if last is not None:
            is_direct = last.get("src_ip") and not {last["src_ip"], last["dst_ip"]} & relays
            kind = PathKind.DIRECT if is_direct else PathKind.RELAYED
            found.setdefault((row["initiator_device_id"], row["responder_device_id"]), kind)
    return found


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
