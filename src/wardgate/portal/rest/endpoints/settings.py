"""`/wardgate/account_settings`: what administrators decide about their account (portal-domain §3.1)."""

from dataclasses import replace
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter
from pydantic import BaseModel, Field

from wardgate.model.addresses import RESERVED, parse_ip
from wardgate.portal.jobs.outdated_gateways import Notification
from wardgate.portal.provisioning import check_search_domain
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.edits import BLANK, INVALID, Edit
from wardgate.portal.rest.fields import Fields, one_of, text
from wardgate.portal.rest.problems import Problem, not_found
from wardgate.portal.rest.views import AccountSettingsView, Data
from wardgate.portal.store import AccountTables
from wardgate.portal.store.rows import Account

router = APIRouter(prefix="/wardgate/account_settings", tags=["Wardgate"])

LOCKED: Final = "The account is locked: its settings cannot be changed."
DNS_TYPES: Final = ("system", "secure", "custom")
DOH_PROVIDERS: Final = ("google", "opendns", "cloudflare", "quad9")
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


@router.get("")
async def show(caller: ForAccount) -> Data[AccountSettingsView]:
    async with caller.reading() as tables:
        return Data(data=AccountSettingsView.of(caller.tagged(await _load(tables))))


@router.put("")
@router.patch("")
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
    config = dict(before.config)
    notification = Notification.of(config)
    edit = Edit(
        fields,
        {
            "name": before.name,
            "legal_name": before.legal_name,
            "search_domain": config.get("search_domain"),
            "outdated_gateway_notifications": notification.is_enabled,
        },
    )
    edit.text("name", longest=64, required=True)
    if len(edit.value("name") or "abc") < 3:
        edit.error("name", "should be at least 3 character(s)")
    edit.text("legal_name", required=True)
    _check_domain(edit)
    edit.flag("outdated_gateway_notifications")
    upstream = _upstream(edit, dict(config.get("clients_upstream_dns") or {}))
    values = edit.finish()
    config["search_domain"] = values["search_domain"]
    config["clients_upstream_dns"] = upstream
    config = replace(notification, is_enabled=values["outdated_gateway_notifications"]).within(config)
    return replace(before, name=values["name"], legal_name=values["legal_name"], config=config)


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


def _upstream(edit: Edit, before: dict[str, Any]) -> dict[str, Any]:
    """Merge what was given into the stored resolvers; addresses stay when the type changes, so toggling back loses nothing."""
    given = (edit.raw("clients_upstream_dns") if edit.gave("clients_upstream_dns") else None) or {}
    merged = {"type": "system", "doh_provider": "google", "addresses": [], **before}
    merged |= {name: value for name, value in given.items() if value is not None}
    errors: dict[str, list[Any]] = {}
    if merged["type"] not in DNS_TYPES:
        errors["type"] = [INVALID]
    if merged["doh_provider"] not in DOH_PROVIDERS:
        errors["doh_provider"] = [INVALID]
    addresses: list[dict[str, str]] = []
    messages: list[dict[str, list[str]]] = []
    for one in merged["addresses"]:
        address, wrong = _checked_address(one["address"])
        addresses.append({"address": address})
        messages.append({} if wrong is None else {"address": [wrong]})
    if any(messages):
        errors["addresses"] = messages
    elif merged["type"] == "custom" and not addresses:
        errors["addresses"] = [BLANK]
    elif len({one["address"] for one in addresses}) < len(addresses):
        errors["addresses"] = ["must not contain duplicates"]
    if errors:
        edit.nested_error("clients_upstream_dns", [errors])
    return {**merged, "addresses": addresses}


def _checked_address(text: str) -> tuple[str, str | None]:
    try:
        address = parse_ip(text.strip())
    except ValueError:
        return text, "must be an IP address without a port"
    for network in RESERVED:
        if address in network:
            return text, f"cannot be in the CIDR {network}"
    return str(address), None
