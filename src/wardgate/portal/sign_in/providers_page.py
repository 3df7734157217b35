"""The page of the ways to sign in: providers of all kinds, their trials, and the end of sign-ins with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import ColumnElement
from starlette.responses import Response

from wardgate.portal.database.text_search import folded
from wardgate.portal.http.origin import origin_of
from wardgate.portal.logs.history import history_tab
from wardgate.portal.outcomes import Invalid, Missing
from wardgate.portal.sign_in import provider_rules as rules
from wardgate.portal.sign_in.oidc.verification import ask_for_trial
from wardgate.portal.sign_in.tables import AUTH_PROVIDERS, PROVIDERS, AuthProviderDetails
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.subjects import subject_of
from wardgate.portal.web.cells import Fact, Several, Status, Tag, Text
from wardgate.portal.web.choices import Option
from wardgate.portal.web.forms import ChoiceField, Field, Form, NumberField, TextField, ToggleField, messages
from wardgate.portal.web.listing import (
    Column,
    Editing,
    Empty,
    ListPage,
    Panel,
    PanelAction,
    Side,
    Tab,
    errors_of,
)
from wardgate.portal.web.page import Found, Live, PageRoute, Section
from wardgate.portal.web.visit import Visit

_TITLES: Final = {
    "email_otp": "Code by e-mail",
    "userpass": "User name and password",
    "google": "Google",
    "entra": "Microsoft Entra",
    "okta": "Okta",
    "oidc": "OpenID Connect",
}
PROVIDERS_SEARCHED: Final = 100
_CONTEXTS: Final = {
    "clients_and_portal": "Clients and portal",
    "clients_only": "Clients only",
    "portal_only": "Portal only",
}


class AllProviders:
    """The providers of all kinds as one table: found by their parents, returned with their details."""

    def __init__(self, tables: AccountTables) -> None:
        self._tables = tables
        self.c = AUTH_PROVIDERS.c

    async def find(self, *conditions: ColumnElement[bool]) -> AuthProviderDetails | None:
        found = await self.load_all(*conditions, limit=1)
        return found[0] if found else None

    async def load_all(
        self,
        *conditions: ColumnElement[bool],
        order_by: Sequence[Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[AuthProviderDetails]:
        parents = await self._tables.auth_providers.load_all(
            *conditions, order_by=order_by, limit=limit, offset=offset
        )
        details: dict[UUID, AuthProviderDetails] = {}
        for kind in {parent.type for parent in parents}:
            providers = rules.providers_of(self._tables, rules.KINDS[kind])
            details |= {one.id: one for one in await providers.load_all()}
        return [details[parent.id] for parent in parents if parent.id in details]

    async def load_page(
        self, *conditions: ColumnElement[bool], order_by: Sequence[Any], limit: int, offset: int = 0
    ) -> list[AuthProviderDetails]:
        return await self.load_all(*conditions, order_by=order_by, limit=limit, offset=offset)

    async def count(self, *conditions: ColumnElement[bool], at_most: int | None = None) -> int:
        return await self._tables.auth_providers.count(*conditions, at_most=at_most)


Facts = Mapping[UUID, rules.Uses]


async def load_uses(_visit: Visit, tables: AccountTables, providers: Sequence[AuthProviderDetails]) -> Facts:
    return {one.id: await rules.count_uses(tables, one) for one in providers}


# What is shown


def _name(provider: AuthProviderDetails, _facts: Facts) -> Several:
    tags = [Tag("default", "good")] if getattr(provider, "is_default", False) else []
    return Several((Text(provider.name, _TITLES[provider.type]), *tags))


def status_of_provider(provider: AuthProviderDetails) -> Status:
    if not provider.is_disabled:
        return Status("Enabled", "good")
    if not getattr(provider, "is_verified", True):
        return Status("Not tried yet", "caution")
    return Status("Disabled", "neutral")


def _lifetime(seconds: int | None, default: int) -> str:
    total = default if seconds is None else seconds
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if total % length == 0:
            return f"{total // length} {unit}"
    return f"{total} s"


async def facts_of(visit: Visit, tables: AccountTables, provider: AuthProviderDetails) -> Sequence[Fact]:
    uses = await rules.count_uses(tables, provider)
    facts = [
        Fact("Kind", Text(_TITLES[provider.type])),
        Fact("Where", Text(_CONTEXTS[provider.context])),
        Fact("Portal sessions", Text(_lifetime(provider.portal_session_lifetime_secs, 28_800))),
        Fact("Client sessions", Text(_lifetime(provider.client_session_lifetime_secs, 604_800))),
        Fact("Signed in", Text(_signed_in(uses))),
    ]
    if rules.KINDS[provider.type].is_identity_provider:
        facts += [
            Fact("Issuer", Text(provider.issuer, is_code=True)),
            Fact("Client ID", Text(getattr(provider, "client_id", None) or "–", is_code=True)),
            Fact("Redirect URI", Text(visit.services.settings.oidc_redirect_uri, is_code=True)),
            Fact(
                "Groups", Text("From the claim groups" if getattr(provider, "fills_groups", False) else "–")
            ),
        ]
    return [*facts, Fact("ID", Text(str(provider.id), is_code=True))]


def _signed_in(uses: rules.Uses) -> str:
    return f"{uses.portal_sessions} in the portal, {uses.client_tokens} clients"


async def panel_status(_visit: Visit, _tables: AccountTables, provider: AuthProviderDetails) -> Status:
    return status_of_provider(provider)


# Forms


@dataclass(frozen=True, kw_only=True)
class SecretField(TextField):
    """A secret: it goes in and never comes out; left empty, the stored one stays."""

    def stored(self, _row: object) -> Any:
        return None


_KIND: Final = ChoiceField(
    name="type",
    label="Provider",
    choices=[Option(kind.name, _TITLES[kind.name]) for kind in (*rules.IDENTITY_PROVIDERS, rules.USERPASS)],
    is_cards=True,
    is_required=True,
    initial="oidc",
)


def _fields_of(kind: str, *, is_new: bool) -> tuple[Field, ...]:
    """Return the fields of a kind; in the form of a new one they are shown if it is chosen."""
    own: dict[str, tuple[Field, ...]] = {
        "entra": (
            TextField(
                name="issuer",
                label="Issuer",
                placeholder="https://login.microsoftonline.com/<tenant id>/v2.0",
                longest=2000,
                is_required=True,
                is_code=True,
            ),
            ChoiceField(
                name="email_claim",
                label="E-mail claim",
                choices=[Option(one, one) for one in ("upn", "email", "preferred_username")],
                initial="upn",
                is_required=True,
            ),
        ),
        "okta": (
            TextField(
                name="okta_domain",
                label="Okta domain",
                placeholder="example.okta.com",
                is_required=True,
                is_code=True,
            ),
        ),
        "oidc": (
            TextField(
                name="discovery_document_uri",
                label="Discovery document",
                placeholder="https://…/.well-known/openid-configuration",
                longest=2000,
                is_required=True,
                is_code=True,
            ),
            ChoiceField(
                name="email_verification_method",
                label="E-mail verification",
                choices=[
                    Option("claim", "Claim", "The provider says that the address is verified."),
                    Option("proof", "Proof", "A code is sent to the address at the first sign-in."),
                    Option("none", "None", "The provider is trusted with any address."),
                ],
                initial="claim",
                is_required=True,
            ),
        ),
    }
    fields = own.get(kind, ())
    if is_new:
        return tuple(replace(one, shown_if=("type", (kind,))) for one in fields)
    return fields


_NAME: Final = TextField(name="name", label="Name", is_required=True)
_CLIENT: Final = (
    TextField(name="client_id", label="Client ID", is_required=True, is_code=True),
    SecretField(name="client_secret", label="Client secret", type="password", is_required=True),
)
_COMMON: Final[tuple[Field, ...]] = (
    ChoiceField(
        name="context",
        label="Where people sign in with it",
        choices=[Option(value, label) for value, label in _CONTEXTS.items()],
        initial="clients_and_portal",
        is_required=True,
    ),
    NumberField(
        name="portal_session_lifetime_secs",
        label="Portal session, seconds",
        help="8 hours (28800) if left empty.",
        least=rules.PORTAL_SESSION_S[0],
        most=rules.PORTAL_SESSION_S[1],
    ),
    NumberField(
        name="client_session_lifetime_secs",
        label="Client session, seconds",
        help="7 days (604800) if left empty.",
        least=rules.CLIENT_SESSION_S[0],
        most=rules.CLIENT_SESSION_S[1],
    ),
)
_GROUPS: Final = ToggleField(
    name="fills_groups",
    label="Fill groups from the claim “groups”",
    help="At each sign-in, the groups that the provider names are the person's; without the claim, none.",
)
_IF_IDENTITY_PROVIDER: Final = ("type", tuple(kind.name for kind in rules.IDENTITY_PROVIDERS))
_NEW_FORM: Final = Form(
    (
        _KIND,
        _NAME,
        *(one for kind in rules.IDENTITY_PROVIDERS for one in _fields_of(kind.name, is_new=True)),
        *(replace(one, shown_if=_IF_IDENTITY_PROVIDER) for one in _CLIENT),
        *_COMMON,
        replace(_GROUPS, shown_if=_IF_IDENTITY_PROVIDER),
    )
)


def _form_of(provider: AuthProviderDetails | None) -> Form:
    if provider is None:
        return _NEW_FORM
    if not rules.KINDS[provider.type].is_identity_provider:
        return Form((_NAME, *_COMMON))
    # The client's values are changed where they are tried.
    tried = rules.KINDS[provider.type].connection
    fields = (one for one in _fields_of(provider.type, is_new=False) if one.name not in tried)
    return Form((_NAME, *fields, *_COMMON, _GROUPS))


def _trial_form(provider: AuthProviderDetails) -> Form:
    kind = rules.KINDS[provider.type]
    fields = (one for one in _fields_of(provider.type, is_new=False) if one.name in kind.connection)
    secret = replace(_CLIENT[1], is_required=False, help="The stored one stays if this is left empty.")
    return Form((*fields, _CLIENT[0], secret))


# What can be done


async def _make(
    visit: Visit, tables: AccountTables, _: Transaction, given: Mapping[str, Any]
) -> AuthProviderDetails:
    values = dict(given)
    kind = rules.KINDS.get(str(values.pop("type")))
    if kind is None or not (kind.is_identity_provider or kind is rules.USERPASS):
        raise Invalid({"type": ["is not a kind of provider"]})
    made: AuthProviderDetails = await rules.make_provider(
        tables, kind, values, reachable=visit.services.settings.reachable_addresses
    )
    return made


async def _change(
    visit: Visit,
    tables: AccountTables,
    _: Transaction,
    before: AuthProviderDetails,
    given: Mapping[str, Any],
) -> AuthProviderDetails:
    return await _with(visit, tables, before, given)


async def _with(
    visit: Visit, tables: AccountTables, before: AuthProviderDetails, given: Mapping[str, Any]
) -> AuthProviderDetails:
    changed: AuthProviderDetails = await rules.change_provider(
        tables,
        rules.KINDS[before.type],
        before,
        given,
        reachable=visit.services.settings.reachable_addresses,
        own_id=await _own_id(visit, tables),
    )
    return changed


async def _own_id(visit: Visit, tables: AccountTables) -> UUID | None:
    """Return the provider that the person who asks is signed in with."""
    session = await tables.portal_sessions.load(visit.signed_in.session_id)
    return None if session is None else session.auth_provider_id


async def _enable(visit: Visit, tables: AccountTables, _: Transaction, provider: AuthProviderDetails) -> str:
    await _with(visit, tables, provider, {"is_disabled": False})
    return f"People can sign in with “{provider.name}”."


async def _disable(visit: Visit, tables: AccountTables, _: Transaction, provider: AuthProviderDetails) -> str:
    await _with(visit, tables, provider, {"is_disabled": True})
    return f"“{provider.name}” is disabled; all sign-ins with it have ended."


async def _make_default(
    visit: Visit, tables: AccountTables, _: Transaction, provider: AuthProviderDetails
) -> str:
    await _with(visit, tables, provider, {"is_default": True})
    return f"Clients are sent to “{provider.name}” now."


async def _remove_default(
    visit: Visit, tables: AccountTables, _: Transaction, provider: AuthProviderDetails
) -> str:
    await _with(visit, tables, provider, {"is_default": False})
    return "Clients are asked how to sign in now."


async def _revoke(_visit: Visit, tables: AccountTables, _: Transaction, provider: AuthProviderDetails) -> str:
    return f"Ended: {_signed_in(await rules.revoke_sessions(tables, provider))}."


async def _delete(visit: Visit, tables: AccountTables, _: Transaction, provider: AuthProviderDetails) -> str:
    kind = rules.KINDS[provider.type]
    await rules.delete_provider(tables, kind, provider, own_id=await _own_id(visit, tables))
    return f"“{provider.name}” was deleted."


def _is_identity_provider(_visit: Visit, provider: AuthProviderDetails) -> bool:
    return rules.KINDS[provider.type].is_identity_provider


def _can_be_enabled(_visit: Visit, provider: AuthProviderDetails) -> bool:
    return provider.is_disabled and getattr(provider, "is_verified", True)


def _is_enabled(_visit: Visit, provider: AuthProviderDetails) -> bool:
    return not provider.is_disabled


def _can_be_default(visit: Visit, provider: AuthProviderDetails) -> bool:
    is_default = getattr(provider, "is_default", True)
    return _is_identity_provider(visit, provider) and not is_default and not provider.is_disabled


def _is_default(_visit: Visit, provider: AuthProviderDetails) -> bool:
    return bool(getattr(provider, "is_default", False))


async def _no_values(_visit: Visit, _tables: AccountTables, _provider: AuthProviderDetails) -> None:
    return None


# The trial


async def show_trial(visit: Visit) -> Response:
    try:
        provider = await _provider_of(visit)
    except Missing:
        return PAGE.gone(visit)
    return await _show_trial(visit, provider, {})


async def ask(visit: Visit) -> Response:
    """Answer with the address at which the trial begins: a form's answer may not lead to another host itself."""
    try:
        provider = await _provider_of(visit)
    except Missing:
        return PAGE.gone(visit)
    filled = _trial_form(provider).submitted(visit.form)
    given, errors = filled.given()
    tried = {name: value for name, value in given.items() if value is not None}
    url = None
    if not errors:
        try:
            url = ask_for_trial(
                visit.services,
                visit.account.id,
                rules.KINDS[provider.type],
                provider,  # type: ignore[arg-type] # one of the four that have a client
                tried,
                subject=subject_of(visit.actor, origin_of(visit.request.scope)),
            )
        except Invalid as refused:
            errors = errors_of(refused)
    return await _show_trial(visit, provider, errors, filled=filled.refused(errors), url=url)


