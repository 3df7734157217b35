"""Where a setting comes from: flag, environment, secret file, systemd credential, TOML file, default; first wins.

A setting has one dotted-free name in snake case. From it follow the environment variable (`WARDGATE_` + upper case),
the variable that names a file holding it (the same with `_FILE`), and the key in the TOML file, looked up in the
command's own table (`[gateway]`) and then at the top level. Commands that replace a published binary pass the foreign
variable names in `env` too; ours is asked first.

An empty environment variable counts as unset: service units and compose files write `X=` for "no value". A value that
cannot be read raises `UserError`, which names the setting as the user wrote it.
"""

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from wardgate.cli.errors import UserError

_Default = TypeVar("_Default")
_Value = TypeVar("_Value")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h|d|w|)", re.ASCII)
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Settings:
    """All sources of one command but its flags, which each look-up is given.

    Attributes:
        section: the command's table in the TOML file.
        environment: usually `os.environ`; read at look-up, so that a removed secret stays removed.
        tables: the TOML document, empty without a file.
    """

    section: str
    environment: Mapping[str, str]
    tables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, section: str, environment: Mapping[str, str], config: Path | None = None) -> "Settings":
        """Read the TOML file named by `config` or, failing that, by `WARDGATE_CONFIG`.

        Raises:
            UserError: the file cannot be read or is not TOML.
        """
        named = config or (
            Path(environment["WARDGATE_CONFIG"]) if environment.get("WARDGATE_CONFIG") else None
        )
        if named is None:
            return cls(section, environment)
        try:
            return cls(section, environment, tomllib.loads(named.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"cannot read the settings file {named}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"the settings file {named} is not valid TOML: {error}") from error

    def text(
        self, name: str, flag: str | None, default: _Default, *, env: Iterable[str] = ()
    ) -> str | _Default:
        """Return the setting as text, or `default` when no source has it."""
        return self._parsed(name, flag, default, env, str)

    def secret(
        self, name: str, flag: str | None, default: _Default, *, env: Iterable[str] = ()
    ) -> str | _Default:
        """Return a secret without surrounding whitespace.

        Beyond the sources of `text`: the file that `<VARIABLE>_FILE` names, a systemd credential called like the
        variable, and a variable whose value is the path of an existing file (operations §1: container secrets).
        """
        return self._parsed(name, flag, default, env, lambda text: _content_if_path(text).strip())

    def integer(
        self, name: str, flag: int | None, default: _Default, *, env: Iterable[str] = ()
    ) -> int | _Default:
        """Return the setting as a whole number."""
        return self._parsed(name, flag, default, env, _parse_integer)

    def number(
        self, name: str, flag: float | None, default: _Default, *, env: Iterable[str] = ()
    ) -> float | _Default:
        """Return the setting as a number, whole or not."""
        return self._parsed(name, flag, default, env, _parse_number)

    def boolean(
        self, name: str, flag: bool | None, default: _Default, *, env: Iterable[str] = ()
    ) -> bool | _Default:
        """Return the setting as true or false; `1`, `yes`, `on` and their opposites are understood."""
        return self._parsed(name, flag, default, env, _parse_boolean)

    def path(
        self, name: str, flag: Path | None, default: _Default, *, env: Iterable[str] = ()
    ) -> Path | _Default:
        """Return the setting as a path; `~` is expanded."""
        return self._parsed(name, flag, default, env, lambda text: Path(text).expanduser())

    def duration_s(
        self, name: str, flag: str | None, default: _Default, *, env: Iterable[str] = ()
    ) -> float | _Default:
        """Return a human-readable duration (`5m`, `1h 30m`, `30d`) in seconds; a bare number means seconds."""
        return self._parsed(name, flag, default, env, parse_duration_s)

    def texts(
        self, name: str, flag: list[str] | None, default: _Default, *, env: Iterable[str] = ()
    ) -> list[str] | _Default:
        """Return a list: an array in TOML, comma-separated elsewhere."""
        return self._parsed(
            name,
            ",".join(flag) if flag else None,
            default,
            env,
            lambda text: [part.strip() for part in text.split(",") if part.strip()],
        )

    def _parsed(
        self, name: str, flag: object, default: _Default, env: Iterable[str], parse: Callable[[str], _Value]
    ) -> _Value | _Default:
        found = self._find(name, flag, env)
        if found is None:
            return default
        source, text = found
        try:
            return parse(text)
        except ValueError as error:
            raise UserError(f"{source}: {error}") from error

    def _find(self, name: str, flag: object, env: Iterable[str]) -> tuple[str, str] | None:
        if flag is not None:
            return f"--{name.replace('_', '-')}", str(flag)
        variables = [f"WARDGATE_{name.upper()}", *env]
        for variable in variables:
            if self.environment.get(variable):
                return variable, self.environment[variable]
        for variable in variables:
            if self.environment.get(f"{variable}_FILE"):
                return f"{variable}_FILE", _read(
                    Path(self.environment[f"{variable}_FILE"]), f"{variable}_FILE"
                )
        if self.environment.get("CREDENTIALS_DIRECTORY"):
            for variable in variables:
                credential = Path(self.environment["CREDENTIALS_DIRECTORY"]) / variable
                if credential.is_file():
                    return f"credential {variable}", _read(credential, f"credential {variable}")
        for table in (self.tables.get(self.section, {}), self.tables):
            if isinstance(table, Mapping) and name in table and not isinstance(table[name], Mapping):
                value = table[name]
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                return f"{name} in the settings file", text
        return None


def parse_duration_s(text: str) -> float:
    """Parse `90`, `5m`, `1h 30m` into seconds.

    Raises:
        ValueError: not a duration.
    """
    total, rest = 0.0, text.strip()
    if not rest:
        raise ValueError("an empty duration")
    while rest:
        match = _DURATION.match(rest)
        if match is None:
            raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h")
        total += float(match[1]) * _SECONDS[match[2]]
        rest = rest[match.end() :].strip()
    return total


def _parse_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _parse_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a number")
    return number


def _parse_boolean(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _content_if_path(text: str) -> str:
    if "/" in text and len(text) < 4096 and "\n" not in text:
        path = Path(text.strip())
        if path.is_absolute() and path.is_file():
            return _read(path, str(path))
    return text


def _read(path: Path, named_by: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"{named_by}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{named_by}: {path} is not text") from error
