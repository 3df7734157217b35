"""What may be done with accounts, their settings, relay tokens and banners (portal-domain §3.1, §3.13, §3.15,
§15, §16).

How an account ends is in `account_lifecycle`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from wardgate.model.addresses import RESERVED, parse_ip
from wardgate.portal.account_config import (
    DNS_TYPES,
    DOH_PROVIDERS,
    SECOND_FACTOR_FOR,
    AccountConfig,
    UpstreamDns,
)
from wardgate.portal.credentials import Issued, issue, issue_sign_in_link
from wardgate.portal.edits import BLANK, INVALID, Edit, Given
from wardgate.portal.installation.tables import Account, Banner, OperatorToken, RelayToken
from wardgate.portal.keys import Keys
from wardgate.portal.limits import DEFAULTS
from wardgate.portal.outcomes import Forbidden, Invalid, Missing, WrongState
from wardgate.portal.people.tables import Actor
from wardgate.portal.provisioning import check_email, check_search_domain, check_slug, provision
from wardgate.portal.segments import RESERVED_SLUGS
from wardgate.portal.sign_in.rules import make_first_api_token
from wardgate.portal.store import AccountTables, Conflict, Transaction

LAST_TOKEN: Final = "It is the only operator's token: make another one first."  # noqa: S105 - a message
SIGN_IN_LINK_LIFETIME_S: Final = 24 * 3600  # the operator has to pass it on
API_TOKEN_LIFETIME: Final = timedelta(days=365)
TOKEN_NAME: Final = "first API token"  # noqa: S105 - what it is called
MAX_LIMIT: Final = 2**31 - 1
MAX_NAME_CHARS: Final = 64
MIN_NAME_CHARS: Final = 3
MAX_ADDRESSES: Final = 8
COLORS: Final = ("warning", "info", "error", "success", "announcement")
MAX_MESSAGE_CHARS: Final = 1000
LOCKED: Final = "The account is locked: its settings cannot be changed."
SLUG_TAKEN: Final = {"slug": ["has already been taken"]}


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What an account begins with, checked."""

    name: str
    slug: str
    admin_email: str
    legal_name: str | None
    features: Mapping[str, bool]
    limits: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class CreatedAccount:
    """An account with its first administrator, and the secrets that are shown once."""

    account: Account
    admin: Actor
    sign_in_link: str
    api_token: str


async def load_account(transaction: Transaction, id_: UUID | None) -> Account:
    """Return an account of the installation. Raises Missing."""
    account = None if id_ is None else await transaction.accounts.load(id_)
    if account is None:
        raise Missing
    return account


async def load_own_account(tables: AccountTables) -> Account:
    """Return the account whose tables these are. Raises Missing: it has been deleted."""
    account = await tables.account()
    if account is None:
        raise Missing
    return account


def check_new_account(given: Given) -> NewAccount:
    """Check what an account shall begin with. Raises Invalid."""
    edit = Edit(given, dict.fromkeys(("name", "slug", "admin_email", "legal_name")))
    _check_names(edit)
    _check_admin(edit)
    features = _merged_features({"policy_conditions": True, "internet_resource": True}, edit)
    limits = _merged_limits({}, edit)
    values = edit.finish()
    return NewAccount(
        name=values["name"],
        slug=values["slug"],
        admin_email=values["admin_email"],
        legal_name=values["legal_name"],
        features=features,
        limits=limits,
    )


async def make_account(transaction: Transaction, new: NewAccount, *, keys: Keys) -> CreatedAccount:
    """Make an account with its first administrator, a link that signs them in once, and an API token.

    Raises:
        Invalid: the slug is taken.
    """
    try:
        made = await provision(
            transaction,
            name=new.name,
            slug=new.slug,
            admin_email=new.admin_email,
            legal_name=new.legal_name,
        )
    except Conflict as conflict:
        raise _taken(conflict) from None
    account = await transaction.accounts.save(
        replace(made.account, features=dict(new.features), limits=dict(new.limits))
    )
    client = await transaction.of(account.id).actors.insert(
        Actor(id=transaction.new_id(), account_id=account.id, type="api_client", name=TOKEN_NAME)
    )
    token = await make_first_api_token(
        transaction, client, name=TOKEN_NAME, lifetime=API_TOKEN_LIFETIME, keys=keys
    )
    link = await issue_sign_in_link(
        made.admin, lifetime_s=SIGN_IN_LINK_LIFETIME_S, transaction=transaction, keys=keys
    )
    return CreatedAccount(account, made.admin, link, token)


