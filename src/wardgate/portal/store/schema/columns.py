"""What tables are made of: column types that both databases share, and the constructors of tables and constraints."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)
from sqlalchemy.dialects.postgresql import JSONB

from wardgate.portal.store.column_types import UtcDateTime, Uuid

LEAST = "least"
"""In a column's `info`: how many characters or bytes a value has at least; `check_storable` holds to it."""

metadata = MetaData()

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
SequenceNumber = BigInteger().with_variant(Integer(), "sqlite")


def table(name: str, *columns: Any) -> Table:
    """Make a table of what belongs to no account."""
    return Table(
        name,
        metadata,
        Column("id", Uuid(), primary_key=True),
        *columns,
        *stamps(),
    )


def tenant_table(name: str, *columns: Any) -> Table:
    """Make a table whose rows belong to an account."""
    return Table(
        name,
        metadata,
        Column("account_id", Uuid(), nullable=False),
        Column("id", Uuid(), nullable=False),
        *columns,
        *stamps(),
        PrimaryKeyConstraint("account_id", "id", name=f"{name}_pkey"),
        ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=f"{name}_account_id_fkey", ondelete="RESTRICT"
        ),
    )


def stamps() -> tuple[Column[Any], Column[Any]]:
    return Column("inserted_at", UtcDateTime(), nullable=False), Column(
        "updated_at", UtcDateTime(), nullable=False
    )


def words(name: str, least: int, longest: int, *, optional: bool = False) -> Column[Any]:
    """Make a column of text with so many characters."""
    return Column(name, String(longest), nullable=optional, info={LEAST: least})


def key_bytes(name: str) -> Column[Any]:
    """Make a column of 32 random bytes."""
    return Column(name, LargeBinary(), nullable=False, info={LEAST: 32})


def secret() -> tuple[Column[Any], Column[Any]]:
    """Make the columns of a bearer token's stored half (portal-domain §3.9)."""
    return Column("secret_salt", String(22), nullable=False), Column(
        "secret_hash", String(64), nullable=False
    )


def location(prefix: str) -> tuple[Column[Any], ...]:
    """Make the columns of where an address is: country code, city, degrees."""
    return (
        Column(f"{prefix}_location_region", String(255)),
        Column(f"{prefix}_location_city", String(255)),
        Column(f"{prefix}_location_lat", Float()),
        Column(f"{prefix}_location_lon", Float()),
    )


def reference(table: str, column: str, target: str) -> ForeignKeyConstraint:
    """Make a reference to a row of the same account."""
    return ForeignKeyConstraint(
        ["account_id", column],
        [f"{target}.account_id", f"{target}.id"],
        name=f"{table}_{column}_fkey",
        ondelete="RESTRICT",
    )


def one_of(table: str, column: str, *allowed: str) -> CheckConstraint:
    return CheckConstraint(
        f"{column} IN ({', '.join(repr(word) for word in allowed)})", name=f"{table}_{column}_check"
    )


def listing_index(table: Table, *leading: str) -> None:
    """Add the index that pages of a listing are read from: by `leading` columns, then oldest first."""
    columns = ("account_id", *leading, "inserted_at", "id")
    Index(f"{table.name}_{'_'.join((*leading, ''))}listing_index", *(table.c[name] for name in columns))
