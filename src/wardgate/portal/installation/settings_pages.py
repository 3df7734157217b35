"""Settings of the account: what it is called, DNS of its clients, letters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from wardgate.portal.account_config import AccountConfig
from wardgate.portal.installation import rules
from wardgate.portal.installation.tables import Account
from wardgate.portal.outcomes import FieldErrors, Invalid
from wardgate.portal.store import AccountTables, Transaction
from wardgate.portal.web.choices import Option
from wardgate.portal.web.form_page import FormPage
from wardgate.portal.web.forms import ChoiceField, Field, Form, Input, TextField, ToggleField
from wardgate.portal.web.page import Section
from wardgate.portal.web.visit import Visit

RESOLVERS: Final = {
    "google": "Google Public DNS",
    "cloudflare": "Cloudflare",
    "quad9": "Quad9",
    "opendns": "OpenDNS",
}
_UPSTREAM: Final = "clients_upstream_dns"


async def _load(_visit: Visit, tables: AccountTables) -> Account:
    return await rules.load_own_account(tables)


async def _change(
    _visit: Visit, tables: AccountTables, _: Transaction, before: Account, given: Mapping[str, Any]
) -> Account:
    return await rules.change_settings(tables, before, given)


def _locked(visit: Visit) -> str | None:
    return rules.LOCKED if visit.account.lock_enabled_at is not None else None


# What it is called


NAMES: Final[FormPage[Account]] = FormPage(
    name="Names of the account",
    path="/account/names",
    icon="settings",
    section=None,
    about="What people see when they sign in, and what stands in letters.",
    form=Form(
        (
            TextField(name="name", label="Name", longest=rules.MAX_NAME_CHARS, is_required=True),
            TextField(name="legal_name", label="Legal name", is_required=True),
        )
    ),
    load=_load,
    change=_change,
    locked=_locked,
)


# DNS


@dataclass(frozen=True, kw_only=True)
class _UpstreamType(ChoiceField):
    def stored(self, row: object) -> Any:
        return _config(row).upstream_dns.type


@dataclass(frozen=True, kw_only=True)
class _Provider(ChoiceField):
    def stored(self, row: object) -> Any:
        return _config(row).upstream_dns.doh_provider


@dataclass(frozen=True, kw_only=True)
class _Addresses(TextField):
    """Addresses of resolvers, one a line, in the order in which clients ask them."""

    def read(self, input_: Input) -> Any:
        return (super().read(input_) or "").split()

    def stored(self, row: object) -> Any:
        return "\n".join(_config(row).upstream_dns.addresses)


@dataclass(frozen=True, kw_only=True)
class _SearchDomain(TextField):
    def stored(self, row: object) -> Any:
        return _config(row).search_domain


def _config(row: object) -> AccountConfig:
    assert isinstance(row, Account)
    return AccountConfig.parse(row.config)


_DNS_FIELDS: Final[tuple[Field, ...]] = (
    _SearchDomain(
        name="search_domain",
        label="Search domain",
        help="Added by clients to names of a single label: “wiki” becomes “wiki.corp.example.com”.",
        placeholder="corp.example.com",
        is_code=True,
    ),
    _UpstreamType(
        name="type",
        label="Upstream resolvers",
        help="Who answers clients' questions that concern no resource. Names of resources are always resolved at "
        "their site.",
        choices=(
            Option("system", "System", "Those of each client's system"),
            Option("secure", "Secure", "DNS over HTTPS"),
            Option("custom", "Custom", "Addresses that you list"),
        ),
        is_cards=True,
        is_required=True,
    ),
    _Provider(
        name="doh_provider",
        label="Provider",
        choices=tuple(Option(value, label) for value, label in RESOLVERS.items()),
        is_required=True,
        shown_if=("type", ("secure",)),
    ),
    _Addresses(
        name="addresses",
        label="Addresses",
        help=f"One a line, at most {rules.MAX_ADDRESSES}, without ports. Give IPv4 and IPv6, so that clients in "
        "either kind of network find one.",
        placeholder="9.9.9.9\n2620:fe::fe",
        longest=400,
        is_long=True,
        is_code=True,
        shown_if=("type", ("custom",)),
    ),
)


async def _change_dns(
    _visit: Visit, tables: AccountTables, _: Transaction, before: Account, given: Mapping[str, Any]
) -> Account:
    upstream: dict[str, Any] = {"type": given["type"]}
    if given.get("doh_provider"):
        upstream["doh_provider"] = given["doh_provider"]
    if "addresses" in given:
        if len(given["addresses"]) > rules.MAX_ADDRESSES:
            raise Invalid({"addresses": [f"should have at most {rules.MAX_ADDRESSES} item(s)"]})
        upstream["addresses"] = [{"address": one} for one in given["addresses"]]
    settings = {"search_domain": given["search_domain"], _UPSTREAM: upstream}
    try:
        return await rules.change_settings(tables, before, settings)
    except Invalid as refused:
        raise Invalid(_beside_fields(refused.errors, given)) from None


def _beside_fields(errors: FieldErrors, given: Mapping[str, Any]) -> FieldErrors:
    """Put what is wrong with the resolvers beside the fields of the form; an address's message names it."""
    told = {name: value for name, value in errors.items() if name != _UPSTREAM}
    for one in errors.get(_UPSTREAM, []):
        for name, wrong in one.items():
            if name != "addresses":
                told[name] = wrong
                continue
            told[name] = [
                f"{address} {message}"
                for address, each in zip(given.get("addresses", []), wrong, strict=False)
                if isinstance(each, dict)
                for message in each.get("address", [])
            ] or [message for message in wrong if isinstance(message, str)]
    return told


