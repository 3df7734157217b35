"""How a table is declared: one value, beside its row class, that says all that the portal does
with its rows. What a field's annotation says of its column is not said again.

    class Policy(TenantRow):
        group_id: UUID | None
        resource_id: UUID
        description: Annotated[str | None, Words(1, 1024)] = None
        is_disabled: bool = False

    POLICIES: Final = tenant_table(
        Policy,
        Reference("group_id", "groups", OnDelete.CLEAR, is_optional=True),
        Reference("resource_id", "resources"),
        rights=READABLE_BY_ALL,
        heard_by=MembersOf("group_id"),
        removes_on_update=_removed_with_what_a_policy_grants,
    )

From the declarations of all domains follow the schema, the permissions, the deletion map, what the change
feed redacts and keeps from administrators, what a snapshot loads, who hears of a change, and
`docs/tables.md`. Nothing else lists tables.

Tenant tables have the composite key (account_id, id), and references inside a tenant are composite too, so
that no row can name another tenant's. Foreign keys are RESTRICT: the repositories remove dependants
themselves, so that each is known to the transaction. There are no triggers and no defaults for time or
randomness.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar, get_origin, get_type_hints

from sqlalchemy import (
    Column,
    ColumnCollection,
    ColumnElement,
    Constraint,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
)

from wardgate.portal.schema.column_types import Uuid
from wardgate.portal.schema.columns import (
    CONFIDENTIAL,
    EDITABLE,
    LATEST_USE,
    Editable,
    OneOf,
    column_of,
    latest_use,
    stamps,
)
from wardgate.portal.schema.rights import NOBODYS, RightsByRole
from wardgate.portal.schema.row import Row, TenantRow
from wardgate.portal.schema.row_building import Building

metadata: Final = MetaData()
"""The schema. Whoever needs all of it takes it from `wardgate.portal.tables`, which imports every
declaration.
"""


_KEY_AND_STAMPS: Final = frozenset({"account_id", "id", "inserted_at", "updated_at"})


class OnDelete(Enum):
    """What becomes of a row when the row that it names is deleted."""

    DELETE = "delete"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Reference:
    """A column that names a row of the same account; of a table without accounts, a row without one.

    Attributes:
        together_with: further columns of the key and what they are called in `target`.
        is_enforced: there is a foreign key. Without one the deletion map follows the reference all the same.
    """

    column: str
    target: str
    on_delete: OnDelete = OnDelete.DELETE
    is_optional: bool = False
    together_with: tuple[tuple[str, str], ...] = ()
    is_enforced: bool = True
    is_latest_use: bool = False


class Recording(Enum):
    """Whether the change feed has the changes of a table, and for whom (portal-domain §10.1)."""

    AUDIT = "audit"
    INTERNAL = "internal"  # for readers of the feed, not for the audit log
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Nobody:
    """No connection hears of a change."""


@dataclass(frozen=True, slots=True)
class AllConnections:
    """Every connection of the account hears of a change.

    Attributes:
        of_insertions: false: nobody knows of a row yet that comes.
    """

    of_insertions: bool = True


@dataclass(frozen=True, slots=True)
class Named:
    """Connections hear of a change whose device, token or actor stands in one of these columns.

    Attributes:
        of_insertions: false: what comes is made by the connections' own requests, and they know of it.
    """

    columns: tuple[str, ...]
    of_insertions: bool = True


@dataclass(frozen=True, slots=True)
class MembersOf:
    """Connections hear of a change whose actor is in the group that this column names."""

    column: str


Audience = Nobody | AllConnections | Named | MembersOf


@dataclass(frozen=True, slots=True)
class InSnapshot:
    """The policy engine knows the rows of a table.

    Attributes:
        columns: what it receives of a row beside the id; all columns if empty.
        slice: rows taken in before other tasks run, a few milliseconds' work.
    """

    columns: tuple[str, ...] = ()
    slice: int = 500

    @classmethod
    def of(cls, entity: type, *more: str, slice: int = 500) -> Self:  # noqa: A002 - the field's name
        """Declare what an entity has, whose fields are columns by the same names, and more columns."""
        named = tuple(field.name for field in fields(entity) if field.name != "id")
        return cls((*named, *more), slice)


@dataclass(frozen=True, slots=True)
class Removal:
    """Delete the rows of `table` that have these values; all rows of the account if empty."""

    table: str
    values: Mapping[str, Any]


_RowT = TypeVar("_RowT")
_InstallationRowT = TypeVar("_InstallationRowT", bound=Row)
_TenantRowT = TypeVar("_TenantRowT", bound=TenantRow)


def nothing_on_update(_before: Any, _after: Any) -> Iterator[Removal]:
    return iter(())


def nothing_on_delete(_row: Any) -> Iterator[Removal]:
    return iter(())


@dataclass(frozen=True, kw_only=True, eq=False)
class TableDeclaration(Generic[_RowT]):
    """One table.

    Attributes:
        is_tenants: its rows belong to an account and reference it.
        deleted_with_account: its rows only speak of an account, and are deleted with it all the same.
        removes_on_update: what an update removes elsewhere in the account, in the order to remove it
            (portal-domain §8.4).
        removes_on_delete: what a deletion removes beside the rows that reference the deleted one.
    """

    table: Table
    row_class: type[_RowT]
    references: tuple[Reference, ...] = ()
    rights: RightsByRole = field(default_factory=lambda: NOBODYS)
    recording: Recording = Recording.AUDIT
    heard_by: Audience = Nobody()
    snapshot: InSnapshot | None = None
    removes_on_update: Callable[[_RowT, _RowT], Iterable[Removal]] = nothing_on_update
    removes_on_delete: Callable[[_RowT], Iterable[Removal]] = nothing_on_delete
    is_tenants: bool = False
    deleted_with_account: bool = False

    @property
    def name(self) -> str:
        return self.table.name

    @cached_property
    def c(self) -> ColumnCollection[str, Column[Any]]:
        """The columns, for conditions and ordering."""
        return self.table.c

    @cached_property
    def secrets(self) -> frozenset[str]:
        """Columns that the change feed does not have."""
        return self._marked(CONFIDENTIAL)

    @cached_property
    def latest_use(self) -> frozenset[str]:
        """Columns of the latest use; an update of nothing else is neither audited nor broadcast
        (portal-domain §18).
        """
        return self._marked(LATEST_USE)

    @cached_property
    def editable(self) -> tuple[tuple[Column[Any], Editable], ...]:
        """Columns whose values people may change, with what is known of them beside their type."""
        return tuple((column, column.info[EDITABLE]) for column in self.table.c if EDITABLE in column.info)

    @cached_property
    def described(self) -> tuple[str, ...]:
        """What a row says beside its key and stamps."""
        return tuple(column.name for column in self.table.c if column.name not in _KEY_AND_STAMPS)

    @cached_property
    def rows(self) -> Building[_RowT]:
        """Makes rows out of what the database returns and of what the change feed has kept."""
        return Building(self.row_class, self.table, self.secrets)

    def _marked(self, mark: str) -> frozenset[str]:
        return frozenset(column.name for column in self.table.c if column.info.get(mark))


class _HasTable(Protocol):
    table: ClassVar[str]


_PlainRowT = TypeVar("_PlainRowT", bound=_HasTable)

Part = Column[Any] | Constraint | OneOf | Reference


def tenant_table(
    row_class: type[_TenantRowT],
    *parts: Part,
    rights: RightsByRole = NOBODYS,
    recording: Recording = Recording.AUDIT,
    heard_by: Audience = Nobody(),
    snapshot: InSnapshot | None = None,
    removes_on_update: Callable[[_TenantRowT, _TenantRowT], Iterable[Removal]] = nothing_on_update,
    removes_on_delete: Callable[[_TenantRowT], Iterable[Removal]] = nothing_on_delete,
) -> TableDeclaration[_TenantRowT]:
    """Declare a table whose rows belong to an account."""
    name = row_class.table
    table = Table(
        name,
        metadata,
        Column("account_id", Uuid(), nullable=False),
        Column("id", Uuid(), nullable=False),
        *_expanded(row_class, parts, key=("account_id", "id"), made=_KEY_AND_STAMPS),
        *stamps(),
        PrimaryKeyConstraint("account_id", "id", name=f"{name}_pkey"),
        ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=f"{name}_account_id_fkey", ondelete="RESTRICT"
        ),
    )
    return TableDeclaration(
        table=table,
        row_class=row_class,
        references=_references(parts),
        rights=rights,
        recording=recording,
        heard_by=heard_by,
        snapshot=snapshot,
        removes_on_update=removes_on_update,
        removes_on_delete=removes_on_delete,
        is_tenants=True,
    )


def installation_table(
    row_class: type[_InstallationRowT],
    *parts: Part,
    rights: RightsByRole = NOBODYS,
    recording: Recording = Recording.AUDIT,
    heard_by: Audience = Nobody(),
    removes_on_update: Callable[
        [_InstallationRowT, _InstallationRowT], Iterable[Removal]
    ] = nothing_on_update,
) -> TableDeclaration[_InstallationRowT]:
    """Declare a table of what belongs to no account; accounts themselves are such rows."""
    name = row_class.table
    return TableDeclaration(
        table=Table(
            name,
            metadata,
            Column("id", Uuid(), primary_key=True),
            *_expanded(row_class, parts, key=("id",), made=_KEY_AND_STAMPS - {"account_id"}),
            *stamps(),
        ),
        row_class=row_class,
        references=_references(parts),
        rights=rights,
        recording=recording,
        heard_by=heard_by,
        removes_on_update=removes_on_update,
    )


def plain_table(
    row_class: type[_PlainRowT],
    *parts: Part,
    rights: RightsByRole = NOBODYS,
    deleted_with_account: bool = False,
) -> TableDeclaration[_PlainRowT]:
    """Declare a table that names its own key, such as a log; its changes are not recorded."""
    name = row_class.table
    return TableDeclaration(
        table=Table(name, metadata, *_expanded(row_class, parts, key=("id",))),
        row_class=row_class,
        references=_references(parts),
        rights=rights,
        recording=Recording.NONE,
        deleted_with_account=deleted_with_account,
    )


def listing_index(declaration: TableDeclaration[Any], *leading: str) -> None:
    """Add the index that pages of a listing are read from: by `leading` columns, then oldest first."""
    columns = ("account_id", *leading, "inserted_at", "id")
    Index(
        f"{declaration.name}_{'_'.join((*leading, ''))}listing_index",
        *(declaration.c[name] for name in columns),
    )


def names_index(declaration: TableDeclaration[Any], *parts: Column[Any] | ColumnElement[Any]) -> None:
    """Add the index that pages of an account are read from: in the order of names, with all that their searches look
    at, so that none of a hundred thousand rows is fetched that is not shown.
    """
    c = declaration.c
    Index(f"{declaration.name}_names_index", c.account_id, *parts, c.id)


def _expanded(
    row_class: type[_HasTable], parts: Sequence[Part], *, key: tuple[str, ...], made: Collection[str] = ()
) -> list[Column[Any] | Constraint]:
    """Return all columns in the order of the row's fields, then the constraints on them. A field without a part of
    its own has the column that its annotation says, but for those that are `made` already.
    """
    table = row_class.table
    columns: dict[str, Column[Any]] = {}
    constraints: list[Constraint] = []
    for part in parts:
        match part:
            case Column():
                columns[part.name] = part
            case Reference():
                columns |= {column.name: column for column in _columns(part, key)}
                constraints += _foreign_keys(table, part, key)
            case OneOf():
                constraints.append(part.constraint(table))
            case _:
                constraints.append(part)
    hints = get_type_hints(row_class, include_extras=True)
    names = [name for name in hints if get_origin(hints[name]) is not ClassVar]
    for name in names:
        if name not in columns and name not in made:
            columns[name] = column_of(name, hints[name])
    return [*sorted(columns.values(), key=lambda column: names.index(column.name)), *constraints]


def _columns(reference: Reference, key: tuple[str, ...]) -> tuple[Column[Any], ...]:
    if reference.column in key:
        return ()
    column: Column[Any] = Column(reference.column, Uuid(), nullable=reference.is_optional)
    return latest_use(column) if reference.is_latest_use else (column,)


def _foreign_keys(table: str, reference: Reference, key: tuple[str, ...]) -> Iterator[ForeignKeyConstraint]:
    if reference.is_enforced:
        pairs = [("account_id", "account_id")] if "account_id" in key else []
        pairs += [(reference.column, "id"), *reference.together_with]
        yield ForeignKeyConstraint(
            [own for own, _ in pairs],
            [f"{reference.target}.{theirs}" for _, theirs in pairs],
            name=f"{table}_{reference.column}_fkey",
            ondelete="RESTRICT",
        )


def _references(parts: Sequence[Part]) -> tuple[Reference, ...]:
    return tuple(part for part in parts if isinstance(part, Reference))
