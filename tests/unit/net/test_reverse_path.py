from pathlib import Path

import pytest

from wardgate.net.reconciler import Reconciler
from wardgate.net.reverse_path import ReversePath, strict_interfaces


@pytest.mark.parametrize(
    ("found", "strict"),
    [
        ({"all": 0, "eth0": 0, "eth1": 1, "eth2": 2}, ("eth1",)),
        ({"all": 1, "eth0": 0, "eth1": 1, "eth2": 2}, ("eth0", "eth1")),
        ({"all": 2, "eth0": 0, "eth1": 1}, ()),
        ({"all": 1, "default": 1, "lo": 1, "wardgate": 1}, ()),
    ],
)
def test_the_larger_value_counts(found: dict[str, int], strict: tuple[str, ...]) -> None:
    assert strict_interfaces(found, besides="wardgate") == strict


class Bench:
    def __init__(self, proc_sys: Path, **values: int) -> None:
        self._directory = proc_sys / "net/ipv4/conf"
        for name, value in values.items():
            self.write(name, value)
        self.setting = ReversePath("wardgate", proc_sys=proc_sys)
        self.host = Reconciler([self.setting])

    def write(self, name: str, value: int) -> None:
        (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / name / "rp_filter").write_text(f"{value}\n")

    def values(self) -> dict[str, int]:
        return {one.name: int((one / "rp_filter").read_text()) for one in self._directory.iterdir()}


async def test_strict_filters_are_loosened_while_it_is_needed_and_no_longer(tmp_path: Path) -> None:
    bench = Bench(tmp_path, all=1, eth0=1, eth1=0, eth2=2)
    before = bench.values()
    await bench.host.establish()
    assert bench.values() == before

    bench.setting.is_wanted = True
    await bench.host.establish()
    assert bench.values() == {"all": 1, "eth0": 2, "eth1": 2, "eth2": 2}

    bench.setting.is_wanted = False
    await bench.host.establish()
    assert bench.values() == before


async def test_an_interface_that_appears_is_loosened_too_and_all_is_put_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, all=0, eth0=1)
    bench.setting.is_wanted = True
    await bench.host.establish()
    bench.write("eth1", 1)
    await bench.host.check()
    during = bench.values()
    await bench.host.undo()

    assert during == {"all": 0, "eth0": 2, "eth1": 2}
    assert bench.values() == {"all": 0, "eth0": 1, "eth1": 1}


async def test_what_somebody_set_meanwhile_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path, all=0, eth0=1)
    bench.setting.is_wanted = True
    await bench.host.establish()
    bench.write("eth0", 0)
    await bench.host.check()
    await bench.host.undo()

    assert bench.values()["eth0"] == 0
