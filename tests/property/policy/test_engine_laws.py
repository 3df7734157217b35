"""Laws of the engine, on random accounts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from support.worlds import BASICS, LAB
from wardgate.model.conditions import Condition, Weekday, parse_condition
from wardgate.model.domain import Actor, ActorType, Group, GroupType, Membership, Policy
from wardgate.model.ids import ActorId, AuthProviderId, GroupId, MembershipId, PolicyId, ResourceId
from wardgate.model.resources import CidrResource, InternetResource, Resource
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.policy.engine import AccessRequest, Denied, Granted, authorize, connectable_resources
from wardgate.policy.evaluation import UNDETERMINED, Facts, Undetermined
from wardgate.policy.explanation import as_json, as_text, explain, from_json
from wardgate.policy.snapshot import Entity, Snapshot

PROVIDERS = [AuthProviderId(UUID(int=900 + number)) for number in range(2)]
ADDRESSES = ["203.0.113.5", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"]
NETWORKS = ["203.0.113.0/24", "10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "::/0"]
ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Los_Angeles", "Pacific/Apia"]
CURRENT = ClientSoftware(Component.HEADLESS, Version(1, 5, 12))

instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - zone given


def times() -> st.SearchStrategy[str]:
    return st.builds(
        lambda day, start, length, zone: f"{day}/{start}-{min(start + length, 23)}:59/{zone}",
        st.sampled_from([day.value for day in Weekday]),
        st.integers(0, 23),
        st.integers(0, 23),
        st.sampled_from(ZONES),
    )


conditions: st.SearchStrategy[Condition] = st.one_of(
    st.builds(
        lambda operator, values: parse_condition("remote_ip", operator, values),
        st.sampled_from(["is_in_cidr", "is_not_in_cidr"]),
        st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3, unique=True),
    ),
    st.builds(
        lambda operator, values: parse_condition("remote_ip_location_region", operator, values),
        st.sampled_from(["is_in", "is_not_in"]),
        st.lists(st.sampled_from(["DE", "FR"]), min_size=1, unique=True),
    ),
    st.builds(
        lambda operator, value: parse_condition("auth_provider_id", operator, [str(value)]),
        st.sampled_from(["is_in", "is_not_in"]),
        st.sampled_from(PROVIDERS),
    ),
    st.builds(
        lambda value: parse_condition("client_verified", "is", [value]), st.sampled_from(["true", "false"])
    ),
    st.builds(
        lambda values: parse_condition("current_utc_datetime", "is_in_day_of_week_time_ranges", values),
        st.lists(times(), min_size=1, max_size=5, unique=True),
    ),
)

facts = st.builds(
    Facts,
    st.one_of(st.just(UNDETERMINED), st.sampled_from([ip_address(text) for text in ADDRESSES])),
    st.one_of(st.just(UNDETERMINED), st.sampled_from(["DE", "FR", "US", None])),
    st.one_of(st.just(UNDETERMINED), st.sampled_from([*PROVIDERS, None])),
    st.one_of(st.just(UNDETERMINED), st.booleans()),
)

ACTORS = [
    Actor(ActorId(UUID(int=number)), type_, f"actor {number}", None, is_disabled)
    for number, (type_, is_disabled) in enumerate(
        [
            (ActorType.USER, False),
            (ActorType.ADMIN, False),
            (ActorType.SERVICE_ACCOUNT, False),
            (ActorType.USER, True),
        ]
    )
]
GROUPS = [
    Group(GroupId(UUID(int=100)), "Everyone", GroupType.MANAGED, is_everyone=True),
    Group(GroupId(UUID(int=101)), "one"),
    Group(GroupId(UUID(int=102)), "two"),
]
RESOURCES: list[Resource] = [
    next(one for one in BASICS if isinstance(one, CidrResource)),
    InternetResource(ResourceId(UUID(int=201)), "Internet", LAB.id),
    InternetResource(ResourceId(UUID(int=202)), "nowhere", None),
]
MEMBERSHIPS = [
    Membership(MembershipId(UUID(int=300 + 10 * actor + group)), ACTORS[actor].id, GROUPS[group].id)
    for actor in range(len(ACTORS))
    for group in (1, 2)
]


@st.composite
def policies(draw: st.DrawFn) -> list[Policy]:
    return [
        Policy(
            PolicyId(UUID(int=1000 + number)),
            draw(st.sampled_from([None, *(group.id for group in GROUPS)])),
            draw(st.sampled_from([resource.id for resource in RESOURCES])),
            tuple(draw(st.lists(conditions, max_size=3))),
            draw(st.booleans()) and draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


memberships = st.lists(st.sampled_from(MEMBERSHIPS), unique=True)


@st.composite
def requests(draw: st.DrawFn, now: datetime) -> AccessRequest:
    return AccessRequest(
        draw(st.sampled_from(ACTORS)).id,
        draw(st.sampled_from(RESOURCES)).id,
        draw(facts),
        now + timedelta(seconds=draw(st.integers(-10, 10_000_000))),
    )


def world(made: list[Policy], members: list[Membership]) -> list[Entity]:
    return [LAB, *ACTORS, *GROUPS, *RESOURCES, *members, *made]


@given(st.data(), policies(), memberships, instants, conditions)
def test_adding_a_condition_never_widens_access(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime, added: Condition
) -> None:
    request = data.draw(requests(now))
    narrowed = [
        replace(one, conditions=(*one.conditions, added)) if data.draw(st.booleans()) else one for one in made
    ]
    before = authorize(Snapshot.of(world(made, members)), request, now=now)
    after = authorize(Snapshot.of(world(narrowed, members)), request, now=now)
    if isinstance(after, Granted):
        assert isinstance(before, Granted)
        assert before.expires_at >= after.expires_at


@given(st.data(), policies(), memberships, instants)
def test_the_order_of_everything_does_not_matter(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime
) -> None:
    request = data.draw(requests(now))
    entities = world(made, members)
    shuffled = data.draw(st.permutations(entities))
    assert authorize(Snapshot.of(entities), request, now=now) == authorize(
        Snapshot.of(shuffled), request, now=now
    )


@given(st.data(), policies(), memberships, instants)
def test_removing_a_policy_or_a_membership_never_widens_access(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime
) -> None:
    request = data.draw(requests(now))
    full = Snapshot.of(world(made, members))
    dropped = data.draw(st.lists(st.sampled_from([*made, *members, None])))
    fewer = full.evolve(drops=[one for one in dropped if one is not None])
    if isinstance(authorize(fewer, request, now=now), Granted):
        assert isinstance(authorize(full, request, now=now), Granted)


@given(st.data(), policies(), memberships, instants)
def test_knowing_less_never_widens_access(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime
) -> None:
    request = data.draw(requests(now))
    snapshot = Snapshot.of(world(made, members))
    if isinstance(authorize(snapshot, replace(request, facts=Facts()), now=now), Granted):
        assert isinstance(authorize(snapshot, request, now=now), Granted)


@given(st.data(), policies(), memberships, instants)
def test_a_grant_follows_from_a_policy_whose_conditions_all_hold(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime
) -> None:
    """Checked against a plain reading of the rows, without index or evaluation order."""
    request = data.draw(requests(now))
    snapshot = Snapshot.of(world(made, members))
    actor = snapshot.actors[request.actor_id]
    groups = {one.group_id for one in members if one.actor_id == actor.id}
    if actor.type in (ActorType.USER, ActorType.ADMIN):
        groups.add(GROUPS[0].id)
    resource = snapshot.resources[request.resource_id]
    possible = [
        one
        for one in made
        if not one.is_disabled and one.resource_id == request.resource_id and one.group_id in groups
    ]
    decision = authorize(snapshot, request, now=now)
    if isinstance(decision, Granted):
        assert decision.policy in possible
        assert now < request.token_expires_at
        assert now <= decision.expires_at <= request.token_expires_at
        assert not actor.is_disabled
    elif not actor.is_disabled and now < request.token_expires_at and getattr(resource, "site_id", None):
        assert len(decision.alternatives) == len(possible)
        assert all(one.failed for one in decision.alternatives)
        assert all(one.conditions for one in possible)


@given(st.data(), policies(), memberships, instants)
def test_a_grant_holds_until_it_expires_and_its_policy_not_a_second_longer(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime
) -> None:
    request = data.draw(requests(now))
    snapshot = Snapshot.of(world(made, members))
    decision = authorize(snapshot, request, now=now)
    if not isinstance(decision, Granted) or decision.expires_at == request.token_expires_at:
        return
    part = data.draw(st.floats(0, 1))
    between = now + (decision.expires_at - now) * part
    only = snapshot.evolve(drops=[one for one in made if one != decision.policy])
    assert isinstance(authorize(only, request, now=between), Granted)
    assert isinstance(authorize(only, request, now=decision.expires_at + timedelta(seconds=1)), Denied)


@given(st.data(), policies(), memberships, instants)
def test_a_client_is_shown_exactly_what_it_would_be_granted(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime
) -> None:
    request = data.draw(requests(now))
    snapshot = Snapshot.of(world(made, members))
    shown = connectable_resources(snapshot, request.actor_id, request.facts, CURRENT, now=now)
    valid = replace(request, token_expires_at=now + timedelta(days=1))
    granted = {
        resource.id
        for resource in RESOURCES
        if isinstance(authorize(snapshot, replace(valid, resource_id=resource.id), now=now), Granted)
    }
    assert set(shown) == granted


@given(st.data(), policies(), memberships, instants)
def test_an_explanation_agrees_with_its_decision_and_survives_json(
    data: st.DataObject, made: list[Policy], members: list[Membership], now: datetime
) -> None:
    request = data.draw(requests(now))
    snapshot = Snapshot.of(world(made, members))
    decision = authorize(snapshot, request, now=now)
    told = explain(snapshot, request, decision, now=now)
    assert (told.outcome == "granted") == isinstance(decision, Granted)
    if told.outcome == "undetermined":
        known = (
            request.facts.remote_ip,
            request.facts.region,
            request.facts.auth_provider_id,
            request.facts.is_verified,
        )
        assert any(isinstance(fact, Undetermined) for fact in known)
    assert from_json(as_json(told)) == told
    assert as_text(told)
