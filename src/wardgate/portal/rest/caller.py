"""Who calls: the actor behind an API token, or the operator (rest-api §2), and what a handler may do for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request

from wardgate.portal.channels.connecting import Origin
from wardgate.portal.services import Services
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.store.rows import Account, Actor

SCOPE_KEY = "wardgate.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller; account and actor are none for the operator."""

    services: Services
    token_id: UUID
    origin: Origin
    account: Account | None
    actor: Actor | None

    def subject(self) -> dict[str, Any]:
        """Return the snapshot that changes are attributed to (portal-domain §10.2)."""
        actor, origin = self.actor, self.origin
        return {
            "actor_id": None if actor is None else str(actor.id),
            "actor_name": "operator" if actor is None else actor.name,
            "actor_email": None if actor is None else actor.email,
            "actor_type": "operator" if actor is None else actor.type,
            "auth_provider_id": None,
            "ip": str(origin.remote_ip),
            "ip_region": origin.region,
            "ip_city": origin.city,
            "ip_lat": None if origin.position is None else origin.position.lat,
            "ip_lon": None if origin.position is None else origin.position.lon,
            "user_agent": origin.user_agent[:255],
        }


class AccountCaller:
    """A caller of an account: every query of a handler goes through `reading` and `writing`, scoped to that account."""

    def __init__(self, caller: Caller) -> None:
        assert caller.account is not None
        assert caller.actor is not None
        self.services = caller.services
        self.account = caller.account
        self.actor = caller.actor
        self._caller = caller

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AccountTables]:
        async with self.services.store.reading() as transaction:
            yield transaction.of(self.account.id)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[tuple[AccountTables, Transaction]]:
        async with self.services.store.writing(self._caller.subject()) as transaction:
            yield transaction.of(self.account.id), transaction

    def online_ids(self, kind: str) -> frozenset[UUID]:
        """Return the devices of a kind that are connected now."""
        bus = self.services.environment.bus
        return frozenset(presence.address.id for presence in bus.members(kind, self.account.id))


class OperatorCaller:
    """The operator: what belongs to no account."""

    def __init__(self, caller: Caller) -> None:
        assert caller.account is None
        self.services = caller.services
        self._caller = caller

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Transaction]:
        async with self.services.store.reading() as transaction:
            yield transaction

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Transaction]:
        async with self.services.store.writing(self._caller.subject()) as transaction:
            yield transaction


def _account_caller(request: Request) -> AccountCaller:
    return AccountCaller(request.scope[SCOPE_KEY])


def _operator_caller(request: Request) -> OperatorCaller:
    return OperatorCaller(request.scope[SCOPE_KEY])


ForAccount = Annotated[AccountCaller, Depends(_account_caller)]
ForOperator = Annotated[OperatorCaller, Depends(_operator_caller)]
