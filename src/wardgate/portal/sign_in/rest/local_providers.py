"""`/wardgate/accounts/{account_id}/{email_otp,userpass}_auth_providers`: sign-in without an identity provider, as the
operator sets it up. Every account has one that sends codes; one for passwords is made once, and then only disabled.
"""

from typing import Annotated, Any, Final

from fastapi import Response
from pydantic import BaseModel, Field

from wardgate.portal.installation.rules import load_account
from wardgate.portal.rest.caller import ForOperator, OperatorCaller
from wardgate.portal.rest.fields import EVERYWHERE, NOTHING_REQUIRED, Fields, one_of, required, text
from wardgate.portal.rest.pages import Page, Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response
from wardgate.portal.sign_in import provider_rules as rules
from wardgate.portal.sign_in.provider_rules import CLIENT_SESSION_S, CONTEXTS, PORTAL_SESSION_S
from wardgate.portal.sign_in.views import EmailOtpAuthProviderView, UserpassAuthProviderView

routes = Routes("local_providers", "/wardgate/accounts/{account_id}", tag="Wardgate: installation")

_CLIENT_LIMITS: Final[dict[str, Any]] = {"minimum": CLIENT_SESSION_S[0], "maximum": CLIENT_SESSION_S[1]}
_PORTAL_LIMITS: Final[dict[str, Any]] = {"minimum": PORTAL_SESSION_S[0], "maximum": PORTAL_SESSION_S[1]}


class LocalProviderFields(Fields):
    model_config = NOTHING_REQUIRED
    narrowing = EVERYWHERE | {
        "allowed_domains",
        "allowed_groups",
        "conditions",
        "mfa_required",
        "require_mfa",
    }
    name: Annotated[str | None, text(shortest=1)] = None
    context: Annotated[str | None, one_of(CONTEXTS)] = None
    client_session_lifetime_secs: Annotated[int | None, Field(json_schema_extra=_CLIENT_LIMITS)] = None
    portal_session_lifetime_secs: Annotated[int | None, Field(json_schema_extra=_PORTAL_LIMITS)] = None
    is_disabled: Annotated[bool | None, Field(description="true ends all sign-ins with it")] = None


class NewLocalProviderFields(LocalProviderFields):
    model_config = required("name")


class EmailOtpBody(BaseModel):
    email_otp_auth_provider: LocalProviderFields


class UserpassBody(BaseModel):
    userpass_auth_provider: LocalProviderFields


class NewUserpassBody(BaseModel):
    userpass_auth_provider: NewLocalProviderFields


@routes.get("/email_otp_auth_providers", response_model=ListOf[EmailOtpAuthProviderView])
async def index_email_otp(
    caller: ForOperator, account_id: Id, paging: Paging, name: str | None = None
) -> Response:
    return list_response(
        await _page(caller, account_id, rules.EMAIL_OTP, paging, name), EmailOtpAuthProviderView.fields_of
    )


@routes.get("/email_otp_auth_providers/{id}", is_versioned=True)
async def show_email_otp(caller: ForOperator, account_id: Id, id: Id) -> Data[EmailOtpAuthProviderView]:  # noqa: A002
    return Data(data=EmailOtpAuthProviderView.of(await _load(caller, account_id, rules.EMAIL_OTP, id)))


@routes.edit("/email_otp_auth_providers/{id}", is_versioned=True)
async def update_email_otp(
    caller: ForOperator,
    account_id: Id,
    id: Id,  # noqa: A002
    body: EmailOtpBody,
) -> Data[EmailOtpAuthProviderView]:
    given = body.email_otp_auth_provider.given()
    after = await _change(caller, account_id, rules.EMAIL_OTP, id, given)
    return Data(data=EmailOtpAuthProviderView.of(after))


@routes.get("/userpass_auth_providers", response_model=ListOf[UserpassAuthProviderView])
async def index(caller: ForOperator, account_id: Id, paging: Paging, name: str | None = None) -> Response:
    return list_response(
        await _page(caller, account_id, rules.USERPASS, paging, name), UserpassAuthProviderView.fields_of
    )


@routes.post("/userpass_auth_providers", makes_object=True)
async def create(
    caller: ForOperator, account_id: Id, body: NewUserpassBody, response: Response
) -> Data[UserpassAuthProviderView]:
    """Let people of an account sign in by name and password."""
    async with caller.writing() as transaction:
        account = await load_account(transaction, account_id)
        made = await rules.make_provider(
            transaction.of(account.id),
            rules.USERPASS,
            body.userpass_auth_provider.given(),
            reachable=caller.services.settings.reachable_addresses,
        )
    response.headers["location"] = f"/wardgate/accounts/{account.id}/userpass_auth_providers/{made.id}"
    return Data(data=UserpassAuthProviderView.of(caller.tagged(made)))


@routes.get("/userpass_auth_providers/{id}", is_versioned=True)
async def show(caller: ForOperator, account_id: Id, id: Id) -> Data[UserpassAuthProviderView]:  # noqa: A002
    return Data(data=UserpassAuthProviderView.of(await _load(caller, account_id, rules.USERPASS, id)))


@routes.edit("/userpass_auth_providers/{id}", is_versioned=True)
async def update(
    caller: ForOperator,
    account_id: Id,
    id: Id,  # noqa: A002
    body: UserpassBody,
) -> Data[UserpassAuthProviderView]:
    given = body.userpass_auth_provider.given()
    after = await _change(caller, account_id, rules.USERPASS, id, given)
    return Data(data=UserpassAuthProviderView.of(after))


async def _page(
    caller: OperatorCaller, account_id: Id, kind: rules.ProviderKind, paging: Paging, name: str | None
) -> Page[Any]:
    async with caller.listing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        providers = rules.providers_of(tables, kind)
        wanted = [] if name is None else [providers.c.name == name]
        return await load_page(providers, paging, *wanted, newest_first=True)


async def _load(caller: OperatorCaller, account_id: Id, kind: rules.ProviderKind, id_: Id) -> Any:
    async with caller.reading() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        return caller.tagged(await rules.load_provider(tables, kind, id_))


async def _change(
    caller: OperatorCaller, account_id: Id, kind: rules.ProviderKind, id_: Id, given: dict[str, Any]
) -> Any:
    async with caller.writing() as transaction:
        tables = transaction.of((await load_account(transaction, account_id)).id)
        before = caller.expected(await rules.load_provider(tables, kind, id_))
        reachable = caller.services.settings.reachable_addresses
        return caller.tagged(await rules.change_provider(tables, kind, before, given, reachable=reachable))
