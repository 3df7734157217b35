"""`wardgate init`: the data directory, the first account with its admin, and the tokens to go on with."""

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from wardgate.cli.commands import installation as options
from wardgate.cli.commands.portal import EXTERNAL_URL, LISTEN
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import AS_JSON
from wardgate.cli.portal_settings import portal_settings
from wardgate.cli.profile import Profile, data_dir_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.portal import credentials, data_directory, provisioning
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.data_directory import DataDirectoryUnusable
from wardgate.portal.environment import Environment
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.limits import check_api_token
from wardgate.portal.outcomes import Refused
from wardgate.portal.people.rules import make_actor
from wardgate.portal.people.tables import Actor
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.rules import make_api_client, make_first_api_token
from wardgate.portal.store import AccountTables, Conflict, Store, Transaction, Unusable

SIGN_IN_LINK_LIFETIME_S: Final = 3600
API_TOKEN_LIFETIME: Final = timedelta(days=365)
TOKEN_NAME: Final = "wardgate init"  # noqa: S105 - what the tokens it makes are called


@dataclass(frozen=True, slots=True)
class Initialised:
    """What `init` prints; tokens only when it made them."""

    account_id: UUID
    account_slug: str
    api_token: str | None
    operator_token: str | None
    sign_in_link: str


def run(settings: Settings) -> None:
    """Create what is missing and print how to continue.

    Raises:
        UserError: the data directory or the database cannot be used.
    """
    directory = data_dir_of(settings)
    name, slug, email = (
        settings[options.ACCOUNT_NAME],
        settings[options.ACCOUNT_SLUG],
        settings[options.ADMIN_EMAIL],
    )
    if not (name and slug and email):
        raise settings.wrong_usage("--account-name, --account-slug and --admin-email are required")
    wanted = Wanted(name, slug, email, settings[options.SEARCH_DOMAIN])
    try:
        data_directory.require_own(directory)
    except DataDirectoryUnusable as error:
        raise UserError(str(error)) from error
    profile = Profile.load(Profile.path(settings, directory))
    portal = portal_settings(
        settings,
        data_dir=directory,
        listen=LISTEN,
        known_url=None if profile is None else profile.web_url,
    )
    is_url_set = settings[EXTERNAL_URL] is not None
    result = initialise(
        settings,
        portal,
        wanted,
        new_tokens=settings[options.NEW_TOKENS],
        new_database=settings[options.NEW_DATABASE],
        is_url_set=is_url_set,
    )
    echo(json.dumps(_plain(result)) if settings[AS_JSON] else _summary(result, directory))


def initialise(
    settings: Settings,
    portal: PortalSettings,
    wanted: "Wanted",
    *,
    new_tokens: bool,
    is_url_set: bool,
    new_database: bool = False,
) -> Initialised:
    """Create what the installation lacks, and write the profile for the other commands.

    Args:
        new_database: make an empty database even where there is a master secret, whose database is then given up.
        is_url_set: somebody chose the portal's URLs, so they replace those in the profile.

    Raises:
        UserError: the data directory or the database cannot be used.
    """
    directory = portal.data_dir
    assert directory is not None
    try:
        data_directory.prepare(directory)
        must_exist = data_directory.has_keys(directory) and not new_database
        if must_exist:
            data_directory.require_database(directory, portal.database)
        result = asyncio.run(
            _initialise(portal, directory, wanted, new_tokens=new_tokens, must_exist=must_exist)
        )
    except (DataDirectoryUnusable, Unusable, Conflict, Refused) as error:
        raise UserError(str(error)) from error
    _save_profile(Profile.path(settings, directory), portal, result, is_url_set=is_url_set)
    return result