async def change_account(transaction: Transaction, before: Account, given: Given) -> Account:
    """Change what the operator decides of an account. Raises Invalid."""
    after = _changed(before, given, transaction.now)
    try:
        return await transaction.accounts.save(after)
    except Conflict as conflict:
        raise _taken(conflict) from None


async def change_settings(tables: AccountTables, before: Account, given: Given) -> Account:
    """Change what administrators decide of their account. Raises Invalid, and Forbidden if it is locked."""
    if before.lock_enabled_at is not None:
        raise Forbidden(LOCKED)
    return await tables.save_account(_with_settings(before, given))


async def load_relay_token(transaction: Transaction, id_: UUID | None) -> RelayToken:
    """Raises Missing."""
    token = None if id_ is None else await transaction.relay_tokens.load(id_)
    if token is None:
        raise Missing
    return token


async def make_relay_token(transaction: Transaction, given: Given, *, keys: Keys) -> Issued[RelayToken]:
    """Raises Invalid."""
    return await issue(transaction.relay_tokens, transaction=transaction, keys=keys, **_checked_name(given))


async def rotate_relay_token(
    transaction: Transaction, before: RelayToken, *, keys: Keys
) -> Issued[RelayToken]:
    """Replace a relay's token; a relay that still uses the old one is disconnected."""
    await transaction.relay_tokens.delete(before.id)
    return await issue(transaction.relay_tokens, transaction=transaction, keys=keys, name=before.name)


async def make_operator_token(transaction: Transaction, given: Given, *, keys: Keys) -> Issued[OperatorToken]:
    """Make a token of the operator. Raises Invalid."""
    return await issue(
        transaction.operator_tokens, transaction=transaction, keys=keys, **_checked_name(given)
    )


async def delete_operator_token(transaction: Transaction, token: OperatorToken) -> None:
    """Delete a token of the operator, and end the sessions begun with it.

    Raises:
        WrongState: there would be none left.
    """
    if await transaction.operator_tokens.count(at_most=2) < 2:
        raise WrongState(LAST_TOKEN)
    await transaction.operator_tokens.delete(token.id)
    sessions = transaction.operator_sessions
    await sessions.delete_where(sessions.c.token_id == token.id)


async def load_banner(transaction: Transaction, id_: UUID | None) -> Banner:
    """Raises Missing."""
    banner = None if id_ is None else await transaction.banners.load(id_)
    if banner is None:
        raise Missing
    return banner


async def make_banner(transaction: Transaction, given: Given) -> Banner:
    """Raises Invalid."""
    edit = Edit(given, {"message": None, "color": COLORS[0]})
    edit.text("message", longest=MAX_MESSAGE_CHARS, required=True)
    edit.choice("color", COLORS, required=True)
    return await transaction.banners.insert(Banner(id=transaction.new_id(), **edit.finish()))


def _checked_name(given: Given) -> dict[str, Any]:
    edit = Edit(given, {"name": None})
    edit.text("name", required=True)
    return edit.finish()


def _changed(before: Account, given: Given, now: datetime) -> Account:
    is_locked = before.lock_enabled_at is not None
    edit = Edit(given, {**asdict(before), "is_locked": is_locked})
    _check_names(edit)
    edit.text("legal_name", required=True)
    edit.flag("is_disabled")
    edit.flag("is_locked")
    edit.text("disabled_reason")
    features, limits = _merged_features(before.features, edit), _merged_limits(before.limits, edit)
    if before.scheduled_deletion_at is not None and not edit.value("is_disabled"):
        edit.error("is_disabled", "cannot be false while the deletion is scheduled: cancel that")
    values = edit.finish()
    lock_at = before.lock_enabled_at if is_locked else now
    return replace(
        before,
        name=values["name"],
        slug=values["slug"],
        legal_name=values["legal_name"],
        features=features,
        limits=limits,
        is_disabled=values["is_disabled"],
        disabled_reason=values["disabled_reason"] if values["is_disabled"] else None,
        lock_enabled_at=lock_at if values["is_locked"] else None,
    )


def _check_name(edit: Edit) -> None:
    edit.text("name", longest=MAX_NAME_CHARS, required=True)
    if len(edit.value("name") or "abc") < MIN_NAME_CHARS:
        edit.error("name", f"should be at least {MIN_NAME_CHARS} character(s)")


