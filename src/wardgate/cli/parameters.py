"""The parameters of a command: declared once, and everything else follows from the declaration.

    Parameter   an option or argument of one command
    └ Setting   may also stand in the environment, a file, a systemd credential or the settings file

The parser, `--help`, completion, look-up, the message for a wrong value and the tables of docs/cli.md and
docs/settings.md read these declarations, so that adding one takes one place and its use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from wardgate.cli import values

_Value_co = TypeVar("_Value_co", covariant=True)


class Form(Enum):
    """How a parameter stands on a command line."""

    OPTION = auto()  # --name VALUE
    SWITCH = auto()  # --name
    TOGGLE = auto()  # --name or --no-name
    REPEATED = auto()  # --name VALUE, as often as wanted
    ARGUMENT = auto()  # a word by itself
    ARGUMENTS = auto()  # as many words as wanted
    ABSENT = auto()  # not at all: a secret would stand in the list of processes


_OPTIONS: Final = frozenset({Form.OPTION, Form.SWITCH, Form.TOGGLE, Form.REPEATED})


@dataclass(frozen=True, kw_only=True)
class Parameter(Generic[_Value_co]):
    """An option or argument.

    Attributes:
        name: in snake case, unique within a command.
        help: a phrase in lower case without a full stop.
        read: reads its text; of a repeated one or of arguments, each text.
        default: its value when nobody gives one.
        option: its name on the command line without dashes, if that is not `name`.
        aliases: other spellings of the option, with their dashes.
        value: what stands for its value in help, if that is not its name.
        choices: what it may be, for help and completion; `read` enforces them.
        noun: whose object it names, for completion.
        written_default: the default as a person would write it, where its value does not show.
    """

    name: str
    help: str
    read: Callable[[str], _Value_co]
    default: _Value_co
    form: Form = Form.OPTION
    option: str = ""
    aliases: tuple[str, ...] = ()
    value: str = ""
    choices: tuple[str, ...] = ()
    noun: str = ""
    is_required: bool = False
    written_default: str = ""

    @property
    def is_option(self) -> bool:
        return self.form in _OPTIONS

    @property
    def takes_value(self) -> bool:
        return self.form not in (Form.SWITCH, Form.TOGGLE)

    @property
    def flag(self) -> str:
        """The option with its dashes; of an argument, what stands for it in help."""
        return f"--{(self.option or self.name).replace('_', '-')}" if self.is_option else self.placeholder

    @property
    def flags(self) -> tuple[str, ...]:
        """Every spelling of the option; none for an argument."""
        if not self.is_option:
            return ()
        negative = (f"--no-{self.flag.removeprefix('--')}",) if self.form is Form.TOGGLE else ()
        return (self.flag, *self.aliases, *negative)

    @property
    def placeholder(self) -> str:
        """What stands for the value in help; empty for a switch."""
        if not self.takes_value:
            return ""
        return self.value or "|".join(self.choices) or self.name.upper().replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as a person would write it; empty if there is none."""
        if self.written_default:
            return self.written_default
        match self.default:
            case None | () | "":
                return ""
            case bool() as value:
                return str(value).lower()
            case str() | int() | float() | Path() as value:
                return f"{value:g}" if isinstance(value, float) else str(value)
            case _:
                raise TypeError(f"{self.name}: say how its default is written")


@dataclass(frozen=True, kw_only=True)
class Setting(Parameter[_Value_co]):
    """A parameter that need not stand on the command line.

    Attributes:
        foreign: the variables that the published software has for it.
        notes: what docs/settings.md says beyond `help`, in Markdown.
        fallback: what holds when there is no default, in words.
    """

    foreign: tuple[str, ...] = ()
    notes: str = ""
    fallback: str = ""

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables, ours first; each with `_FILE` names a file that holds the value."""
        return (f"WARDGATE_{self.name.upper()}", *self.foreign)


def switch(name: str, help_: str) -> Parameter[bool]:
    return Parameter(name=name, help=help_, read=values.boolean, default=False, form=Form.SWITCH)


CONFIG: Final = Setting[Path | None](
    name="config", help="TOML file with settings", read=values.path, default=None, value="FILE"
)
"""Every command with settings takes it; its own place cannot be in the file."""

AS_JSON: Final = switch("json", "print JSON")

AnyParameter = Parameter[Any]
