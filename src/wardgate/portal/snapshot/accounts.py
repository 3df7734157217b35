"""The policy engine's frozen snapshot of each account in use, kept current from the change feed.

An `AccountView` is loaded when the first connection of its account appears, follows the feed, tells its
listeners of each batch of changes after its snapshot has taken them in, and is dropped when nobody has
listened for a while.

Gateways, which enforce, are told at once. Clients are told a few in a turn, so that neither the changes that follow
nor everybody else's requests wait for thousands of them; who has several batches to hear of hears of all together.

A view that cannot follow the feed is never used again: it is dropped, its listeners are told and end, and the
next connection loads afresh.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, Self
from uuid import UUID

from wardgate.policy.explanation import Backgrounds
from wardgate.policy.snapshot import Entity, Snapshot
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.database.row_changes import Deleted, Inserted, RowChange, Updated, row_change
from wardgate.portal.environment import Environment
from wardgate.portal.installation.tables import Account
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.snapshot.audience import Batch, Interest, is_unheard
from wardgate.portal.snapshot.client_views import ClientViews
from wardgate.portal.snapshot.entities import entity_of
from wardgate.portal.snapshot.gateway_views import GatewayViews
from wardgate.portal.snapshot.loading import load_snapshot
from wardgate.portal.store import Feed, Store
from wardgate.supervision import Tasks

GRANTS: Final = PolicyAuthorization.table
"""The table whose changes do not affect decisions."""

_IDLE_S: Final = 60.0

TOLD_A_TURN: Final = 25
"""Clients, some two milliseconds."""

TOLD_MEANWHILE: Final = 5
"""Clients, while there are changes that gateways have not heard of."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What connections need of the account itself; `ingest_signing_key` never changes and is empty for the
    installation.
    """

    id: UUID
    name: str = ""
    slug: str = ""
    config: AccountConfig = field(default_factory=AccountConfig)
    features: Mapping[str, Any] = field(default_factory=dict)
    ingest_signing_key: bytes = field(default=b"", repr=False)

    def after(self, account: Account) -> Self:
        """Return the facts after a change of the account. The key stays: the feed has no secrets."""
        return replace(
            self,
            name=account.name,
            slug=account.slug,
            config=AccountConfig.parse(account.config),
            features=account.features,
        )


class Listener(Protocol):
    """A connection that depends on an account's view."""

    def handle_changes(self, changes: Sequence[RowChange]) -> None:
        """Take in what has changed; the view already shows the state after it, or a later one. Must not block or
        raise.
        """

    def handle_view_lost(self) -> None:
        """The view is no longer kept current: end. Must not block or raise."""