async def _provider_of(visit: Visit) -> AuthProviderDetails:
    async with visit.reading() as tables:
        provider = await PAGE.load(tables, visit.id())
    if not _is_identity_provider(visit, provider):
        raise Missing
    return provider


async def _show_trial(
    visit: Visit, provider: AuthProviderDetails, errors: Mapping[str, Any], **values: Any
) -> Response:
    filled = _trial_form(provider).of(provider, "")
    shown = {"filled": filled, "url": None, "messages": messages, **values}
    side = Side(f"Try {provider.name}", "sign_in/trial_form.html", {"row": provider, **shown})
    status = HTTPStatus.UNPROCESSABLE_ENTITY if errors else HTTPStatus.OK
    return await PAGE.show(visit, side, status=status)


@dataclass(frozen=True, kw_only=True)
class ProvidersPage(ListPage[AuthProviderDetails, Facts]):
    """The page of providers: a few, of several tables, which the palette looks through."""

    async def find(self, tables: AccountTables, words: str, *, limit: int) -> list[Found]:
        providers = await AllProviders(tables).load_all(
            order_by=[AUTH_PROVIDERS.c.id], limit=PROVIDERS_SEARCHED
        )
        found = [one for one in providers if folded(words) in folded(one.name)]
        return [Found(one.name, f"{self.path}/{one.id}", _TITLES[one.type]) for one in found[:limit]]


