"""Readers see every committed change once, in order, also of another process and after a pause."""

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from support.migrated_file import migrated_file
from support.patience import PATIENCE_S
from support.postgres import postgres_database
from unit.portal.store.conftest import make_account
from wardgate.portal.database import feed as feed_module
from wardgate.portal.database.feed import FeedBroken
from wardgate.portal.environment import Environment
from wardgate.portal.installation import repositories as account_repositories
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import Database, Feed, PostgresServer, Store

pytestmark = pytest.mark.slow


async def test_a_reader_is_woken_by_each_commit(
    store: Store, environment: Environment, account_id: UUID
) -> None:
    feed = Feed(store, environment)
    seen: list[int] = []
    reader = asyncio.create_task(_collect(feed, account_id, 0, seen, until=4))
    for index in range(3):
        await _add_site(store, account_id, f"site {index}")
    await asyncio.wait_for(reader, PATIENCE_S)
    assert seen == [1, 2, 3, 4]


async def test_a_reader_resumes_behind_its_last_change(
    store: Store, environment: Environment, account_id: UUID
) -> None:
    feed = Feed(store, environment)
    for index in range(3):
        await _add_site(store, account_id, f"site {index}")
    seen: list[int] = []
    await asyncio.wait_for(_collect(feed, account_id, 2, seen, until=4), PATIENCE_S)
    assert seen == [3, 4]


