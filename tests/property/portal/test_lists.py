"""What a list says of an object is what its view says: lists are written without making the views."""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from types import NoneType
from typing import Any, get_args, get_type_hints
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from wardgate.portal.access.tables import Policy as PolicyRow
from wardgate.portal.access.tables import Resource as ResourceRow
from wardgate.portal.access.views import PolicyView, ResourceView
from wardgate.portal.devices.tables import Device as DeviceRow
from wardgate.portal.devices.views import ClientView, DrainableGatewayView, GatewayView, PoolMemberView
from wardgate.portal.installation.tables import Account as AccountRow
from wardgate.portal.installation.tables import Banner as BannerRow
from wardgate.portal.installation.tables import Job as JobRow
from wardgate.portal.installation.tables import RelayToken as RelayTokenRow
from wardgate.portal.installation.views import BannerView, JobView, OperatedAccountView, RelayTokenView
from wardgate.portal.people.rest.groups import AnyGroupView
from wardgate.portal.people.tables import Actor as ActorRow
from wardgate.portal.people.tables import ExternalIdentity as ExternalIdentityRow
from wardgate.portal.people.tables import Group as GroupRow
from wardgate.portal.people.views import ActorView, GroupView, MemberView
from wardgate.portal.rest.application import openapi
from wardgate.portal.rest.pages import Page
from wardgate.portal.rest.views import ListOf, Metadata, ViewFields, list_response
from wardgate.portal.schema.row import Row
from wardgate.portal.sign_in.rest.api_clients import ApiClientView, ApiTokenView
from wardgate.portal.sign_in.rest.operated_providers import (
    OperatedEntraAuthProviderView,
    OperatedGoogleAuthProviderView,
    OperatedOidcAuthProviderView,
    OperatedOktaAuthProviderView,
)
from wardgate.portal.sign_in.tables import ApiToken as ApiTokenRow
from wardgate.portal.sign_in.tables import ClientToken as ClientTokenRow
from wardgate.portal.sign_in.tables import EmailOtpAuthProvider as EmailOtpAuthProviderRow
from wardgate.portal.sign_in.tables import EntraAuthProvider as EntraAuthProviderRow
from wardgate.portal.sign_in.tables import GoogleAuthProvider as GoogleAuthProviderRow
from wardgate.portal.sign_in.tables import OidcAuthProvider as OidcAuthProviderRow
from wardgate.portal.sign_in.tables import OktaAuthProvider as OktaAuthProviderRow
from wardgate.portal.sign_in.tables import UserpassAuthProvider as UserpassAuthProviderRow
from wardgate.portal.sign_in.views import (
    ClientTokenView,
    EmailOtpAuthProviderView,
    EntraAuthProviderView,
    ExternalIdentityView,
    GoogleAuthProviderView,
    OidcAuthProviderView,
    OktaAuthProviderView,
    UserpassAuthProviderView,
)
from wardgate.portal.sites.tables import Site as SiteRow
from wardgate.portal.sites.views import SiteView

MADE_OF_VIEWS = {"OfferView"}  # an explanation stands beside the row

