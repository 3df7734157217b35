"""`/wardgate/accounts`: the operator makes, changes, locks and ends accounts (portal-domain §3.1, §15, §16).

An account's own token can do one thing more than change settings: ask for the account's deletion. It cannot call it off, for the
account's tokens are refused from then on; an administrator does on the account's page, or the operator here.
"""

from dataclasses import asdict, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Response
from pydantic import BaseModel, Field
from sqlalchemy import func

from wardgate.portal import account_life, credentials
from wardgate.portal.account_life import Author, LifeRefused, Locked, WrongSlug
from wardgate.portal.limits import DEFAULTS
from wardgate.portal.provisioning import check_email, check_slug, provision
from wardgate.portal.rest.account_views import DeletionView, NewAccountView, OperatedAccountView
from wardgate.portal.rest.caller import AccountCaller, ForAccount, ForOperator, OperatorCaller
from wardgate.portal.rest.edits import INVALID, Edit
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
from wardgate.portal.rest.problems import Problem, forbidden, invalid, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data, ListOf, listed
from wardgate.portal.segments import RESERVED_SLUGS
from wardgate.portal.store import Conflict, Transaction
from wardgate.portal.store.rows import Account, Actor

routes = Routes("accounts", tag="Wardgate: installation")

SIGN_IN_LINK_LIFETIME_S: Final = 24 * 3600  # the operator has to pass it on
API_TOKEN_LIFETIME: Final = timedelta(days=365)
TOKEN_NAME: Final = "first API token"  # noqa: S105 - what it is called
MAX_LIMIT: Final = 2**31 - 1
SLUG_TAKEN: Final = {"slug": ["has already been taken"]}


def _limit(about: str) -> Any:
    return Field(description=about, json_schema_extra={"minimum": 0, "maximum": MAX_LIMIT})


class FeatureFields(Fields):
    """What the account may use; what is not given stays."""

    policy_conditions: bool | None = None
    internet_resource: bool | None = None


class LimitFields(ExactFields):
    """How many there may be, and at what rate. What is not given stays; null: no limit, or the installation's own rate."""

    users_count: Annotated[int | None, _limit("enabled people")] = None
    monthly_active_users_count: Annotated[
        int | None,
        _limit("enabled people who connected in the last 30 days; checked in place of `users_count`"),
    ] = None
    service_accounts_count: Annotated[int | None, _limit("enabled service accounts")] = None
    sites_count: Annotated[int | None, _limit("sites, less the Internet site")] = None
    account_admin_users_count: Annotated[int | None, _limit("enabled administrators")] = None
    api_clients_count: Annotated[int | None, _limit("enabled API clients; 100 at first")] = None
    api_tokens_per_client_count: Annotated[int | None, _limit("tokens of one API client; 100 at first")] = (
        None
    )
    api_refill_rate: Annotated[int | None, _limit("REST: tokens per second, 10 a call")] = None
    api_capacity: Annotated[int | None, _limit("REST: tokens that can be saved up")] = None
    ingestion_refill_rate: Annotated[int | None, _limit("kept, but not looked at")] = None
    ingestion_capacity: Annotated[int | None, _limit("kept, but not looked at")] = None


class NewAccountFields(Fields):
    model_config = required("name", "slug", "admin_email")
    narrowing = EVERYWHERE | {"disabled_reason", "is_locked"}
    name: Annotated[str | None, text(64, shortest=3)] = None
    slug: Annotated[
        str | None, text(100, shortest=3, about="its short name in URLs: a-z, 0-9, - and _; unique")
    ] = None
    admin_email: Annotated[str | None, formatted("email", about="of its first administrator")] = None
    legal_name: Annotated[str | None, text(about="by default as the name")] = None
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
    async with caller.reading() as transaction:
        c = transaction.accounts.c
        wanted = [] if name is None else [c.name == name]
        if slug is not None:
            wanted.append(func.lower(c.slug) == slug.lower())
        return listed(await load_page(transaction.accounts, paging, *wanted), OperatedAccountView.shown)


