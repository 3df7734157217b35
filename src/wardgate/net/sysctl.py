"""Kernel parameters under /proc/sys: set, kept, and given back at the end."""

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final

PROC_SYS: Final = Path("/proc/sys")


class Sysctl:
    """One parameter, e.g.

    `net/ipv4/ip_forward`. What it was when we first changed it is put back, unless somebody has set a third
    value.
    """

    def __init__(
        self,
        key: str,
        value: str,
        *,
        is_necessary: bool = False,
        suffices: Callable[[str], bool] | None = None,
        proc_sys: Path = PROC_SYS,
    ) -> None:
        """`suffices` decides which values need no change; by default `value` alone."""
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

    def bequeath(self) -> object:
        """What `inherit` of another process's is to know; None: nothing was changed."""
        return self._before

    def inherit(self, before: object) -> None:
        """The parameter is as a predecessor has set it, and was like this before."""
        if isinstance(before, str):
            self._before = before

    async def undo(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # gone with its interface
            if self._before is not None and await self.read() == self._value:
                self._path.write_text(self._before, encoding="ascii")
        self._before = None


class InterfaceParameter(ABC):
    """One parameter of many interfaces, e.g.

    `net/ipv4/conf/*/rp_filter`: a value for those that `chosen` names, put back at the end.
    """

    def __init__(self, directory: Path, parameter: str, value: int) -> None:
        self._directory = directory
        self._parameter = parameter
        self._value = value
        self._before: dict[str, int] = {}

    @abstractmethod
    def chosen(self, found: dict[str, int]) -> tuple[str, ...]:
        """The interfaces that need another value than they have, by the values of all."""

    async def read(self) -> dict[str, int]:
        """The value of each interface, `all` and `default` among them."""
        return self._values(self._parameter)

    async def repair(self, found: dict[str, int]) -> None:
        for name in self.chosen(found):
            self._write(name, self._value)
            self._before.setdefault(name, found[name])

    def bequeath(self) -> object:
        """See `Sysctl`."""
        return self._before or None

    def inherit(self, before: object) -> None:
        """See `Sysctl`."""
        if isinstance(before, dict):
            self._before |= {str(name): int(value) for name, value in before.items()}

    async def undo(self) -> None:
        found = self._values(self._parameter)
        for name, before in self._before.items():
            if found.get(name) == self._value:
                self._write(name, before)
        self._before.clear()

    def _values(self, parameter: str) -> dict[str, int]:
        found = {}
        for directory in self._directory.iterdir():
            try:
                found[directory.name] = int((directory / parameter).read_text(encoding="ascii"))
            except FileNotFoundError:
                continue  # gone meanwhile
        return found

    def _write(self, name: str, value: int) -> None:
        try:
            (self._directory / name / self._parameter).write_text(str(value), encoding="ascii")
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENODEV}:  # gone meanwhile
                raise
