import asyncio
import time

import pytest

from wardgate.simulation.virtual_time import Deadlocked, run_virtual


def test_an_hour_passes_in_no_time_and_timers_keep_their_order() -> None:
    fired: list[str] = []

    async def sleeper(name: str, duration_s: float) -> None:
        await asyncio.sleep(duration_s)
        fired.append(name)

    async def main() -> float:
        start = asyncio.get_running_loop().time()
        await asyncio.gather(sleeper("late", 3600), sleeper("early", 0.5))
        return asyncio.get_running_loop().time() - start

    started = time.monotonic()
    assert run_virtual(main()) == pytest.approx(3600)
    assert fired == ["early", "late"]
    assert time.monotonic() - started < 1800


def test_a_program_that_hangs_is_reported_instead_of_waiting_for_ever() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlocked):
        run_virtual(main())
