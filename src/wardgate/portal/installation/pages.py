"""The account's page: settings, what is used of what is allowed, and the account's end."""

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from wardgate.portal.account_config import AccountConfig, DohProvider, UpstreamDns
from wardgate.portal.installation import account_lifecycle
from wardgate.portal.installation.account_lifecycle import Author, LifecycleError, WrongSlug
from wardgate.portal.limits import limits_of, used_of
from wardgate.portal.schema.rights import Action
from wardgate.portal.web.page import Live, PageRoute, Section, TemplatePage
from wardgate.portal.web.visit import Visit

log = logging.getLogger(__name__)

_USED: Final = (
    ("People", "users_count"),
    ("People active in the last 30 days", "monthly_active_users_count"),
    ("Administrators", "account_admin_users_count"),
    ("Service accounts", "service_accounts_count"),
    ("Sites", "sites_count"),
    ("API clients", "api_clients_count"),
)
_RESOLVERS: Final[dict[DohProvider, str]] = {
    "google": "Google",
    "opendns": "OpenDNS",
    "cloudflare": "Cloudflare",
    "quad9": "Quad9",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """One line: how many there are, and how many there may be (None for no limit)."""

    name: str
    used: int
    limit: int | None

    @property
    def is_reached(self) -> bool:
        return self.limit is not None and self.used >= self.limit


@dataclass(frozen=True, slots=True)
class AccountPage:
    """Ready to be written down."""

    settings: tuple[tuple[str, str], ...]
    usage: tuple[Usage, ...]
    is_locked: bool
    sends_mail: bool


async def load_account_page(visit: Visit) -> AccountPage:
    """Gather what is to be shown of an account now."""
    account = visit.account
    limits, config = limits_of(account), AccountConfig.parse(account.config)
    async with visit.reading() as tables:
        usage = [
            Usage(told, await used_of(tables, name, now=tables.now), limits[name]) for told, name in _USED
        ]
    return AccountPage(
        settings=(
            ("Name", account.name),
            ("Legal name", account.legal_name),
            ("Slug", account.slug),
            ("Code", account.key),
            ("ID", str(account.id)),
            ("Since", account.inserted_at.strftime("%Y-%m-%d")),
            ("Search domain", config.search_domain or "none"),
            ("Resolvers of clients", _resolvers(config.upstream_dns)),
            ("Mail about outdated gateways", "on" if config.outdated_gateway_letter.is_enabled else "off"),
        ),
        usage=tuple(usage),
        is_locked=account.lock_enabled_at is not None,
        sends_mail=visit.services.environment.mailer is not None,
    )


async def schedule_deletion(visit: Visit) -> Response:
    typed = visit.form.get("slug", "")
    try:
        async with visit.writing() as (tables, transaction):
            tables.require(Action.UPDATE, "accounts")
            account = await transaction.accounts.load(visit.account.id)
            if account is not None:
                await account_lifecycle.schedule_deletion(
                    transaction,
                    visit.services.settings,
                    account,
                    typed_slug=typed if isinstance(typed, str) else "",
                    author=Author(visit.actor.name),
                )
    except WrongSlug:
        told = "This is not the account's slug. Nothing has changed."
        return await PAGE.show(visit, status=HTTPStatus.UNPROCESSABLE_ENTITY, error=told)
    except LifecycleError as refused:
        log.info("an account's deletion was refused", extra={"reason": str(refused)})
    return visit.go("/account")


async def cancel_deletion(visit: Visit) -> Response:
    try:
        async with visit.writing() as (tables, transaction):
            tables.require(Action.UPDATE, "accounts")
            account = await transaction.accounts.load(visit.account.id)
            if account is not None:
                await account_lifecycle.cancel_deletion(
                    transaction, visit.services.settings, account, author=Author(visit.actor.name)
                )
    except LifecycleError as refused:
        log.info("cancelling a deletion was refused", extra={"reason": str(refused)})
    return visit.go("/account")


PAGE: Final = TemplatePage(
    name="Account",
    path="/account",
    icon="settings",
    section=Section.SETTINGS,
    live=Live(tables=frozenset({"accounts", "actors", "sites"})),
    template="installation/account.html",
    load=load_account_page,
    more=(
        PageRoute("/deletion", schedule_deletion, "POST"),
        PageRoute("/deletion/cancel", cancel_deletion, "POST"),
    ),
)


def _resolvers(upstream: UpstreamDns) -> str:
    match upstream.type:
        case "secure":
            return f"DNS over HTTPS by {_RESOLVERS[upstream.doh_provider]}"
        case "custom":
            return ", ".join(upstream.addresses)
        case "system":
            return "those of each client's system"
