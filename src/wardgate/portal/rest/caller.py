"""The authenticated caller of a request, an API client or the operator (rest-api §2), and what a handler may
do on its behalf."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from fastapi import Depends, Request, Response

from wardgate.portal.database.turns import in_turns
from wardgate.portal.http.origin import Origin
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.object_versions import tag_of, tag_of_members
from wardgate.portal.people.tables import Actor
from wardgate.portal.rest.versions import check_expectation
from wardgate.portal.schema.rights import Action
from wardgate.portal.schema.row import Row
from wardgate.portal.services import Services
from wardgate.portal.store import INSTALLATION, AccountTables, Transaction
from wardgate.portal.subjects import operator_subject, subject_of

SCOPE_KEY = "wardgate.caller"

_RowT = TypeVar("_RowT", bound=Row)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; `account` and `actor` are None for the operator.

    Attributes:
        transaction: the transaction that the whole call runs in, if one was opened around it; else None.
    """

    services: Services
    token_id: UUID
    origin: Origin
    account: Account | None
    actor: Actor | None
    transaction: Transaction | None = None

    @property
    def account_id(self) -> UUID:
        """The account, or the nil UUID for the operator."""
        return INSTALLATION if self.account is None else self.account.id

    def reading(self, *, is_long: bool = False) -> AbstractAsyncContextManager[Transaction]:
        if self.transaction is not None:
            return nullcontext(self.transaction)
        return self.services.store.reading(is_long=is_long)

    def writing(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction whose changes are attributed to the caller."""
        if self.transaction is not None:
            return nullcontext(self.transaction)
        return self.services.store.writing(self.subject())

    def subject(self) -> dict[str, Any]:
        """Return the snapshot that changes are attributed to (portal-domain §10.2)."""
        return operator_subject(self.origin) if self.actor is None else subject_of(self.actor, self.origin)


class _Exchange:
    """One call: the caller, and the object versions exchanged in its headers."""

    def __init__(self, caller: Caller, request: Request, response: Response) -> None:
        self.services = caller.services
        self._caller = caller
        self._request = request
        self._response = response

    @property
    def keys(self) -> Keys:
        """The installation's keys, for issuing tokens."""
        return self.services.keys

    @property
    def origin(self) -> Origin:
        """Where the call comes from."""
        return self._caller.origin

    def tagged(self, row: _RowT) -> _RowT:
        """Set the response's `ETag` to the version of this row, and return the row."""
        self._response.headers["etag"] = tag_of(row)
        return row

    def expected(self, row: _RowT) -> _RowT:
        """Return the row if `If-Match` is absent or names its version.

        Raises:
            Problem: 412 if it has changed since.
        """
        check_expectation(self._request.headers.get("if-match"), tag_of(row))
        return row

    def expected_members(self, owner_id: UUID, member_ids: Collection[UUID]) -> None:
        """Check that `If-Match` is absent or names the version of these members.

        Raises:
            Problem: 412 if they have changed since.
        """
        expected = self._request.headers.get("if-match")
        if expected is not None:
            check_expectation(expected, tag_of_members(owner_id, member_ids))

    async def by_turns(self, items: Sequence[_T]) -> AsyncIterator[_T]:
        """Yield what a body lists; everybody else has a turn every few hundred."""
        for number, some in enumerate(in_turns(items)):
            if number:
                await self.services.environment.clock.sleep(0)
            for one in some:
                yield one


class AccountCaller(_Exchange):
    """An API client of an account: every query of a handler goes through `reading` and `writing`, scoped to
    that account.

    They refuse what actors of the caller's type may not do (`store/permissions.py`); the API answers 401.
    """

    def __init__(self, caller: Caller, request: Request, response: Response) -> None:
        super().__init__(caller, request, response)
        assert caller.account is not None
        assert caller.actor is not None
        self.account = caller.account
        self.actor = caller.actor

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AccountTables]:
        async with self._caller.reading() as transaction:
            yield transaction.on_behalf_of(self.actor)

    @asynccontextmanager
    async def listing(self) -> AsyncIterator[AccountTables]:
        """Open a long transaction for a list: its count, and what a filter passes over, grow with the table."""
        async with self._caller.reading(is_long=True) as transaction:
            yield transaction.on_behalf_of(self.actor)

    @asynccontextmanager
    async def reading_all(self) -> AsyncIterator[Transaction]:
        """Open an unscoped, possibly long transaction for reading the logs, whose queries name the account
        themselves."""
        async with self._caller.reading(is_long=True) as transaction:
            transaction.on_behalf_of(self.actor).require(Action.READ, "changes")
            yield transaction

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[tuple[AccountTables, Transaction]]:
        async with self._caller.writing() as transaction:
            yield transaction.on_behalf_of(self.actor), transaction

    def online_ids(self, kind: Literal["client", "gateway"]) -> frozenset[UUID]:
        """Return the devices of a kind that are connected now."""
        bus = self.services.environment.bus
        return frozenset(presence.address.id for presence in bus.members(kind, self.account.id))


class OperatorCaller(_Exchange):
    """The operator of the installation, who acts outside any account."""

    def __init__(self, caller: Caller, request: Request, response: Response) -> None:
        super().__init__(caller, request, response)
        assert caller.account is None

    def subject(self) -> dict[str, Any]:
        """Return what changes are attributed to that happen later."""
        return self._caller.subject()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        async with self._caller.reading() as transaction:
            yield transaction

    @asynccontextmanager
    async def listing(self) -> AsyncIterator[Transaction]:
        """Open a long transaction for a list: its count, and what a filter passes over, grow with the table."""
        async with self._caller.reading(is_long=True) as transaction:
            yield transaction

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        async with self._caller.writing() as transaction:
            yield transaction


async def _account_caller(request: Request, response: Response) -> AccountCaller:
    return AccountCaller(request.scope[SCOPE_KEY], request, response)


async def _operator_caller(request: Request, response: Response) -> OperatorCaller:
    return OperatorCaller(request.scope[SCOPE_KEY], request, response)


ForAccount = Annotated[AccountCaller, Depends(_account_caller)]
ForOperator = Annotated[OperatorCaller, Depends(_operator_caller)]
