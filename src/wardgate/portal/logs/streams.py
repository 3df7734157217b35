"""The log streams of one account (portal-domain §10): append, and read newest first by keyset.

A log entry is named by 24 hexadecimal digits whose first identifies the stream; entries outlive what they describe.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, RowMapping, Text, cast, insert, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from wardgate.portal.database.log_reading import Log, LogReader, Reading, Window
from wardgate.portal.database.transaction import LAST_SEQUENCE, BaseTransaction, change_id, microseconds_of
from wardgate.portal.logs.tables import (
    API_REQUEST_LOGS,
    DECISIONS,
    FLOW_KEY,
    FLOW_LOGS,
    IDEMPOTENCY_KEYS,
    SESSION_LOGS,
    ApiRequest,
    FlowLog,
    KeptAnswer,
    SessionLog,
)
from wardgate.portal.schema.change_feed import CHANGES, Change
from wardgate.portal.store import Transaction

LogEntry = Change | SessionLog | FlowLog | ApiRequest


class Stream(Enum):
    """A log stream; the value is its name in the API."""

    CHANGE = "change"
    SESSION = "session"
    FLOW = "flow"
    API_REQUEST = "api_request"


STREAM_OF_DIGIT: Final = {
    "c": Stream.CHANGE,
    "5": Stream.SESSION,
    "f": Stream.FLOW,
    "a": Stream.API_REQUEST,
}

_TIMES: Final = {
    Stream.CHANGE: CHANGES.c.committed_at,
    Stream.SESSION: SESSION_LOGS.c.timestamp,
    Stream.FLOW: FLOW_LOGS.c.flow_start,
    Stream.API_REQUEST: API_REQUEST_LOGS.c.inserted_at,
}
LOGS: Final = {
    # Their ids are in order themselves; internal changes are nobody's to read. As an equality that would tempt planners
    # to begin with the index by which old changes are found, whatever the slice.
    Stream.CHANGE: Log(CHANGES.table, (CHANGES.c.log_id,), conditions=(CHANGES.c.audience != "internal",)),
    **{
        stream: Log(_TIMES[stream].table, (_TIMES[stream], _TIMES[stream].table.c.log_id))
        for stream in (Stream.SESSION, Stream.FLOW, Stream.API_REQUEST)
    },
}
DECISION_LOG: Final = Log(DECISIONS.table, (DECISIONS.c.seq,))
_ROW_CLASSES: Final[dict[Stream, type[Any]]] = {
    Stream.CHANGE: Change,
    Stream.SESSION: SessionLog,
    Stream.FLOW: FlowLog,
    Stream.API_REQUEST: ApiRequest,
}
_SEARCHED: Final = {
    Stream.CHANGE: ("object", "operation", "before", "after", "subject"),
    Stream.SESSION: ("context", "subject"),
    Stream.FLOW: (
        "resource_name",
        "resource_address",
        "inner_domain",
        "inner_src_ip",
        "inner_dst_ip",
        "initiator_actor_name",
        "initiator_actor_email",
    ),
    Stream.API_REQUEST: ("method", "path", "request_id", "user_agent", "ip"),
}


class Logs:
    """The logs of one account inside one transaction."""

    def __init__(self, transaction: BaseTransaction, account_id: UUID) -> None:
        self._transaction = transaction
        self._account_id = account_id

    async def append_session(self, context: str, subject: dict[str, Any]) -> None:
        """Note that a client or gateway connected, or that somebody signed in to the portal."""
        await self.append_sessions([(context, subject)])

    async def append_sessions(self, sessions: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Note several, as `append_session` does with the context and subject of one."""
        if not sessions:
            return
        rows = [
            {
                "account_id": self._account_id,
                "log_id": self._new_id("5"),
                "context": context,
                "subject": subject,
                "timestamp": self._transaction.now,
            }
            for context, subject in sessions
        ]
        await self._transaction.insert_rows(SESSION_LOGS.table, rows)

    async def report_flows(self, rows: Sequence[FlowLog]) -> None:
        """Store reports of flows. A key that is known changes once, when an open flow is reported closed."""
        if not rows:
            return
        names = ("outers", "flow_end", "last_packet", "rx_packets", "tx_packets", "rx_bytes", "tx_bytes")
        dialect = self._transaction.dialect
        statement = (sqlite if dialect == "sqlite" else postgresql).insert(FLOW_LOGS.table)
        new = statement.excluded
        await self._transaction.execute(
            statement.on_conflict_do_update(
                index_elements=list(FLOW_KEY),
                set_={name: new[name] for name in names},
                where=FLOW_LOGS.c.flow_end.is_(None) & new.flow_end.is_not(None),
            ),
            [asdict(row) for row in rows],
        )

    def new_flow_id(self) -> str:
        return self._new_id("f")

    async def load(self, stream: Stream, *conditions: ColumnElement[bool], limit: int) -> list[LogEntry]:
        """Return the newest entries that meet all conditions; for what is known to be found soon."""
        log = LOGS[stream]
        result = await self._transaction.execute(
            select(log.table)
            .where(log.table.c.account_id == self._account_id, *log.conditions, *conditions)
            .order_by(*(column.desc() for column in log.key))
            .limit(limit)
        )
        return [entry(stream, row) for row in result.mappings()]

    def _new_id(self, digit: str) -> str:
        return f"{digit}{int.from_bytes(self._transaction.random_bytes(12), 'big') >> 4:023x}"


