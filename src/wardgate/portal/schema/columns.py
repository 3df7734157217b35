"""Column types that both databases share, and the constructors of columns and constraints.

A column's `info` says what its type cannot: how short a value may be, that it is secret, that it tells of the
latest use only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Final, get_args, get_origin
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    Integer,
    LargeBinary,
    String,
)
from sqlalchemy.dialects.postgresql import JSONB

from wardgate.portal.schema.column_types import UtcDateTime, Uuid

LEAST: Final = "least"
"""How many characters or bytes a value has at least; `check_storable` holds to it."""

CONFIDENTIAL: Final = "confidential"
"""The value never reaches the change feed."""

EDITABLE: Final = "editable"
"""People may change the value; the `Editable` of its annotation."""

LATEST_USE: Final = "latest_use"
"""The column records the latest use of the row; a change of nothing else is neither audited nor broadcast
(portal-domain §3.8).
"""

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
SequenceNumber = BigInteger().with_variant(Integer(), "sqlite")


def stamps() -> tuple[Column[Any], Column[Any]]:
    return Column("inserted_at", UtcDateTime(), nullable=False), Column(
        "updated_at", UtcDateTime(), nullable=False
    )


@dataclass(frozen=True, slots=True)
class Words:
    """How many characters a text has; in the annotation of a row's field."""

    least: int
    longest: int


@dataclass(frozen=True, slots=True)
class Editable:
    """In the annotation of a row's field: people may change it, and `Edit.columns` checks what they give. A number lies
    between `least` and `most`.
    """

    least: int = 0
    most: int = 0


def column_of(name: str, hint: Any) -> Column[Any]:
    """Make the column of a row's field from its annotation.

        place: Annotated[str | None, Words(1, 64), Editable()] = None

    Raises:
        TypeError: the annotation does not say what is stored, above all not how long a text may be.
    """
    base, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    alternatives = get_args(base) if get_origin(base) is UnionType else (base,)
    (kind,) = (one for one in alternatives if one is not NoneType)
    info: dict[str, Any] = {}
    type_ = _TYPES.get(get_origin(kind) or kind)
    for mark in marks:
        match mark:
            case Words(least, longest) if kind is str:
                type_ = String(longest)
                info |= {LEAST: least} if least else {}
            case Editable():
                info[EDITABLE] = mark
    if type_ is None:
        raise TypeError(f"{name}: {hint} does not say how it is stored")
    return Column(name, type_, nullable=NoneType in alternatives, info=info)


_TYPES: Final[Mapping[Any, Any]] = {
    bool: Boolean(),
    int: Integer(),
    float: Float(),
    datetime: UtcDateTime(),
    UUID: Uuid(),
    dict: Json,
    list: Json,
}


def words(name: str, least: int, longest: int, *, optional: bool = False) -> Column[Any]:
    """Make a column of text with so many characters that more than its length has to be said of."""
    return Column(name, String(longest), nullable=optional, info={LEAST: least})


def key_bytes(name: str) -> Column[Any]:
    """Make a column of 32 random bytes, which are secret."""
    return Column(name, LargeBinary(), nullable=False, info={LEAST: 32, CONFIDENTIAL: True})


def secret(column: Column[Any]) -> Column[Any]:
    """Keep a column's values out of the change feed."""
    column.info[CONFIDENTIAL] = True
    return column


def token_secret() -> tuple[Column[Any], Column[Any]]:
    """Make the columns of a bearer token's stored half (portal-domain §3.9)."""
    return (
        secret(Column("secret_salt", String(22), nullable=False)),
        secret(Column("secret_hash", String(64), nullable=False)),
    )


def latest_use(*columns: Column[Any]) -> tuple[Column[Any], ...]:
    """Make columns that record the latest use of a row only."""
    for column in columns:
        column.info[LATEST_USE] = True
    return columns


def location(prefix: str) -> tuple[Column[Any], ...]:
    """Make the columns of where an address is: country code, city, degrees."""
    return (
        Column(f"{prefix}_location_region", String(255)),
        Column(f"{prefix}_location_city", String(255)),
        Column(f"{prefix}_location_lat", Float()),
        Column(f"{prefix}_location_lon", Float()),
    )


def profile() -> tuple[Column[Any], ...]:
    """Make the columns of what an identity provider says of a person."""
    return (
        Column("given_name", String(255)),
        Column("family_name", String(255)),
        Column("middle_name", String(255)),
        Column("nickname", String(255)),
        Column("preferred_username", String(255)),
        Column("profile", String(2048)),
        Column("picture", String(2048)),
    )


@dataclass(frozen=True, slots=True)
class OneOf:
    """The only values that a column of text may have."""

    column: str
    allowed: tuple[str, ...]

    def constraint(self, table: str) -> CheckConstraint:
        words = ", ".join(repr(word) for word in self.allowed)
        return CheckConstraint(f"{self.column} IN ({words})", name=f"{table}_{self.column}_check")


def one_of(column: str, *allowed: str) -> OneOf:
    return OneOf(column, allowed)
