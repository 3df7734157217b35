"""The decisions on one client's requests, for the decision log: every grant, every denial, each with its
explanation.

A client repeats its request every two seconds for as long as packets come, and a hostile one as fast as it
can. So a denial equal to one that was listed less than ten seconds ago is counted, and becomes one more entry
when the ten seconds are over; `repeats` says for how many others it stands. Beyond 32 different denials
within ten seconds, the rest becomes one entry a window too, whose `unlisted` counts. Nothing is dropped
without a trace, and one connection writes at most seven denials a second.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from wardgate.policy.engine import AccessRequest, Decision, Denied, Granted
from wardgate.policy.explanation import ExplainedGateway, ExplainedTarget, as_json, explain
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.access.tables import PolicyAuthorization as PolicyAuthorizationRow
from wardgate.portal.channels.client_context import ClientContext
from wardgate.portal.logs.tables import Decision as DecisionRow

EQUAL_DENIALS_S: Final = 10.0
MAX_DIFFERENT_DENIALS: Final = 32


@dataclass(frozen=True, slots=True)
class _Answer:
    """One answered request with everything that its explanation needs."""

    snapshot: Snapshot
    access: AccessRequest
    decision: Decision
    now: datetime
    reason: str | None
    gateway: ExplainedGateway | None
    target: ExplainedTarget | None

    @property
    def likeness(self) -> tuple[object, ...]:
        """Denials that have this in common are equal."""
        failed = self.decision.violated_properties if isinstance(self.decision, Denied) else ()
        return self.access.resource_id.int, self.reason, failed, self.gateway, self.target


@dataclass(slots=True)
class _Window:
    """Equal denials since one was listed. `latest`: the newest of those that were counted, if any."""

    until: float
    latest: _Answer | None = None
    counted: int = 0


class DecisionLog:
    """One connection's part of the log. Deadlines are monotonic seconds; call `close` at its end."""

    def __init__(self, context: ClientContext) -> None:
        self._context = context
        self._windows: dict[tuple[object, ...], _Window] = {}
        self._unlisted: _Window | None = None

    def granted(
        self,
        access: AccessRequest,
        grant: Granted,
        authorization: PolicyAuthorizationRow,
        *,
        now: datetime,
        gateway: ExplainedGateway | None = None,
        target: ExplainedTarget | None = None,
    ) -> None:
        answer = _Answer(self._context.snapshot, access, grant, now, None, gateway, target)
        self._write(answer, authorization=authorization)
        self._context.services.counters["grants"] += 1

    def denied(
        self,
        access: AccessRequest,
        decision: Decision,
        reason: str,
        *,
        now: datetime,
        gateway: ExplainedGateway | None = None,
        target: ExplainedTarget | None = None,
    ) -> None:
        """List a denial, or count it; `reason` is the one on the wire."""
        self._context.services.counters[f"denials_{reason}"] += 1
        answer = _Answer(self._context.snapshot, access, decision, now, reason, gateway, target)
        at = self._context.monotonic()
        self.handle_timeout(now=at)
        window = self._windows.get(answer.likeness)
        if window is not None:
            window.latest = answer
            window.counted += 1
        elif len(self._windows) < MAX_DIFFERENT_DENIALS:
            self._write(answer)
            self._windows[answer.likeness] = _Window(at + EQUAL_DENIALS_S)
        else:
            self._unlisted = self._unlisted or _Window(at + EQUAL_DENIALS_S)
            self._unlisted.latest = answer
            self._unlisted.counted += 1

    def handle_timeout(self, *, now: float) -> None:
        for likeness, window in [item for item in self._windows.items() if item[1].until <= now]:
            self._list(window)
            if window.counted:
                self._windows[likeness] = _Window(now + EQUAL_DENIALS_S)
            else:
                del self._windows[likeness]
        if self._unlisted is not None and self._unlisted.until <= now:
            self._list_unlisted()

    def poll_timeout(self) -> float | None:
        if not self._windows and self._unlisted is None:
            return None
        due = [window.until for window in self._windows.values()]
        if self._unlisted is not None:
            due.append(self._unlisted.until)
        return min(due, default=None)

    def close(self) -> None:
        """List what has only been counted so far."""
        for window in self._windows.values():
            self._list(window)
        self._windows.clear()
        self._list_unlisted()

    def _list(self, window: _Window) -> None:
        if window.latest is not None:
            self._write(window.latest, repeats=window.counted - 1)

    def _list_unlisted(self) -> None:
        """List the newest denial beyond the bound, with the number of the others."""
        window, self._unlisted = self._unlisted, None
        if window is not None and window.latest is not None:
            self._write(window.latest, unlisted=window.counted - 1)

    def _write(
        self,
        answer: _Answer,
        *,
        authorization: PolicyAuthorizationRow | None = None,
        repeats: int = 0,
        unlisted: int = 0,
    ) -> None:
        context = self._context
        explanation = explain(
            answer.snapshot,
            answer.access,
            answer.decision,
            now=answer.now,
            gateway=answer.gateway,
            target=answer.target,
            backgrounds=context.view.backgrounds,
        )
        explanation = msgspec.structs.replace(explanation, repeats=repeats, unlisted=unlisted)
        resource = answer.snapshot.resources.get(answer.access.resource_id)
        granted = authorization is not None
        context.journal.write_decision(
            DecisionRow(
                account_id=context.device.account_id,
                log_id=f"d{context.environment.rng.getrandbits(92):023x}",
                outcome="granted" if granted else "denied",
                reason=answer.reason,
                actor_id=context.actor.id,
                actor_name=context.actor.name,
                device_id=context.device.id,
                resource_id=answer.access.resource_id,
                resource_name=None if resource is None else resource.name,
                policy_id=None if authorization is None else authorization.policy_id,
                gateway_id=(
                    None
                    if authorization is None or answer.gateway is None
                    else authorization.receiving_device_id
                ),
                authorization_id=None if authorization is None else authorization.id,
                expires_at=None if authorization is None else authorization.expires_at,
                explanation=as_json(explanation),
                decided_at=answer.now,
            )
        )
