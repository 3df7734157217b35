"""Repositories: the verbs on each table, with account scoping, deletion map and change capture in one place.

`Repository` is generic over the row class. A tenant's repositories are reached through `Transaction.of(account_id)`; they add the
account to every statement and refuse rows of another account, so no caller can forget it. Conditions are SQLAlchemy
expressions over `repository.c`:

    await tables.groups.load_all(tables.groups.c.name == "Engineering", limit=50)
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from sqlalchemy import (
    Column,
    ColumnElement,
    Table,
    Text,
    Uuid,
    bindparam,
    cast,
    delete,
    exc,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from wardgate.model.addresses import LAST_TUNNEL_OFFSET, TUNNEL_IPV4, TUNNEL_IPV6
from wardgate.portal.environment import Environment
from wardgate.portal.store import schema
from wardgate.portal.store.consequences import (
    ACCOUNT_TABLES_IN_DELETION_ORDER,
    DEPENDANTS,
    IDENTITY_PROVIDER_TABLES,
    INTERNAL_TABLES,
    LATEST_SESSION,
    REDACTED,
    ROW_BY_ROW,
    SECRET_COLUMNS,
    OnDelete,
    Removal,
    consequences_of_delete,
    consequences_of_update,
)
from wardgate.portal.store.errors import AddressesExhausted, DanglingReference
from wardgate.portal.store.refusals import check_storable, is_bad_value, refusal
from wardgate.portal.store.row_building import built
from wardgate.portal.store.rows import (
    Account,
    Actor,
    ApiRequest,
    ApiToken,
    AuthProvider,
    AuthProviderDetails,
    Banner,
    Change,
    ClientToken,
    Decision,
    Device,
    EmailOtpAuthProvider,
    EntraAuthProvider,
    ExternalIdentity,
    GatewayToken,
    GoogleAuthProvider,
    Group,
    Membership,
    OidcAuthProvider,
    OktaAuthProvider,
    OneTimePasscode,
    OperatorToken,
    PendingIdentity,
    Policy,
    PolicyAuthorization,
    PortalSession,
    RelayToken,
    Resource,
    Row,
    SignInLink,
    Site,
    StaticDevicePoolMember,
    TenantRow,
    UserpassAuthProvider,
)

_ROWS_A_STATEMENT: Final = 500  # below every driver's limit of bound values
INSTALLATION: Final = UUID(int=0)
"""Stands in `changes.account_id` for what belongs to no account."""

Hold = Callable[[AsyncConnection, UUID], Awaitable[None]]

_T = TypeVar("_T")
_RowT = TypeVar("_RowT", bound=Row)
_TenantRowT = TypeVar("_TenantRowT", bound=TenantRow)
_DetailsT = TypeVar("_DetailsT", bound=AuthProviderDetails)


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change not yet numbered."""

    account_id: UUID
    object: str
    operation: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Transaction:
    """One open transaction. `of(account_id)` leads to a tenant's tables; the attributes to what belongs to no account."""

    def __init__(
        self,
        connection: AsyncConnection,
        environment: Environment,
        *,
        subject: dict[str, Any] | None,
        hold: Hold | None,
    ) -> None:
        """Wrap a connection inside a transaction; `hold` makes it an account's only writer (none: it only reads)."""
        self._connection = connection
        self._environment = environment
        self._subject = subject
        self._hold = hold
        self._held: frozenset[UUID] = frozenset()
        self._refusal: Exception | None = None
        self._pending: list[PendingChange] = []
        self._hints: set[UUID] = set()
        self.now = environment.clock.now()
        self.accounts = AccountRepository(self)
        self.relay_tokens = InstallationRepository(self, RelayToken)
        self.operator_tokens = InstallationRepository(self, OperatorToken)
        self.banners = InstallationRepository(self, Banner)

    @property
    def dialect(self) -> str:
        """The database's name: `sqlite` or `postgresql`."""
        return self._connection.dialect.name

    async def hold(self, *account_ids: UUID) -> None:
        """Make a write transaction the only one of these accounts until its end.

        Repositories do it for their own account before their first statement. Who needs several accounts in one transaction names
        them all first: they are taken in order, so that two such transactions cannot wait for each other.
        """
        if self._hold is not None:
            for account_id in sorted(set(account_ids) - self._held):
                await self._hold(self._connection, account_id)
                self._held |= {account_id}

    def holds(self, account_ids: Iterable[UUID]) -> bool:
        """Tell whether `hold` would do nothing."""
        return self._hold is None or self._held.issuperset(account_ids)

    def of(self, account_id: UUID) -> "AccountTables":
        """Return the tables of one account."""
        return AccountTables(self, account_id)

    def new_id(self) -> UUID:
        return self._environment.new_id()

    def random_bytes(self, count: int) -> bytes:
        return self._environment.rng.randbytes(count)

    def acting_as(self, subject: dict[str, Any] | None) -> None:
        """Attribute the changes of this transaction to `subject` (when it becomes known only inside)."""
        self._subject = subject

    async def sequences(self) -> dict[UUID, int]:
        """Return the feed position of every account."""
        result = await self._connection.execute(
            select(schema.change_counters.c.account_id, schema.change_counters.c.sequence)
        )
        return {row.account_id: row.sequence for row in result}

    async def sequence(self, account_id: UUID) -> int:
        """Return the feed position of one account, 0 when nothing happened yet."""
        counters = schema.change_counters.c
        result = await self._connection.execute(
            select(counters.sequence).where(counters.account_id == account_id)
        )
        return int(result.scalar() or 0)

    async def changes_after(self, account_id: UUID, sequence: int, limit: int) -> list[Change]:
        """Return the next changes of one account's feed, in order and without gaps."""
        return await self.changes(account_id, schema.changes.c.sequence > sequence, limit=limit)

    async def changes(
        self, account_id: UUID, *conditions: ColumnElement[bool], limit: int, newest_first: bool = False
    ) -> list[Change]:
        """Return rows of one account's feed by conditions over `schema.changes.c`."""
        order = schema.changes.c.sequence
        result = await self._connection.execute(
            select(schema.changes)
            .where(schema.changes.c.account_id == account_id, *conditions)
            .order_by(order.desc() if newest_first else order)
            .limit(limit)
        )
        return [Change(**row) for row in result.mappings()]

    async def append_decisions(self, decisions: Sequence[Decision]) -> None:
        """Append to the decision log; it is no part of the change feed."""
        if decisions:
            rows = [
                {name: value for name, value in _values(decision).items() if name != "seq"}
                for decision in decisions
            ]
            await self.execute(insert(schema.decisions), rows)

    async def api_requests(self, account_id: UUID, *, limit: int) -> list[ApiRequest]:
        """Return the newest REST calls of one account."""
        log = schema.api_request_logs.c
        result = await self._connection.execute(
            select(schema.api_request_logs)
            .where(log.account_id == account_id)
            .order_by(log.seq.desc())
            .limit(limit)
        )
        return [ApiRequest(**row) for row in result.mappings()]

    async def decisions(
        self, account_id: UUID, *conditions: ColumnElement[bool], limit: int, newest_first: bool = True
    ) -> list[Decision]:
        """Return answered requests of one account by conditions over `schema.decisions.c`."""
        order = schema.decisions.c.seq
        result = await self._connection.execute(
            select(schema.decisions)
            .where(schema.decisions.c.account_id == account_id, *conditions)
            .order_by(order.desc() if newest_first else order)
            .limit(limit)
        )
        return [Decision(**row) for row in result.mappings()]

    async def delete_logs_before(self, instant: datetime) -> int:
        """Delete changes, decisions, REST calls and sessions older than this; returns how many. Feeds keep their numbering."""
        deleted = 0
        for table, column in (
            (schema.changes, schema.changes.c.committed_at),
            (schema.decisions, schema.decisions.c.decided_at),
            (schema.api_request_logs, schema.api_request_logs.c.inserted_at),
            (schema.session_logs, schema.session_logs.c.timestamp),
        ):
            deleted += int((await self.execute(delete(table).where(column < instant))).rowcount)
        return deleted

    async def delete_flows_before(self, instant: datetime) -> int:
        """Delete reports of flows that began before this; returns how many."""
        table = schema.flow_logs
        return int((await self.execute(delete(table).where(table.c.flow_start < instant))).rowcount)

    async def delete_kept_answers_before(self, instant: datetime) -> int:
        """Delete answers kept for repeated calls before this; returns how many."""
        table = schema.idempotency_keys
        return int((await self.execute(delete(table).where(table.c.inserted_at < instant))).rowcount)

    async def append_changes(self) -> frozenset[UUID]:
        """Number what happened and append it to the feed; called once, last, by the store. Returns whose feed moved."""
        if self._refusal is not None:
            raise self._refusal
        by_account: dict[UUID, list[PendingChange]] = {}
        for change in self._pending:
            by_account.setdefault(change.account_id, []).append(change)
        # One order for all transactions, so that two of them cannot lock the counters crosswise.
        for account_id in sorted(by_account):
            pending = by_account[account_id]
            last = (
                await self._connection.execute(
                    _RAISE_COUNTER, {"account_id": account_id, "count": len(pending)}
                )
            ).scalar_one()
            first = last - len(pending) + 1
            await self._connection.execute(
                insert(schema.changes),
                [self._numbered(change, first + index) for index, change in enumerate(pending)],
            )
        self._pending.clear()
        return frozenset(by_account) | self._hints

    def hint(self, topic: UUID) -> None:
        """Let the commit's listeners hear of a topic that is no account's feed."""
        self._hints.add(topic)

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run one statement; for the repositories.

        Raises:
            Conflict, DanglingReference, Unstorable: the database refused it. Nothing of the transaction will be written, unless
                the statement stands in a savepoint.
        """
        if self._refusal is not None:
            raise RuntimeError("a statement of this transaction was refused: it cannot go on")
        try:
            return await self._connection.execute(statement, parameters)
        except exc.DBAPIError as error:
            if not isinstance(error, exc.IntegrityError) and not is_bad_value(error):
                raise
            self._refusal = refusal(error)
            raise self._refusal from error

    def record(self, account_id: UUID, operation: str, before: Row | None, after: Row | None) -> None:
        """Remember a change for the feed; for the repositories."""
        row = after if after is not None else before
        assert row is not None
        self._pending.append(PendingChange(account_id, row.table, operation, _image(before), _image(after)))

    def forget(self, account_id: UUID) -> None:
        """Leave what happened in an account out of its feed: nobody is left to read it."""
        self._pending = [change for change in self._pending if change.account_id != account_id]

    def require_writable(self) -> None:
        if self._hold is None:
            raise RuntimeError("this transaction is for reading only")

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Open a savepoint: an exception inside undoes only what happened inside."""
        recorded, held = len(self._pending), self._held
        try:
            async with self._connection.begin_nested():
                yield
        except BaseException:
            del self._pending[recorded:]
            self._held, self._refusal = held, None
            raise

    def _numbered(self, change: PendingChange, sequence: int) -> dict[str, Any]:
        microseconds = int(self.now.timestamp() * 1_000_000) & ((1 << 52) - 1)
        return {
            "account_id": change.account_id,
            "sequence": sequence,
            "log_id": f"c{microseconds:013x}{sequence & ((1 << 40) - 1):010x}",
            "object": change.object,
            "operation": change.operation,
            "audience": "internal" if change.object in INTERNAL_TABLES else "audit",
            "before": change.before,
            "after": change.after,
            "subject": self._subject,
            "committed_at": self.now,
        }