class KeptAnswers:
    """Answers kept for the repetition of a POST, those of one caller."""

    def __init__(self, transaction: Transaction, account_id: UUID, token_id: UUID) -> None:
        self._transaction = transaction
        self._account_id = account_id
        self._token_id = token_id

    async def find(self, key_hash: str, *, not_before: datetime) -> KeptAnswer | None:
        await self._transaction.hold(self._account_id)
        c = IDEMPOTENCY_KEYS.c
        result = await self._transaction.execute(
            select(IDEMPOTENCY_KEYS.table).where(
                c.account_id == self._account_id, c.token_id == self._token_id, c.key_hash == key_hash
            )
        )
        row = result.mappings().first()
        if row is None or row["inserted_at"] < not_before:
            return None
        return KeptAnswer(**row)

    async def keep(self, key_hash: str, request_hash: str, answer: bytes) -> None:
        """Keep an answer, in place of an older one whose time is over.

        Raises:
            Conflict: another transaction kept one for the same key at the same time.
        """
        c = IDEMPOTENCY_KEYS.c
        await self._transaction.execute(
            IDEMPOTENCY_KEYS.table.delete().where(
                c.account_id == self._account_id, c.token_id == self._token_id, c.key_hash == key_hash
            )
        )
        row = KeptAnswer(
            account_id=self._account_id,
            token_id=self._token_id,
            key_hash=key_hash,
            request_hash=request_hash,
            answer=answer,
            inserted_at=self._transaction.now,
        )
        await self._transaction.execute(insert(IDEMPOTENCY_KEYS.table), asdict(row))


async def find(reading: Reading, account_id: UUID, stream: Stream, log_id: str) -> LogEntry | None:
    """Return one entry of an account."""
    log = LOGS[stream]
    is_it = log.table.c.log_id == log_id.lower()
    if stream is Stream.API_REQUEST:
        # The most numerous ones have no index of their ids: each call would pay for it.
        rows = await LogReader(reading, log, account_id, is_it).load(limit=1)
        return entry(stream, rows[0]) if rows else None
    async with reading() as transaction:
        found = await Logs(transaction, account_id).load(stream, is_it, limit=1)
    return found[0] if found else None


def entry(stream: Stream, row: RowMapping) -> LogEntry:
    """Make an entry of a row."""
    made: LogEntry = _ROW_CLASSES[stream](**row)
    return made


def time_of(stream: Stream, entry: LogEntry) -> datetime:
    """Return the time that places an entry in its stream."""
    instant: datetime = getattr(entry, _TIMES[stream].name)
    return instant


def within(stream: Stream, begin: datetime, end: datetime) -> Window:
    """Return the part of a stream between two instants, both included; a flow is in it when it overlaps them."""
    match stream:
        case Stream.CHANGE:
            # Their ids have the time as a float had it.
            newest = change_id(microseconds_of(end) + _ROUNDING_US, LAST_SEQUENCE)
            oldest = change_id(microseconds_of(begin) - _ROUNDING_US, 0)
            return Window((newest,), (oldest,), (_TIMES[stream].between(begin, end),))
        case Stream.FLOW:
            c = FLOW_LOGS.c
            overlaps = or_(c.flow_end.is_(None), c.flow_end > begin, c.flow_start == begin)
            return Window((end, _BEHIND), None, (overlaps,))
        case _:
            return Window((end, _BEHIND), (begin, ""))


def by_actor(stream: Stream, actor_id: UUID) -> ColumnElement[bool]:
    """Match entries whose actor, as recorded in them, is this one."""
    c = LOGS[stream].table.c
    match stream:
        case Stream.FLOW:
            return c.initiator_actor_id == actor_id
        case Stream.API_REQUEST:
            return c.actor_id == actor_id
        case _:
            return _in_subject(stream, "actor_id", str(actor_id))


def by_email(stream: Stream, email: str) -> ColumnElement[bool]:
    """Match entries whose actor had this address; calls of the API have none."""
    c = LOGS[stream].table.c
    if stream is Stream.FLOW:
        return c.initiator_actor_email == email
    return _in_subject(stream, "actor_email", email)


def containing(stream: Stream, words: str) -> ColumnElement[bool]:
    """Match entries that have this text somewhere, whatever its case."""
    c = LOGS[stream].table.c
    return or_(*(cast(c[name], Text).icontains(words, autoescape=True) for name in _SEARCHED[stream]))


def _in_subject(stream: Stream, name: str, value: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = LOGS[stream].table.c.subject[name].as_string() == value
    return found


_BEHIND: Final = "g"
"""Behind every hexadecimal digit in every collation."""

_ROUNDING_US: Final = 2
