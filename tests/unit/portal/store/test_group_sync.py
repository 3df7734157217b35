"""Who waits for the disk waits for a sync that began later than what it wrote, and shares it with others."""

import asyncio
from dataclasses import dataclass, field

import pytest

from wardgate.portal.database.group_sync import GroupSync


@dataclass
class Disk:
    """A disk whose syncs end when they are told to."""

    begun: list[asyncio.Future[None]] = field(default_factory=list)

    async def sync(self) -> None:
        self.begun.append(asyncio.get_running_loop().create_future())
        await self.begun[-1]


async def steps() -> None:
    """Let everything that can go on go on."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_comes_during_a_sync_shares_the_next() -> None:
    disk = Disk()
    group = GroupSync(disk.sync)
    first = asyncio.ensure_future(group.begin())
    await steps()
    later = [asyncio.ensure_future(group.begin()) for _ in range(3)]
    await steps()
    assert len(disk.begun) == 1
    disk.begun[0].set_result(None)
    await first
    await steps()
    assert (len(disk.begun), [one.done() for one in later]) == (2, [False] * 3)
    disk.begun[1].set_result(None)
    await asyncio.gather(*later)
    await steps()
    assert len(disk.begun) == 2


async def test_a_sync_that_fails_fails_for_all_who_share_it_and_for_nobody_else() -> None:
    disk = Disk()
    group = GroupSync(disk.sync)
    waiting = [asyncio.ensure_future(group.begin()) for _ in range(2)]
    await steps()
    disk.begun[0].set_exception(OSError("disk gone"))
    assert [str(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == ["disk gone"] * 2
    afterwards = asyncio.ensure_future(group.begin())
    await steps()
    disk.begun[1].set_result(None)
    await afterwards


async def test_who_gives_up_waiting_spoils_it_for_nobody() -> None:
    disk = Disk()
    group = GroupSync(disk.sync)
    impatient, patient = asyncio.ensure_future(group.begin()), asyncio.ensure_future(group.begin())
    await steps()
    impatient.cancel()
    await steps()
    disk.begun[0].set_result(None)
    await patient
    with pytest.raises(asyncio.CancelledError):
        await impatient