@routes.get("/wardgate/accounts/{id}", is_versioned=True)
async def show(caller: ForOperator, id: Id) -> Data[OperatedAccountView]:  # noqa: A002
    async with caller.reading() as transaction:
        return Data(data=OperatedAccountView.of(caller.tagged(await load_account(transaction, id))))


@routes.post("/wardgate/accounts", makes_object=True)
async def create(caller: ForOperator, body: NewAccountBody, response: Response) -> Data[NewAccountView]:
    """Make an account with its first administrator, a link that signs them in once within a day, and an API token."""
    edit = Edit(body.account, dict.fromkeys(("name", "slug", "admin_email", "legal_name")))
    _check_names(edit)
    _check_admin(edit)
    features = _merged_features({"policy_conditions": True, "internet_resource": True}, edit)
    limits = _merged_limits({}, edit)
    values = edit.finish()
    try:
        async with caller.writing() as transaction:
            view = await _make(caller, transaction, values, features, limits)
    except Conflict as conflict:
        raise _taken(conflict) from None
    response.headers["location"] = f"/wardgate/accounts/{view.id}"
    return Data(data=view)


@routes.edit("/wardgate/accounts/{id}", is_versioned=True)
async def update(caller: ForOperator, id: Id, body: AccountBody) -> Data[OperatedAccountView]:  # noqa: A002
    try:
        async with caller.writing() as transaction:
            before = caller.expected(await load_account(transaction, id))
            after = await transaction.accounts.save(_changed(before, body.account, transaction))
            return Data(data=OperatedAccountView.of(caller.tagged(after)))
    except Conflict as conflict:
        raise _taken(conflict) from None


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
        after = await _scheduled(transaction, caller, account, slug, OPERATOR)
        return Data(data=OperatedAccountView.of(caller.tagged(after)))


@routes.delete("/wardgate/accounts/{id}/deletion", is_versioned=True)
async def cancel_deletion(caller: ForOperator, id: Id) -> Data[OperatedAccountView]:  # noqa: A002
    """Call the deletion off and enable the account. Clients have to sign in again."""
    async with caller.writing() as transaction:
        account = caller.expected(await load_account(transaction, id))
        try:
            after = await account_life.cancel_deletion(
                transaction, caller.services.settings, account, author=OPERATOR
            )
        except LifeRefused as refused:
            raise Problem(HTTPStatus.CONFLICT, str(refused)) from None
        return Data(data=OperatedAccountView.of(caller.tagged(after)))


@routes.post("/wardgate/account_settings/deletion", tag="Wardgate")
async def schedule_own_deletion(caller: ForAccount, body: DeletionBody) -> Data[DeletionView]:
    """Disable the caller's account now, and delete it in seven days. From here on its API tokens are refused: an administrator can
    call the deletion off on the account's page."""
    slug = _typed_slug(body.deletion)
    async with caller.writing() as (tables, transaction):
        account = await tables.account()
        if account is None:
            raise not_found()
        after = await _scheduled(transaction, caller, account, slug, Author(caller.actor.name))
        return Data(data=DeletionView.of(after))


OPERATOR: Final = Author(account_life.OPERATOR, is_operator=True)


async def load_account(transaction: Transaction, id_: UUID | None) -> Account:
    """Return an account of the installation. Raises Problem 404."""
    account = None if id_ is None else await transaction.accounts.load(id_)
    if account is None:
        raise not_found()
    return account


async def _make(
    caller: OperatorCaller,
    transaction: Transaction,
    values: dict[str, Any],
    features: dict[str, bool],
    limits: dict[str, int | None],
) -> NewAccountView:
    keys, settings = caller.services.keys, caller.services.settings
    made = await provision(
        transaction,
        name=values["name"],
        slug=values["slug"],
        admin_email=values["admin_email"],
        legal_name=values["legal_name"],
    )
    account = await transaction.accounts.save(replace(made.account, features=features, limits=limits))
    client = await transaction.of(account.id).actors.insert(
        Actor(id=transaction.new_id(), account_id=account.id, type="api_client", name=TOKEN_NAME)
    )
    token = await credentials.issue_api_token(
        client, name=TOKEN_NAME, lifetime=API_TOKEN_LIFETIME, transaction=transaction, keys=keys
    )
    link = await credentials.issue_sign_in_link(
        made.admin, lifetime_s=SIGN_IN_LINK_LIFETIME_S, transaction=transaction, keys=keys
    )
    return NewAccountView(
        **OperatedAccountView.of(caller.tagged(account)).model_dump(),
        admin_id=made.admin.id,
        sign_in_link=settings.sign_in_url(account.slug, link),
        api_token=token,
    )


