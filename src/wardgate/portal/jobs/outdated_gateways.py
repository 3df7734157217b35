"""The weekly letter about gateways to be upgraded (portal-domain §17).

The newest that this portal knows is what came with it: nothing asks the outside. A gateway is behind when it
speaks an older level of the protocol, or when it is of an older release of this product. One that announces
more than that is not judged.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import wardgate
from wardgate.model.versions import Version
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.installation.account_lifecycle import account_url
from wardgate.portal.installation.tables import Account
from wardgate.portal.jobs.cron import Cron
from wardgate.portal.jobs.runner import JobKind
from wardgate.portal.mail.letters import OutdatedGateway, OutdatedGateways
from wardgate.portal.mail.queue import admin_addresses, post
from wardgate.portal.services import Services
from wardgate.portal.store import AccountTables, Transaction
from wardgate.wire.user_agent import (
    GATEWAY_SPEAKS,
    announced_version,
    parse_version,
    product_version,
    software_text,
)

AT_MOST_EVERY: Final = timedelta(hours=24)
SEEN_WITHIN: Final = timedelta(days=7)
BEHIND_MINORS: Final = 2


async def notify_outdated_gateways(services: Services, _arguments: Mapping[str, Any]) -> int:
    """Write to the admins of every account with an outdated gateway online; returns to how many accounts."""
    async with services.store.reading(is_long=True) as transaction:
        c = transaction.accounts.c
        account_ids = sorted(await transaction.accounts.load_column(c.id, c.is_disabled.is_(False)))
    notified = 0
    online = services.environment.bus.members
    for account_id in account_ids:
        if not any(_is_outdated(one.user_agent) for one in online("gateway", account_id)):
            continue
        async with services.store.reading(is_long=True) as transaction:
            clients = await _clients_behind(transaction.of(account_id), now=transaction.now)
        # One transaction an account: what was written stays written when a later one fails, and nobody is told twice.
        async with services.store.writing() as transaction:
            account = await transaction.accounts.load(account_id)
            if account is not None and not account.is_disabled:
                notified += await _notify(services, transaction, account, clients=clients)
    return notified


async def _notify(services: Services, transaction: Transaction, account: Account, *, clients: int) -> bool:
    config, now = AccountConfig.parse(account.config), transaction.now
    letter_setting = config.outdated_gateway_letter
    last_at = letter_setting.last_notified_at
    if not letter_setting.is_enabled or (last_at is not None and now - last_at < AT_MOST_EVERY):
        return False
    tables = transaction.of(account.id)
    gateways = await _outdated(services, tables)
    if not gateways:
        return False
    letter = OutdatedGateways(
        account.name,
        account_url(services.settings, account),
        str(NEWEST),
        str(NEWEST_RELEASE),
        gateways,
        clients,
    )
    recipients = await admin_addresses(tables)
    await post(transaction, services.settings, letter, recipients, account_id=account.id)
    notified = replace(config, outdated_gateway_letter=replace(letter_setting, last_notified_at=now))
    await transaction.accounts.save(replace(account, config=notified.within(account.config)))
    return True


async def _outdated(services: Services, tables: AccountTables) -> tuple[OutdatedGateway, ...]:
    online = services.environment.bus.members("gateway", tables.account_id)
    sites: dict[UUID | None, str] = {site.id: site.name for site in await tables.sites.load_all()}
    outdated = []
    for one in online:
        if _is_outdated(one.user_agent):
            software = software_text(one.user_agent)
            outdated.append(OutdatedGateway(one.name, sites.get(one.site_id, ""), software))
    return tuple(sorted(outdated, key=lambda one: (one.site, one.name)))


def _is_outdated(user_agent: str) -> bool:
    level, release = parse_version(announced_version(user_agent)), parse_version(product_version(user_agent))
    return (level is not None and level < NEWEST) or (release is not None and release < NEWEST_RELEASE)


async def _clients_behind(tables: AccountTables, *, now: datetime) -> int:
    c = tables.devices.c
    versions = Counter(
        await tables.devices.load_column(
            c.last_seen_version, c.type == "client", c.last_seen_at > now - SEEN_WITHIN
        )
    )
    return sum(number for version, number in versions.items() if _is_far_behind(parse_version(version)))


def _is_far_behind(version: Version | None) -> bool:
    if version is None:
        return False
    if version.major != NEWEST.major:
        return version.major < NEWEST.major
    return NEWEST.minor - version.minor >= BEHIND_MINORS


NEWEST: Final = GATEWAY_SPEAKS
NEWEST_RELEASE: Final = Version.parse(wardgate.__version__)

KINDS: Final = (
    JobKind("notify_outdated_gateways", notify_outdated_gateways, schedule=Cron.parse("0 9 * * 0")),
)
