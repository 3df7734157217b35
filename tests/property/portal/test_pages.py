"""Walking through the pages of a list, while others insert and delete: what is there all the time is met
exactly once, in order.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from wardgate.portal.environment import Environment, SystemClock
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Group
from wardgate.portal.rest.pages import Page, PageQuery, load_page, page_query
from wardgate.portal.store import Store


class SteppingClock(SystemClock):
    """Stands still until it is told to step."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


@dataclass(frozen=True)
class Meddling:
    """What others do between two pages."""

    inserts: int
    deletes: int
    step_us: int


meddlings = st.builds(Meddling, st.integers(0, 3), st.integers(0, 2), st.sampled_from([0, 1, 10**6]))


@settings(max_examples=60, deadline=None)
@given(
    batches=st.lists(st.tuples(st.integers(1, 6), st.sampled_from([0, 1])), max_size=6),
    between=st.lists(meddlings, max_size=30),
    limit=st.integers(1, 8),
    newest_first=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_a_walk_forward_and_back_meets_every_lasting_row_once(
    batches: list[tuple[int, int]], between: list[Meddling], limit: int, newest_first: bool, seed: int
) -> None:
    async def walk() -> None:
        collection = await Collection.make(random.Random(seed))
        for size, step_us in batches:
            await collection.insert(size, step_us)
        lasting, steps = dict(collection.rows), iter(between)
        met: list[Group] = []
        page, cursor = await collection.page(limit, None, newest_first=newest_first), None
        assert page.prev_page is None
        while True:
            met += page.rows
            if page.next_page is None:
                break
            cursor = page.next_page
            await collection.meddle(next(steps, None), lasting)
            page = await collection.page(limit, cursor, newest_first=newest_first)
            assert len(page.rows) == limit or page.next_page is None
        assert_met_once(met, lasting, newest_first=newest_first)
        met = list(page.rows)
        while page.prev_page is not None:
            await collection.meddle(next(steps, None), lasting)
            page = await collection.page(limit, page.prev_page, newest_first=newest_first)
            met = [*page.rows, *met]
        if cursor is not None and met:
            assert_met_once(met, lasting, newest_first=newest_first)
        await collection.store.close()

    asyncio.run(walk())


def assert_met_once(met: list[Group], lasting: dict[UUID, Group], *, newest_first: bool) -> None:
    keys = [(row.inserted_at, row.id) for row in met]
    assert keys == sorted(set(keys), reverse=newest_first)
    assert lasting.keys() <= {row.id for row in met}


class Collection:
    """The groups of an account; `rows` is what the database should hold."""

    def __init__(self, store: Store, clock: SteppingClock, rng: random.Random, account_id: UUID) -> None:
        self.store = store
        self.rows: dict[UUID, Group] = {}
        self._clock = clock
        self._rng = rng
        self._account_id = account_id

    @classmethod
    async def make(cls, rng: random.Random) -> "Collection":
        clock = SteppingClock()
        environment = replace(Environment.of_this_process(), clock=clock, rng=rng)
        store = await Store.open(None, environment)
        async with store.writing() as transaction:
            account = await transaction.accounts.insert(
                Account(
                    id=transaction.new_id(),
                    name="Acme",
                    legal_name="Acme",
                    slug="acme",
                    key="acme00",
                    ingest_signing_key=transaction.random_bytes(32),
                )
            )
        return cls(store, clock, rng, account.id)

    async def page(self, limit: int, cursor: str | None, *, newest_first: bool) -> Page[Group]:
        query: PageQuery = await page_query(str(limit), cursor)
        async with self.store.reading(is_long=True) as transaction:
            groups = transaction.of(self._account_id).groups
            page = await load_page(groups, query, newest_first=newest_first)
        assert page.count == len(self.rows)
        assert all(self.rows[row.id] == row for row in page.rows)
        return page

    async def insert(self, number: int, step_us: int) -> None:
        self._clock.at += timedelta(microseconds=step_us)
        async with self.store.writing() as transaction:
            groups = transaction.of(self._account_id).groups
            for _ in range(number):
                id_ = transaction.new_id()
                group = Group(id=id_, account_id=self._account_id, name=str(id_))
                self.rows[id_] = await groups.insert(group)

    async def meddle(self, meddling: Meddling | None, lasting: dict[UUID, Group]) -> None:
        """Insert and delete; what is deleted has not been there all the time."""
        if meddling is None:
            return
        await self.insert(meddling.inserts, meddling.step_us)
        async with self.store.writing() as transaction:
            groups = transaction.of(self._account_id).groups
            for id_ in self._rng.sample(sorted(self.rows), min(meddling.deletes, len(self.rows))):
                await groups.delete(id_)
                del self.rows[id_]
                lasting.pop(id_, None)