class AccountView:
    """One account in memory: `snapshot`, `facts`, the feed position they stand at, and what all its
    connections share.

    Attributes:
        moved_at: the position of the last change of anything but grants: a decision made there or later would
            be the same now.
    """

    def __init__(self, facts: AccountFacts, snapshot: Snapshot, sequence: int) -> None:
        self.facts = facts
        self.snapshot = snapshot
        self.sequence = self.moved_at = sequence
        self.client_views = ClientViews()
        self.gateway_views = GatewayViews()
        self.backgrounds = Backgrounds()
        self.users = 0
        self._is_lost = False
        self._row: Account | None = None
        self._listeners: dict[int, Listener] = {}
        self._hearing_all: dict[int, Listener] = {}
        self._interests: dict[int, Interest] = {}
        self._interested: dict[int, dict[int, Interest]] = {}  # by the numbers of an interest
        # What has to be told to whom, whoever has waited longest first; each batch with the snapshot after it.
        self._untold: dict[int, list[tuple[Batch, Snapshot]]] = {}

    def attach(self, listener: Listener, interest: Interest | None = None) -> None:
        """Tell a listener of changes until it is detached: those of its interest, or all if it has none."""
        self._listeners[id(listener)] = listener
        if interest is None:
            self._hearing_all[id(listener)] = listener
        else:
            self._interests[id(listener)] = interest
            for number in interest.numbers:
                self._interested.setdefault(number, {})[id(listener)] = interest
        if self._is_lost:
            listener.handle_view_lost()

    def shared(self, row: Account) -> Account:
        """Return the account's row as another connection has it already, if it is the same."""
        if self._row is None or self._row != row:
            self._row = row
        return self._row

    def detach(self, listener: Listener) -> None:
        self._listeners.pop(id(listener), None)
        self._hearing_all.pop(id(listener), None)
        self._untold.pop(id(listener), None)
        interest = self._interests.pop(id(listener), None)
        for number in () if interest is None else interest.numbers:
            those = self._interested[number]
            del those[id(listener)]
            if not those:
                del self._interested[number]

    def apply(self, changes: list[Change]) -> None:
        """Apply a batch of the feed, and tell whoever is told at once. Changes up to the position are repeats."""
        fresh = [change for change in changes if change.sequence > self.sequence]
        if not fresh:
            return
        self.sequence = fresh[-1].sequence
        rows = [row_change(change) for change in fresh if self._hearing_all or not is_unheard(change)]
        if not rows:
            return
        self.snapshot = evolve(self.snapshot, rows)
        for change in rows:
            if not isinstance(change.rows[0], PolicyAuthorization):
                self.moved_at = change.sequence
            match change:
                case Inserted(Account() as account) | Updated(_, Account() as account):
                    self.facts = self.facts.after(account)
                case _:
                    pass
        self._spread(rows)
        if len(self._untold) <= TOLD_A_TURN:
            self.tell_some(TOLD_A_TURN)

    def tell_some(self, most: int) -> None:
        """Tell the next clients what they have to hear of."""
        for key in tuple(itertools.islice(self._untold, most)):
            waiting, interest = self._untold.pop(key, None), self._interests.get(key)
            if waiting is None or interest is None:
                continue  # ended by what another one was told
            heard = [change for batch, snapshot in waiting for change in batch.part_for(interest, snapshot)]
            if heard:
                self._listeners[key].handle_changes(heard)

    @property
    def has_untold(self) -> bool:
        """Whether clients wait to be told."""
        return bool(self._untold)

    def _spread(self, rows: Sequence[RowChange]) -> None:
        """Tell a batch to gateways and to those who hear of everything, and note it for clients."""
        batch, interests = Batch(rows), self._interests
        if batch.is_for_few:
            interests = {}
            for number in batch.numbers:
                interests |= self._interested.get(number, {})
        for key, interest in tuple(interests.items()):
            if interest.actor_id is not None:
                self._untold.setdefault(key, []).append((batch, self.snapshot))
            elif key in self._listeners and (heard := batch.part_for(interest, self.snapshot)):
                self._listeners[key].handle_changes(heard)
        for key, listener in tuple(self._hearing_all.items()):
            if key in self._hearing_all:
                listener.handle_changes(rows)

    def lose(self) -> None:
        """The feed cannot be followed any more: end all listeners, present and future."""
        self._is_lost = True
        self._untold.clear()
        for listener in tuple(self._listeners.values()):
            listener.handle_view_lost()