async def test_what_this_process_commits_is_not_read_back(
    store: Store, environment: Environment, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readers, of which one comes later, are each told what the database would have told them."""
    feed, reads = Feed(store, environment), 0
    read = store.reading

    def counted() -> Any:
        nonlocal reads
        reads += 1
        return read()

    async with store.reading() as transaction:
        before = await transaction.changes_after(account_id, 0, 40)
    monkeypatch.setattr(store, "reading", counted)
    early, late = list[Change](), list[Change]()
    begun = asyncio.Event()

    async def begin() -> None:
        begun.set()

    readers = [asyncio.create_task(_take(feed, account_id, 0, early, until=31, between=begin))]
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    for index in range(15):
        await _add_site(store, account_id, f"site {index}")
    readers.append(asyncio.create_task(_take(feed, account_id, 1, late, until=31)))
    for index in range(15, 30):
        await _add_site(store, account_id, f"site {index}")
    await asyncio.wait_for(asyncio.gather(*readers), PATIENCE_S)
    monkeypatch.undo()
    async with store.reading() as transaction:
        stored = await transaction.changes_after(account_id, 0, 40)
    assert (early, late) == (stored, stored[len(before) :])
    assert reads < 10  # where each begins, and whether more has come meanwhile


@pytest.mark.parametrize("kept", [1, 3])
async def test_a_reader_that_lags_behind_what_is_kept_asks_the_database(
    store: Store, environment: Environment, account_id: UUID, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    monkeypatch.setattr(feed_module, "_KEPT", kept)
    feed, seen = Feed(store, environment), list[Change]()
    begun = asyncio.Event()

    async def begin_and_stay() -> None:
        begun.set()
        await asyncio.Event().wait()

    reading = asyncio.create_task(_take(feed, account_id, 0, seen, until=8, between=begin_and_stay))
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    for index in range(7):
        await _add_site(store, account_id, f"site {index}")
    late = list[int]()
    await asyncio.wait_for(_collect(feed, account_id, 1, late, until=8), PATIENCE_S)
    assert late == [2, 3, 4, 5, 6, 7, 8]
    reading.cancel()


@pytest.fixture(params=["file", "postgres"])
async def shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database that several processes can open."""
    if request.param == "file":
        yield migrated_file(tmp_path / "wardgate.db")
    else:
        async with postgres_database() as url:
            yield PostgresServer(url)


@pytest.fixture
async def stores(shared: Database, environment: Environment) -> AsyncIterator[list[Store]]:
    """Four stores over one database, as four processes have."""
    opened = [await Store.open(shared, environment) for _ in range(4)]
    yield opened
    for store in opened:
        await store.close()


async def test_commits_of_another_process_are_noticed(stores: list[Store], environment: Environment) -> None:
    ours, theirs, *_ = stores
    account_id = await make_account(ours, "acme")
    feed = Feed(ours, environment)
    polling = asyncio.create_task(feed.run())
    seen: list[int] = []
    reader = asyncio.create_task(_collect(feed, account_id, 1, seen, until=2))
    await asyncio.sleep(0)
    await _add_site(theirs, account_id, "theirs")
    await asyncio.wait_for(reader, PATIENCE_S)
    assert seen == [2]
    polling.cancel()


async def test_commits_of_another_process_between_our_own_are_not_left_out(
    stores: list[Store], environment: Environment
) -> None:
    ours, theirs, *_ = stores
    account_id = await make_account(ours, "acme")
    feed = Feed(ours, environment)
    seen: list[int] = []
    reader = asyncio.create_task(_collect(feed, account_id, 0, seen, until=10))
    writers = (ours, ours, theirs, ours, theirs, theirs, ours, theirs, ours)
    for number, writer in enumerate(writers):
        await _add_site(writer, account_id, f"site {number}")
        await asyncio.sleep(0)
    await asyncio.wait_for(reader, PATIENCE_S)
    assert seen == list(range(1, 11))


async def test_commits_of_another_process_are_noticed_behind_our_own(
    stores: list[Store], environment: Environment
) -> None:
    ours, theirs, *_ = stores
    account_id = await make_account(ours, "acme")
    feed, seen, has_own = Feed(ours, environment), list[Change](), asyncio.Event()

    async def took_one() -> None:
        has_own.set()

    reader = asyncio.create_task(_take(feed, account_id, 1, seen, until=3, between=took_one))
    await asyncio.sleep(0)
    await _add_site(ours, account_id, "ours")
    await asyncio.wait_for(has_own.wait(), PATIENCE_S)
    polling = asyncio.create_task(feed.run())
    await _add_site(theirs, account_id, "theirs")
    await asyncio.wait_for(reader, PATIENCE_S)
    assert [change.sequence for change in seen] == [2, 3]
    polling.cancel()


async def test_a_poll_tells_who_has_moved(stores: list[Store]) -> None:
    ours, theirs, *_ = stores
    account_id = await make_account(ours, "acme")
    await ours.accounts_changed_elsewhere([account_id])
    assert await ours.accounts_changed_elsewhere([account_id]) == frozenset()
    await _add_site(theirs, account_id, "theirs")
    assert await ours.accounts_changed_elsewhere([account_id]) == {account_id}
    assert await ours.accounts_changed_elsewhere([account_id]) == frozenset()


async def test_readers_see_32_writers_in_order_without_gaps_even_when_killed(
    stores: list[Store], environment: Environment
) -> None:
    accounts = [await make_account(stores[0], slug) for slug in ("first", "other")]
    rng = random.Random(32)
    feed = Feed(stores[0], environment)
    polling = asyncio.create_task(feed.run())
    readers = [
        asyncio.create_task(_read_and_die(feed, account_id, until=1 + 32 * 2 * 2, rng=random.Random(1)))
        for account_id in accounts
    ]

    async def write(number: int) -> None:
        for turn in range(2):
            # Every writer begins before the first commits, and goes through the accounts in an order of its own.
            async with stores[number % 4].writing({"writer": number}) as transaction:
                await asyncio.sleep(rng.random() / 100)
                first, second = accounts if rng.random() < 0.5 else accounts[::-1]
                if rng.random() < 0.5:
                    await transaction.hold(*accounts)
                site = Site(id=transaction.new_id(), account_id=first, name=f"{number} {turn}")
                await transaction.of(first).sites.insert(site)
                await asyncio.sleep(rng.random() / 100)
                await transaction.of(first).sites.save(replace(site, health_threshold=2))
            async with stores[number % 4].writing({"writer": number}) as transaction:
                site = Site(id=transaction.new_id(), account_id=second, name=f"{number} {turn}")
                await transaction.of(second).sites.insert(site)
                await transaction.of(second).sites.save(replace(site, health_threshold=2))

    await asyncio.gather(*(write(number) for number in range(32)))
    for reader, account_id in zip(readers, accounts, strict=True):
        seen = await asyncio.wait_for(reader, PATIENCE_S)
        numbers = [change.sequence for change in seen]
        fresh = [number for index, number in enumerate(numbers) if number > max(numbers[:index], default=0)]
        assert fresh == list(range(1, 1 + 1 + 32 * 2 * 2)), account_id
        assert len(numbers) > len(fresh), "the reader was never killed between reading and remembering"
    polling.cancel()


WRITER = """
import asyncio, sys
from uuid import UUID
from wardgate.portal.environment import Environment
from wardgate.portal.store import Store, parse_database_url
from wardgate.portal.sites.tables import Site

async def write():
    store = await Store.open(parse_database_url(sys.argv[1]), Environment.of_this_process())
    account_id, number = UUID(sys.argv[2]), 0
    while True:
        async with store.writing() as tx:
            site = Site(id=tx.new_id(), account_id=account_id, name=f"{sys.argv[3]} {number}")
            await tx.of(account_id).sites.insert(site)
        print(number := number + 1, flush=True)

asyncio.run(write())
"""


@pytest.mark.timeout(180)  # two more interpreters start first, on a machine that may be busy
async def test_a_reader_follows_other_processes_also_when_one_is_killed_in_the_middle(
    shared: Database, stores: list[Store], environment: Environment
) -> None:
    account_id = await make_account(stores[0], "acme")
    url = shared.url if isinstance(shared, PostgresServer) else f"sqlite:///{shared.path}"
    feed, seen = Feed(stores[0], environment), list[Change]()
    polling = asyncio.create_task(feed.run())
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, url, str(account_id), name, stdout=asyncio.subprocess.PIPE
        )
        for name in ("first", "second")
    ]
    acknowledged = []
    async with asyncio.timeout(150):
        for name, writer in zip(("first", "second"), writers, strict=True):
            async for changes in feed.follow(account_id, seen[-1].sequence if seen else 0):
                seen += changes
                if _sites_of(name, seen) >= 10:
                    break
            writer.kill()
            output, _ = await writer.communicate()
            acknowledged.append(len(output.splitlines()))
        last = await feed.position(account_id)
        while seen[-1].sequence < last:
            async for changes in feed.follow(account_id, seen[-1].sequence):
                seen += changes
                break
    polling.cancel()
    assert [change.sequence for change in seen] == list(range(1, last + 1))
    # The last one may have been committed without its writer having lived to say so.
    for name, count in zip(("first", "second"), acknowledged, strict=True):
        assert _sites_of(name, seen) - count in (0, 1)