class Repository(Generic[_RowT]):
    """The verbs on one table. `c` holds its columns for conditions and ordering."""

    def __init__(self, transaction: Transaction, row_class: type[_RowT]) -> None:
        self._transaction = transaction
        self._row_class = row_class
        self._table: Table = schema.metadata.tables[row_class.table]
        self.c = self._table.c

    @property
    def _scope(self) -> tuple[ColumnElement[bool], ...]:
        """What every statement is narrowed to."""
        return ()

    async def load(self, id_: UUID) -> _RowT | None:
        """Return the row with this id, or none."""
        return await self.find(self.c.id == id_)

    async def find(self, *conditions: ColumnElement[bool]) -> _RowT | None:
        """Return the first row that meets all conditions, or none."""
        rows = await self.load_all(*conditions, limit=1)
        return rows[0] if rows else None

    async def load_all(
        self,
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any] | None = None,
        limit: int | None = None,
    ) -> list[_RowT]:
        """Return the rows that meet all conditions, oldest first unless ordered otherwise."""
        statement = select(self._table).where(*self._scope, *conditions).limit(limit)
        statement = statement.order_by(
            *(order_by if order_by is not None else (self.c.inserted_at, self.c.id))
        )
        await self._hold()
        result = await self._transaction.execute(statement)
        return [built(self._row_class, row) for row in result]

    async def load_column(self, column: ColumnElement[_T], *conditions: ColumnElement[bool]) -> list[_T]:
        """Return one column of the rows that meet all conditions, in no order."""
        await self._hold()
        result = await self._transaction.execute(select(column).where(*self._scope, *conditions))
        return list(result.scalars())

    async def slices(self, *columns: str, size: int) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """Yield all rows as bare tuples, by ascending id, `size` rows at a time: for who reads very many.

        A tuple begins with the id; the columns follow in their order. Ids are the text that the database has for them (`UUID(text)`
        reads it), because parsing is most of what a row costs, and few need it. Each slice is a statement of its own, so
        other tasks may run between two of them.
        """
        wanted = [_as_text(self.c[name]) for name in ("id", *columns)]
        statement = select(*wanted).where(*self._scope).order_by(self.c.id).limit(size)
        await self._hold()
        rows = (await self._transaction.execute(statement)).all()
        while rows:
            yield rows
            if len(rows) < size:
                return
            following = statement.where(self.c.id > UUID(rows[-1][0]))
            rows = (await self._transaction.execute(following)).all()

    async def count(self, *conditions: ColumnElement[bool]) -> int:
        """Return how many rows meet all conditions."""
        statement = select(func.count()).select_from(self._table).where(*self._scope, *conditions)
        await self._hold()
        result = await self._transaction.execute(statement)
        return int(result.scalar_one())

    async def insert(self, row: _RowT) -> _RowT:
        """Insert the row and return it as stored.

        Raises:
            Conflict: a unique index refuses it.
            DanglingReference: it names a row that is not there.
            Unstorable: a value is too long, too large, or no text.
        """
        self._transaction.require_writable()
        self._check(row)
        check_storable(self._table, _values(row))
        await self._transaction.hold(self._feed_of(row))
        row = replace(row, inserted_at=self._transaction.now, updated_at=self._transaction.now)
        await self._transaction.execute(insert(self._table), _values(row))
        self._transaction.record(self._feed_of(row), "insert", None, row)
        return row

    async def insert_all(self, rows: Sequence[_RowT]) -> list[_RowT]:
        """Insert all rows in one statement; raises as `insert`, and then none is inserted."""
        self._transaction.require_writable()
        now = self._transaction.now
        stamped = [replace(row, inserted_at=now, updated_at=now) for row in rows]
        for row in stamped:
            self._check(row)
            check_storable(self._table, _values(row))
        await self._transaction.hold(*{self._feed_of(row) for row in stamped})
        if stamped:
            await self._transaction.execute(insert(self._table), [_values(row) for row in stamped])
        for row in stamped:
            self._transaction.record(self._feed_of(row), "insert", None, row)
        return stamped

    async def save(self, row: _RowT) -> _RowT:
        """Replace the stored row of the same id, carry out what follows from it, and return it as stored.

        A row equal to the stored one changes nothing. Raises as `insert`, and DanglingReference when it is gone.
        """
        self._transaction.require_writable()
        self._check(row)
        await self._transaction.hold(self._feed_of(row))
        before = await self.load(row.id)
        if before is None:
            raise DanglingReference(f"{self._table.name}: {row.id} does not exist")
        changed = {name for name, value in _values(row).items() if value != getattr(before, name)}
        changed -= {"inserted_at", "updated_at"}
        if not changed:
            return before
        latest_session_only = changed <= LATEST_SESSION.get(self._table.name, frozenset())
        # The stamp tells when an admin or a peer changed what the row says, not when it was last used.
        updated_at = before.updated_at if latest_session_only else self._transaction.now
        row = replace(row, inserted_at=before.inserted_at, updated_at=updated_at)
        values = {name: getattr(row, name) for name in sorted(changed | {"updated_at"})}
        check_storable(self._table, values)
        await self._transaction.execute(
            update(self._table).where(*self._scope, self.c.id == row.id).values(values)
        )
        if latest_session_only:
            return row
        self._transaction.record(self._feed_of(row), "update", before, row)
        for removal in consequences_of_update(before, row):
            await self._transaction.of(self._feed_of(row)).remove(removal)
        return row

    async def delete(self, id_: UUID) -> bool:
        """Delete the row and everything that depends on it (deletion map); false: there was none."""
        self._transaction.require_writable()
        row = await self.load(id_)
        if row is None:
            return False
        await self.delete_row(row)
        return True

    async def delete_where(self, *conditions: ColumnElement[bool]) -> int:
        """Delete all rows that meet the conditions, each with what depends on it; returns how many."""
        self._transaction.require_writable()
        rows = await self.load_all(*conditions)
        await self.delete_rows(rows)
        return len(rows)

    async def delete_rows(self, rows: Sequence[_RowT]) -> None:
        """Delete loaded rows, each with what goes with it; for the deletion map."""
        if self._table.name in ROW_BY_ROW:
            for row in rows:
                await self.delete_row(row)
        else:
            await self._delete_leaves(rows)

    async def _delete_leaves(self, rows: Sequence[_RowT]) -> None:
        """Delete rows that nothing depends on, many a statement: a policy may take thousands of grants with it."""
        for first in range(0, len(rows), _ROWS_A_STATEMENT):
            some = rows[first : first + _ROWS_A_STATEMENT]
            await self._transaction.execute(
                delete(self._table).where(*self._scope, self.c.id.in_([row.id for row in some]))
            )
        for row in rows:
            self._transaction.record(self._feed_of(row), "delete", row, None)

    async def delete_row(self, row: _RowT) -> None:
        for dependant in DEPENDANTS.get(self._table.name, ()):
            tables = self._transaction.of(self._feed_of(row))
            if dependant.on_delete is OnDelete.DELETE:
                await tables.remove(Removal(dependant.table, {dependant.column: row.id}))
            else:
                await tables.clear_where(dependant.table, dependant.column, row.id)
        for removal in consequences_of_delete(row):
            await self._transaction.of(self._feed_of(row)).remove(removal)
        result = await self._transaction.execute(delete(self._table).where(*self._scope, self.c.id == row.id))
        # A dependant may be reached on two ways (a device by its actor, an authorization by device and token).
        if result.rowcount:
            self._transaction.record(self._feed_of(row), "delete", row, None)

    async def _hold(self) -> None:
        """Become the only writer of what this repository reads, so that what was read still holds at the commit."""
        await self._transaction.hold(INSTALLATION)

    def _check(self, row: _RowT) -> None:
        """Refuse a row of another account; a tenant's repository overrides this."""

    def _feed_of(self, _row: _RowT) -> UUID:
        return INSTALLATION


