"""A second process of a portal that follows one account: prints when each batch of changes has reached its snapshot.

    python -m benches.portal_follower DATABASE_URL ACCOUNT_ID

Prints `ready`, then seconds of the machine's monotonic clock, a line a batch, until its standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from uuid import UUID

from wardgate.portal.database.location import parse_database_url
from wardgate.portal.database.row_changes import RowChange
from wardgate.portal.environment import Environment
from wardgate.portal.snapshot.accounts import Accounts
from wardgate.portal.store import Feed, Store


class Printer:
    """Listens to a view as a connection does."""

    def handle_changes(self, _changes: Sequence[RowChange]) -> None:
        print(time.monotonic(), flush=True)

    def handle_view_lost(self) -> None:
        sys.exit("the view is lost")


async def follow(url: str, account_id: UUID) -> None:
    environment = Environment.of_this_process()
    store = await Store.open(parse_database_url(url), environment)
    feed = Feed(store, environment)
    polling = asyncio.create_task(feed.run())
    accounts = Accounts(store, feed, environment)
    async with accounts.using(account_id) as view:
        view.attach(Printer())
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    polling.cancel()
    await accounts.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(follow(sys.argv[1], UUID(sys.argv[2])))
