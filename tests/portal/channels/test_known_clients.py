"""Clients that come to connect in the same moment are looked up together, and each as if it were alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import exc

from portal.channels.test_authorization import grant
from support.portal import World, make_world
from wardgate.portal import credentials
from wardgate.portal.channels.known_clients import KnownClient, KnownClients
from wardgate.portal.people.tables import Actor
from wardgate.portal.store import Store, Transaction
from wardgate.wire.tokens import Token, TokenKind, parse_token
from wardgate.wire.upgrade import ClientParameters


class Listener:
    """Notes what it is told; `on_follow` happens when a device is followed."""

    def __init__(self, on_follow: Callable[[UUID], None] = lambda _id: None) -> None:
        self.heard: list[str] = []
        self._on_follow = on_follow

    def handle_look_up(self) -> None:
        self.heard.append("look up")

    def follow(self, device_id: UUID) -> None:
        self.heard.append("follow")
        self._on_follow(device_id)


class CountedStore:
    """A store as these clients see it, their read transactions counted; a fault if there is one."""

    def __init__(self, store: Store, *, note: list[str] | None = None) -> None:
        self._store = store
        self._note = note
        self.count = 0
        self.fault: Exception | None = None

    @contextlib.asynccontextmanager
    async def reading(self, **options: Any) -> AsyncIterator[Transaction]:
        self.count += 1
        if self._note is not None:
            self._note.append("read")
        if self.fault is not None:
            raise self.fault
        async with self._store.reading(**options) as transaction:
            yield transaction


def parameters(external_id: str, **others: Any) -> ClientParameters:
    return ClientParameters(external_id, "key", external_id, **others)


def token_of(world: World) -> Token:
    return parse_token(world.client_token, expected=TokenKind.CLIENT, key=world.portal.services.keys.tokens)


def known_clients(world: World, *, note: list[str] | None = None) -> tuple[KnownClients, CountedStore]:
    store = CountedStore(world.portal.services.store, note=note)
    return KnownClients(cast(Store, store), _must_not_fail), store


def _must_not_fail() -> None:
    raise AssertionError("a background task failed")


async def test_a_crowd_is_looked_up_in_one_transaction_and_each_finds_what_it_finds_alone(
    world: World,
) -> None:
    other = await make_world(world.portal, "other")
    async with (
        world.client(external_id="c0") as client,
        world.gateway() as gateway,
        world.client(external_id="c1"),
    ):
        await client.join()
        await gateway.join()
        await grant(world, client, gateway)
        await world.portal.journal.flush()
    # A client of another account that is called the same.
    async with other.client(external_id="c0"):
        await world.portal.journal.flush()
    async with other.portal.services.store.writing() as tx:
        await tx.of(other.account_id).client_tokens.delete(other.client_token_id)
    third = await make_world(world.portal, "third")
    async with third.client(external_id="c0"):
        await world.portal.journal.flush()
    asked = [
        (token_of(world), parameters("c0")),
        (token_of(world), parameters("c1")),
        (token_of(world), parameters("new")),
        (token_of(world), parameters("c1", device_serial="another")),
        (token_of(world), None),
        (token_of(other), parameters("c0")),
        (token_of(third), parameters("c0")),
        (token_of(world), parameters("c0")),
    ]
    clients, store = known_clients(world)
    alone = [await clients.find(*one, Listener(), is_one_of_many=False) for one in asked]
    store.count = 0
    listeners = [Listener() for _ in asked]
    together = await asyncio.gather(
        *(
            clients.find(*one, listener, is_one_of_many=True)
            for one, listener in zip(asked, listeners, strict=True)
        )
    )
    assert store.count == 1
    assert together == alone
    first, _, new, reporting, unasked, dead, foreign, again = together
    assert [len(first.held), first.device.firezone_id, first.account.id] == [1, "c0", world.account_id]
    assert again == first
    assert (new.device, new.held) == (None, None)
    assert (reporting.device.firezone_id, reporting.held) == ("c1", None)
    assert (unasked.device, unasked.held) == (None, None)
    assert dead is None
    assert (foreign.account.id, foreign.device.account_id) == (third.account_id, third.account_id)
    followed = [["look up", "follow"], ["look up"]]
    assert [listener.heard for listener in listeners] == [
        followed[one is None or one.held is None] for one in together
    ]


async def test_a_device_is_found_for_its_own_actor_only_however_others_of_the_crowd_are_called(
    world: World,
) -> None:
    services = world.portal.services
    async with services.store.writing() as tx:
        tables = tx.of(world.account_id)
        eve = await tables.actors.insert(
            Actor(id=tx.new_id(), account_id=world.account_id, type="service_account", name="Eve")
        )
        issued = await credentials.issue(
            tables.client_tokens,
            transaction=tx,
            keys=services.keys,
            account_id=world.account_id,
            actor_id=eve.id,
            expires_at=tx.now + timedelta(days=1),
        )
    async with world.client(external_id="ada"), world.client(external_id="eve", token=issued.text):
        await world.portal.journal.flush()
    clients, _store = known_clients(world)
    eves = parse_token(issued.text, expected=TokenKind.CLIENT, key=services.keys.tokens)
    found = await asyncio.gather(
        *(
            clients.find(token, parameters(name), Listener(), is_one_of_many=True)
            for token in (token_of(world), eves)
            for name in ("ada", "eve")
        )
    )
    named = [None if one is None or one.device is None else one.device.firezone_id for one in found]
    assert named == ["ada", None, None, "eve"]


async def test_the_journal_is_asked_before_the_database_and_followed_before_grants_are_read(
    world: World,
) -> None:
    async with world.client():
        await world.portal.journal.flush()
    listener = Listener()
    clients, _store = known_clients(world, note=listener.heard)
    await clients.find(token_of(world), parameters("client-1"), listener, is_one_of_many=True)
    assert listener.heard == ["look up", "read", "follow"]


async def test_more_than_fit_a_transaction_take_the_next_one(world: World) -> None:
    clients, store = known_clients(world)
    found = await asyncio.gather(
        *(
            clients.find(token_of(world), parameters(f"c{n}"), Listener(), is_one_of_many=True)
            for n in range(17)
        )
    )
    assert store.count == 2
    assert all(isinstance(one, KnownClient) for one in found)


async def test_what_is_wrong_with_one_is_nobody_elses(world: World) -> None:
    async with world.client(external_id="c0"), world.client(external_id="c1"):
        await world.portal.journal.flush()

    def fail(_device_id: UUID) -> None:
        raise LookupError

    clients, _store = known_clients(world)
    good, bad = await asyncio.gather(
        clients.find(token_of(world), parameters("c0"), Listener(), is_one_of_many=True),
        clients.find(token_of(world), parameters("c1"), Listener(fail), is_one_of_many=True),
        return_exceptions=True,
    )
    assert isinstance(good, KnownClient)
    assert isinstance(bad, LookupError)


async def test_a_database_that_is_away_is_asked_once_for_all(world: World) -> None:
    clients, store = known_clients(world)
    store.fault = exc.OperationalError(None, None, Exception("away"))
    told = await asyncio.gather(
        *(
            clients.find(token_of(world), parameters(f"c{n}"), Listener(), is_one_of_many=True)
            for n in range(5)
        ),
        return_exceptions=True,
    )
    assert [type(one) for one in told] == [exc.OperationalError] * 5
    assert store.count == 1
    store.fault = None
    assert await clients.find(token_of(world), parameters("c0"), Listener(), is_one_of_many=True) is not None


async def test_who_leaves_before_the_answer_takes_nobody_along(world: World) -> None:
    clients, _store = known_clients(world)
    asking = [
        asyncio.create_task(
            clients.find(token_of(world), parameters(f"c{n}"), Listener(), is_one_of_many=True)
        )
        for n in range(3)
    ]
    await asyncio.sleep(0)
    asking[0].cancel()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(one) for one in outcomes] == [asyncio.CancelledError, KnownClient, KnownClient]