class InstallationRepository(Repository[_RowT]):
    """Rows that belong to no account; their changes go to the installation's feed."""


class AccountRepository(Repository[Account]):
    """The accounts themselves; each one's changes go to its own feed."""

    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction, Account)

    async def by_slug(self, slug: str) -> Account | None:
        return await self.find(func.lower(self.c.slug) == slug.lower())

    async def load(self, id_: UUID) -> Account | None:
        await self._transaction.hold(id_)
        return await super().load(id_)

    async def load_all(
        self,
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any] | None = None,
        limit: int | None = None,
    ) -> list[Account]:
        """Return the accounts that meet all conditions; in a write transaction, held as they are returned."""
        while True:
            rows = await super().load_all(*conditions, order_by=order_by, limit=limit)
            if self._transaction.holds(row.id for row in rows):
                return rows
            await self._transaction.hold(*(row.id for row in rows))

    async def _hold(self) -> None:
        """Which accounts a condition finds is known only afterwards: `load_all` holds those."""

    async def delete_row(self, row: Account) -> None:
        """Delete the account with everything it has, logs included; its feed holds nothing but its own deletion."""
        mail = schema.outbound_emails
        await self._transaction.execute(
            update(mail).where(mail.c.account_id == row.id).values(account_id=None)
        )
        for name in ACCOUNT_TABLES_IN_DELETION_ORDER:
            table = schema.metadata.tables[name]
            await self._transaction.execute(delete(table).where(table.c.account_id == row.id))
        self._transaction.forget(row.id)
        for log in (
            schema.changes,
            schema.decisions,
            schema.api_request_logs,
            schema.session_logs,
            schema.flow_logs,
            schema.idempotency_keys,
        ):
            await self._transaction.execute(delete(log).where(log.c.account_id == row.id))
        await super().delete_row(row)

    def _feed_of(self, row: Account) -> UUID:
        return row.id