class Accounts:
    """The views in use. `using` holds one open; closing stops all followers.

    Attributes:
        on_loss: called for each view that could not follow the feed, for a counter.
    """

    def __init__(self, store: Store, feed: Feed, environment: Environment) -> None:
        self._store = store
        self._feed = feed
        self._environment = environment
        self._views: dict[UUID, AccountView] = {}
        self._followers: dict[UUID, asyncio.Task[object]] = {}
        self._following = Tasks()
        self.on_loss: Callable[[], None] = _not_counted
        self._loading: dict[UUID, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def using(self, account_id: UUID) -> AsyncIterator[AccountView]:
        """Keep an account's view alive and current for the length of the block."""
        view = self._views.get(account_id)
        if view is None:
            view = await self._load_once(account_id)
        view.users += 1
        try:
            yield view
        finally:
            view.users -= 1

    async def _load_once(self, account_id: UUID) -> AccountView:
        """Return an account's view, which whoever comes first loads."""
        async with self._loading.setdefault(account_id, asyncio.Lock()):
            view = self._views.get(account_id)
            if view is None:
                view = await self._load(account_id)
                self._views[account_id] = view
                self._followers[account_id] = self._following.start(
                    self._follow(account_id, view), name=f"follow {account_id}"
                )
            return view

    def loaded(self, account_id: UUID) -> AccountView | None:
        """Return an account's view if it is there already; nothing keeps it, so it may be another one at `using`."""
        return self._views.get(account_id)

    async def close(self) -> None:
        await self._following.close()
        self._followers.clear()
        self._views.clear()

    async def run(self) -> None:
        """Drop views that nobody uses; returns never."""
        idle: set[UUID] = set()
        while True:
            await self._environment.clock.sleep(_IDLE_S)
            unused = {account_id for account_id, view in self._views.items() if view.users == 0}
            for account_id in unused & idle:
                follower = self._followers.pop(account_id)
                del self._views[account_id]
                follower.cancel()
            idle = unused

    async def _follow(self, account_id: UUID, view: AccountView) -> None:
        try:
            async with contextlib.aclosing(self._feed.follow(account_id, view.sequence)) as batches:
                async for changes in batches:
                    was_telling = view.has_untold
                    view.apply(changes)
                    if view.has_untold and not was_telling:
                        self._following.start(self._tell(account_id, view), name=f"tell {account_id}")
            log.error("the change feed of an account ended", extra={"account_id": str(account_id)})
        except Exception:
            # Deciding by what was true once would let pass what was revoked since.
            log.exception("an account cannot follow its feed", extra={"account_id": str(account_id)})
        self._lose(account_id, view)

    async def _tell(self, account_id: UUID, view: AccountView) -> None:
        """Tell clients a few in a turn, until all have been told."""
        try:
            while view.has_untold:
                await self._environment.clock.sleep(0)
                is_behind = self._feed.has_more(account_id, view.sequence)
                view.tell_some(TOLD_MEANWHILE if is_behind else TOLD_A_TURN)
        except Exception:
            log.exception("connections were not told of changes", extra={"account_id": str(account_id)})
            self._lose(account_id, view)

    def _lose(self, account_id: UUID, view: AccountView) -> None:
        if self._views.get(account_id) is view:
            del self._views[account_id]
            follower = self._followers.pop(account_id)
            if follower is not asyncio.current_task():
                follower.cancel()
        self.on_loss()
        view.lose()

    async def _load(self, account_id: UUID) -> AccountView:
        # One transaction sees one moment: the tables as they were at this position of the feed.
        async with self._store.reading() as transaction:
            sequence = await transaction.sequence(account_id)
            account = await transaction.accounts.load(account_id)
            is_disabled = account is None or account.is_disabled
            snapshot = await load_snapshot(transaction.of(account_id), is_disabled=is_disabled)
        facts = AccountFacts(account_id)
        if account is not None:
            facts = replace(facts.after(account), ingest_signing_key=account.ingest_signing_key)
        return AccountView(facts, snapshot, sequence)


def _not_counted() -> None:
    """The default: nothing is counted."""


def evolve(snapshot: Snapshot, changes: Sequence[RowChange]) -> Snapshot:
    """Return the snapshot after a batch of changes, in their order."""
    puts: dict[tuple[type, UUID], Entity] = {}
    drops: dict[tuple[type, UUID], Entity] = {}
    is_disabled: bool | None = None
    for change in changes:
        match change:
            case Deleted(Account()):
                is_disabled = True
            case Inserted(Account() as account) | Updated(_, Account() as account):
                is_disabled = account.is_disabled
            case Inserted(row) | Updated(_, row) if (entity := entity_of(row)) is not None:
                puts[type(row), row.id] = entity
            case Updated(row) | Deleted(row):
                puts.pop((type(row), row.id), None)
                if (before := entity_of(row)) is not None:
                    drops[type(row), row.id] = before
            case Inserted():
                """The policy engine needs nothing of it."""
    return snapshot.evolve(puts=puts.values(), drops=drops.values(), is_disabled=is_disabled)
