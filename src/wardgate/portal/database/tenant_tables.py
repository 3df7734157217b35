"""The repositories of one tenant, whichever tables there are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement

from wardgate.portal.database.permissions import require
from wardgate.portal.database.repositories import TenantRepository
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.schema.declaration import Removal, TableDeclaration
from wardgate.portal.schema.rights import Action
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.tables import TABLES

if TYPE_CHECKING:
    from wardgate.portal.database.transaction import BaseTransaction

_RowT = TypeVar("_RowT")
_ResultT = TypeVar("_ResultT")
_TenantRowT = TypeVar("_TenantRowT", bound=TenantRow)
_RepositoryT = TypeVar("_RepositoryT", bound=TenantRepository[Any])

_MakeRepository = Callable[["BaseTransaction", TableDeclaration[_TenantRowT], UUID, str | None], _RepositoryT]


class TableOf(Generic[_TenantRowT, _RepositoryT]):
    """A repository of a `TenantTables`, made when it is first asked for: few requests need more than three."""

    def __init__(
        self,
        declaration: TableDeclaration[_TenantRowT],
        repository: _MakeRepository[_TenantRowT, _RepositoryT],
    ) -> None:
        self.declaration = declaration
        self._repository = repository

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, tables: "TenantTables", owner: type | None = None) -> _RepositoryT:
        made = tables.make(self._repository, self.declaration)
        # What an instance has by this name comes before the class's, so that the next reader finds it there.
        vars(tables)[self._name] = made
        return made


class TenantTables:
    """The repositories of one tenant, for an actor of type `role`, or for the system itself if None.

    A subclass names repositories (`TableOf`) that its users reach as attributes; `by_name` has all.
    """

    _attributes: ClassVar[Mapping[str, str]] = {}
    """What the repository of a table is called."""

    def __init_subclass__(cls) -> None:
        cls._attributes = {
            one.declaration.name: name for name, one in vars(cls).items() if isinstance(one, TableOf)
        }

    def __init__(self, transaction: "BaseTransaction", account_id: UUID, role: str | None) -> None:
        self.account_id = account_id
        self._transaction = transaction
        self._role = role

    @property
    def now(self) -> datetime:
        """The instant of the transaction."""
        return self._transaction.now

    def new_id(self) -> UUID:
        return self._transaction.new_id()

    def random_bytes(self, count: int) -> bytes:
        return self._transaction.random_bytes(count)

    async def pass_through(self, count: int, function: Callable[[], _ResultT]) -> _ResultT:
        """Return what a function makes of `count` values; of many in another thread (`BaseTransaction`)."""
        return await self._transaction.pass_through(count, function)

    def require(self, action: Action, table: str) -> None:
        """Check what is done to a table beside its repository.

        Raises:
            NotAllowed: the actor may not.
        """
        require(self._role, action, table)

    async def changes(
        self, *conditions: ColumnElement[bool], limit: int, newest_first: bool = False
    ) -> list[Change]:
        self.require(Action.READ, "changes")
        return await self._transaction.changes(
            self.account_id, *conditions, limit=limit, newest_first=newest_first
        )

    async def entries(
        self,
        declaration: TableDeclaration[_RowT],
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any],
        limit: int,
    ) -> list[_RowT]:
        """Return rows of a table that has no repository: a log's."""
        self.require(Action.READ, declaration.name)
        return await self._transaction.entries(
            declaration, self.account_id, *conditions, order_by=order_by, limit=limit
        )

    async def remove(self, removal: Removal) -> None:
        """Delete rows of this account, each with what goes with it; for the deletion map and the hooks."""
        repository = self.by_name(removal.table)
        conditions = [repository.c[column] == value for column, value in removal.values.items()]
        await repository.delete_by_turns(*conditions)

    async def remove_where(self, table: str, column: str, ids: Sequence[UUID]) -> None:
        """Delete rows that name one of a few others, each with what goes with it; for the deletion map."""
        repository = self.by_name(table)
        await repository.delete_by_turns(repository.c[column].in_(ids))

    async def clear_where(self, table: str, column: str, ids: Sequence[UUID]) -> None:
        """Set a reference to NULL in rows that name one of a few others; for the deletion map."""
        repository = self.by_name(table)
        for row in await repository.load_all(repository.c[column].in_(ids)):
            await repository.save(replace(row, **{column: None}))

    def by_name(self, table: str) -> TenantRepository[Any]:
        """Return the repository of a table."""
        name = self._attributes.get(table)
        if name is None:
            return self.make(TenantRepository[Any], TABLES[table])
        repository: TenantRepository[Any] = getattr(self, name)
        return repository

    def make(
        self,
        repository: _MakeRepository[_TenantRowT, _RepositoryT],
        declaration: TableDeclaration[_TenantRowT],
    ) -> _RepositoryT:
        """Make a repository for this account and role."""
        return repository(self._transaction, declaration, self.account_id, self._role)
