"""`/wardgate/accounts/{account_id}/{google,entra,okta,oidc}_auth_providers`: sign-in providers, made and
changed by the operator.

An API client only reads them (portal-domain §4). A provider can be enabled once somebody has signed in with it for a
trial (§3.5): `verification` returns where a browser has to go for that. The client secret goes in and never comes out.
"""

from typing import Annotated, Any, Final, get_type_hints

from fastapi import Response
from pydantic import BaseModel, Field, create_model
from pydantic.config import JsonDict

from wardgate.portal.installation.rules import load_account
from wardgate.portal.rest.caller import ForOperator
from wardgate.portal.rest.fields import EVERYWHERE, NOTHING_REQUIRED, Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response
from wardgate.portal.sign_in import provider_rules as rules
from wardgate.portal.sign_in.oidc.verification import ask_for_trial
from wardgate.portal.sign_in.provider_rules import (
    CLIENT_SESSION_S,
    CONTEXTS,
    EMAIL_CLAIMS,
    PORTAL_SESSION_S,
    VERIFICATIONS,
    ProviderKind,
)
from wardgate.portal.sign_in.views import (
    AuthProviderView,
    EntraAuthProviderView,
    GoogleAuthProviderView,
    OidcAuthProviderView,
    OktaAuthProviderView,
)

routes = Routes("operated_providers", "/wardgate/accounts/{account_id}", tag="Wardgate: installation")

_NARROWING: Final = EVERYWHERE | {
    "allowed_domains", "allowed_groups", "conditions", "domain", "hosted_domain", "is_verified", "tenant_id",
}  # fmt: skip


def _limits(bounds: tuple[int, int]) -> JsonDict:
    return {"minimum": bounds[0], "maximum": bounds[1]}


class ProviderFields(Fields):
    narrowing = _NARROWING
    name: Annotated[str | None, text(shortest=1)] = None
    context: Annotated[str | None, one_of(CONTEXTS)] = None
    client_session_lifetime_secs: Annotated[
        int | None, Field(json_schema_extra=_limits(CLIENT_SESSION_S))
    ] = None
    portal_session_lifetime_secs: Annotated[
        int | None, Field(json_schema_extra=_limits(PORTAL_SESSION_S))
    ] = None
    is_disabled: Annotated[
        bool | None, Field(description="false only after a trial sign-in; true ends all sign-ins with it")
    ] = None
    is_default: Annotated[bool | None, Field(description="clients are sent there without being asked")] = None
    fills_groups: Annotated[
        bool | None, Field(description="the claim `groups` decides memberships at each sign-in")
    ] = None
    client_id: Annotated[str | None, text(shortest=1)] = None
    client_secret: Annotated[str | None, text(shortest=1, about="never returned")] = None


class GoogleFields(ProviderFields):
    pass


class EntraFields(ProviderFields):
    issuer: Annotated[str | None, text(2000, shortest=1, about="https://login.microsoftonline.com/…")] = None
    email_claim: Annotated[str | None, one_of(EMAIL_CLAIMS)] = None


class OktaFields(ProviderFields):
    okta_domain: Annotated[str | None, text(shortest=1, about="such as example.okta.com")] = None


class OidcFields(ProviderFields):
    discovery_document_uri: Annotated[str | None, text(2000, shortest=1, about="https")] = None
    issuer: Annotated[
        str | None,
        text(2000, shortest=1, about="by default whom the trial sign-in proves"),
    ] = None
    email_verification_method: Annotated[str | None, one_of(VERIFICATIONS)] = None


class TrialView(BaseModel):
    """A trial sign-in on its way.

    `url` is to be opened in a browser within five minutes, and works once.
    """

    url: str


class UsesView(BaseModel):
    """How many sign-ins were ended."""

    portal_sessions: int
    client_tokens: int


def _operated(title: str, view: type[AuthProviderView]) -> type[AuthProviderView]:
    """Return the view with what only the operator is shown."""
    return create_model(
        f"Operated{title}AuthProviderView",
        __base__=view,
        client_id=(str | None, ...),
        is_verified=(bool, ...),
        fills_groups=(bool, ...),
    )


OperatedGoogleAuthProviderView = _operated("Google", GoogleAuthProviderView)
OperatedEntraAuthProviderView = _operated("Entra", EntraAuthProviderView)
OperatedOktaAuthProviderView = _operated("Okta", OktaAuthProviderView)
OperatedOidcAuthProviderView = _operated("Oidc", OidcAuthProviderView)


