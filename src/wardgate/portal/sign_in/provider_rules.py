"""What may be done with providers that people sign in with (portal-domain §3.5, identity §9, §11).

An identity provider is used only after somebody has signed in with it for a trial (`sign_in.oidc.verification`). Other
values of its client need a trial of their own: stored directly they put it out of use, tried first they replace the old
ones when the trial succeeds. Nobody puts out of use the provider they are signed in with, nor the default one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from uuid import UUID

from wardgate.portal.edits import INVALID, Edit, Given
from wardgate.portal.outbound import ReachableAddresses
from wardgate.portal.outcomes import Forbidden, Invalid, Missing, WrongState
from wardgate.portal.sign_in.oidc import groups
from wardgate.portal.sign_in.oidc.relying_party import WELL_KNOWN, RelyingParty
from wardgate.portal.sign_in.tables import (
    EmailOtpAuthProvider,
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
    UserpassAuthProvider,
)
from wardgate.portal.store import AccountTables, Conflict, Repository

CONTEXTS: Final = ("clients_and_portal", "clients_only", "portal_only")
EMAIL_CLAIMS: Final = ("email", "upn", "preferred_username")
VERIFICATIONS: Final = ("none", "claim", "proof")
CLIENT_SESSION_S: Final = (3600, 7_776_000)
PORTAL_SESSION_S: Final = (300, 86_400)

NOT_VERIFIED: Final = "cannot be false before a trial sign-in has succeeded"
IS_DEFAULT: Final = "cannot be true of the default provider: make another one the default first"
IS_OWN: Final = "cannot be true of the provider that you are signed in with"
DEFAULT_IS_DISABLED: Final = "cannot be true of a disabled provider"
TRY_FIRST: Final = "would put out of use a provider that is needed now: try the new value in a trial sign-in"


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """What sets one kind of provider apart.

    Attributes:
        needed: fields that a new one must be given, besides its name.
        connection: fields that a trial sign-in proves; other values need another trial.
        defaults: what else it has at first; None for a kind that every account has from its birth.
    """

    name: str
    row: type[Any]
    needed: tuple[str, ...] = ()
    connection: tuple[str, ...] = ()
    defaults: Mapping[str, Any] | None = None

    @property
    def is_identity_provider(self) -> bool:
        return bool(self.connection)


_COMMON: Final[Mapping[str, Any]] = {
    "name": None,
    "context": "clients_and_portal",
    "client_session_lifetime_secs": None,
    "portal_session_lifetime_secs": None,
    "is_disabled": True,
    "is_default": False,
    "is_verified": False,
    "fills_groups": False,
    "issuer": None,
    "client_id": None,
    "client_secret": None,
}
_CLIENT: Final = ("client_id", "client_secret")

EMAIL_OTP: Final = ProviderKind("email_otp", EmailOtpAuthProvider)
USERPASS: Final = ProviderKind(
    "userpass",
    UserpassAuthProvider,
    defaults={
        "name": None,
        "context": "clients_and_portal",
        "client_session_lifetime_secs": None,
        "portal_session_lifetime_secs": None,
        "is_disabled": False,
        "issuer": "firezone",
    },
)
GOOGLE: Final = ProviderKind(
    "google", GoogleAuthProvider, _CLIENT, _CLIENT, {**_COMMON, "issuer": "https://accounts.google.com"}
)
ENTRA: Final = ProviderKind(
    "entra",
    EntraAuthProvider,
    ("issuer", *_CLIENT),
    ("issuer", *_CLIENT),
    {**_COMMON, "email_claim": "upn"},
)
OKTA: Final = ProviderKind(
    "okta",
    OktaAuthProvider,
    ("okta_domain", *_CLIENT),
    ("okta_domain", *_CLIENT),
    {**_COMMON, "okta_domain": None},
)
OIDC: Final = ProviderKind(
    "oidc",
    OidcAuthProvider,
    (*_CLIENT, "discovery_document_uri"),
    (*_CLIENT, "discovery_document_uri", "issuer"),
    {**_COMMON, "discovery_document_uri": None, "email_verification_method": "claim"},
)

IDENTITY_PROVIDERS: Final = (GOOGLE, ENTRA, OKTA, OIDC)
KINDS: Final = {kind.name: kind for kind in (EMAIL_OTP, USERPASS, *IDENTITY_PROVIDERS)}


@dataclass(frozen=True, slots=True)
class Uses:
    """How many sign-ins by a provider are alive."""

    portal_sessions: int = 0
    client_tokens: int = 0


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
    """Make a provider; an identity provider is out of use until a trial sign-in has succeeded. Raises Invalid."""
    assert kind.defaults is not None
    edit = _checked(kind, Edit(given, kind.defaults), reachable)
    _check_use(edit, kind, is_verified=False)
    values = edit.finish()
    try:
        return await providers_of(tables, kind).insert(
            kind.row(id=tables.new_id(), account_id=tables.account_id, **values)
        )
    except Conflict as conflict:
        raise _taken(conflict) from None


async def change_provider(
    tables: AccountTables,
    kind: ProviderKind,
    before: Any,
    given: Given,
    *,
    reachable: ReachableAddresses,
    own_id: UUID | None = None,
) -> Any:
    """Change a provider; other values of its client put it out of use until they have been tried.

    Args:
        own_id: the provider that whoever asks is signed in with.

    Raises:
        Invalid: a value is wrong, or the provider is needed now.
    """
    edit = _checked(kind, Edit(given, asdict(before)), reachable)
    changed = [name for name in kind.connection if edit.value(name) != getattr(before, name)]
    if changed:
        edit.put("is_verified", False)
        if not edit.gave("is_disabled"):
            edit.put("is_disabled", True)
    _check_use(edit, kind, is_verified=kind.is_identity_provider and edit.value("is_verified"))
    if edit.value("is_disabled") and not before.is_disabled:
        _check_not_needed(edit, before, changed, own_id)
    return await _save(tables, kind, before, edit)


def candidate_of(kind: ProviderKind, before: Any, given: Given, *, reachable: ReachableAddresses) -> Any:
    """Return a provider as it would be with these values of its client, to be tried. Raises Invalid."""
    tried = {name: value for name, value in given.items() if name in kind.connection}
    return replace(before, **_checked(kind, Edit(tried, asdict(before)), reachable).finish())


async def store_verified(
    tables: AccountTables,
    kind: ProviderKind,
    before: Any,
    given: Given,
    *,
    tried: RelyingParty,
    reachable: ReachableAddresses,
) -> Any:
    """Store the values of the client that a trial sign-in has proved.

    Args:
        tried: the client that the trial was of.

    Raises:
        WrongState: the provider was changed meanwhile, so something else was tried.
        Invalid: somebody else's provider has these values.
    """
    candidate = candidate_of(kind, before, given, reachable=reachable)
    if RelyingParty.of(candidate) != tried:
        raise WrongState("The provider was changed while it was tried. Try it again.")
    try:
        return await providers_of(tables, kind).save(replace(candidate, is_verified=True))
    except Conflict as conflict:
        raise _taken(conflict) from None


async def delete_provider(
    tables: AccountTables, kind: ProviderKind, provider: Any, *, own_id: UUID | None = None
) -> None:
    """Delete an identity provider, the sign-ins by it, and memberships by its claim.

    Raises:
        Forbidden: whoever asks is signed in with it, or it is no identity provider.
    """
    if not kind.is_identity_provider:
        raise Forbidden("This provider can only be disabled")
    if provider.id == own_id:
        raise Forbidden("You cannot delete the provider that you are signed in with")
    await groups.empty(tables, provider.id)
    await providers_of(tables, kind).delete(provider.id)


async def revoke_sessions(tables: AccountTables, provider: Any) -> Uses:
    """End all sign-ins by a provider, and return how many there were."""
    sessions, tokens = tables.portal_sessions, tables.client_tokens
    return Uses(
        await sessions.delete_where(sessions.c.auth_provider_id == provider.id),
        await tokens.delete_where(tokens.c.auth_provider_id == provider.id),
    )


async def count_uses(tables: AccountTables, provider: Any) -> Uses:
    """Count the sign-ins by a provider that are alive."""
    sessions, tokens = tables.portal_sessions, tables.client_tokens
    return Uses(
        await sessions.count(sessions.c.auth_provider_id == provider.id, sessions.c.expires_at > tables.now),
        await tokens.count(tokens.c.auth_provider_id == provider.id, tokens.c.expires_at > tables.now),
    )


async def _save(tables: AccountTables, kind: ProviderKind, before: Any, edit: Edit) -> Any:
    after = replace(before, **edit.finish())
    if kind.is_identity_provider:
        if after.is_default and not before.is_default:
            await _clear_default(tables)
        if before.fills_groups and not after.fills_groups:
            await groups.empty(tables, before.id)
    try:
        return await providers_of(tables, kind).save(after)
    except Conflict as conflict:
        raise _taken(conflict) from None


async def _clear_default(tables: AccountTables) -> None:
    for kind in IDENTITY_PROVIDERS:
        providers = providers_of(tables, kind)
        for one in await providers.load_all(providers.c.is_default):
            await providers.save(replace(one, is_default=False))


def _check_use(edit: Edit, kind: ProviderKind, *, is_verified: bool) -> None:
    if not kind.is_identity_provider:
        return
    if not edit.value("is_disabled") and not is_verified:
        edit.error("is_disabled", NOT_VERIFIED)
    elif edit.value("is_default") and edit.value("is_disabled") and edit.gave("is_default"):
        edit.error("is_default", DEFAULT_IS_DISABLED)


def _check_not_needed(edit: Edit, before: Any, changed: list[str], own_id: UUID | None) -> None:
    """Refuse to put out of use what somebody is signed in with, or what clients are sent to."""
    is_default = getattr(before, "is_default", False) and edit.value("is_default")
    if not is_default and before.id != own_id:
        return
    if changed:
        edit.error(changed[0], TRY_FIRST)
    else:
        edit.error("is_disabled", IS_OWN if before.id == own_id else IS_DEFAULT)


def _checked(kind: ProviderKind, edit: Edit, reachable: ReachableAddresses) -> Edit:
    edit.text("name", required=True)
    edit.choice("context", CONTEXTS, required=True)
    _check_lifetime(edit, "client_session_lifetime_secs", *CLIENT_SESSION_S)
    _check_lifetime(edit, "portal_session_lifetime_secs", *PORTAL_SESSION_S)
    edit.flag("is_disabled")
    if kind.is_identity_provider:
        edit.flag("is_default")
        edit.flag("fills_groups")
    for name in kind.needed:
        edit.text(name, longest=2000 if name in ("issuer", "discovery_document_uri") else 255, required=True)
    match kind.name:
        case "entra":
            _check_uri(edit, "issuer", reachable)
            edit.choice("email_claim", EMAIL_CLAIMS, required=True)
        case "okta":
            _check_okta(edit)
        case "oidc":
            _check_oidc(edit, reachable)
    return edit


def _check_lifetime(edit: Edit, name: str, least: int, most: int) -> None:
    if edit.gave(name):
        given = edit.raw(name)
        edit.put(name, given)
        if given is not None and not least <= given <= most:
            edit.error(name, f"must be between {least} and {most}")


def _check_uri(edit: Edit, name: str, reachable: ReachableAddresses) -> None:
    if name not in edit.errors and not reachable.may_name(edit.value(name)):
        edit.error(name, "is not an https address of a public host")


def _check_oidc(edit: Edit, reachable: ReachableAddresses) -> None:
    _check_uri(edit, "discovery_document_uri", reachable)
    edit.text("issuer", longest=2000)
    if edit.value("issuer") is None:
        edit.put("issuer", (edit.value("discovery_document_uri") or "").removesuffix(WELL_KNOWN))
    elif "issuer" not in edit.errors:
        _check_uri(edit, "issuer", reachable)
    edit.choice("email_verification_method", VERIFICATIONS, required=True)


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
