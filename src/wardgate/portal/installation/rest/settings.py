"""`/wardgate/account_settings`: what administrators decide about their account (portal-domain §3.1)."""

from typing import Annotated

from pydantic import BaseModel, Field

from wardgate.portal.account_config import DNS_TYPES, DOH_PROVIDERS, SECOND_FACTOR_FOR
from wardgate.portal.installation import rules
from wardgate.portal.installation.views import AccountSettingsView
from wardgate.portal.rest.caller import ForAccount
from wardgate.portal.rest.fields import Fields, one_of, text
from wardgate.portal.rest.routes import Routes
from wardgate.portal.rest.views import Data

routes = Routes("settings", "/wardgate/account_settings", tag="Wardgate")


class DnsAddressFields(Fields):
    address: Annotated[str, Field(description="an IP address without port")]


class UpstreamDnsFields(Fields):
    """Resolvers that clients use for names that are not resources: the system's own, DNS over HTTPS, or these."""

    type: Annotated[str | None, one_of(DNS_TYPES, nullable=True)] = None
    doh_provider: Annotated[str | None, one_of(DOH_PROVIDERS, nullable=True)] = None
    addresses: Annotated[list[DnsAddressFields] | None, Field(max_length=rules.MAX_ADDRESSES)] = None


class SettingsFields(Fields):
    name: Annotated[str | None, text(64, shortest=3)] = None
    legal_name: Annotated[str | None, text(shortest=1)] = None
    search_domain: Annotated[str | None, text(shortest=1, about="null clears it")] = None
    clients_upstream_dns: UpstreamDnsFields | None = None
    outdated_gateway_notifications: Annotated[
        bool | None, Field(description="write to the admins once a week about gateways to be upgraded")
    ] = None
    second_factor_for: Annotated[str | None, one_of(SECOND_FACTOR_FOR)] = None


class SettingsBody(BaseModel):
    account_settings: SettingsFields


@routes.get("", is_versioned=True)
async def show(caller: ForAccount) -> Data[AccountSettingsView]:
    async with caller.reading() as tables:
        return Data(data=AccountSettingsView.of(caller.tagged(await rules.load_own_account(tables))))


@routes.edit("", is_versioned=True)
async def update(caller: ForAccount, body: SettingsBody) -> Data[AccountSettingsView]:
    async with caller.writing() as (tables, _transaction):
        before = caller.expected(await rules.load_own_account(tables))
        after = await rules.change_settings(tables, before, body.account_settings.given())
        return Data(data=AccountSettingsView.of(caller.tagged(after)))
