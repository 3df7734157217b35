"""A change feed that tells late. Between a commit and its delivery some time passes: a few milliseconds on PostgreSQL,
nearly none on SQLite. A test that takes one for the other passes on a quick machine only.
"""

import asyncio
from uuid import UUID

import pytest

from wardgate.portal.database.feed import Feed
from wardgate.portal.schema.change_feed import Change


def delay_feeds(lag_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `lag_s` pass on the loop's clock before a reader is handed what was committed."""
    changes_after = Feed.changes_after

    async def changes_after_a_while(feed: Feed, account_id: UUID, after: int) -> list[Change]:
        await asyncio.sleep(lag_s)
        return await changes_after(feed, account_id, after)

    monkeypatch.setattr(Feed, "changes_after", changes_after_a_while)
