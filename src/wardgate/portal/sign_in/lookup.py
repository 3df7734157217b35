"""Finding what a sign-in names: an account by its id or slug, a provider by its id, whatever its kind."""

from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import func

from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.admission import is_usable
from wardgate.portal.sign_in.flow import Context
from wardgate.portal.sign_in.tables import PROVIDERS, AuthProviderDetails
from wardgate.portal.store import AccountTables, Repository, Transaction

OFFERED_ORDER: Final = ("email_otp", "userpass", "google", "entra", "okta", "oidc")
"""How a page lists providers: what every account has comes first."""

DEFAULT_ORDER: Final = ("oidc", "google", "entra", "okta")  # identity §2
"""In which order a client's sign-in looks for the provider that it is sent to at once."""

_ProviderT = TypeVar("_ProviderT", bound=AuthProviderDetails)


async def find_account(transaction: Transaction, id_or_slug: str) -> Account | None:
    """Return an account; an id is taken for an id first, for a slug may look like another account's id."""
    by_id = as_id(id_or_slug)
    found = None if by_id is None else await transaction.accounts.load(by_id)
    return found or await transaction.accounts.by_slug(id_or_slug)


async def find_user(tables: AccountTables, email: str) -> Actor | None:
    """Return the actor with this address, in whatever case it is written."""
    actors = tables.actors
    return await actors.find(func.lower(actors.c.email) == email.strip().lower())


async def find_provider(tables: AccountTables, id_: UUID | None) -> AuthProviderDetails | None:
    """Return a provider of any kind."""
    parent = None if id_ is None else await tables.auth_providers.load(id_)
    return None if parent is None else await providers_of(tables, parent.type).load(parent.id)


async def find_provider_of_kind(
    tables: AccountTables, kind: type[_ProviderT], id_: UUID | None
) -> _ProviderT | None:
    """Return a provider of one kind."""
    found: _ProviderT | None = None if id_ is None else await providers_of(tables, kind.type).load(id_)
    return found


async def usable_providers(tables: AccountTables, context: Context) -> list[AuthProviderDetails]:
    """Return the providers that can be used in this context, in the order in which they are offered."""
    return [
        provider
        for kind in OFFERED_ORDER
        for provider in await providers_of(tables, kind).load_all()
        if is_usable(provider, context)
    ]


def default_provider(providers: list[AuthProviderDetails]) -> AuthProviderDetails | None:
    """Return which of these a client is sent to without being asked."""
    for kind in DEFAULT_ORDER:
        for provider in providers:
            if provider.type == kind and getattr(provider, "is_default", False):
                return provider
    return None


def providers_of(tables: AccountTables, kind: str) -> Repository[Any]:
    """Return the account's providers of a kind."""
    found: Repository[Any] = getattr(tables, _TABLES[kind])
    return found


def as_id(text: str) -> UUID | None:
    """Return the id that a text is; None if it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


_TABLES: Final = {declaration.row_class.type: declaration.name for declaration in PROVIDERS}
