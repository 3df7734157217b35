"""Periodic clean-up (portal-domain §17): rows whose time is over. Each pass is short and one failing pass leaves the next alone."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from wardgate.portal.channels.connecting import ROTATION_GRACE
from wardgate.portal.services import Services

log = logging.getLogger(__name__)

AUTHORIZATIONS_EVERY_S: Final = 60.0
CREDENTIALS_EVERY_S: Final = 300.0
LOG_RETENTION: Final = timedelta(days=90)
AUTHORIZATION_SLACK: Final = timedelta(seconds=30)
"""Rows are deleted a little after their end, when every receiver has expired them by itself."""


async def clean_authorizations(services: Services) -> int:
    """Delete expired grants; returns how many."""
    deleted = 0
    for account_id in await _account_ids(services):
        async with services.store.writing() as transaction:
            grants = transaction.of(account_id).authorizations
            deleted += await grants.delete_where(grants.c.expires_at < transaction.now - AUTHORIZATION_SLACK)
    return deleted


async def clean_credentials(services: Services) -> int:
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


async def clean_logs(services: Services) -> int:
    """Delete log entries that are older than their stream is kept (§10); returns how many."""
    async with services.store.writing() as transaction:
        return await transaction.delete_logs_before(transaction.now - LOG_RETENTION)


async def run(services: Services) -> None:
    """Clean up for ever."""
    elapsed_s = 0.0
    while True:
        await services.environment.clock.sleep(AUTHORIZATIONS_EVERY_S)
        elapsed_s += AUTHORIZATIONS_EVERY_S
        await _attempt(clean_authorizations, services)
        if elapsed_s >= CREDENTIALS_EVERY_S:
            elapsed_s = 0.0
            await _attempt(clean_credentials, services)
            await _attempt(clean_logs, services)


async def _attempt(job: Callable[[Services], Awaitable[int]], services: Services) -> None:
    try:
        deleted = await job(services)
    except Exception:
        # A full disk must not end the job for good: the next pass tries again.
        log.exception("a clean-up pass failed", extra={"job": job.__name__})
        services.counters["job_failures"] += 1
    else:
        if deleted:
            log.debug("cleaned up", extra={"job": job.__name__, "rows": deleted})


async def _account_ids(services: Services) -> list[UUID]:
    async with services.store.reading() as transaction:
        return [account.id for account in await transaction.accounts.load_all()]
