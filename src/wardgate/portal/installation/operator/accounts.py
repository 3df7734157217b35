"""Accounts, as the operator sees them: made, changed, disabled, locked, ended. What is in them is their own."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select

from wardgate.portal.installation import account_lifecycle, rules
from wardgate.portal.installation.account_lifecycle import Author
from wardgate.portal.installation.operator.changes import history_tab
from wardgate.portal.installation.tables import ACCOUNTS, Account
from wardgate.portal.limits import DEFAULTS, USERS, limits_of, used_of
from wardgate.portal.outcomes import Invalid
from wardgate.portal.people.tables import ACTORS
from wardgate.portal.store import Transaction
from wardgate.portal.web.cells import Cell, Fact, Grid, Moment, Several, Status, Tag, Text
from wardgate.portal.web.filters import Choice, Search
from wardgate.portal.web.forms import Field, Form, NumberField, TextField, ToggleField
from wardgate.portal.web.listing import Column, Editing, Empty, ListPage, Panel, PanelAction, Tab
from wardgate.portal.web.page import Live, Section
from wardgate.portal.web.visit import OperatorVisit

EVERY_S: Final = 5.0
"""Each account has a feed of its own, so that there is none of all of them."""

OPERATOR: Final = Author(account_lifecycle.OPERATOR, is_operator=True)

LIMITS: Final = {
    "users_count": "People",
    "monthly_active_users_count": "People active in the last 30 days",
    "account_admin_users_count": "Administrators",
    "service_accounts_count": "Service accounts",
    "sites_count": "Sites",
    "api_clients_count": "API clients",
}
FEATURES: Final = {"policy_conditions": "Policy conditions", "internet_resource": "Internet resource"}


_Run = Callable[[OperatorVisit, Transaction, Transaction, Account], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """Of the accounts of one page: people, and connected devices."""

    people: Counter[UUID]
    clients: Counter[UUID]
    gateways: Counter[UUID]


@dataclass(frozen=True, slots=True)
class FirstSecrets:
    """What is shown once of a new account."""

    sign_in_link: str
    api_token: str


async def load_facts(
    visit: OperatorVisit, transaction: Transaction, accounts: Sequence[Account]
) -> AccountFacts:
    ids = [account.id for account in accounts]
    c = ACTORS.c
    counted = await transaction.execute(
        select(c.account_id, func.count())
        .where(c.account_id.in_(ids), c.type.in_(USERS), c.is_disabled.is_(False))
        .group_by(c.account_id)
    )
    bus = visit.services.environment.bus
    return AccountFacts(
        Counter({account_id: int(count) for account_id, count in counted}),
        Counter({id_: len(bus.members("client", id_)) for id_ in ids}),
        Counter({id_: len(bus.members("gateway", id_)) for id_ in ids}),
    )


def _state(account: Account) -> Status:
    if account.scheduled_deletion_at is not None:
        return Status("To be deleted", "bad")
    return Status("Disabled", "neutral") if account.is_disabled else Status("Active", "good")


def _name(account: Account, _facts: AccountFacts) -> Cell:
    name = Text(account.name, note=account.slug)
    return name if account.lock_enabled_at is None else Several((name, Tag("locked")))


async def facts_of(_visit: OperatorVisit, _: Transaction, account: Account) -> Sequence[Fact]:
    limits = limits_of(account)
    facts = [
        Fact("Slug", Text(account.slug, is_code=True)),
        Fact("Legal name", Text(account.legal_name)),
        Fact("Code", Text(account.key, is_code=True)),
        *(
            Fact(label, Text("on" if account.features.get(name) else "off"))
            for name, label in FEATURES.items()
        ),
        Fact("Calls of the API", Text(_rate(limits["api_refill_rate"], limits["api_capacity"]))),
        Fact("Created", Moment(account.inserted_at)),
        Fact("ID", Text(str(account.id), is_code=True)),
    ]
    if account.disabled_reason:
        facts.insert(0, Fact("Disabled because", Text(account.disabled_reason)))
    if account.scheduled_deletion_at is not None:
        facts.insert(0, Fact("Deleted", Moment(account.scheduled_deletion_at)))
    return facts


def _rate(refill: int | None, capacity: int | None) -> str:
    if refill is None and capacity is None:
        return "at the installation's rate"
    return f"{'as usual' if refill is None else f'{refill} tokens'} a second, {capacity or 'as many as usual'} saved up"


async def status_of(_visit: OperatorVisit, _: Transaction, account: Account) -> Status:
    return _state(account)


async def load_use(visit: OperatorVisit, transaction: Transaction, account: Account) -> Grid:
    limits, tables = limits_of(account), transaction.of(account.id)
    bus = visit.services.environment.bus
    counted = [
        (label, await used_of(tables, name, now=transaction.now), limits[name])
        for name, label in LIMITS.items()
    ]
    return Grid(
        ("What", "Used", "Limit"),
        [
            (
                Text(label),
                Text(f"{used:,}") if limit is None or used < limit else Tag(f"{used:,}", "bad"),
                Text("none" if limit is None else f"{limit:,}"),
            )
            for label, used, limit in counted
        ]
        + [
            (Text("Clients online"), Text(f"{len(bus.members('client', account.id)):,}"), Text("")),
            (Text("Gateways online"), Text(f"{len(bus.members('gateway', account.id)):,}"), Text("")),
        ],
    )


# What can be done


async def _make(
    visit: OperatorVisit, _: Transaction, transaction: Transaction, given: Mapping[str, Any]
) -> Account:
    plan = rules.check_new_account({name: value for name, value in given.items() if value is not None})
    made = await rules.make_account(transaction, plan, keys=visit.services.keys)
    link = visit.services.settings.sign_in_url(made.account.slug, made.sign_in_link)
    visit.secret = FirstSecrets(link, made.api_token)
    return made.account


async def _change(
    _visit: OperatorVisit,
    _: Transaction,
    transaction: Transaction,
    before: Account,
    given: Mapping[str, Any],
) -> Account:
    plain = {name: value for name, value in given.items() if name not in {**FEATURES, **DEFAULTS}}
    plain["features"] = {name: given[name] for name in FEATURES if name in given}
    plain["limits"] = {name: given[name] for name in DEFAULTS if name in given}
    try:
        return await rules.change_account(transaction, before, plain)
    except Invalid as invalid:
        raise Invalid(_flattened(invalid.errors)) from None


def _flattened(errors: Mapping[str, Any]) -> dict[str, Any]:
    """Put what is wrong with a limit beside its own field."""
    flat = {name: told for name, told in errors.items() if name != "limits"}
    for one in errors.get("limits", ()):
        flat |= one
    return flat


def _changing(told: str, **given: bool) -> _Run:
    """What a button does that changes an account; `told` has a place for its name."""

    async def change(_v: OperatorVisit, _t: Transaction, transaction: Transaction, account: Account) -> str:
        await rules.change_account(transaction, account, given)
        return told.format(account.name)

    return change


async def _delete(visit: OperatorVisit, _: Transaction, transaction: Transaction, account: Account) -> str:
    await account_lifecycle.schedule_deletion(
        transaction, visit.services.settings, account, typed_slug=account.slug, author=OPERATOR
    )
    return (
        f"Account “{account.name}” is disabled, and will be deleted in {account_lifecycle.GRACE.days} days."
    )


async def _cancel_deletion(
    visit: OperatorVisit, _: Transaction, transaction: Transaction, account: Account
) -> str:
    await account_lifecycle.cancel_deletion(transaction, visit.services.settings, account, author=OPERATOR)
    return f"Account “{account.name}” is enabled again."


def _in_state(_visit: OperatorVisit, value: str) -> ColumnElement[bool]:
    c = ACCOUNTS.c
    match value:
        case "deleted":
            return c.scheduled_deletion_at.is_not(None)
        case "disabled":
            return and_(c.is_disabled.is_(True), c.scheduled_deletion_at.is_(None))
        case "locked":
            return c.lock_enabled_at.is_not(None)
        case _:
            return c.is_disabled.is_(False)


class _FeatureField(ToggleField):
    """What the account may use."""

    def stored(self, row: object) -> Any:
        assert isinstance(row, Account)
        return bool(row.features.get(self.name))


class _LimitField(NumberField):
    """How many there may be; empty for no limit."""

    def stored(self, row: object) -> Any:
        assert isinstance(row, Account)
        return limits_of(row)[self.name]


_NAMES: Final[tuple[Field, ...]] = (
    TextField(name="name", label="Name", longest=rules.MAX_NAME_CHARS, is_required=True),
    TextField(
        name="slug",
        label="Slug",
        help="Its short name in addresses: a-z, 0-9, - and _.",
        longest=100,
        is_code=True,
        is_required=True,
    ),
)
_NEW_FORM: Final = Form(
    (
        *_NAMES,
        TextField(
            name="admin_email",
            label="First administrator",
            help="E-mail address of who will run the account. You get a link that signs them in once.",
            type="email",
            longest=160,
            is_required=True,
        ),
        TextField(name="legal_name", label="Legal name", help="The name, if left empty."),
    )
)
_FORM: Final = Form(
    (
        *_NAMES,
        TextField(name="legal_name", label="Legal name", is_required=True),
        *(_FeatureField(name=name, label=label) for name, label in FEATURES.items()),
        *(
            _LimitField(
                name=name,
                label=f"Limit: {label.lower()}",
                help="Empty for no limit.",
                least=0,
                most=rules.MAX_LIMIT,
            )
            for name, label in LIMITS.items()
        ),
        _LimitField(
            name="api_refill_rate",
            label="API: tokens a second",
            help="A call takes 10. Empty for the installation's rate.",
            least=0,
            most=rules.MAX_LIMIT,
        ),
        _LimitField(
            name="api_capacity",
            label="API: tokens that can be saved up",
            help="Empty for as many as usual.",
            least=0,
            most=rules.MAX_LIMIT,
        ),
    )
)

PAGE: Final[ListPage[Account, AccountFacts, OperatorVisit, Transaction]] = ListPage(
    name="Accounts",
    singular="account",
    path="/accounts",
    icon="boxes",
    section=Section.INSTALLATION,
    about="Each is an organisation of its own: its people, sites and policies are its administrators’ alone.",
    live=Live(every_s=EVERY_S),
    repository=lambda transaction: transaction.accounts,
    load_facts=load_facts,
    columns=(
        Column(name="name", label="Account", cell=_name, sort=ACCOUNTS.c.name),
        Column(name="state", label="State", cell=lambda account, _: _state(account)),
        Column(
            name="people",
            label="People",
            cell=lambda account, facts: Text(f"{facts.people[account.id]:,}"),
            is_number=True,
        ),
        Column(
            name="clients",
            label="Clients online",
            cell=lambda account, facts: Text(f"{facts.clients[account.id]:,}"),
            is_secondary=True,
            is_number=True,
        ),
        Column(
            name="gateways",
            label="Gateways online",
            cell=lambda account, facts: Text(f"{facts.gateways[account.id]:,}"),
            is_secondary=True,
            is_number=True,
        ),
        Column(
            name="created",
            label="Created",
            cell=lambda account, _: Moment(account.inserted_at),
            sort=ACCOUNTS.c.inserted_at,
            is_secondary=True,
        ),
    ),
    filters=(
        Search(label="Name or slug", columns=(ACCOUNTS.c.name, ACCOUNTS.c.slug)),
        Choice(
            name="state",
            label="State",
            options={
                "active": "Active",
                "disabled": "Disabled",
                "deleted": "To be deleted",
                "locked": "Locked",
            },
            condition_of=_in_state,
        ),
    ),
    empty=Empty(
        "No accounts yet",
        "Make one for each organisation. You get a link for its first administrator, who does the rest.",
    ),
    panel=Panel(
        facts=facts_of,
        status=status_of,
        tabs=(
            Tab(name="use", label="Use", template="installation/operator/grid.html", load=load_use),
            history_tab(),
        ),
        actions=(
            PanelAction(
                name="disable",
                label="Disable account",
                run=_changing("Account “{}” is disabled.", is_disabled=True),
                warning="All client sessions end; clients, gateways and API tokens are refused until you enable it.",
                is_offered=lambda _visit, account: not account.is_disabled,
            ),
            PanelAction(
                name="enable",
                label="Enable account",
                run=_changing("Account “{}” is enabled.", is_disabled=False),
                warning="Gateways come back by themselves; people have to sign in again.",
                is_offered=lambda _visit, account: (
                    account.is_disabled and account.scheduled_deletion_at is None
                ),
            ),
            PanelAction(
                name="lock",
                label="Lock settings",
                run=_changing("The settings of “{}” are locked.", is_locked=True),
                undone_by="unlock",
                warning="Its administrators can neither change the account's settings nor delete the account.",
                is_offered=lambda _visit, account: account.lock_enabled_at is None,
            ),
            PanelAction(
                name="unlock",
                label="Unlock settings",
                run=_changing("The settings of “{}” are unlocked.", is_locked=False),
                undone_by="lock",
                warning="Its administrators can change the account's settings and delete the account again.",
                is_offered=lambda _visit, account: account.lock_enabled_at is not None,
            ),
            PanelAction(
                name="keep",
                label="Cancel the deletion",
                run=_cancel_deletion,
                warning="The account is enabled again at once. People have to sign in again.",
                is_offered=lambda _visit, account: account.scheduled_deletion_at is not None,
            ),
            PanelAction(
                name="delete",
                label="Delete account",
                run=_delete,
                warning="It is disabled at once, and deleted with everything in it after seven days. Its"
                " administrators are written to. Until then the deletion can be cancelled here.",
                is_dangerous=True,
                typed=lambda account: account.slug,
                is_offered=lambda _visit, account: not account.is_disabled,
            ),
        ),
    ),
    editing=Editing(
        form=lambda account: _NEW_FORM if account is None else _FORM,
        make=_make,
        change=_change,
        once="installation/operator/new_account.html",
    ),
)
