"""What the account's page shows: settings, what is used of what is allowed, and how the account's end stands."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from wardgate.portal.account_config import AccountConfig, DohProvider, UpstreamDns
from wardgate.portal.installation.tables import Account
from wardgate.portal.limits import limits_of, used_of
from wardgate.portal.services import Services
from wardgate.portal.web.page import Page
from wardgate.portal.web.sessions import SignedIn

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


@dataclass(frozen=True, slots=True)
class Notice:
    """What every page of a disabled account says."""

    text: str
    is_cancellable: bool


async def load_account_page(services: Services, signed_in: SignedIn) -> AccountPage:
    """Gather what is to be shown of an account now."""
    account = signed_in.account
    limits, config = limits_of(account), AccountConfig.parse(account.config)
    async with services.store.reading() as transaction:
        tables, now = transaction.on_behalf_of(signed_in.actor), transaction.now
        usage = [Usage(told, await used_of(tables, name, now=now), limits[name]) for told, name in _USED]
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
        sends_mail=services.environment.mailer is not None,
    )


PAGE: Final = Page("Account", "/account", "account.html", load_account_page)


def notice_of(account: Account, *, now: datetime) -> Notice | None:
    """Return the notice that every page shows; None if the account is active."""
    if account.scheduled_deletion_at is not None:
        at = account.scheduled_deletion_at
        moment = at.strftime("%Y-%m-%d %H:%M UTC")
        return Notice(
            f"This account is disabled and will be deleted {countdown(at - now)}, on {moment}.",
            is_cancellable=True,
        )
    if account.is_disabled:
        reason = f": {account.disabled_reason}" if account.disabled_reason else ""
        return Notice(
            f"The operator has disabled this account{reason}. Nobody can connect, and API tokens are refused.",
            is_cancellable=False,
        )
    return None


def countdown(left: timedelta) -> str:
    """Say how long something is away, in its two largest units."""
    minutes = int(left.total_seconds() // 60)
    if minutes < 1:
        return "within a minute"
    days, hours, rest = minutes // 1440, minutes % 1440 // 60, minutes % 60
    parts = [(days, "day"), (hours, "hour"), (rest, "minute")]
    first = next(index for index, (count, _) in enumerate(parts) if count)
    told = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts[first : first + 2] if count]
    return "in " + " and ".join(told)


def _resolvers(upstream: UpstreamDns) -> str:
    match upstream.type:
        case "secure":
            return f"DNS over HTTPS by {_RESOLVERS[upstream.doh_provider]}"
        case "custom":
            return ", ".join(upstream.addresses)
        case "system":
            return "those of each client's system"
