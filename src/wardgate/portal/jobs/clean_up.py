"""Periodic clean-up (portal-domain §17): rows whose time is over. Each repetition finds less to do."""

import itertools
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, ColumnElement, func, select

from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS
from wardgate.portal.credentials import ROTATION_GRACE
from wardgate.portal.installation.tables import JOBS
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.jobs.runner import JobKind
from wardgate.portal.logs.tables import API_REQUEST_LOGS, DECISIONS, FLOW_LOGS, IDEMPOTENCY_KEYS, SESSION_LOGS
from wardgate.portal.schema.change_feed import CHANGES
from wardgate.portal.schema.declaration import Recording
from wardgate.portal.services import Services
from wardgate.portal.sign_in.tables import (
    API_TOKENS,
    CLIENT_TOKENS,
    ONE_TIME_PASSCODES,
    PORTAL_SESSIONS,
    SECOND_FACTOR_ATTEMPTS,
    SECOND_FACTOR_TRIES,
    SIGN_IN_LINKS,
)
from wardgate.portal.sites.tables import GATEWAY_TOKENS
from wardgate.portal.store import Transaction
from wardgate.portal.tables import TABLES

LOG_RETENTION: Final = timedelta(days=90)
FEED_RETENTION: Final = timedelta(days=1)
"""How long changes are kept that only readers of the feed read, of which each grant makes two. Nobody lags so far; who
did all the same would notice that changes are missing, and begin anew.
"""
FLOW_RETENTION: Final = timedelta(days=121)
ANSWER_RETENTION: Final = timedelta(hours=24)
JOB_RETENTION: Final = timedelta(days=7)
AUTHORIZATION_SLACK: Final = timedelta(seconds=30)
"""Rows are deleted a little after their end, when every receiver has expired them by itself."""
SETTLED_AFTER: Final = timedelta(minutes=1)
"""How old a grant is when nobody doubts any more that it was acknowledged."""
SUPERSEDED_AT_ONCE: Final = 10_000
ROWS_AT_ONCE: Final = 50
OWNERS_AT_ONCE: Final = 5
"""Rows that one transaction deletes, each with a change for the feed, without and with others that they take along:
some ten milliseconds of the event loop."""