async def test_64_writers_never_see_a_busy_database(stores: list[Store]) -> None:
    account_id = await make_account(stores[0], "acme")
    await asyncio.gather(*(_add_site(stores[index % 4], account_id, f"site {index}") for index in range(64)))
    assert (await stores[0].sequences())[account_id] == 65


async def test_an_outage_ends_no_reader(
    store: Store, environment: Environment, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RETRY_S", 0.01)
    failures = iter([ConnectionRefusedError("server is away"), OSError("still")])
    true_reading = store.reading

    def reading() -> Any:
        error = next(failures, None)
        if error is not None:
            raise error
        return true_reading()

    monkeypatch.setattr(store, "reading", reading)
    seen: list[int] = []
    await asyncio.wait_for(_collect(Feed(store, environment), account_id, 0, seen, until=1), PATIENCE_S)
    assert seen == [1]


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_batches_leave_nothing_out_and_repeat_nothing(
    store: Store, environment: Environment, account_id: UUID, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(feed_module, "_BATCH", size)
    for index in range(6):
        await _add_site(store, account_id, f"site {index}")
    seen: list[int] = []
    await asyncio.wait_for(_collect(Feed(store, environment), account_id, 0, seen, until=7), PATIENCE_S)
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_what_is_kept_is_handed_out_a_few_at_a_time(
    store: Store, environment: Environment, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_TAKEN", 2)
    feed = Feed(store, environment)
    async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(feed.follow(account_id, 0)) as batches:
        assert len(await anext(batches)) == 1  # the account
        async with store.writing() as transaction:
            await transaction.of(account_id).sites.insert_all(
                [
                    Site(id=transaction.new_id(), account_id=account_id, name=f"site {number}")
                    for number in range(5)
                ]
            )
        taken = [await anext(batches) for _ in range(3)]
        assert [[one.sequence for one in some] for some in taken] == [[2, 3], [4, 5], [6]]
        positions = (some[-1].sequence for some in taken)
        assert [feed.has_more(account_id, at) for at in positions] == [True, True, False]


async def test_a_commit_between_a_look_and_the_sleep_after_it_is_not_slept_over(
    store: Store, environment: Environment, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(store, environment)
    look, looks = feed.changes_after, 0

    async def look_and_be_overtaken(account_id: UUID, after: int) -> list[Change]:
        nonlocal looks
        looks += 1
        found = await look(account_id, after)
        if looks == 1:
            await _add_site(store, account_id, "overtaking")
        return found

    monkeypatch.setattr(feed, "changes_after", look_and_be_overtaken)
    seen: list[int] = []
    await asyncio.wait_for(_collect(feed, account_id, 1, seen, until=2), PATIENCE_S)
    assert seen == [2]


async def test_a_commit_whose_writer_is_cancelled_while_the_disk_is_synced_wakes_readers(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), environment)
    account_id = await make_account(store, "acme")
    feed, seen = Feed(store, environment), list[int]()
    reader = asyncio.create_task(_collect(feed, account_id, 1, seen, until=2))
    writing, syncing = store._database.writing, asyncio.Event()

    @contextlib.asynccontextmanager
    async def writing_slowly(**options: Any) -> AsyncIterator[Any]:
        async with writing(**options) as connection:
            yield connection
        syncing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store._database, "writing", writing_slowly)
    writer = asyncio.create_task(_add_site(store, account_id, "theirs"))
    await asyncio.wait_for(syncing.wait(), PATIENCE_S)
    writer.cancel()
    await asyncio.wait_for(reader, PATIENCE_S)
    assert seen == [2]
    await store.close()


@pytest.mark.parametrize(
    "told", [[1, 2, 2], [1, 3], [2, 1], [2], [1, 2, 4]], ids=["twice", "gap", "order", "first", "last"]
)
async def test_a_reader_that_is_told_nonsense_stops(
    store: Store,
    environment: Environment,
    account_id: UUID,
    monkeypatch: pytest.MonkeyPatch,
    told: list[int],
) -> None:
    async with store.reading() as transaction:
        (change,) = await transaction.changes_after(account_id, 0, 10)
    feed = Feed(store, environment)
    changes = [replace(change, sequence=number) for number in told]

    async def tell(_account_id: UUID, _after: int) -> list[Change]:
        return changes

    monkeypatch.setattr(feed, "changes_after", tell)
    with pytest.raises(FeedBroken):
        await asyncio.wait_for(_collect(feed, account_id, 0, [], until=9), PATIENCE_S)


async def test_the_deletion_of_an_account_is_all_that_is_left_of_its_feed(
    store: Store, environment: Environment, account_id: UUID
) -> None:
    await _add_site(store, account_id, "one")
    async with store.writing() as transaction:
        await transaction.accounts.delete(account_id)
        while await transaction.accounts.delete_remains(account_id):
            pass
    seen: list[int] = []
    await asyncio.wait_for(_collect(Feed(store, environment), account_id, 0, seen, until=3), PATIENCE_S)
    assert seen == [3]


async def test_a_reader_behind_what_goes_with_its_account_is_told_of_the_deletion(
    store: Store, environment: Environment, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next changes are gone, some that follow them are not yet, and there are too many for one batch."""
    monkeypatch.setattr(account_repositories, "DELETED_WITH_ACCOUNT_AT_ONCE", 2)
    monkeypatch.setattr(feed_module, "_BATCH", 2)
    for index in range(5):
        await _add_site(store, account_id, f"site {index}")
    async with store.writing() as transaction:
        await transaction.accounts.delete(account_id)
    for _ in range(4):  # the sites, and the first changes
        async with store.writing() as transaction:
            assert await transaction.accounts.delete_remains(account_id)
    async with store.reading() as transaction:
        left = [change.sequence for change in await transaction.changes(account_id, limit=9)]
    assert left == [3, 4, 5, 6, 7]
    seen: list[int] = []
    await asyncio.wait_for(_collect(Feed(store, environment), account_id, 1, seen, until=7), PATIENCE_S)
    assert seen == [7]
    seen = []
    await asyncio.wait_for(_collect(Feed(store, environment), account_id, 2, seen, until=7), PATIENCE_S)
    assert seen == [3, 4, 5, 6, 7]


def _sites_of(writer: str, changes: list[Change]) -> int:
    return sum(
        change.after is not None and str(change.after["name"]).startswith(f"{writer} ") for change in changes
    )


async def _read_and_die(feed: Feed, account_id: UUID, until: int, rng: random.Random) -> list[Change]:
    """Follow as a program does that is killed now and then before it has remembered how far it came."""
    seen: list[Change] = []
    remembered = 0
    while remembered < until:
        async for changes in feed.follow(account_id, remembered):
            seen.extend(changes)
            if rng.random() < 0.3:
                break
            remembered = changes[-1].sequence
            if remembered >= until:
                break
    return seen


async def _collect(feed: Feed, account_id: UUID, after: int, seen: list[int], until: int) -> None:
    async for changes in feed.follow(account_id, after):
        seen.extend(change.sequence for change in changes)
        if seen[-1] >= until:
            return


async def _take(
    feed: Feed,
    account_id: UUID,
    after: int,
    seen: list[Change],
    until: int,
    between: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Follow until a sequence; with `between`, wait for that after each other batch."""
    async for changes in feed.follow(account_id, after):
        seen.extend(changes)
        if seen[-1].sequence >= until:
            return
        if between is not None:
            await between()


async def _add_site(store: Store, account_id: UUID, name: str) -> None:
    async with store.writing() as transaction:
        site = Site(id=transaction.new_id(), account_id=account_id, name=name)
        await transaction.of(account_id).sites.insert(site)
        await asyncio.sleep(0)
        await transaction.of(account_id).sites.save(replace(site))
