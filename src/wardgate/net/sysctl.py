"""Kernel parameters under /proc/sys: set, kept, and given back at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

PROC_SYS: Final = Path("/proc/sys")


class Sysctl:
    """One parameter, e.g. `net/ipv4/ip_forward`. What it was when we first changed it is put back, unless somebody has set a third value."""

    def __init__(
        self,
        key: str,
        value: str,
        *,
        is_necessary: bool = False,
        suffices: Callable[[str], bool] | None = None,
        proc_sys: Path = PROC_SYS,
    ) -> None:
        """`suffices` tells which values need no change; by default `value` alone."""
        self.name: Final = key.replace("/", ".")
        self.is_necessary: Final = is_necessary
        self._path = proc_sys / key
        self._value = value
        self._suffices = suffices or value.__eq__
        self._before: str | None = None

    async def read(self) -> str:
        return self._path.read_text(encoding="ascii").strip()

    def differs(self, found: str) -> tuple[str, ...]:
        return () if self._suffices(found) else (f"is {found}, needs {self._value}",)

    async def repair(self, found: str) -> None:
        self._path.write_text(self._value, encoding="ascii")
        if self._before is None:
            self._before = found

    async def undo(self) -> None:
        if self._before is not None and await self.read() == self._value:
            self._path.write_text(self._before, encoding="ascii")
        self._before = None