def _serve(kind: ProviderKind, fields: type[ProviderFields], view: type[AuthProviderView]) -> None:
    """Add the calls of one kind of provider."""
    wrapper, place = f"{kind.name}_auth_provider", f"/{kind.name}_auth_providers"
    title = kind.name.capitalize()
    model_config = required("name", *kind.needed)
    new = type(f"New{title}Fields", (fields,), {"model_config": model_config, "__module__": __name__})
    changed = type(f"{title}Fields", (fields,), {"model_config": NOTHING_REQUIRED, "__module__": __name__})
    new_body: Any = create_model(f"New{title}AuthProviderBody", **{wrapper: (new, ...)})  # type: ignore[call-overload]
    body_of_change: Any = create_model(f"{title}AuthProviderBody", **{wrapper: (changed, ...)})  # type: ignore[call-overload]

    hints = get_type_hints(fields, include_extras=True)
    tried = type(
        f"{title}TrialFields",
        (Fields,),
        {
            "__annotations__": {name: hints[name] for name in kind.connection},
            **dict.fromkeys(kind.connection),
            "narrowing": _NARROWING,
            "model_config": NOTHING_REQUIRED,
            "__module__": __name__,
        },
    )
    body_of_trial: Any = create_model(f"{title}TrialBody", **{wrapper: (tried | None, None)}) | None  # type: ignore[call-overload]

    async def index(caller: ForOperator, account_id: Id, paging: Paging, name: str | None = None) -> Response:
        async with caller.listing() as transaction:
            account = await load_account(transaction, account_id)
            providers = rules.providers_of(transaction.of(account.id), kind)
            wanted = [] if name is None else [providers.c.name == name]
            return list_response(
                await load_page(providers, paging, *wanted, newest_first=True), view.fields_of
            )

    async def show(caller: ForOperator, account_id: Id, id: Id) -> Data[Any]:  # noqa: A002
        async with caller.reading() as transaction:
            tables = transaction.of((await load_account(transaction, account_id)).id)
            return Data(data=view.of(caller.tagged(await rules.load_provider(tables, kind, id))))

    async def create(caller: ForOperator, account_id: Id, body: new_body, response: Response) -> Data[Any]:
        async with caller.writing() as transaction:
            account = await load_account(transaction, account_id)
            given = getattr(body, wrapper).given()
            made = await rules.make_provider(
                transaction.of(account.id),
                kind,
                given,
                reachable=caller.services.settings.reachable_addresses,
            )
        response.headers["location"] = f"/wardgate/accounts/{account.id}{place}/{made.id}"
        return Data(data=view.of(caller.tagged(made)))

    async def update(caller: ForOperator, account_id: Id, id: Id, body: body_of_change) -> Data[Any]:  # noqa: A002
        async with caller.writing() as transaction:
            tables = transaction.of((await load_account(transaction, account_id)).id)
            before = caller.expected(await rules.load_provider(tables, kind, id))
            after = await rules.change_provider(
                tables,
                kind,
                before,
                getattr(body, wrapper).given(),
                reachable=caller.services.settings.reachable_addresses,
            )
            return Data(data=view.of(caller.tagged(after)))

    async def delete(caller: ForOperator, account_id: Id, id: Id) -> Data[Any]:  # noqa: A002
        async with caller.writing() as transaction:
            tables = transaction.of((await load_account(transaction, account_id)).id)
            gone = caller.expected(await rules.load_provider(tables, kind, id))
            await rules.delete_provider(tables, kind, gone)
            return Data(data=view.of(gone))

    async def verify(caller: ForOperator, account_id: Id, id: Id, body: body_of_trial = None) -> Data[Any]:  # noqa: A002
        """Begin a trial sign-in, with other values of the provider's client if any are given."""
        async with caller.reading() as transaction:
            account = await load_account(transaction, account_id)
            provider = await rules.load_provider(transaction.of(account.id), kind, id)
        other = None if body is None else getattr(body, wrapper)
        given = {} if other is None else other.given()
        url = ask_for_trial(caller.services, account.id, kind, provider, given, subject=caller.subject())
        return Data(data=TrialView(url=url))

    async def end_sessions(caller: ForOperator, account_id: Id, id: Id) -> Data[Any]:  # noqa: A002
        """End all sign-ins with the provider."""
        async with caller.writing() as transaction:
            tables = transaction.of((await load_account(transaction, account_id)).id)
            uses = await rules.revoke_sessions(tables, await rules.load_provider(tables, kind, id))
            return Data(data=UsesView(portal_sessions=uses.portal_sessions, client_tokens=uses.client_tokens))

    many: Any = ListOf[view]  # type: ignore[valid-type] # the framework reads it while it runs
    one: Any = Data[view]  # type: ignore[valid-type]
    for method, path, call, model in (
        ("GET", place, index, many),
        ("POST", place, create, one),
        ("GET", f"{place}/{{id}}", show, one),
        ("PUT", f"{place}/{{id}}", update, one),
        ("PATCH", f"{place}/{{id}}", update, one),
        ("DELETE", f"{place}/{{id}}", delete, one),
        ("POST", f"{place}/{{id}}/verification", verify, Data[TrialView]),
        ("DELETE", f"{place}/{{id}}/sessions", end_sessions, Data[UsesView]),
    ):
        routes.add(
            method,
            path,
            call,
            is_versioned=path == f"{place}/{{id}}",
            makes_object=method == "POST" and path == place,
            response_model=model,
            name=f"{call.__name__}_{kind.name}",
            summary=call.__name__.replace("_", " ").capitalize(),
        )


_serve(rules.GOOGLE, GoogleFields, OperatedGoogleAuthProviderView)
_serve(rules.ENTRA, EntraFields, OperatedEntraAuthProviderView)
_serve(rules.OKTA, OktaFields, OperatedOktaAuthProviderView)
_serve(rules.OIDC, OidcFields, OperatedOidcAuthProviderView)
