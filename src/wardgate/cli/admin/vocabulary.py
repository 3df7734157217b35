"""What a noun of `wardgate admin` is made of. `catalogue` lists them all; parser, calls, completion and the
page in docs read that list.

    Noun      a kind of object: its path, the columns of its table, by what it may be named in place of its id
    └ Verb    one endpoint: method, path, where its fields go
      └ Field one member of the body, or one filter of the query

A path's placeholders are arguments of the command: `{id}` or `{log_id}` is the object itself, `{site}` the
option `--site`, and so on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Final


class Kind(Enum):
    """How the text of an option becomes a JSON value."""

    TEXT = auto()
    FLAG = auto()
    NUMBER = auto()  # from 0; empty: null
    ID = auto()  # of `Field.noun`; a name is looked up
    INSTANT = auto()  # ISO 8601, or a duration from now
    PAST_INSTANT = auto()  # ISO 8601, or a duration before now
    FILTERS = auto()  # repeatable PROTOCOL[:PORTS]
    CONDITIONS = auto()  # repeatable "PROPERTY OPERATOR VALUE…"
    ADDRESSES = auto()  # repeatable IP address


REPEATABLE: Final = frozenset({Kind.FILTERS, Kind.CONDITIONS, Kind.ADDRESSES})


class Body(Enum):
    """What a call sends."""

    NOTHING = auto()
    FIELDS = auto()  # {wrapper: {field: value}}
    ADDED = auto()  # {wrapper: {"add": [ids]}}
    REMOVED = auto()  # {wrapper: {"remove": [ids]}}
    WHOLE_LIST = auto()  # {wrapper: [{element: id}]}


class Answer(Enum):
    """What a call returns."""

    OBJECT = auto()
    PAGES = auto()
    LINES = auto()  # JSON Lines, passed on as they arrive


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a body or one filter.

    Attributes:
        wire: its name in the API; `a.b` is the member b of the object a.
        option: its name on the command line, without dashes in front.
        noun: for ids: whose id it is.
    """

    wire: str
    help: str
    kind: Kind = Kind.TEXT
    option: str = ""
    noun: str | None = None
    choices: tuple[str, ...] = ()
    is_required: bool = False

    @property
    def flag(self) -> str:
        return "--" + (self.option or self.wire.removeprefix("is_").removesuffix("_id")).replace("_", "-")

    @property
    def destination(self) -> str:
        """Where the parser keeps it; wire names may clash with the parser's own."""
        return f"field_{self.wire}"

    def nested(self, value: object) -> dict[str, Any]:
        """Return the value under its name, within objects if the name has dots."""
        for name in reversed(self.wire.split(".")):
            value = {name: value}
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True, slots=True)
class Verb:
    """One endpoint as a command.

    Attributes:
        element: for lists of ids: the member that holds each one's id in a whole list.
        elements: for lists of ids: the noun whose objects are listed.
        is_destructive: asks before it is done.
        columns: of its table, when they are not the noun's.
        all_path: of a list that leaves some out: where all of them are (`--all`), and where names are looked
            up.
        is_operators: needs the operator's token, though the noun does not; `lookup` is then where its objects
            are looked up.
        is_versioned: what it shows has a version (GET), or it can be told to act on one version only.
    """

    name: str
    help: str
    method: str
    path: str
    answer: Answer = Answer.OBJECT
    body: Body = Body.NOTHING
    wrapper: str = ""
    fields: tuple[Field, ...] = ()
    filters: tuple[Field, ...] = ()
    element: str = ""
    elements: str = ""
    is_destructive: bool = False
    columns: tuple[str, ...] = ()
    is_versioned: bool = False
    all_path: str = ""
    is_operators: bool = False
    lookup: str = ""

    @property
    def placeholders(self) -> tuple[str, ...]:
        return tuple(_PLACEHOLDER.findall(self.path))

    @staticmethod
    def key(method: str, path: str) -> str:
        """Name an endpoint, however its path calls what stands in it: `POST /actors/{}/client_tokens`."""
        return f"{method} {_PLACEHOLDER.sub('{}', path)}"


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of object.

    Attributes:
        named_by: members by which an object may be named in place of its id; `filtered_by` of them the API
            can filter.
        is_operators: needs the operator's token, because it belongs to no account.
    """

    name: str
    singular: str
    help: str
    verbs: tuple[Verb, ...]
    columns: tuple[str, ...] = ("id", "name")
    named_by: tuple[str, ...] = ("name",)
    filtered_by: tuple[str, ...] = ("name",)
    is_operators: bool = False

    def verb(self, name: str) -> Verb | None:
        return next((verb for verb in self.verbs if verb.name == name), None)


PARENTS: Final[Mapping[str, str]] = {
    "account": "accounts",
    "api_client": "api-clients",
    "client": "clients",
    "actor": "actors",
    "gateway": "gateways",
    "group": "groups",
    "resource": "resources",
    "site": "sites",
}
"""Placeholder → the noun whose object it names."""

NAMED_MEMBERS: Final[Mapping[str, str]] = {
    "actor_id": "actors",
    "group_id": "groups",
    "resource_id": "resources",
    "site_id": "sites",
}
"""Member → the noun whose object it names; tables show that object's name."""

OWN_ID: Final = frozenset({"id", "log_id"})
"""Placeholders that name the object itself."""

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")
