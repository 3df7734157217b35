"""What one run of a command was told, and by whom: option, environment, file, systemd credential, TOML file,
default; the first wins.

A setting has one name in snake case. From it follow the option (`--listen-port`), the environment variable
(`WARDGATE_LISTEN_PORT`), the variable that names a file holding the value (the same with `_FILE`), and the
key in the TOML file, looked up in the command's own table (`[gateway]`) and then at the top level. Commands
that replace a published binary know its variables too; ours is asked first.

An empty environment variable counts as unset: service units and compose files write `X=` for "no value". A
value that cannot be read raises `UserError`, which names the setting as the user wrote it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from wardgate.cli import values
from wardgate.cli.errors import UsageError, UserError
from wardgate.cli.parameters import CONFIG, Parameter, Setting

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Settings:
    """Every source of the parameters of one command; `settings[LISTEN]` looks one up.

    Attributes:
        section: the command's table in the TOML file.
        environment: usually `os.environ`; read at look-up, so that a removed secret stays removed.
        tables: the TOML document, empty without a file.
        given: what the command line gave, by the parameters' names.
        command: the words that name the command, such as `wardgate admin sites list`.
    """

    section: str
    environment: Mapping[str, str]
    tables: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    command: str = "wardgate"

    @classmethod
    def load(
        cls,
        section: str,
        environment: Mapping[str, str],
        given: Mapping[str, Any] | None = None,
        command: str = "wardgate",
    ) -> "Settings":
        """Read the TOML file that `--config` or, failing that, `WARDGATE_CONFIG` names.

        Raises:
            UserError: the file cannot be read or is not TOML.
        """
        without_file = cls(section, environment, {}, given or {}, command)
        file = without_file[CONFIG]
        if file is None:
            return without_file
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"cannot read the settings file {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"the settings file {file} is not valid TOML: {error}") from error
        return cls(section, environment, tables, given or {}, command)

    def __getitem__(self, parameter: Parameter[_Value]) -> _Value:
        """Look a parameter up.

        Raises:
            UserError: its value cannot be read.
        """
        if parameter.name in self.given:
            found: _Value = self.given[parameter.name]
            return found
        if isinstance(parameter, Setting):
            source, text = self._find(parameter)
            if source:
                try:
                    found = parameter.read(text)
                except ValueError as error:
                    raise UserError(f"{source}: {error}") from error
                else:
                    return found
        return parameter.default

    def wrong_usage(self, message: str) -> UsageError:
        """Return the error of a command line that says too little, or things that do not go together."""
        return UsageError(f"{message} (`{self.command} --help`)")

    def _find(self, setting: Setting[Any]) -> tuple[str, str]:
        """Return where the setting's text stands, and the text; two empty ones if nobody has set it."""
        for variable in setting.variables:
            if self.environment.get(variable):
                return variable, self.environment[variable]
        for variable in setting.variables:
            if self.environment.get(f"{variable}_FILE"):
                file = Path(self.environment[f"{variable}_FILE"])
                return f"{variable}_FILE", _content(file, f"{variable}_FILE")
        if self.environment.get("CREDENTIALS_DIRECTORY"):
            for variable in setting.variables:
                credential = Path(self.environment["CREDENTIALS_DIRECTORY"]) / variable
                if _is_file(credential, f"credential {variable}"):
                    return f"credential {variable}", _content(credential, f"credential {variable}")
        for table in (self.tables.get(self.section, {}), self.tables):
            if isinstance(table, Mapping) and not isinstance(table.get(setting.name, {}), Mapping):
                value = table[setting.name]
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                return f"{setting.name} in the settings file", text
        return "", ""


def _is_file(file: Path, named_by: str) -> bool:
    try:
        return file.is_file()
    except OSError as error:  # a directory that may not be looked into
        raise UserError(f"{named_by}: cannot read {file}: {error.strerror}") from error


def _content(file: Path, named_by: str) -> str:
    try:
        return values.read_file(file)
    except ValueError as error:
        raise UserError(f"{named_by}: {error}") from error