class TenantRepository(Repository[_TenantRowT]):
    """Rows of one account."""

    def __init__(self, transaction: Transaction, row_class: type[_TenantRowT], account_id: UUID) -> None:
        super().__init__(transaction, row_class)
        self._account_id = account_id

    @property
    def _scope(self) -> tuple[ColumnElement[bool], ...]:
        return (self.c.account_id == self._account_id,)

    async def _hold(self) -> None:
        await self._transaction.hold(self._account_id)

    def _check(self, row: _TenantRowT) -> None:
        if row.account_id != self._account_id:
            raise ValueError(f"{row.table}: a row of another account")

    def _feed_of(self, row: _TenantRowT) -> UUID:
        return row.account_id


class DeviceRepository(TenantRepository[Device]):
    """Devices; a new one draws its tunnel addresses here (§3.8)."""

    def __init__(self, transaction: Transaction, account_id: UUID) -> None:
        super().__init__(transaction, Device, account_id)

    async def insert(self, row: Device) -> Device:
        """Insert a device; empty addresses are drawn.

        Raises:
            AddressesExhausted: no address left.
        """
        if not row.ipv4:
            row = replace(row, ipv4=await self._free_address(TUNNEL_IPV4, self.c.ipv4))
        if not row.ipv6:
            row = replace(row, ipv6=await self._free_address(TUNNEL_IPV6, self.c.ipv6))
        return await super().insert(row)

    async def _free_address(self, pool: IPv4Network | IPv6Network, column: ColumnElement[str]) -> str:
        if await self.count() >= LAST_TUNNEL_OFFSET:
            raise AddressesExhausted(f"all addresses of {pool} are in use")
        random = int.from_bytes(self._transaction.random_bytes(8), "big")
        offset = random % LAST_TUNNEL_OFFSET
        while True:
            address: IPv4Address | IPv6Address = pool.network_address + (1 + offset)
            if await self.count(column == str(address)) == 0:
                return str(address)
            offset = (offset + 1) % LAST_TUNNEL_OFFSET


