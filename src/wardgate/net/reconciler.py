"""Keeps the host as the product wants it: compares what is there with what is wanted, repairs, and undoes at the end.

Each thing wanted of the host is a `Setting` of four verbs: `read` what is there, say how it `differs`
(without I/O), `repair` it, `undo` what was changed. The reconciler goes through its settings in their order,
and through them backwards to undo. A host is never believed to be as it was left: others flush rule sets,
take links down, rewrite files (docs/host.md).

| when | a difference | a refusal |
|---|---|---|
| `establish`: we want something new | is our own doing: no word | `HostRefused` ends the caller, `OSError` is noted |
| `check`: every few seconds, and when the kernel reports a change | is a repair: counted, logged once a kind
| is noted, logged once, tried again |
"""

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from wardgate.net.errors import HostRefused

_Found = TypeVar("_Found")

log = logging.getLogger(__name__)


class Setting(Protocol[_Found]):
    """One thing that we want of the host."""

    @property
    def name(self) -> str:
        """What a reader of logs calls it, e.g. `routing rules`."""

    @property
    def is_necessary(self) -> bool:
        """Whether the process is not ready without it."""

    async def read(self) -> _Found:
        """What is there now. Raises OSError or HostRefused."""

    def differs(self, found: _Found) -> tuple[str, ...]:
        """How that differs from what is wanted, one phrase a kind; nothing when it is as wanted."""

    async def repair(self, found: _Found) -> None:
        """Make it as wanted. Raises OSError or HostRefused."""

    async def undo(self) -> None:
        """Put back what was there before. Raises OSError or HostRefused."""


@runtime_checkable
class Inheritable(Protocol):
    """A setting whose former value nothing but this process knows."""

    def bequeath(self) -> object:
        """What the host had before, as JSON; None: it was not changed."""

    def inherit(self, before: object) -> None:
        """Take over what another process has bequeathed."""


@dataclass(slots=True)
class Condition:
    """The state of one setting."""

    name: str
    is_necessary: bool
    repairs: int = 0
    refusal: str | None = None
    _told: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"{self.name}: {self.refusal}"
        if self.repairs:
            return f"{self.name}: put back {self.repairs} {'time' if self.repairs == 1 else 'times'}"
        return f"{self.name}: as wanted"

    def note_repair(self, differences: Iterable[str]) -> None:
        self.repairs += 1
        for difference in differences:
            level = logging.DEBUG if difference in self._told else logging.WARNING
            self._told.add(difference)
            log.log(
                level,
                "somebody else changed a setting of the host; it was put back",
                extra={"setting": self.name, "difference": difference},
            )

    def note_refusal(self, error: Exception) -> None:
        reason = reason_of(error)
        if reason != self.refusal:
            self.refusal = reason
            log.log(
                logging.ERROR if self.is_necessary else logging.WARNING,
                "the host refuses a setting; trying again",
                extra={"setting": self.name, "reason": reason},
            )

    def note_success(self) -> None:
        if self.refusal is not None:
            self.refusal = None
            log.info("a setting of the host is as wanted again", extra={"setting": self.name})


class Reconciler:
    """Keeps some settings; one pass at a time, whoever asks."""

    def __init__(self, settings: Iterable[Setting[Any]]) -> None:
        self._kept: Final = [(setting, Condition(setting.name, setting.is_necessary)) for setting in settings]
        self._turn: Final = asyncio.Lock()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(condition for _, condition in self._kept)

    def notes(self) -> tuple[Condition, ...]:
        """What the status of this process should mention: what is refused, and what others have changed."""
        return tuple(
            condition for condition in self.conditions if condition.refusal is not None or condition.repairs
        )

    def counts(self) -> dict[str, int]:
        """For metrics: repairs since the start, and settings that are refused now."""
        return {
            "host_repairs": sum(condition.repairs for condition in self.conditions),
            "host_refusals": sum(condition.refusal is not None for condition in self.conditions),
        }

    @property
    def is_ready(self) -> bool:
        """Nothing that is necessary is refused."""
        return not any(
            condition.is_necessary and condition.refusal is not None for condition in self.conditions
        )

    async def establish(self) -> None:
        """Make the host as it is wanted from now on.

        Raises:
            HostRefused: it cannot be, and running on makes no sense.
        """
        async with self._turn:
            for setting, condition in self._kept:
                try:
                    found = await setting.read()
                    if setting.differs(found):
                        await setting.repair(found)
                    condition.note_success()
                except OSError as error:
                    condition.note_refusal(error)

    async def check(self) -> None:
        """Repair what others changed; never raises for what the host refuses."""
        async with self._turn:
            for setting, condition in self._kept:
                try:
                    await _check(setting, condition)
                except (OSError, HostRefused) as error:
                    condition.note_refusal(error)

    def bequeath(self) -> dict[str, object]:
        """What a process that takes over has to know to put the host back one day, by the setting's name."""
        told = {
            setting.name: setting.bequeath() for setting, _ in self._kept if isinstance(setting, Inheritable)
        }
        return {name: before for name, before in told.items() if before is not None}

    def inherit(self, told: Mapping[str, object]) -> None:
        """Take over from the process that has left the host as it is."""
        for setting, _ in self._kept:
            if isinstance(setting, Inheritable) and setting.name in told:
                setting.inherit(told[setting.name])

    async def undo(self) -> None:
        """Put the host back, last setting first; what it refuses is logged and the rest is done."""
        async with self._turn:
            for setting, _ in reversed(self._kept):
                try:
                    await setting.undo()
                except (OSError, HostRefused) as error:
                    log.warning(
                        "a setting of the host could not be put back",
                        extra={"setting": setting.name, "reason": reason_of(error)},
                    )


def reason_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno) + (f": {error.filename}" if error.filename else "")
    return str(error)


async def _check(setting: Setting[_Found], condition: Condition) -> None:
    found = await setting.read()
    differences = setting.differs(found)
    if differences:
        await setting.repair(found)
        # What was refused before is no repair of somebody's change, and what did not take is a refusal.
        remaining = setting.differs(await setting.read())
        if remaining:
            raise OSError(f"does not stay as wanted ({', '.join(remaining)})")
        if condition.refusal is None:
            condition.note_repair(differences)
    condition.note_success()