async def clean_authorizations(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete expired grants; returns how many."""
    before = services.environment.clock.now() - AUTHORIZATION_SLACK
    ended = POLICY_AUTHORIZATIONS.c.expires_at < before
    return await _delete_rows(services, POLICY_AUTHORIZATIONS.name, ended)


async def clean_superseded_grants(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete grants that a later one of the same ends, resource and ground outlasts; returns how many.

    A client asks anew whenever its connection to a gateway is new, each time for as long as its token lasts; only the
    latest counts (protocol §3.6.9), and whoever connects reads them all.
    """
    deleted = 0
    while some := await _superseded(services):
        for account_id, ids in itertools.groupby(some, key=itemgetter(0)):
            left = [id_ for _account_id, id_ in ids]
            for first in range(0, len(left), ROWS_AT_ONCE):
                async with services.store.writing() as transaction:
                    grants = transaction.of(account_id).authorizations
                    deleted += await grants.delete_where(grants.c.id.in_(left[first : first + ROWS_AT_ONCE]))
                await services.environment.clock.sleep(0)
    return deleted


async def _superseded(services: Services) -> list[tuple[UUID, UUID]]:
    """Return accounts and ids of some superseded grants, by account."""
    c, now = POLICY_AUTHORIZATIONS.c, services.environment.clock.now()
    ground = (c.policy_id, c.membership_id, c.token_id)
    alike = (c.account_id, c.initiating_device_id, c.receiving_device_id, c.resource_id, *ground)
    newest_first = (c.inserted_at.desc(), c.id.desc())
    ends_at = func.first_value(c.expires_at, type_=c.expires_at.type)
    ranked = (
        select(
            c.account_id,
            c.id,
            c.expires_at,
            func.row_number().over(partition_by=alike, order_by=newest_first).label("place"),
            ends_at.over(partition_by=alike, order_by=newest_first).label("ends_at"),
        )
        .where(c.inserted_at < now - SETTLED_AFTER)
        .subquery()
    )
    async with services.store.reading(is_long=True) as transaction:
        result = await transaction.execute(
            select(ranked.c.account_id, ranked.c.id)
            .where(ranked.c.place > 1, ranked.c.expires_at <= ranked.c.ends_at)
            .order_by(ranked.c.account_id)
            .limit(SUPERSEDED_AT_ONCE)
        )
        return [(row.account_id, row.id) for row in result]


async def clean_credentials(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete expired tokens, passcodes, sessions and links, and gateway tokens replaced over four hours ago."""
    now = services.environment.clock.now()
    ended = [(table.name, table.c.expires_at < now) for table in _EXPIRING]
    ended.append((GATEWAY_TOKENS.name, GATEWAY_TOKENS.c.rotated_at < now - ROTATION_GRACE))
    deleted = sum([await _delete_rows(services, table, is_over) for table, is_over in ended])
    async with services.store.writing() as transaction:
        for rows in (transaction.operator_sessions, transaction.operator_links):
            deleted += await rows.delete_where(rows.c.expires_at < now, at_most=ROWS_AT_ONCE)
    return deleted


async def clean_logs(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete log entries that are older than their stream is kept (portal-domain §10); returns how many."""
    now = services.environment.clock.now()
    decision_retention = timedelta(seconds=services.settings.decision_retention_s)
    audience = CHANGES.c.audience
    deleted = 0
    for column, retention, conditions in (
        (CHANGES.c.committed_at, LOG_RETENTION, [audience == Recording.AUDIT.value]),
        (CHANGES.c.committed_at, FEED_RETENTION, [audience == Recording.INTERNAL.value]),
        (API_REQUEST_LOGS.c.inserted_at, LOG_RETENTION, []),
        (SESSION_LOGS.c.timestamp, LOG_RETENTION, []),
        (DECISIONS.c.decided_at, decision_retention, []),
        (FLOW_LOGS.c.flow_start, FLOW_RETENTION, []),
        (IDEMPOTENCY_KEYS.c.inserted_at, ANSWER_RETENTION, []),
    ):
        deleted += await _delete_oldest(services, column, now - retention, *conditions)
    return deleted


async def clean_jobs(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete finished jobs that are a week old; returns how many."""
    before = services.environment.clock.now() - JOB_RETENTION
    return await _delete_oldest(services, JOBS.c.finished_at, before)


async def _delete_oldest(
    services: Services, column: Column[Any], before: datetime, *conditions: ColumnElement[bool]
) -> int:
    return await delete_in_slices(
        services, lambda transaction: transaction.delete_oldest(column, before, *conditions)
    )


async def _delete_rows(services: Services, table: str, is_over: ColumnElement[bool]) -> int:
    """Delete the rows of all accounts that are over, each with what depends on it; returns how many.

    Most accounts have none, and are left in peace.
    """
    owner = TABLES[table].c.account_id
    async with services.store.reading(is_long=True) as transaction:
        result = await transaction.execute(select(owner).where(is_over).distinct())
        account_ids = sorted(result.scalars())
    deleted = 0
    for account_id in account_ids:

        async def delete(transaction: Transaction, account_id: UUID = account_id) -> int:
            rows = transaction.of(account_id).by_name(table)
            at_once = OWNERS_AT_ONCE if rows.cascades else ROWS_AT_ONCE
            return await rows.delete_where(is_over, at_most=at_once)

        deleted += await delete_in_slices(services, delete)
    return deleted


async def delete_in_slices(services: Services, delete: Callable[[Transaction], Awaitable[int]]) -> int:
    """Delete a slice at a time, each in a transaction of its own; between two of them everybody else has a turn."""
    deleted = 0
    while True:
        async with services.store.writing() as transaction:
            count = await delete(transaction)
        if not count:
            return deleted
        deleted += count
        await services.environment.clock.sleep(0)


_EXPIRING: Final = (
    CLIENT_TOKENS,
    API_TOKENS,
    ONE_TIME_PASSCODES,
    PORTAL_SESSIONS,
    SECOND_FACTOR_ATTEMPTS,
    SECOND_FACTOR_TRIES,
    SIGN_IN_LINKS,
)

KINDS: Final = (
    JobKind("clean_authorizations", clean_authorizations, schedule=Cron.parse("* * * * *")),
    JobKind("clean_superseded_grants", clean_superseded_grants, schedule=Cron.parse("17 * * * *")),
    JobKind("clean_credentials", clean_credentials, schedule=Cron.parse("*/5 * * * *")),
    JobKind("clean_logs", clean_logs, max_attempts=1, schedule=Cron.parse("*/5 * * * *")),
    JobKind("clean_jobs", clean_jobs, max_attempts=1, schedule=Cron.parse("30 3 * * *")),
)
