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

from wardgate.portal.people.rest.groups import AnyGroupView
from wardgate.portal.rest.account_views import BannerView, OperatedAccountView
from wardgate.portal.rest.application import openapi
from wardgate.portal.rest.pages import Page
from wardgate.portal.rest.sign_in_views import (
    EmailOtpAuthProviderView,
    EntraAuthProviderView,
    ExternalIdentityView,
    GoogleAuthProviderView,
    OidcAuthProviderView,
    OktaAuthProviderView,
)
from wardgate.portal.rest.views import (
    ActorView,
    ClientTokenView,
    ClientView,
    GatewayView,
    GroupView,
    JobView,
    ListOf,
    MemberView,
    Metadata,
    PolicyView,
    PoolMemberView,
    RelayTokenView,
    ResourceView,
    Shown,
    SiteView,
    listed,
)
from wardgate.portal.sign_in.rest.api_clients import ApiClientView, ApiTokenView
from wardgate.portal.store import rows

MADE_OF_VIEWS = {
    "DecisionView",
    "LogEntryView",
    "OfferView",
}  # lists that have a cursor of their own, or an explanation beside the row

AN_INSTANT = datetime(2026, 8, 20, 12, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Listed:
    view: type[BaseModel]
    row_class: type[rows.Row]
    shown: Callable[[Any], Shown]


LISTED = (
    Listed(ActorView, rows.Actor, ActorView.shown),
    Listed(AnyGroupView, rows.Group, AnyGroupView.shown),
    Listed(ApiClientView, rows.Actor, ApiClientView.shown),
    Listed(ApiTokenView, rows.ApiToken, ApiTokenView.shown),
    Listed(BannerView, rows.Banner, BannerView.shown),
    Listed(ClientTokenView, rows.ClientToken, ClientTokenView.shown),
    Listed(ClientView, rows.Device, lambda row: ClientView.shown(row, online=True)),
    Listed(EmailOtpAuthProviderView, rows.EmailOtpAuthProvider, EmailOtpAuthProviderView.shown),
    Listed(EntraAuthProviderView, rows.EntraAuthProvider, EntraAuthProviderView.shown),
    Listed(ExternalIdentityView, rows.ExternalIdentity, ExternalIdentityView.shown),
    Listed(GatewayView, rows.Device, lambda row: GatewayView.shown(row, online=False, rotated_at=AN_INSTANT)),
    Listed(GoogleAuthProviderView, rows.GoogleAuthProvider, GoogleAuthProviderView.shown),
    Listed(GroupView, rows.Group, GroupView.shown),
    Listed(JobView, rows.Job, JobView.shown),
    Listed(MemberView, rows.Actor, MemberView.shown),
    Listed(OidcAuthProviderView, rows.OidcAuthProvider, OidcAuthProviderView.shown),
    Listed(OktaAuthProviderView, rows.OktaAuthProvider, OktaAuthProviderView.shown),
    Listed(OperatedAccountView, rows.Account, OperatedAccountView.shown),
    Listed(PolicyView, rows.Policy, PolicyView.shown),
    Listed(PoolMemberView, rows.Device, PoolMemberView.shown),
    Listed(RelayTokenView, rows.RelayToken, RelayTokenView.shown),
    Listed(ResourceView, rows.Resource, ResourceView.shown),
    Listed(SiteView, rows.Site, SiteView.shown),
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
NARROWER: dict[type[rows.Row], dict[str, st.SearchStrategy[Any]]] = {
    rows.Device: {"actor_id": st.uuids(), "ipv4": st.text(), "ipv6": st.text()},
    rows.Group: {"type": st.sampled_from(["static", "managed"])},
}


@pytest.mark.parametrize("one", LISTED, ids=lambda one: one.view.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_a_list_says_of_each_object_what_its_view_says(one: Listed, data: st.DataObject) -> None:
    some = data.draw(st.lists(rows_of(one.row_class), max_size=3))
    page = Page(some, count=len(some) + 7, limit=3, next_page="after", prev_page=None)
    metadata = Metadata(count=page.count, limit=3, next_page="after", prev_page=None)
    views = [one.view(**one.shown(row)) for row in some]
    expected = ListOf[one.view](data=views, metadata=metadata).model_dump_json()  # type: ignore[name-defined]

    answer = listed(page, one.shown)

    assert answer.headers["content-type"] == "application/json"
    assert in_order(answer.body) == in_order(expected)


def test_every_documented_list_is_among_those_compared() -> None:
    documented = {
        name.removeprefix("ListOf_").removesuffix("_")
        for name in openapi()["components"]["schemas"]
        if name.startswith("ListOf_")
    }
    assert documented == {one.view.__name__ for one in LISTED} | MADE_OF_VIEWS


def rows_of(row_class: type[rows.Row]) -> st.SearchStrategy[Any]:
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
