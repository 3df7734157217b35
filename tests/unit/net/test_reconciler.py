import errno
import logging

import pytest

from wardgate.net.errors import HostRefused
from wardgate.net.reconciler import Reconciler


class Dial:
    """A setting of one number."""

    def __init__(self, name: str = "dial", *, wanted: int = 1, is_necessary: bool = True) -> None:
        self.name = name
        self.is_necessary = is_necessary
        self.wanted = wanted
        self.there = 0
        self.refusal: Exception | None = None
        self.sticks = True
        self.undone: list[str] = []

    async def read(self) -> int:
        return self.there

    def differs(self, found: int) -> tuple[str, ...]:
        return () if found == self.wanted else (f"is {found}",)

    async def repair(self, found: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        if self.sticks:
            self.there = self.wanted

    async def undo(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.undone.append(self.name)


async def test_what_we_want_anew_is_no_repair() -> None:
    dial = Dial()
    host = Reconciler([dial])
    await host.establish()
    dial.wanted = 2
    await host.establish()

    [condition] = host.conditions
    assert (dial.there, condition.repairs, str(condition)) == (2, 0, "dial: as wanted")


async def test_a_change_by_others_is_repaired_counted_and_logged_once_a_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dial = Dial()
    host = Reconciler([dial])
    await host.establish()
    for there in (7, 7, 8):
        dial.there = there
        await host.check()
        assert dial.there == 1
    await host.check()

    [condition] = host.conditions
    assert (condition.repairs, str(condition)) == (3, "dial: put back 3 times")
    told = [record.difference for record in caplog.records if record.levelno == logging.WARNING]  # type: ignore[attr-defined]
    assert told == ["is 7", "is 8"]


async def test_a_refusal_is_noted_once_tried_again_and_forgotten_when_it_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dial = Dial()
    host = Reconciler([dial])
    dial.refusal = OSError(errno.EPERM, "x")
    await host.establish()
    await host.check()
    refused = (host.is_ready, str(host.conditions[0]))
    dial.refusal = None
    await host.check()

    assert refused == (False, "dial: Operation not permitted")
    assert host.is_ready
    assert host.conditions[0].repairs == 0  # nobody had changed it
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_readiness_depends_on_what_is_necessary_only() -> None:
    nicety = Dial(is_necessary=False)
    nicety.refusal = OSError(errno.EROFS, "x")
    host = Reconciler([nicety])
    await host.establish()

    assert host.is_ready
    assert "Read-only" in str(host.conditions[0])


async def test_what_does_not_stay_as_wanted_is_a_refusal() -> None:
    dial = Dial()
    host = Reconciler([dial])
    await host.establish()
    dial.there, dial.sticks = 5, False
    await host.check()

    assert not host.is_ready
    assert "does not stay as wanted (is 5)" in str(host.conditions[0])


async def test_one_refusal_does_not_keep_the_others_from_repair() -> None:
    first, second = Dial("first"), Dial("second")
    host = Reconciler([first, second])
    await host.establish()
    first.there = second.there = 9
    first.refusal = HostRefused("no")
    await host.check()

    assert second.there == 1


async def test_a_host_without_which_running_on_makes_no_sense_ends_the_start_but_not_a_running_process() -> (
    None
):
    dial = Dial()
    dial.refusal = HostRefused("install nftables")
    host = Reconciler([dial])
    with pytest.raises(HostRefused):
        await host.establish()

    await host.check()
    assert str(host.conditions[0]) == "dial: install nftables"


async def test_notes_are_about_refusals_and_repairs_only() -> None:
    quiet, repaired = Dial("quiet"), Dial("repaired")
    host = Reconciler([quiet, repaired])
    await host.establish()
    repaired.there = 7
    await host.check()

    assert [str(note) for note in host.notes()] == ["repaired: put back 1 time"]
    assert host.counts() == {"host_repairs": 1, "host_refusals": 0}
    quiet.there, quiet.refusal = 5, OSError(errno.EPERM, "x")
    await host.check()
    assert host.counts() == {"host_repairs": 1, "host_refusals": 1}


async def test_all_is_undone_backwards_whatever_one_refuses() -> None:
    order: list[str] = []
    dials = [Dial(name) for name in ("first", "second", "third")]
    for dial in dials:
        dial.undone = order
    dials[1].refusal = OSError(errno.EPERM, "x")
    await Reconciler(dials).undo()

    assert order == ["third", "first"]
