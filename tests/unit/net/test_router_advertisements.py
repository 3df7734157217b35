from pathlib import Path

from wardgate.net.reconciler import Reconciler
from wardgate.net.router_advertisements import RouterAdvertisements
from wardgate.net.sysctl import Sysctl


class Bench:
    """Forwarding as the kernel has it: switching it on for `all` switches it on for every interface."""

    def __init__(self, proc_sys: Path, **accept_ra: int) -> None:
        self._directory = proc_sys / "net/ipv6/conf"
        for name, value in accept_ra.items():
            (self._directory / name).mkdir(parents=True)
            self.write(name, accept_ra=value, forwarding=0)
        self.host = Reconciler(
            [
                RouterAdvertisements(proc_sys=proc_sys),
                Sysctl("net/ipv6/conf/all/forwarding", "1", proc_sys=proc_sys),
            ]
        )

    def write(self, name: str, **values: int) -> None:
        for parameter, value in values.items():
            (self._directory / name / parameter).write_text(f"{value}\n")

    def accepted(self) -> dict[str, int]:
        return {one.name: int((one / "accept_ra").read_text()) for one in self._directory.iterdir()}


async def test_interfaces_that_live_by_advertisements_go_on_to_and_are_put_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, all=1, default=1, lo=1, eth0=1, eth1=0, eth2=2)
    before = bench.accepted()
    await bench.host.establish()
    during = bench.accepted()
    await bench.host.undo()

    assert during == {**before, "eth0": 2}
    assert bench.accepted() == before


async def test_an_interface_that_forwarded_before_is_left_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, all=1, eth0=1)
    bench.write("eth0", forwarding=1)
    await bench.host.establish()

    assert bench.accepted()["eth0"] == 1
