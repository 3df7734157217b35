"""`/{email_otp,google,entra,okta,oidc}_auth_providers` (rest-api §8.14), to be read only: they are made where
people sign in.

The five differ in their fields alone, so each is served by the same two functions. Passwords have no endpoint.
"""

from collections.abc import Callable
from typing import Any

from fastapi import Response

from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.problems import not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response
from wardgate.portal.sign_in.views import (
    AuthProviderView,
    EmailOtpAuthProviderView,
    EntraAuthProviderView,
    GoogleAuthProviderView,
    OidcAuthProviderView,
    OktaAuthProviderView,
)
from wardgate.portal.store import AccountTables, Repository

routes = Routes("auth_providers")


def _serve(
    kind: str, title: str, view: type[AuthProviderView], table: Callable[[AccountTables], Repository[Any]]
) -> None:
    """Add the list and the single object of one kind of provider."""

    async def index(caller: ForAccount, paging: Paging, name: str | None = None) -> Response:
        async with caller.listing() as tables:
            providers = table(tables)
            wanted = [] if name is None else [providers.c.name == name]
            return list_response(
                await load_page(providers, paging, *wanted, newest_first=True), view.fields_of
            )

    async def show(caller: ForAccount, id: Id) -> Data[Any]:  # noqa: A002
        async with caller.reading() as tables:
            found = None if id is None else await table(tables).load(id)
            if found is None:
                raise not_found()
            return Data(data=view.of(caller.tagged(found)))

    path, tag = f"/{kind}_auth_providers", f"{title} Auth Providers"
    many: Any = ListOf[view]  # type: ignore[valid-type] # the framework reads it while it runs
    one: Any = Data[view]  # type: ignore[valid-type]
    routes.add("GET", path, index, response_model=many, tag=tag, name=f"index_{kind}", summary="Index")
    routes.add(
        "GET",
        f"{path}/{{id}}",
        show,
        is_versioned=True,
        response_model=one,
        tag=tag,
        name=f"show_{kind}",
        summary="Show",
    )


_serve("email_otp", "Email OTP", EmailOtpAuthProviderView, lambda tables: tables.email_otp_auth_providers)
_serve("google", "Google", GoogleAuthProviderView, lambda tables: tables.google_auth_providers)
_serve("entra", "Entra", EntraAuthProviderView, lambda tables: tables.entra_auth_providers)
_serve("okta", "Okta", OktaAuthProviderView, lambda tables: tables.okta_auth_providers)
_serve("oidc", "OIDC", OidcAuthProviderView, lambda tables: tables.oidc_auth_providers)