class AuthorizationRepository(TenantRepository[PolicyAuthorization]):
    """Grants: inserted in groups, never updated (§3.12)."""

    def __init__(self, transaction: Transaction, account_id: UUID) -> None:
        super().__init__(transaction, PolicyAuthorization, account_id)

    async def insert_each(self, rows: Sequence[PolicyAuthorization]) -> list[PolicyAuthorization]:
        """Insert what can be inserted; rows that name something gone are left out. Returns what was stored."""
        try:
            async with self._transaction.savepoint():
                return await self.insert_all(rows)
        except DanglingReference:
            stored = []
            for row in rows:
                with contextlib.suppress(DanglingReference):
                    async with self._transaction.savepoint():
                        stored.append(await self.insert(row))
            return stored


class AuthProviderRepository(TenantRepository[_DetailsT]):
    """One type of provider: the details and the parent that they share their id with come and go together."""

    async def insert(self, row: _DetailsT) -> _DetailsT:
        """Insert a provider; raises as `Repository.insert`."""
        parent = AuthProvider(id=row.id, account_id=row.account_id, type=row.type)
        await self._transaction.of(self._account_id).auth_providers.insert(parent)
        return await super().insert(row)

    async def insert_all(self, rows: Sequence[_DetailsT]) -> list[_DetailsT]:
        return [await self.insert(row) for row in rows]

    async def delete(self, id_: UUID) -> bool:
        """Delete a provider with the tokens and sessions that it issued; false: there was none."""
        if await self.load(id_) is None:
            return False
        return await self._transaction.of(self._account_id).auth_providers.delete(id_)

    async def delete_where(self, *conditions: ColumnElement[bool]) -> int:
        rows = await self.load_all(*conditions)
        for row in rows:
            await self.delete(row.id)
        return len(rows)


