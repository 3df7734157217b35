"""Trial sign-ins that were asked for and have not come back; in this process's memory, so nothing of them travels in a
URL but a random name, and other nodes do not know them.

A trial has two names, one after the other: that of the page where it begins, then the state that the provider sends
back. Each is good for one request.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from wardgate.portal.edits import Given
from wardgate.portal.sign_in.oidc.authorization import Attempt
from wardgate.portal.sign_in.oidc.relying_party import RelyingParty

LIFETIME_S: Final = 300.0  # identity §11
MAX_WAITING: Final = 1000


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial.

    Attributes:
        kind: of the provider.
        party: the client that is tried.
        given: values that are stored if it succeeds.
        subject: who asked; the change is put down to them.
        expires_at: monotonic seconds.
        attempt: None before the browser is sent to the provider.
    """

    account_id: UUID
    kind: str
    provider_id: UUID
    party: RelyingParty
    given: Given
    subject: Mapping[str, Any]
    expires_at: float
    attempt: Attempt | None = None


class Trials:
    """Those of one process."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Trial] = OrderedDict()

    def add(self, name: str, trial: Trial) -> None:
        self._waiting[name] = trial
        while len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)

    def take(self, name: str, *, now: float) -> Trial | None:
        """Return the trial of this name and forget it; None if there is none, or it has waited too long."""
        trial = self._waiting.pop(name, None)
        return None if trial is None or now >= trial.expires_at else trial