AN_INSTANT = datetime(2026, 8, 20, 12, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Listed:
    view: type[BaseModel]
    row_class: type[Row]
    fields_of: Callable[[Any], ViewFields]


LISTED = (
    Listed(ActorView, ActorRow, ActorView.fields_of),
    Listed(AnyGroupView, GroupRow, AnyGroupView.fields_of),
    Listed(ApiClientView, ActorRow, ApiClientView.fields_of),
    Listed(ApiTokenView, ApiTokenRow, ApiTokenView.fields_of),
    Listed(BannerView, BannerRow, BannerView.fields_of),
    Listed(ClientTokenView, ClientTokenRow, ClientTokenView.fields_of),
    Listed(ClientView, DeviceRow, lambda row: ClientView.fields_of(row, online=True)),
    Listed(
        DrainableGatewayView,
        DeviceRow,
        lambda row: DrainableGatewayView.drainable_fields_of(
            row, online=True, is_stopping=False, rotated_at=AN_INSTANT
        ),
    ),
    Listed(EmailOtpAuthProviderView, EmailOtpAuthProviderRow, EmailOtpAuthProviderView.fields_of),
    Listed(EntraAuthProviderView, EntraAuthProviderRow, EntraAuthProviderView.fields_of),
    Listed(ExternalIdentityView, ExternalIdentityRow, ExternalIdentityView.fields_of),
    Listed(
        GatewayView, DeviceRow, lambda row: GatewayView.fields_of(row, online=False, rotated_at=AN_INSTANT)
    ),
    Listed(GoogleAuthProviderView, GoogleAuthProviderRow, GoogleAuthProviderView.fields_of),
    Listed(GroupView, GroupRow, GroupView.fields_of),
    Listed(JobView, JobRow, JobView.fields_of),
    Listed(MemberView, ActorRow, MemberView.fields_of),
    Listed(OidcAuthProviderView, OidcAuthProviderRow, OidcAuthProviderView.fields_of),
    Listed(OktaAuthProviderView, OktaAuthProviderRow, OktaAuthProviderView.fields_of),
    Listed(OperatedAccountView, AccountRow, OperatedAccountView.fields_of),
    Listed(OperatedEntraAuthProviderView, EntraAuthProviderRow, OperatedEntraAuthProviderView.fields_of),
    Listed(OperatedGoogleAuthProviderView, GoogleAuthProviderRow, OperatedGoogleAuthProviderView.fields_of),
    Listed(OperatedOidcAuthProviderView, OidcAuthProviderRow, OperatedOidcAuthProviderView.fields_of),
    Listed(OperatedOktaAuthProviderView, OktaAuthProviderRow, OperatedOktaAuthProviderView.fields_of),
    Listed(PolicyView, PolicyRow, PolicyView.fields_of),
    Listed(PoolMemberView, DeviceRow, PoolMemberView.fields_of),
    Listed(RelayTokenView, RelayTokenRow, RelayTokenView.fields_of),
    Listed(ResourceView, ResourceRow, ResourceView.fields_of),
    Listed(SiteView, SiteRow, SiteView.fields_of),
    Listed(UserpassAuthProviderView, UserpassAuthProviderRow, UserpassAuthProviderView.fields_of),
)

SCALARS: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    bytes: st.binary(max_size=4),
    datetime: st.datetimes(timezones=st.just(UTC)),
    float: st.floats(allow_nan=False, allow_infinity=False),
    int: st.integers(-(2**31), 2**31),
    str: st.text(max_size=20),
    UUID: st.uuids(),
}
COMPOSITES: dict[str, st.SearchStrategy[Any]] = {
    "arguments": st.just({}),
    "conditions": st.lists(
        st.fixed_dictionaries(
            {
                "property": st.text(max_size=9),
                "operator": st.text(max_size=9),
                "values": st.lists(st.text(max_size=9), max_size=3),
            }
        ),
        max_size=3,
    ),
    "config": st.just({}),
    "features": st.dictionaries(st.sampled_from(["policy_conditions", "internet_resource"]), st.booleans()),
    "filters": st.lists(
        st.fixed_dictionaries(
            {"protocol": st.sampled_from(["tcp", "udp", "icmp"])},
            optional={"ports": st.lists(st.text(max_size=9), max_size=3)},
        ),
        max_size=3,
    ),
    "limits": st.dictionaries(
        st.sampled_from(["users_count", "api_capacity"]), st.none() | st.integers(0, 99)
    ),
    "preferences": st.just({}),
}
# What the database holds of these columns, narrower than the class says.
NARROWER: dict[type[Row], dict[str, st.SearchStrategy[Any]]] = {
    DeviceRow: {"actor_id": st.uuids(), "ipv4": st.text(), "ipv6": st.text()},
    GroupRow: {"type": st.sampled_from(["static", "managed"])},
}


@pytest.mark.parametrize("one", LISTED, ids=lambda one: one.view.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_a_list_says_of_each_object_what_its_view_says(one: Listed, data: st.DataObject) -> None:
    some = data.draw(st.lists(rows_of(one.row_class), max_size=3))
    page = Page(some, count=len(some) + 7, limit=3, next_page="after", prev_page=None)
    metadata = Metadata(count=page.count, limit=3, next_page="after", prev_page=None)
    views = [one.view(**one.fields_of(row)) for row in some]
    expected = ListOf[one.view](data=views, metadata=metadata).model_dump_json()  # type: ignore[name-defined]

    answer = list_response(page, one.fields_of)

    assert answer.headers["content-type"] == "application/json"
    assert in_order(answer.body) == in_order(expected)


def test_every_documented_list_is_among_those_compared() -> None:
    documented = {
        name.removeprefix("ListOf_").removesuffix("_")
        for name in openapi()["components"]["schemas"]
        if name.startswith("ListOf_")
    }
    assert documented == {one.view.__name__ for one in LISTED} | MADE_OF_VIEWS


def rows_of(row_class: type[Row]) -> st.SearchStrategy[Any]:
    names, hints = [field.name for field in fields(row_class)], get_type_hints(row_class)
    special = COMPOSITES | NARROWER.get(row_class, {})
    drawn = {name: special[name] if name in special else values(hints[name]) for name in names}
    return st.builds(row_class, **drawn)


def values(hint: Any) -> st.SearchStrategy[Any]:
    wanted = [one for one in get_args(hint) or (hint,) if one is not NoneType]
    return st.one_of(*([st.none()] if NoneType in get_args(hint) else []), *(SCALARS[one] for one in wanted))


def in_order(text: str | bytes | memoryview) -> Any:
    """Parse JSON with objects as lists, so that the order of their fields counts."""
    return json.loads(bytes(text) if isinstance(text, memoryview) else text, object_pairs_hook=list)
