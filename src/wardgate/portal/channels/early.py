"""What happens to a peer while its session is still being made: kept, in order, and told to the session.

What a session begins with is read from the database; what changes after that reaches it from the account's view and
from the journal. Nothing may fall between the two, so whoever makes a session listens before it reads:

    listen to the view ─► read token and device ─► follow the journal ─► read grants ─► session ─► replay

Where the view was not loaded yet, or the journal stored a grant in between, it listens and reads once more.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

from wardgate.portal.bus.messages import GrantQueued, WithdrawGrant
from wardgate.portal.channels.journal import Journal
from wardgate.portal.channels.session import Session
from wardgate.portal.database.row_changes import RowChange
from wardgate.portal.snapshot.accounts import AccountView


class Early:
    """Listens for one peer from its making until `end`; `view` is the account's, None if it is not loaded yet."""

    def __init__(self, journal: Journal, view: AccountView | None) -> None:
        self._journal = journal
        self._view = view
        self._news: list[tuple[RowChange, ...] | GrantQueued | WithdrawGrant] = []
        self._unfollow: Callable[[], None] | None = None
        self._grants_before = journal.grants_written
        self._has_missed_grants = False
        if view is not None:
            view.attach(self)

    def handle_look_up(self) -> None:
        """The database is about to be looked at: what was stored until now is there."""
        self._grants_before = self._journal.grants_written

    def follow(self, device_id: UUID) -> None:
        """Listen to grants to this device that are not stored yet; call before its grants are read."""
        self._unfollow = self._journal.follow(device_id, self.handle_message)
        # One that was stored since the database was first looked at is in neither.
        self._has_missed_grants = self._journal.grants_written != self._grants_before

    def has_heard_all(self, view: AccountView) -> bool:
        """Tell whether it has listened to this view all the time, and to the journal."""
        return self._view is view and self._unfollow is not None and not self._has_missed_grants

    def replay(self, session: Session) -> None:
        for news in self._news:
            if isinstance(news, tuple):
                session.handle_changes(news)
            else:
                session.handle_message(news)

    def end(self) -> None:
        """Listen no more; what was heard stays."""
        if self._view is not None:
            self._view.detach(self)
        if self._unfollow is not None:
            self._unfollow()
        self._view = self._unfollow = None

    def handle_changes(self, changes: Sequence[RowChange]) -> None:
        self._news.append(tuple(changes))

    def handle_message(self, message: GrantQueued | WithdrawGrant) -> None:
        self._news.append(message)

    def handle_view_lost(self) -> None:
        """The session is notified itself once it is attached."""
