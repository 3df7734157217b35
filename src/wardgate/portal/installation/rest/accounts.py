"""`/wardgate/accounts`: the operator makes, changes, locks and ends accounts (portal-domain §3.1, §15, §16).

An account's own token can do one thing more than change settings: ask for the account's deletion. It cannot
call it off, for the account's tokens are refused from then on; an administrator does on the account's page,
or the operator here.
"""

from typing import Annotated, Any, Final

from fastapi import Response
from pydantic import BaseModel, Field
from sqlalchemy import func

from wardgate.portal.edits import Edit
from wardgate.portal.installation import account_lifecycle, rules
from wardgate.portal.installation.account_lifecycle import Author
from wardgate.portal.installation.rules import load_account
from wardgate.portal.installation.views import DeletionView, NewAccountView, OperatedAccountView
from wardgate.portal.rest.caller import ForAccount, ForOperator
from wardgate.portal.rest.fields import (
    EVERYWHERE,
    NOTHING_REQUIRED,
    ExactFields,
    Fields,
    formatted,
    required,
    text,
)
from wardgate.portal.rest.pages import Paging, load_page
from wardgate.portal.rest.parameters import Id
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, list_response

routes = Routes("accounts", tag="Wardgate: installation")


def _limit(about: str) -> Any:
    return Field(description=about, json_schema_extra={"minimum": 0, "maximum": rules.MAX_LIMIT})


class FeatureFields(Fields):
    """What the account may use; omitted fields stay as they are."""

    policy_conditions: bool | None = None
    internet_resource: bool | None = None


class LimitFields(ExactFields):
    """How many there may be, and at what rate.

    Omitted fields stay as they are; null means no limit, or the installation's own rate.
    """

    users_count: Annotated[int | None, _limit("enabled people")] = None
    monthly_active_users_count: Annotated[
        int | None,
        _limit("enabled people who connected in the last 30 days; checked in place of `users_count`"),
    ] = None
    service_accounts_count: Annotated[int | None, _limit("enabled service accounts")] = None
    sites_count: Annotated[int | None, _limit("sites other than the Internet site")] = None
    account_admin_users_count: Annotated[int | None, _limit("enabled administrators")] = None
    api_clients_count: Annotated[int | None, _limit("enabled API clients; 100 at first")] = None
    api_tokens_per_client_count: Annotated[int | None, _limit("tokens of one API client; 100 at first")] = (
        None
    )
    api_refill_rate: Annotated[int | None, _limit("REST: tokens per second, 10 a call")] = None
    api_capacity: Annotated[int | None, _limit("REST: tokens that can be saved up")] = None
    ingestion_refill_rate: Annotated[int | None, _limit("stored, but not used")] = None
    ingestion_capacity: Annotated[int | None, _limit("stored, but not used")] = None


class NewAccountFields(Fields):
    model_config = required("name", "slug", "admin_email")
    narrowing = EVERYWHERE | {"disabled_reason", "is_locked"}
    name: Annotated[str | None, text(64, shortest=3)] = None
    slug: Annotated[
        str | None, text(100, shortest=3, about="its short name in URLs: a-z, 0-9, - and _; unique")
    ] = None
    admin_email: Annotated[str | None, formatted("email", about="of its first administrator")] = None
    legal_name: Annotated[str | None, text(about="the name by default")] = None
    features: FeatureFields | None = None
    limits: LimitFields | None = None


class AccountFields(Fields):
    model_config = NOTHING_REQUIRED
    name: Annotated[str | None, text(64, shortest=3)] = None
    slug: Annotated[str | None, text(100, shortest=3)] = None
    legal_name: Annotated[str | None, text(shortest=1)] = None
    features: FeatureFields | None = None
    limits: LimitFields | None = None
    is_disabled: Annotated[
        bool | None,
        Field(description="true ends all client sessions, and refuses clients, gateways and API tokens"),
    ] = None
    disabled_reason: Annotated[str | None, text(about="forgotten when the account is enabled")] = None
    is_locked: Annotated[
        bool | None, Field(description="administrators cannot change settings or delete the account")
    ] = None


class NewAccountBody(BaseModel):
    account: NewAccountFields


class AccountBody(BaseModel):
    account: AccountFields


class DeletionFields(Fields):
    model_config = required("slug")
    slug: Annotated[str | None, text(100, shortest=3, about="the account's slug, typed to confirm")] = None


