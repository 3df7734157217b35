"""`/wardgate/accounts/{account_id}/{google,entra,okta,oidc}_auth_providers`: sign-in providers, made and changed by the operator.

An API client only reads them (portal-domain §4). A provider is accepted for use when somebody has signed in with it for a trial
(§3.5); nobody can yet, so each is kept disabled, and enabling one is refused. The client secret goes in and never comes out.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Response
from pydantic import Field, create_model

from wardgate.portal.installation.rest.accounts import load_account
from wardgate.portal.rest.caller import ForOperator
from wardgate.portal.rest.edits import INVALID, Edit
from wardgate.portal.rest.fields import EVERYWHERE, NOTHING_REQUIRED, Fields, one_of, required, text
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import invalid, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.sign_in_views import (
    AuthProviderView,
    EntraAuthProviderView,
    GoogleAuthProviderView,
    OidcAuthProviderView,
    OktaAuthProviderView,
)
from wardgate.portal.rest.views import Data, ListOf, listed
from wardgate.portal.store import AccountTables, Conflict, Repository
from wardgate.portal.store.rows import (
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
)

routes = Routes("operated_providers", "/wardgate/accounts/{account_id}", tag="Wardgate: installation")

CONTEXTS: Final = ("clients_and_portal", "clients_only", "portal_only")
EMAIL_CLAIMS: Final = ("email", "upn", "preferred_username")
VERIFICATIONS: Final = ("none", "claim", "proof")
NOT_YET: Final = "cannot be false: nobody can sign in with a provider yet"
GOOGLE: Final = "https://accounts.google.com"
WELL_KNOWN: Final = "/.well-known/openid-configuration"

_NARROWING: Final = EVERYWHERE | {
    "allowed_domains", "allowed_groups", "conditions", "domain", "hosted_domain", "is_verified", "tenant_id",
}  # fmt: skip


class ProviderFields(Fields):
    narrowing = _NARROWING
    name: Annotated[str | None, text(shortest=1)] = None
    context: Annotated[str | None, one_of(CONTEXTS)] = None
    client_session_lifetime_secs: Annotated[
        int | None, Field(json_schema_extra={"minimum": 3600, "maximum": 7_776_000})
    ] = None
    portal_session_lifetime_secs: Annotated[
        int | None, Field(json_schema_extra={"minimum": 300, "maximum": 86_400})
    ] = None
    is_disabled: Annotated[bool | None, Field(description="true: nobody can sign in with a provider yet")] = (
        None
    )


class GoogleFields(ProviderFields):
    pass


class EntraFields(ProviderFields):
    issuer: Annotated[str | None, text(2000, shortest=1, about="https://login.microsoftonline.com/…")] = None
    email_claim: Annotated[str | None, one_of(EMAIL_CLAIMS)] = None


class OktaFields(ProviderFields):
    okta_domain: Annotated[str | None, text(shortest=1, about="such as example.okta.com")] = None
    client_id: Annotated[str | None, text(shortest=1)] = None
    client_secret: Annotated[str | None, text(shortest=1, about="never returned")] = None


class OidcFields(ProviderFields):
    client_id: Annotated[str | None, text(shortest=1)] = None
    client_secret: Annotated[str | None, text(shortest=1, about="never returned")] = None
    discovery_document_uri: Annotated[str | None, text(2000, shortest=1, about="https")] = None
    issuer: Annotated[
        str | None,
        text(2000, shortest=1, about=f"by default the discovery document's URI without {WELL_KNOWN}"),
    ] = None
    email_verification_method: Annotated[str | None, one_of(VERIFICATIONS)] = None


def _serve(
    kind: str,
    fields: type[ProviderFields],
    needed: tuple[str, ...],
    view: type[AuthProviderView],
    row: Callable[..., Any],
    defaults: dict[str, Any],
) -> None:
    """Add the five calls of one kind of provider."""
    wrapper, place = f"{kind}_auth_provider", f"/{kind}_auth_providers"
    title = kind.capitalize()
    new = type(
        f"New{title}Fields", (fields,), {"model_config": required("name", *needed), "__module__": __name__}
    )
    changed = type(f"{title}Fields", (fields,), {"model_config": NOTHING_REQUIRED, "__module__": __name__})
    new_body: Any = create_model(f"New{title}AuthProviderBody", **{wrapper: (new, ...)})  # type: ignore[call-overload]
    body_of_change: Any = create_model(f"{title}AuthProviderBody", **{wrapper: (changed, ...)})  # type: ignore[call-overload]

    def table(tables: AccountTables) -> Repository[Any]:
        found: Repository[Any] = getattr(tables, f"{kind}_auth_providers")
        return found

    async def load(tables: AccountTables, id_: Any) -> Any:
        found = None if id_ is None else await table(tables).load(id_)
        if found is None:
            raise not_found()
        return found

    async def index(caller: ForOperator, account_id: Id, paging: Paging, name: str | None = None) -> Response:
        async with caller.reading() as transaction:
            providers = table(transaction.of((await load_account(transaction, account_id)).id))
            wanted = [] if name is None else [providers.c.name == name]
            return listed(await load_page(providers, paging, *wanted, newest_first=True), view.shown)

    async def show(caller: ForOperator, account_id: Id, id: Id) -> Data[Any]:  # noqa: A002
        async with caller.reading() as transaction:
            tables = transaction.of((await load_account(transaction, account_id)).id)
            return Data(data=view.of(caller.tagged(await load(tables, id))))

    async def create(caller: ForOperator, account_id: Id, body: new_body, response: Response) -> Data[Any]:
        try:
            async with caller.writing() as transaction:
                account = await load_account(transaction, account_id)
                id_, edit = transaction.new_id(), Edit(getattr(body, wrapper), dict(defaults))
                values = _checked(kind, edit, needed)
                made = await table(transaction.of(account.id)).insert(
                    row(id=id_, account_id=account.id, **values)
                )
        except Conflict as conflict:
            raise _taken(conflict) from None
        response.headers["location"] = f"/wardgate/accounts/{account.id}{place}/{made.id}"
        return Data(data=view.of(caller.tagged(made)))

    async def update(caller: ForOperator, account_id: Id, id: Id, body: body_of_change) -> Data[Any]:  # noqa: A002
        try:
            async with caller.writing() as transaction:
                tables = transaction.of((await load_account(transaction, account_id)).id)
                before = caller.expected(await load(tables, id))
                values = _checked(kind, Edit(getattr(body, wrapper), asdict(before)), needed)
                after = await table(tables).save(replace(before, **values))
                return Data(data=view.of(caller.tagged(after)))
        except Conflict as conflict:
            raise _taken(conflict) from None

    async def delete(caller: ForOperator, account_id: Id, id: Id) -> Data[Any]:  # noqa: A002
        async with caller.writing() as transaction:
            tables = transaction.of((await load_account(transaction, account_id)).id)
            gone = caller.expected(await load(tables, id))
            await table(tables).delete(gone.id)
            return Data(data=view.of(gone))

    many: Any = ListOf[view]  # type: ignore[valid-type] # the framework reads it while it runs
    one: Any = Data[view]  # type: ignore[valid-type]
    for method, path, call, model in (
        ("GET", place, index, many),
        ("POST", place, create, one),
        ("GET", f"{place}/{{id}}", show, one),
        ("PUT", f"{place}/{{id}}", update, one),
        ("PATCH", f"{place}/{{id}}", update, one),
        ("DELETE", f"{place}/{{id}}", delete, one),
    ):
        routes.add(
            method,
            path,
            call,
            is_versioned=path != place,
            makes_object=method == "POST",
            response_model=model,
            name=f"{call.__name__}_{kind}",
            summary=call.__name__.capitalize(),
        )


def _checked(kind: str, edit: Edit, needed: tuple[str, ...]) -> dict[str, Any]:
    edit.text("name", required=True)
    edit.choice("context", CONTEXTS, required=True)
    _check_lifetime(edit, "client_session_lifetime_secs", 3600, 7_776_000)
    _check_lifetime(edit, "portal_session_lifetime_secs", 300, 86_400)
    edit.flag("is_disabled")
    if edit.gave("is_disabled") and edit.raw("is_disabled") is False:
        edit.error("is_disabled", NOT_YET)
    for name in needed:
        edit.text(name, longest=2000 if name in ("issuer", "discovery_document_uri") else 255, required=True)
    match kind:
        case "entra":
            _check_uri(edit, "issuer")
            edit.choice("email_claim", EMAIL_CLAIMS, required=True)
        case "okta":
            _check_okta(edit)
        case "oidc":
            _check_uri(edit, "discovery_document_uri")
            edit.text("issuer", longest=2000)
            if edit.value("issuer") is None:
                edit.put("issuer", (edit.value("discovery_document_uri") or "").removesuffix(WELL_KNOWN))
            elif "issuer" not in edit.errors:
                _check_uri(edit, "issuer")
            edit.choice("email_verification_method", VERIFICATIONS, required=True)
    return edit.finish()


def _check_lifetime(edit: Edit, name: str, least: int, most: int) -> None:
    if edit.gave(name):
        given = edit.raw(name)
        edit.put(name, given)
        if given is not None and not least <= given <= most:
            edit.error(name, f"must be between {least} and {most}")


def _check_uri(edit: Edit, name: str) -> None:
    if name not in edit.errors and not _is_public_https(edit.value(name)):
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


def _is_public_https(uri: str) -> bool:
    """Tell whether a URI may be asked: a name is looked at when it is resolved, an address here (identity §16)."""
    if not uri.isascii() or not uri.isprintable() or " " in uri or "\\" in uri:
        return False
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.scheme != "https" or not host or parts.username is not None or parts.fragment or port == 0:
        return False
    try:
        address = ip_address(host)
    except ValueError:
        labels = host.rstrip(".").split(".")
        return len(labels) > 1 and labels[-1] not in ("localhost", "") and not labels[-1].isdigit()
    mapped = getattr(address, "ipv4_mapped", None)
    return not any((mapped or address) in network for network in _SPECIAL)


_SPECIAL: Final = tuple(
    ip_network(text)
    for text in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/32",
        "2001:2::/48",
        "2001:db8::/32",
        "2001:20::/28",
        "2002::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    ]
)


def _taken(conflict: Conflict) -> Exception:
    fields = conflict.fields or ("base",)
    if fields == ("id",):
        return invalid({"base": ["an account has one provider of this kind"]})
    return invalid({fields[-1]: ["has already been taken"]})


_COMMON: Final[dict[str, Any]] = {
    "name": None,
    "context": "clients_and_portal",
    "client_session_lifetime_secs": None,
    "portal_session_lifetime_secs": None,
    "is_disabled": True,
}

_serve("google", GoogleFields, (), GoogleAuthProviderView, GoogleAuthProvider, {**_COMMON, "issuer": GOOGLE})
_serve(
    "entra", EntraFields, ("issuer",), EntraAuthProviderView, EntraAuthProvider,
    {**_COMMON, "issuer": None, "email_claim": "upn"},
)  # fmt: skip
_serve(
    "okta", OktaFields, ("okta_domain", "client_id", "client_secret"), OktaAuthProviderView, OktaAuthProvider,
    {**_COMMON, "issuer": None, "okta_domain": None, "client_id": None, "client_secret": None},
)  # fmt: skip
_serve(
    "oidc", OidcFields, ("client_id", "client_secret", "discovery_document_uri"), OidcAuthProviderView,
    OidcAuthProvider,
    {
        **_COMMON, "issuer": None, "client_id": None, "client_secret": None, "discovery_document_uri": None,
        "email_verification_method": "claim",
    },
)  # fmt: skip