def _changed(before: Account, fields: AccountFields, transaction: Transaction) -> Account:
    is_locked = before.lock_enabled_at is not None
    edit = Edit(fields, {**asdict(before), "is_locked": is_locked})
    _check_names(edit)
    edit.text("legal_name", required=True)
    edit.flag("is_disabled")
    edit.flag("is_locked")
    edit.text("disabled_reason")
    features, limits = _merged_features(before.features, edit), _merged_limits(before.limits, edit)
    if before.scheduled_deletion_at is not None and not edit.value("is_disabled"):
        edit.error("is_disabled", "cannot be false while the deletion is scheduled: cancel that")
    values = edit.finish()
    lock_at = before.lock_enabled_at if is_locked else transaction.now
    return replace(
        before,
        name=values["name"],
        slug=values["slug"],
        legal_name=values["legal_name"],
        features=features,
        limits=limits,
        is_disabled=values["is_disabled"],
        disabled_reason=values["disabled_reason"] if values["is_disabled"] else None,
        lock_enabled_at=lock_at if values["is_locked"] else None,
    )


def _check_names(edit: Edit) -> None:
    edit.text("name", longest=64, required=True)
    if len(edit.value("name") or "abc") < 3:
        edit.error("name", "should be at least 3 character(s)")
    edit.text("legal_name")
    was_given = edit.gave("slug")
    edit.text("slug", longest=100, required=True)
    if was_given and "slug" not in edit.errors:
        try:
            edit.put("slug", check_slug(edit.value("slug"), RESERVED_SLUGS))
        except ValueError as error:
            edit.error("slug", str(error))


def _check_admin(edit: Edit) -> None:
    edit.text("admin_email", longest=160, required=True)
    if "admin_email" in edit.errors:
        return
    try:
        edit.put("admin_email", check_email(edit.value("admin_email")))
    except ValueError:
        edit.error("admin_email", "is an invalid email address")


def _merged_features(before: dict[str, Any], edit: Edit) -> dict[str, bool]:
    given = (edit.raw("features") if edit.gave("features") else None) or {}
    return before | {name: value for name, value in given.items() if value is not None}


def _merged_limits(before: dict[str, Any], edit: Edit) -> dict[str, int | None]:
    """Merge what was given into the stored limits; null is kept, for it is more than the default of some."""
    given = (edit.raw("limits") if edit.gave("limits") else None) or {}
    wrong = {
        name: [INVALID] for name, value in given.items() if value is not None and not 0 <= value <= MAX_LIMIT
    }
    if wrong:
        edit.nested_error("limits", [wrong])
    return before | {name: given[name] for name in DEFAULTS if name in given}


def _typed_slug(fields: DeletionFields) -> str:
    edit = Edit(fields, {"slug": None})
    edit.text("slug", required=True)
    slug: str = edit.finish()["slug"]
    return slug


async def _scheduled(
    transaction: Transaction,
    caller: OperatorCaller | AccountCaller,
    account: Account,
    slug: str,
    author: Author,
) -> Account:
    try:
        return await account_life.schedule_deletion(
            transaction, caller.services.settings, account, typed_slug=slug, author=author
        )
    except Locked as refused:
        raise forbidden(str(refused)) from None
    except WrongSlug as refused:
        raise invalid({"slug": [str(refused)]}) from None
    except LifeRefused as refused:
        raise Problem(HTTPStatus.CONFLICT, str(refused)) from None


def _taken(conflict: Conflict) -> Exception:
    return invalid(SLUG_TAKEN) if "slug" in str(conflict.fields) else conflict