class ExternalIdentityRepository(TenantRepository[ExternalIdentity]):
    """Identities; with one goes what its actor holds by sign-ins at the same issuer (§8.4)."""

    def __init__(self, transaction: Transaction, account_id: UUID) -> None:
        super().__init__(transaction, ExternalIdentity, account_id)

    async def delete_row(self, row: ExternalIdentity) -> None:
        await super().delete_row(row)
        tables = self._transaction.of(self._account_id)
        for name in IDENTITY_PROVIDER_TABLES:
            providers = tables.by_name(name)
            for provider in await providers.load_all(providers.c.issuer == row.issuer):
                held_by_it = {"actor_id": row.actor_id, "auth_provider_id": provider.id}
                await tables.remove(Removal("client_tokens", held_by_it))
                await tables.remove(Removal("portal_sessions", held_by_it))


class AccountTables:
    """The repositories of one account."""

    def __init__(self, transaction: Transaction, account_id: UUID) -> None:
        self.account_id = account_id
        self._transaction = transaction
        self.actors = TenantRepository(transaction, Actor, account_id)
        self.external_identities = ExternalIdentityRepository(transaction, account_id)
        self.pending_identities = TenantRepository(transaction, PendingIdentity, account_id)
        self.one_time_passcodes = TenantRepository(transaction, OneTimePasscode, account_id)
        self.auth_providers = TenantRepository(transaction, AuthProvider, account_id)
        self.email_otp_auth_providers = AuthProviderRepository(transaction, EmailOtpAuthProvider, account_id)
        self.userpass_auth_providers = AuthProviderRepository(transaction, UserpassAuthProvider, account_id)
        self.google_auth_providers = AuthProviderRepository(transaction, GoogleAuthProvider, account_id)
        self.entra_auth_providers = AuthProviderRepository(transaction, EntraAuthProvider, account_id)
        self.okta_auth_providers = AuthProviderRepository(transaction, OktaAuthProvider, account_id)
        self.oidc_auth_providers = AuthProviderRepository(transaction, OidcAuthProvider, account_id)
        self.groups = TenantRepository(transaction, Group, account_id)
        self.memberships = TenantRepository(transaction, Membership, account_id)
        self.sites = TenantRepository(transaction, Site, account_id)
        self.resources = TenantRepository(transaction, Resource, account_id)
        self.policies = TenantRepository(transaction, Policy, account_id)
        self.client_tokens = TenantRepository(transaction, ClientToken, account_id)
        self.gateway_tokens = TenantRepository(transaction, GatewayToken, account_id)
        self.api_tokens = TenantRepository(transaction, ApiToken, account_id)
        self.devices = DeviceRepository(transaction, account_id)
        self.authorizations = AuthorizationRepository(transaction, account_id)
        self.portal_sessions = TenantRepository(transaction, PortalSession, account_id)
        self.sign_in_links = TenantRepository(transaction, SignInLink, account_id)
        self.pool_members = TenantRepository(transaction, StaticDevicePoolMember, account_id)

    async def account(self) -> Account | None:
        return await self._transaction.accounts.load(self.account_id)

    async def changes(
        self, *conditions: ColumnElement[bool], limit: int, newest_first: bool = False
    ) -> list[Change]:
        return await self._transaction.changes(
            self.account_id, *conditions, limit=limit, newest_first=newest_first
        )

    async def decisions(
        self, *conditions: ColumnElement[bool], limit: int, newest_first: bool = True
    ) -> list[Decision]:
        return await self._transaction.decisions(
            self.account_id, *conditions, limit=limit, newest_first=newest_first
        )

    async def remove(self, removal: Removal) -> None:
        """Delete rows of this account, each with what goes with it; for the deletion map and the hooks."""
        repository = self.by_name(removal.table)
        conditions = [repository.c[column] == value for column, value in removal.values.items()]
        await repository.delete_rows(await repository.load_all(*conditions))

    async def clear_where(self, table: str, column: str, value: UUID) -> None:
        """Set a reference to NULL in rows of a table of this account; for the deletion map."""
        repository = self.by_name(table)
        for row in await repository.load_all(repository.c[column] == value):
            await repository.save(replace(row, **{column: None}))

    def by_name(self, table: str) -> TenantRepository[Any]:
        """Return the repository of a table."""
        repository: TenantRepository[Any] = getattr(self, _SHORT_NAMES.get(table, table))
        return repository


_SHORT_NAMES: Final = {
    "policy_authorizations": "authorizations",
    "static_device_pool_members": "pool_members",
}

_RAISE_COUNTER: Final = (
    text(
        "INSERT INTO change_counters (account_id, sequence) VALUES (:account_id, :count)"
        " ON CONFLICT (account_id) DO UPDATE SET sequence = change_counters.sequence + excluded.sequence"
        " RETURNING sequence"
    )
    .bindparams(bindparam("account_id", type_=Uuid()))
    .columns(schema.change_counters.c.sequence)
)


def _values(row: Any) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _as_text(column: Column[Any]) -> ColumnElement[Any]:
    return cast(column, Text) if isinstance(column.type, Uuid) else column


def _image(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        name: REDACTED if name in SECRET_COLUMNS else _json(value) for name, value in _values(row).items()
    }


def _json(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return value
