"""`wardgate sign-in-link`: a one-time sign-in for an admin or the operator, made by whoever holds the data directory
(break-glass)."""

import asyncio

from wardgate.cli.commands.installation import EMAIL, ONE_OF_SEVERAL, OPERATOR
from wardgate.cli.commands.portal import LISTEN
from wardgate.cli.errors import UserError
from wardgate.cli.portal_settings import portal_settings
from wardgate.cli.profile import Profile, data_dir_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.portal import credentials, data_directory
from wardgate.portal.data_directory import DataDirectoryUnusable
from wardgate.portal.environment import Environment
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Store, Transaction, Unusable

LIFETIME_S = 3600


def run(settings: Settings) -> None:
    """Print the link.

    Raises:
        UserError: there is no such admin, or no installation.
    """
    if settings[OPERATOR] and (settings[ONE_OF_SEVERAL] or settings[EMAIL]):
        raise settings.wrong_usage("--operator goes with neither --account-slug nor --email")
    directory = data_dir_of(settings)
    profile = Profile.load(Profile.path(settings, directory))
    portal = portal_settings(
        settings,
        data_dir=directory,
        listen=LISTEN,
        known_url=None if profile is None else profile.web_url,
    )
    try:
        keys = data_directory.load_keys(directory)
        data_directory.require_database(directory, portal.database)
        if settings[OPERATOR]:
            echo(asyncio.run(_operator_link(portal, keys)))
        else:
            echo(asyncio.run(_link(portal, keys, settings[ONE_OF_SEVERAL], settings[EMAIL])))
    except (DataDirectoryUnusable, Unusable) as error:
        raise UserError(str(error)) from error


async def _link(portal: PortalSettings, keys: Keys, slug: str | None, email: str | None) -> str:
    store = await Store.open(portal.database, Environment.of_this_process(), must_exist=True)
    try:
        async with store.writing() as transaction:
            account = await _account(transaction, slug)
            admin = await _admin(transaction, account, email)
            link = await credentials.issue_sign_in_link(
                admin, lifetime_s=LIFETIME_S, transaction=transaction, keys=keys
            )
    finally:
        await store.close()
    return portal.sign_in_url(account.slug, link)


async def _operator_link(portal: PortalSettings, keys: Keys) -> str:
    store = await Store.open(portal.database, Environment.of_this_process(), must_exist=True)
    try:
        async with store.writing() as transaction:
            link = await credentials.issue_operator_link(
                lifetime_s=LIFETIME_S, transaction=transaction, keys=keys
            )
    finally:
        await store.close()
    return portal.operator_sign_in_url(link)


async def _account(transaction: Transaction, slug: str | None) -> Account:
    if slug is not None:
        account = await transaction.accounts.by_slug(slug)
        if account is None:
            raise UserError(f"there is no account {slug!r}")
        return account
    accounts = await transaction.accounts.load_all(limit=2)
    if not accounts:
        raise UserError("there is no account yet: run `wardgate init`")
    if len(accounts) > 1:
        raise UserError("there are several accounts: choose one with --account-slug")
    return accounts[0]


async def _admin(transaction: Transaction, account: Account, email: str | None) -> Actor:
    actors = transaction.of(account.id).actors
    conditions = [actors.c.type == "account_admin_user", actors.c.is_disabled.is_(False)]
    if email is not None:
        conditions.append(actors.c.email == email)
    admin = await actors.find(*conditions)
    if admin is None:
        raise UserError("there is no such enabled admin in this account")
    return admin