def _check_names(edit: Edit) -> None:
    _check_name(edit)
    edit.text("legal_name")
    was_given = edit.gave("slug")
    edit.text("slug", longest=100, required=True)
    if was_given and "slug" not in edit.errors:
        try:
            edit.put("slug", check_slug(edit.value("slug"), RESERVED_SLUGS))
        except ValueError as error:
            edit.error("slug", str(error))


def _check_admin(edit: Edit) -> None:
    edit.text("admin_email", longest=160, required=True)
    if "admin_email" in edit.errors:
        return
    try:
        edit.put("admin_email", check_email(edit.value("admin_email")))
    except ValueError:
        edit.error("admin_email", "is an invalid email address")


def _merged_features(before: dict[str, Any], edit: Edit) -> dict[str, bool]:
    given = (edit.raw("features") if edit.gave("features") else None) or {}
    return before | {name: value for name, value in given.items() if value is not None}


def _merged_limits(before: dict[str, Any], edit: Edit) -> dict[str, int | None]:
    """Merge what was given into the stored limits; null is kept, for it is more than the default of some."""
    given = (edit.raw("limits") if edit.gave("limits") else None) or {}
    wrong = {
        name: [INVALID] for name, value in given.items() if value is not None and not 0 <= value <= MAX_LIMIT
    }
    if wrong:
        edit.nested_error("limits", [wrong])
    return before | {name: given[name] for name in DEFAULTS if name in given}


def _taken(conflict: Conflict) -> Exception:
    return Invalid(SLUG_TAKEN) if "slug" in str(conflict.fields) else conflict


def _with_settings(before: Account, given: Given) -> Account:
    config = AccountConfig.parse(before.config)
    edit = Edit(
        given,
        {
            "name": before.name,
            "legal_name": before.legal_name,
            "search_domain": config.search_domain,
            "outdated_gateway_notifications": config.outdated_gateway_letter.is_enabled,
            "second_factor_for": config.second_factor_for,
        },
    )
    _check_name(edit)
    edit.text("legal_name", required=True)
    _check_domain(edit)
    edit.flag("outdated_gateway_notifications")
    edit.choice("second_factor_for", SECOND_FACTOR_FOR, required=True)
    upstream = _upstream(edit, config.upstream_dns)
    values = edit.finish()
    letter = replace(config.outdated_gateway_letter, is_enabled=values["outdated_gateway_notifications"])
    after = AccountConfig(values["search_domain"], upstream, letter, values["second_factor_for"])
    return replace(
        before, name=values["name"], legal_name=values["legal_name"], config=after.within(before.config)
    )


def _check_domain(edit: Edit) -> None:
    if not edit.gave("search_domain"):
        return
    edit.text("search_domain")
    domain = edit.value("search_domain")
    if edit.raw("search_domain") is None or "search_domain" in edit.errors:
        return
    try:
        edit.put("search_domain", check_search_domain(domain or ""))
    except ValueError:
        edit.error("search_domain", "must be a domain such as corp.example.com")


def _upstream(edit: Edit, before: UpstreamDns) -> UpstreamDns:
    """Merge what was given into the stored resolvers."""
    given = (edit.raw("clients_upstream_dns") if edit.gave("clients_upstream_dns") else None) or {}
    merged: dict[str, Any] = {
        "type": before.type,
        "doh_provider": before.doh_provider,
        "addresses": [{"address": address} for address in before.addresses],
    }
    merged |= {name: value for name, value in given.items() if value is not None}
    errors: dict[str, list[Any]] = {}
    if merged["type"] not in DNS_TYPES:
        errors["type"] = [INVALID]
    if merged["doh_provider"] not in DOH_PROVIDERS:
        errors["doh_provider"] = [INVALID]
    addresses: list[str] = []
    messages: list[dict[str, list[str]]] = []
    for one in merged["addresses"]:
        address, wrong = _checked_address(one["address"])
        addresses.append(address)
        messages.append({} if wrong is None else {"address": [wrong]})
    if any(messages):
        errors["addresses"] = messages
    elif merged["type"] == "custom" and not addresses:
        errors["addresses"] = [BLANK]
    elif len(set(addresses)) < len(addresses):
        errors["addresses"] = ["must not contain duplicates"]
    if errors:
        edit.nested_error("clients_upstream_dns", [errors])
    return UpstreamDns(merged["type"], merged["doh_provider"], tuple(addresses))


def _checked_address(text: str) -> tuple[str, str | None]:
    try:
        address = parse_ip(text.strip())
    except ValueError:
        return text, "must be an IP address without a port"
    for network in RESERVED:
        if address in network:
            return text, f"cannot be in the CIDR {network}"
    return str(address), None
