import resource

import pytest

from wardgate.net.descriptor_limit import raise_descriptor_limit


class Kernel:
    def __init__(self, soft: int, hard: int, *, is_privileged: bool) -> None:
        self.limits = (soft, hard)
        self._is_privileged = is_privileged

    def getrlimit(self, _resource: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _resource: int, limits: tuple[int, int]) -> None:
        soft, hard = limits
        assert hard == resource.RLIM_INFINITY or soft <= hard
        now = self.limits[1]
        if now != resource.RLIM_INFINITY and hard > now and not self._is_privileged:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("soft", "hard", "is_privileged", "reached", "left"),
    [
        (1024, 524_288, False, 524_288, (524_288, 524_288)),
        (1024, 20_000, False, 20_000, (20_000, 20_000)),
        (1024, 20_000, True, 65_536, (65_536, 65_536)),
        (1024, resource.RLIM_INFINITY, False, 1 << 20, (1 << 20, resource.RLIM_INFINITY)),
        (70_000, 70_000, False, 70_000, (70_000, 70_000)),
        (4096, 4096, False, 4096, (4096, 4096)),
    ],
)
def test_the_limit_is_raised_to_what_the_system_allows(
    monkeypatch: pytest.MonkeyPatch,
    soft: int,
    hard: int,
    is_privileged: bool,
    reached: int,
    left: tuple[int, int],
) -> None:
    kernel = Kernel(soft, hard, is_privileged=is_privileged)
    monkeypatch.setattr(resource, "getrlimit", kernel.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", kernel.setrlimit)

    assert raise_descriptor_limit(65_536) == reached
    assert kernel.limits == left