PAGE: Final = ProvidersPage(
    name="Authentication",
    singular="provider",
    path="/settings/authentication",
    icon="key-round",
    section=Section.SETTINGS,
    about="How people sign in, to the portal and with their clients.",
    live=Live(tables=frozenset(one.name for one in PROVIDERS)),
    repository=lambda tables: cast("Any", AllProviders(tables)),
    load_facts=load_uses,
    default_sort="name",
    columns=(
        Column(name="name", label="Provider", cell=_name, sort=AUTH_PROVIDERS.c.type),
        Column(name="context", label="Where", cell=lambda one, _: Text(_CONTEXTS[one.context])),
        Column(
            name="issuer",
            label="Issuer",
            cell=lambda one, _: Text(
                one.issuer if rules.KINDS[one.type].is_identity_provider else "–", is_code=True
            ),
            is_secondary=True,
        ),
        Column(
            name="lifetimes",
            label="Portal, clients",
            cell=lambda one, _: Text(
                f"{_lifetime(one.portal_session_lifetime_secs, 28_800)},"
                f" {_lifetime(one.client_session_lifetime_secs, 604_800)}"
            ),
            is_secondary=True,
        ),
        Column(name="sessions", label="Signed in", cell=lambda one, uses: Text(_signed_in(uses[one.id]))),
        Column(name="status", label="Status", cell=lambda one, _: status_of_provider(one)),
    ),
    empty=Empty("Nobody can sign in", "Add an identity provider, so that people use the account they have."),
    panel=Panel(
        facts=facts_of,
        status=panel_status,
        tabs=(
            Tab(
                name="trial",
                label="Trial",
                template="sign_in/trial_tab.html",
                load=_no_values,
                is_offered=_is_identity_provider,
            ),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="enable",
                label="Enable",
                run=_enable,
                warning="Everybody whom the provider knows, and this account too, can sign in with it.",
                is_offered=_can_be_enabled,
            ),
            PanelAction(
                name="make-default",
                label="Make it the default",
                run=_make_default,
                warning="Clients are sent there without being asked.",
                is_offered=_can_be_default,
            ),
            PanelAction(
                name="remove-default",
                label="Remove as default",
                run=_remove_default,
                undone_by="make-default",
                warning="Clients are asked how to sign in.",
                is_offered=_is_default,
            ),
            PanelAction(
                name="revoke",
                label="End all sign-ins",
                run=_revoke,
                warning="Everybody who signed in with it has to sign in again; clients are disconnected at once.",
                is_dangerous=True,
            ),
            PanelAction(
                name="disable",
                label="Disable",
                run=_disable,
                warning="Nobody can sign in with it, and all sign-ins with it end at once.",
                is_dangerous=True,
                is_offered=_is_enabled,
            ),
            PanelAction(
                name="delete",
                label="Delete provider",
                run=_delete,
                warning="All sign-ins with it end at once. It cannot be brought back.",
                is_dangerous=True,
                typed=lambda provider: provider.name,
                leaves=True,
                is_offered=_is_identity_provider,
            ),
        ),
    ),
    editing=Editing(form=_form_of, make=_make, change=_change),
    more=(PageRoute("/{id}/trial", show_trial), PageRoute("/{id}/trial", ask, "POST")),
)
