"""Periodic clean-up (portal-domain §17): rows whose time is over. Each repetition finds less to do."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, select

from wardgate.portal.access.tables import POLICY_AUTHORIZATIONS
from wardgate.portal.credentials import ROTATION_GRACE
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.jobs.runner import JobKind
from wardgate.portal.logs.tables import (
    API_REQUEST_LOGS,
    CHANGES,
    DECISIONS,
    FLOW_LOGS,
    IDEMPOTENCY_KEYS,
    SESSION_LOGS,
)
from wardgate.portal.services import Services
from wardgate.portal.sign_in.tables import (
    API_TOKENS,
    CLIENT_TOKENS,
    ONE_TIME_PASSCODES,
    PORTAL_SESSIONS,
    SIGN_IN_LINKS,
)
from wardgate.portal.sites.tables import GATEWAY_TOKENS
from wardgate.portal.store.job_queue import JobQueue

LOG_RETENTION: Final = timedelta(days=90)
FLOW_RETENTION: Final = timedelta(days=121)
ANSWER_RETENTION: Final = timedelta(hours=24)
JOB_RETENTION: Final = timedelta(days=7)
AUTHORIZATION_SLACK: Final = timedelta(seconds=30)
"""Rows are deleted a little after their end, when every receiver has expired them by itself."""


async def clean_authorizations(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete expired grants; returns how many."""
    deleted = 0
    before = services.environment.clock.now() - AUTHORIZATION_SLACK
    for account_id in await _accounts_with(services, [(POLICY_AUTHORIZATIONS.c.expires_at, before)]):
        async with services.store.writing() as transaction:
            grants = transaction.of(account_id).authorizations
            deleted += await grants.delete_where(grants.c.expires_at < before)
    return deleted


async def clean_credentials(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete expired tokens, passcodes, sessions and links, and gateway tokens replaced over four hours ago."""
    deleted = 0
    now = services.environment.clock.now()
    ends = [(table.c.expires_at, now) for table in _EXPIRING]
    ends.append((GATEWAY_TOKENS.c.rotated_at, now - ROTATION_GRACE))
    for account_id in await _accounts_with(services, ends):
        async with services.store.writing() as transaction:
            tables = transaction.of(account_id)
            for repository in (
                tables.client_tokens,
                tables.api_tokens,
                tables.one_time_passcodes,
                tables.portal_sessions,
                tables.sign_in_links,
            ):
                deleted += await repository.delete_where(repository.c.expires_at < now)
            gateway_tokens = tables.gateway_tokens
            deleted += await gateway_tokens.delete_where(gateway_tokens.c.rotated_at < now - ROTATION_GRACE)
    return deleted


async def clean_logs(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete log entries that are older than their stream is kept (§10); returns how many."""
    now = services.environment.clock.now()
    decision_retention = timedelta(seconds=services.settings.decision_retention_s)
    deleted = 0
    for column, retention in (
        (CHANGES.c.committed_at, LOG_RETENTION),
        (API_REQUEST_LOGS.c.inserted_at, LOG_RETENTION),
        (SESSION_LOGS.c.timestamp, LOG_RETENTION),
        (DECISIONS.c.decided_at, decision_retention),
        (FLOW_LOGS.c.flow_start, FLOW_RETENTION),
        (IDEMPOTENCY_KEYS.c.inserted_at, ANSWER_RETENTION),
    ):
        while True:
            async with services.store.writing() as transaction:
                count = await transaction.delete_oldest(column, now - retention)
            if not count:
                break
            deleted += count
            # Each slice is a transaction of its own, and between two of them everybody else has a turn.
            await services.environment.clock.sleep(0)
    return deleted


async def clean_jobs(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete finished jobs that are a week old; returns how many."""
    async with services.store.writing() as transaction:
        return await JobQueue(transaction).delete_finished_before(transaction.now - JOB_RETENTION)


async def _accounts_with(services: Services, ends: Sequence[tuple[Column[Any], datetime]]) -> list[UUID]:
    """Return the accounts that have a row whose end came before the moment beside it: most have none, and are
    left in peace.
    """
    found: set[UUID] = set()
    async with services.store.reading() as transaction:
        for column, before in ends:
            owner = column.table.c.account_id
            result = await transaction.execute(select(owner).where(column < before).distinct())
            found.update(result.scalars())
    return sorted(found)


_EXPIRING: Final = (
    CLIENT_TOKENS.table,
    API_TOKENS.table,
    ONE_TIME_PASSCODES.table,
    PORTAL_SESSIONS.table,
    SIGN_IN_LINKS.table,
)

KINDS: Final = (
    JobKind("clean_authorizations", clean_authorizations, schedule=Cron.parse("* * * * *")),
    JobKind("clean_credentials", clean_credentials, schedule=Cron.parse("*/5 * * * *")),
    JobKind("clean_logs", clean_logs, max_attempts=1, schedule=Cron.parse("*/5 * * * *")),
    JobKind("clean_jobs", clean_jobs, max_attempts=1, schedule=Cron.parse("30 3 * * *")),
)
