"""What may be done with providers that people sign in with (portal-domain §3.5).

A provider is accepted for use when somebody has signed in with it for a trial; nobody can yet, so each is
kept disabled, and enabling one is refused.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from uuid import UUID

from wardgate.portal.edits import INVALID, Edit, Given
from wardgate.portal.outbound import ReachableAddresses
from wardgate.portal.outcomes import Invalid, Missing
from wardgate.portal.sign_in.tables import (
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
)
from wardgate.portal.store import AccountTables, Conflict, Repository

CONTEXTS: Final = ("clients_and_portal", "clients_only", "portal_only")
EMAIL_CLAIMS: Final = ("email", "upn", "preferred_username")
VERIFICATIONS: Final = ("none", "claim", "proof")
NOT_YET: Final = "cannot be false: nobody can sign in with a provider yet"
WELL_KNOWN: Final = "/.well-known/openid-configuration"
CLIENT_SESSION_S: Final = (3600, 7_776_000)
PORTAL_SESSION_S: Final = (300, 86_400)

AnyProvider = GoogleAuthProvider | EntraAuthProvider | OktaAuthProvider | OidcAuthProvider


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """What sets one kind of provider apart.

    Attributes:
        needed: fields that a new one must be given, besides its name.
        defaults: what else it has at first.
    """

    name: str
    row: type[AnyProvider]
    needed: tuple[str, ...]
    defaults: Mapping[str, Any]


_COMMON: Final[Mapping[str, Any]] = {
    "name": None,
    "context": "clients_and_portal",
    "client_session_lifetime_secs": None,
    "portal_session_lifetime_secs": None,
    "is_disabled": True,
    "issuer": None,
}

GOOGLE: Final = ProviderKind(
    "google", GoogleAuthProvider, (), {**_COMMON, "issuer": "https://accounts.google.com"}
)
ENTRA: Final = ProviderKind("entra", EntraAuthProvider, ("issuer",), {**_COMMON, "email_claim": "upn"})
OKTA: Final = ProviderKind(
    "okta",
    OktaAuthProvider,
    ("okta_domain", "client_id", "client_secret"),
    {**_COMMON, "okta_domain": None, "client_id": None, "client_secret": None},
)
OIDC: Final = ProviderKind(
    "oidc",
    OidcAuthProvider,
    ("client_id", "client_secret", "discovery_document_uri"),
    {
        **_COMMON,
        "client_id": None,
        "client_secret": None,
        "discovery_document_uri": None,
        "email_verification_method": "claim",
    },
)


def providers_of(tables: AccountTables, kind: ProviderKind) -> Repository[Any]:
    """Return the account's providers of a kind."""
    found: Repository[Any] = getattr(tables, kind.row.table)
    return found


async def load_provider(tables: AccountTables, kind: ProviderKind, id_: UUID | None) -> Any:
    """Return a provider of a kind. Raises Missing."""
    found = None if id_ is None else await providers_of(tables, kind).load(id_)
    if found is None:
        raise Missing
    return found


async def make_provider(
    tables: AccountTables, kind: ProviderKind, given: Given, *, reachable: ReachableAddresses
) -> Any:
    """Make a provider, disabled. Raises Invalid."""
    id_ = tables.new_id()
    values = _checked(kind, Edit(given, kind.defaults), reachable)
    try:
        return await providers_of(tables, kind).insert(
            kind.row(id=id_, account_id=tables.account_id, **values)
        )
    except Conflict as conflict:
        raise _taken(conflict) from None


async def change_provider(
    tables: AccountTables, kind: ProviderKind, before: Any, given: Given, *, reachable: ReachableAddresses
) -> Any:
    """Raises Invalid."""
    values = _checked(kind, Edit(given, asdict(before)), reachable)
    try:
        return await providers_of(tables, kind).save(replace(before, **values))
    except Conflict as conflict:
        raise _taken(conflict) from None


def _checked(kind: ProviderKind, edit: Edit, reachable: ReachableAddresses) -> dict[str, Any]:
    edit.text("name", required=True)
    edit.choice("context", CONTEXTS, required=True)
    _check_lifetime(edit, "client_session_lifetime_secs", *CLIENT_SESSION_S)
    _check_lifetime(edit, "portal_session_lifetime_secs", *PORTAL_SESSION_S)
    edit.flag("is_disabled")
    if edit.gave("is_disabled") and edit.raw("is_disabled") is False:
        edit.error("is_disabled", NOT_YET)
    for name in kind.needed:
        edit.text(name, longest=2000 if name in ("issuer", "discovery_document_uri") else 255, required=True)
    match kind.name:
        case "entra":
            _check_uri(edit, "issuer", reachable)
            edit.choice("email_claim", EMAIL_CLAIMS, required=True)
        case "okta":
            _check_okta(edit)
        case "oidc":
            _check_uri(edit, "discovery_document_uri", reachable)
            edit.text("issuer", longest=2000)
            if edit.value("issuer") is None:
                edit.put("issuer", (edit.value("discovery_document_uri") or "").removesuffix(WELL_KNOWN))
            elif "issuer" not in edit.errors:
                _check_uri(edit, "issuer", reachable)
            edit.choice("email_verification_method", VERIFICATIONS, required=True)
    return edit.finish()


def _check_lifetime(edit: Edit, name: str, least: int, most: int) -> None:
    if edit.gave(name):
        given = edit.raw(name)
        edit.put(name, given)
        if given is not None and not least <= given <= most:
            edit.error(name, f"must be between {least} and {most}")


def _check_uri(edit: Edit, name: str, reachable: ReachableAddresses) -> None:
    if name not in edit.errors and not reachable.may_name(edit.value(name)):
        edit.error(name, "is not an https address of a public host")


def _check_okta(edit: Edit) -> None:
    if "okta_domain" in edit.errors:
        return
    domain = edit.value("okta_domain").lower()
    labels = domain.split(".")
    is_domain = len(labels) > 1 and all(
        label.replace("-", "a").isalnum() and label.isascii() and not label.startswith("-")
        for label in labels
    )
    if not is_domain or labels[-1].isdigit():
        edit.error("okta_domain", INVALID)
    edit.put("okta_domain", domain)
    edit.put("issuer", f"https://{domain}")


def _taken(conflict: Conflict) -> Invalid:
    fields = conflict.fields or ("base",)
    if fields == ("id",):
        return Invalid({"base": ["an account has one provider of this kind"]})
    return Invalid({fields[-1]: ["has already been taken"]})