DNS: Final[FormPage[Account]] = FormPage(
    name="DNS",
    path="/settings/dns",
    icon="globe",
    section=Section.SETTINGS,
    about="How clients resolve names while they are connected.",
    form=Form(_DNS_FIELDS),
    load=_load,
    change=_change_dns,
    locked=_locked,
)


# Second factors


@dataclass(frozen=True, kw_only=True)
class _SecondFactorFor(ChoiceField):
    def stored(self, row: object) -> Any:
        return _config(row).second_factor_for


SECOND_FACTORS: Final[FormPage[Account]] = FormPage(
    name="Second factors",
    path="/settings/second_factors",
    icon="shield-check",
    section=Section.SETTINGS,
    about="A second step for people who sign in by e-mail or password. Identity providers ask for their own.",
    form=Form(
        (
            _SecondFactorFor(
                name="second_factor_for",
                label="Who must have one",
                help="Whoever has none sets one up with the next sign-in; sessions and clients go on until they end."
                " Whoever has one is always asked for it.",
                choices=(
                    Option("nobody", "Nobody", "Everybody may, on their profile"),
                    Option("admins", "Admins", "Who manages this account"),
                    Option("everybody", "Everybody", "Users of client apps, too"),
                ),
                is_cards=True,
                is_required=True,
            ),
        )
    ),
    load=_load,
    change=_change,
    locked=_locked,
    note="installation/second_factor_note.html",
)


# Letters


@dataclass(frozen=True, kw_only=True)
class _OutdatedGateways(ToggleField):
    def stored(self, row: object) -> Any:
        return _config(row).outdated_gateway_letter.is_enabled


NOTIFICATIONS: Final[FormPage[Account]] = FormPage(
    name="Notifications",
    path="/settings/notifications",
    icon="mail",
    section=Section.SETTINGS,
    about="Letters that the portal sends to all administrators of the account.",
    form=Form(
        (
            _OutdatedGateways(
                name="outdated_gateway_notifications",
                label="Gateways to be upgraded",
                help="Once a week, if a gateway that is connected runs an older release.",
            ),
        )
    ),
    load=_load,
    change=_change,
    locked=_locked,
    note="installation/mail_note.html",
)