def _save_profile(path: Path, portal: PortalSettings, result: Initialised, *, is_url_set: bool) -> None:
    """Write new tokens to the profile; a token in it that was not replaced stays."""
    before = Profile.load(path)
    if before is None:
        if result.api_token is not None:
            Profile(portal.rest_url, result.api_token, result.operator_token, portal.web_url).save(path)
        return
    after = replace(
        before,
        token=result.api_token or before.token,
        operator_token=result.operator_token or before.operator_token,
    )
    if is_url_set:
        after = replace(after, url=portal.rest_url, web_url=portal.web_url)
    if after != before:
        after.save(path)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The account that there should be."""

    name: str
    slug: str
    email: str
    search_domain: str | None = None


async def _initialise(
    portal: PortalSettings, directory: Path, wanted: Wanted, *, new_tokens: bool, must_exist: bool
) -> Initialised:
    environment = Environment.of_this_process()
    store = await Store.open(portal.database, environment, must_exist=must_exist)
    try:
        # After the database: one without the other is an installation that lost it, were we killed in between.
        keys = data_directory.make_keys(directory, environment.rng)
        async with store.writing() as transaction:
            account = await transaction.accounts.by_slug(wanted.slug)
            is_new = account is None
            if account is None:
                made = await provisioning.provision(
                    transaction,
                    name=wanted.name,
                    slug=wanted.slug,
                    admin_email=wanted.email,
                    search_domain=wanted.search_domain,
                )
                account = made.account
            elif wanted.search_domain is not None:
                config = replace(AccountConfig.parse(account.config), search_domain=wanted.search_domain)
                if config != AccountConfig.parse(account.config):
                    account = await transaction.accounts.save(
                        replace(account, config=config.within(account.config))
                    )
            tables = transaction.of(account.id)
            admin = await _admin(tables, account, wanted.email)
            with_tokens = is_new or new_tokens
            api_token = await _api_token(transaction, tables, account, keys) if with_tokens else None
            first_operator = await transaction.operator_tokens.count() == 0
            operator_token = (
                await _operator_token(transaction, keys) if new_tokens or first_operator else None
            )
            link = await credentials.issue_sign_in_link(
                admin, lifetime_s=SIGN_IN_LINK_LIFETIME_S, transaction=transaction, keys=keys
            )
    finally:
        await store.close()
    return Initialised(
        account.id,
        account.slug,
        api_token,
        operator_token,
        portal.sign_in_url(account.slug, link),
    )


async def _admin(tables: AccountTables, account: Account, email: str) -> Actor:
    admin = await tables.actors.find(
        tables.actors.c.email == email, tables.actors.c.type == "account_admin_user"
    )
    if admin is not None:
        return admin
    given = {
        "name": email.partition("@")[0],
        "type": "account_admin_user",
        "email": email,
        "allow_email_otp_sign_in": True,
    }
    return await make_actor(tables, account, given)


async def _api_token(transaction: Transaction, tables: AccountTables, account: Account, keys: Keys) -> str:
    actor = await tables.actors.find(tables.actors.c.type == "api_client", tables.actors.c.name == TOKEN_NAME)
    if actor is None:
        actor = await make_api_client(tables, account, {"name": TOKEN_NAME})
    await tables.api_tokens.delete_where(tables.api_tokens.c.actor_id == actor.id)
    await check_api_token(tables, account, actor.id)
    return await make_first_api_token(
        transaction, actor, name=TOKEN_NAME, lifetime=API_TOKEN_LIFETIME, keys=keys
    )


async def _operator_token(transaction: Transaction, keys: Keys) -> str:
    tokens = transaction.operator_tokens
    await tokens.delete_where(tokens.c.name == TOKEN_NAME)
    issued = await credentials.issue(tokens, transaction=transaction, keys=keys, name=TOKEN_NAME)
    return issued.text


def _plain(result: Initialised) -> dict[str, str | None]:
    return {
        "account_id": str(result.account_id),
        "account_slug": result.account_slug,
        "api_token": result.api_token,
        "operator_token": result.operator_token,
        "sign_in_link": result.sign_in_link,
    }


def _summary(result: Initialised, directory: Path) -> str:
    lines = [f"Account {result.account_slug} ({result.account_id}) is ready in {directory}."]
    if result.api_token is not None:
        lines += ["", "API token of the account, shown once:", f"  {result.api_token}"]
    if result.operator_token is not None:
        lines += [
            "",
            "Operator token (relays, health of the installation), shown once:",
            f"  {result.operator_token}",
        ]
    lines += [
        "",
        "Next:",
        f"  wardgate portal --data-dir {directory}",
        f"  then sign in within {SIGN_IN_LINK_LIFETIME_S // 60} minutes; the link works once:"
        f" {result.sign_in_link}",
    ]
    return "\n".join(lines)
