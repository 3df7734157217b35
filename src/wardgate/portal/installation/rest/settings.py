"""`/wardgate/account_settings`: what administrators decide about their account (portal-domain §3.1)."""

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from wardgate.model.addresses import RESERVED, parse_ip
from wardgate.portal.account_config import DNS_TYPES, DOH_PROVIDERS, AccountConfig, UpstreamDns
from wardgate.portal.provisioning import check_search_domain
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.edits import BLANK, INVALID, Edit
from wardgate.portal.rest.fields import Fields, one_of, text
from wardgate.portal.rest.problems import Problem, not_found
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import AccountSettingsView, Data
from wardgate.portal.store import AccountTables
from wardgate.portal.store.rows import Account

routes = Routes("settings", "/wardgate/account_settings", tag="Wardgate")

LOCKED: Final = "The account is locked: its settings cannot be changed."
MAX_ADDRESSES: Final = 8


class DnsAddressFields(Fields):
    address: Annotated[str, Field(description="an IP address without port")]


class UpstreamDnsFields(Fields):
    """Resolvers that clients use for everything that is no resource: the system's own, DNS over HTTPS, or these."""

    type: Annotated[str | None, one_of(DNS_TYPES, nullable=True)] = None
    doh_provider: Annotated[str | None, one_of(DOH_PROVIDERS, nullable=True)] = None
    addresses: Annotated[list[DnsAddressFields] | None, Field(max_length=MAX_ADDRESSES)] = None


class SettingsFields(Fields):
    name: Annotated[str | None, text(64, shortest=3)] = None
    legal_name: Annotated[str | None, text(shortest=1)] = None
    search_domain: Annotated[str | None, text(shortest=1, about="null clears it")] = None
    clients_upstream_dns: UpstreamDnsFields | None = None
    outdated_gateway_notifications: Annotated[
        bool | None, Field(description="write to the admins once a week about gateways to be upgraded")
    ] = None


class SettingsBody(BaseModel):
    account_settings: SettingsFields


@routes.get("", is_versioned=True)
async def show(caller: ForAccount) -> Data[AccountSettingsView]:
    async with caller.reading() as tables:
        return Data(data=AccountSettingsView.of(caller.tagged(await _load(tables))))


@routes.edit("", is_versioned=True)
async def update(caller: ForAccount, body: SettingsBody) -> Data[AccountSettingsView]:
    async with caller.writing() as (tables, _transaction):
        before = caller.expected(await _load(tables))
        if before.lock_enabled_at is not None:
            raise Problem(HTTPStatus.FORBIDDEN, LOCKED)
        after = await tables.save_account(_changed(before, body.account_settings))
        return Data(data=AccountSettingsView.of(caller.tagged(after)))


async def _load(tables: AccountTables) -> Account:
    account = await tables.account()
    if account is None:
        raise not_found()
    return account


def _changed(before: Account, fields: SettingsFields) -> Account:
    config = AccountConfig.parse(before.config)
    edit = Edit(
        fields,
        {
            "name": before.name,
            "legal_name": before.legal_name,
            "search_domain": config.search_domain,
            "outdated_gateway_notifications": config.outdated_gateway_letter.is_enabled,
        },
    )
    edit.text("name", longest=64, required=True)
    if len(edit.value("name") or "abc") < 3:
        edit.error("name", "should be at least 3 character(s)")
    edit.text("legal_name", required=True)
    _check_domain(edit)
    edit.flag("outdated_gateway_notifications")
    upstream = _upstream(edit, config.upstream_dns)
    values = edit.finish()
    letter = replace(config.outdated_gateway_letter, is_enabled=values["outdated_gateway_notifications"])
    after = AccountConfig(values["search_domain"], upstream, letter)
    return replace(
        before, name=values["name"], legal_name=values["legal_name"], config=after.within(before.config)
    )


def _check_domain(edit: Edit) -> None:
    if not edit.gave("search_domain"):
        return
    edit.text("search_domain")
    domain = edit.value("search_domain")
    if edit.raw("search_domain") is None or "search_domain" in edit.errors:
        return
    try:
        edit.put("search_domain", check_search_domain(domain or ""))
    except ValueError:
        edit.error("search_domain", "must be a domain such as corp.example.com")


def _upstream(edit: Edit, before: UpstreamDns) -> UpstreamDns:
    """Merge what was given into the stored resolvers."""
    given = (edit.raw("clients_upstream_dns") if edit.gave("clients_upstream_dns") else None) or {}
    merged: dict[str, Any] = {
        "type": before.type,
        "doh_provider": before.doh_provider,
        "addresses": [{"address": address} for address in before.addresses],
    }
    merged |= {name: value for name, value in given.items() if value is not None}
    errors: dict[str, list[Any]] = {}
    if merged["type"] not in DNS_TYPES:
        errors["type"] = [INVALID]
    if merged["doh_provider"] not in DOH_PROVIDERS:
        errors["doh_provider"] = [INVALID]
    addresses: list[str] = []
    messages: list[dict[str, list[str]]] = []
    for one in merged["addresses"]:
        address, wrong = _checked_address(one["address"])
        addresses.append(address)
        messages.append({} if wrong is None else {"address": [wrong]})
    if any(messages):
        errors["addresses"] = messages
    elif merged["type"] == "custom" and not addresses:
        errors["addresses"] = [BLANK]
    elif len(set(addresses)) < len(addresses):
        errors["addresses"] = ["must not contain duplicates"]
    if errors:
        edit.nested_error("clients_upstream_dns", [errors])
    return UpstreamDns(merged["type"], merged["doh_provider"], tuple(addresses))


def _checked_address(text: str) -> tuple[str, str | None]:
    try:
        address = parse_ip(text.strip())
    except ValueError:
        return text, "must be an IP address without a port"
    for network in RESERVED:
        if address in network:
            return text, f"cannot be in the CIDR {network}"
    return str(address), None
