"""Periodic clean-up (portal-domain §17): rows whose time is over. Each repetition finds less to do."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from wardgate.portal.channels.connecting import ROTATION_GRACE
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.jobs.runner import JobKind
from wardgate.portal.services import Services
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
    for account_id in await _account_ids(services):
        async with services.store.writing() as transaction:
            grants = transaction.of(account_id).authorizations
            deleted += await grants.delete_where(grants.c.expires_at < transaction.now - AUTHORIZATION_SLACK)
    return deleted


async def clean_credentials(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete expired client and API tokens, sessions and links, and gateway tokens replaced over four hours ago."""
    deleted = 0
    for account_id in await _account_ids(services):
        async with services.store.writing() as transaction:
            tables = transaction.of(account_id)
            for repository in (
                tables.client_tokens,
                tables.api_tokens,
                tables.portal_sessions,
                tables.sign_in_links,
            ):
                deleted += await repository.delete_where(repository.c.expires_at < transaction.now)
            gateway_tokens = tables.gateway_tokens
            deleted += await gateway_tokens.delete_where(
                gateway_tokens.c.rotated_at < transaction.now - ROTATION_GRACE
            )
    return deleted


async def clean_logs(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete log entries that are older than their stream is kept (§10); returns how many."""
    async with services.store.writing() as transaction:
        now = transaction.now
        decision_retention = timedelta(seconds=services.settings.decision_retention_s)
        return (
            await transaction.delete_logs_before(now - LOG_RETENTION)
            + await transaction.delete_decisions_before(now - decision_retention)
            + await transaction.delete_flows_before(now - FLOW_RETENTION)
            + await transaction.delete_kept_answers_before(now - ANSWER_RETENTION)
        )


async def clean_jobs(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Delete finished jobs that are a week old; returns how many."""
    async with services.store.writing() as transaction:
        return await JobQueue(transaction).delete_finished_before(transaction.now - JOB_RETENTION)


async def _account_ids(services: Services) -> list[UUID]:
    async with services.store.reading() as transaction:
        return [account.id for account in await transaction.accounts.load_all()]


KINDS: Final = (
    JobKind("clean_authorizations", clean_authorizations, schedule=Cron.parse("* * * * *")),
    JobKind("clean_credentials", clean_credentials, schedule=Cron.parse("*/5 * * * *")),
    JobKind("clean_logs", clean_logs, max_attempts=1, schedule=Cron.parse("*/5 * * * *")),
    JobKind("clean_jobs", clean_jobs, max_attempts=1, schedule=Cron.parse("30 3 * * *")),
)