class DeletionBody(BaseModel):
    deletion: DeletionFields


@routes.get("/wardgate/accounts", response_model=ListOf[OperatedAccountView])
async def index(
    caller: ForOperator, paging: Paging, slug: str | None = None, name: str | None = None
) -> Response:
    async with caller.listing() as transaction:
        c = transaction.accounts.c
        wanted = [] if name is None else [c.name == name]
        if slug is not None:
            wanted.append(func.lower(c.slug) == slug.lower())
        return list_response(
            await load_page(transaction.accounts, paging, *wanted), OperatedAccountView.fields_of
        )


@routes.get("/wardgate/accounts/{id}", is_versioned=True)
async def show(caller: ForOperator, id: Id) -> Data[OperatedAccountView]:  # noqa: A002
    async with caller.reading() as transaction:
        return Data(data=OperatedAccountView.of(caller.tagged(await load_account(transaction, id))))


@routes.post("/wardgate/accounts", makes_object=True)
async def create(caller: ForOperator, body: NewAccountBody, response: Response) -> Data[NewAccountView]:
    """Make an account with its first administrator, a link that signs them in once within a day, and an API token."""
    plan = rules.check_new_account(body.account.given())
    async with caller.writing() as transaction:
        made = await rules.make_account(transaction, plan, keys=caller.keys)
    view = NewAccountView(
        **OperatedAccountView.of(caller.tagged(made.account)).model_dump(),
        admin_id=made.admin.id,
        sign_in_link=caller.services.settings.sign_in_url(made.account.slug, made.sign_in_link),
        api_token=made.api_token,
    )
    response.headers["location"] = f"/wardgate/accounts/{view.id}"
    return Data(data=view)


@routes.edit("/wardgate/accounts/{id}", is_versioned=True)
async def update(caller: ForOperator, id: Id, body: AccountBody) -> Data[OperatedAccountView]:  # noqa: A002
    async with caller.writing() as transaction:
        before = caller.expected(await load_account(transaction, id))
        after = await rules.change_account(transaction, before, body.account.given())
        return Data(data=OperatedAccountView.of(caller.tagged(after)))


@routes.post("/wardgate/accounts/{id}/deletion")
async def schedule_deletion(
    caller: ForOperator,
    id: Id,  # noqa: A002
    body: DeletionBody,
) -> Data[OperatedAccountView]:
    """Disable an account now, and delete it with everything in it in seven days. Its administrators are written to."""
    slug = _typed_slug(body.deletion)
    async with caller.writing() as transaction:
        account = await load_account(transaction, id)
        after = await account_lifecycle.schedule_deletion(
            transaction, caller.services.settings, account, typed_slug=slug, author=OPERATOR
        )
        return Data(data=OperatedAccountView.of(caller.tagged(after)))


@routes.delete("/wardgate/accounts/{id}/deletion", is_versioned=True)
async def cancel_deletion(caller: ForOperator, id: Id) -> Data[OperatedAccountView]:  # noqa: A002
    """Cancel the deletion and enable the account. Clients have to sign in again."""
    async with caller.writing() as transaction:
        account = caller.expected(await load_account(transaction, id))
        after = await account_lifecycle.cancel_deletion(
            transaction, caller.services.settings, account, author=OPERATOR
        )
        return Data(data=OperatedAccountView.of(caller.tagged(after)))


@routes.post("/wardgate/account_settings/deletion", tag="Wardgate")
async def schedule_own_deletion(caller: ForAccount, body: DeletionBody) -> Data[DeletionView]:
    """Disable the caller's account now, and delete it in seven days. From here on its API tokens are refused:
    an administrator can call the deletion off on the account's page.
    """
    slug = _typed_slug(body.deletion)
    async with caller.writing() as (tables, transaction):
        account = await rules.load_own_account(tables)
        author = Author(caller.actor.name)
        after = await account_lifecycle.schedule_deletion(
            transaction, caller.services.settings, account, typed_slug=slug, author=author
        )
        return Data(data=DeletionView.of(after))


OPERATOR: Final = Author(account_lifecycle.OPERATOR, is_operator=True)


def _typed_slug(fields: DeletionFields) -> str:
    edit = Edit(fields.given(), {"slug": None})
    edit.text("slug", required=True)
    slug: str = edit.finish()["slug"]
    return slug
