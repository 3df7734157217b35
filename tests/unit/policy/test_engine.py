from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from support.worlds import (
    ADA,
    ADA_IN_STAFF,
    BASICS,
    EVERYONE,
    FACTS,
    LAB,
    NET,
    NOW,
    ROBOT,
    STAFF,
    TOKEN_ENDS,
    from_networks,
    hours,
    policy,
    regions,
    request,
    verified,
)
from wardgate.model.conditions import Property
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import DnsResource, InternetResource, StaticDevicePool
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.policy.engine import Decision, Denied, Granted, Obstacle, authorize, connectable_resources
from wardgate.policy.snapshot import Entity, Snapshot

CURRENT = ClientSoftware(Component.HEADLESS, Version(1, 5, 12))


def decide(*entities: Entity, **changes: object) -> Decision:
    return authorize(Snapshot.of([*BASICS, *entities]), request(**changes), now=NOW)  # type: ignore[arg-type]


def test_without_a_policy_access_is_denied() -> None:
    assert decide() == Denied(obstacle=Obstacle.NO_POLICY)


def test_a_policy_for_a_group_grants_its_members_until_their_token_ends() -> None:
    grant = decide(policy(1))
    assert isinstance(grant, Granted)
    assert (grant.policy, grant.membership_id, grant.expires_at) == (policy(1), ADA_IN_STAFF.id, TOKEN_ENDS)


def test_a_policy_for_another_group_grants_nothing() -> None:
    other = replace(STAFF, id=EVERYONE.id.__class__(int=99))
    assert decide(other, policy(1, group=other)) == Denied(obstacle=Obstacle.NO_POLICY)


def test_everyone_means_users_and_not_service_accounts() -> None:
    grant = decide(policy(1, group=EVERYONE))
    assert isinstance(grant, Granted)
    assert grant.membership_id is None
    assert decide(policy(1, group=EVERYONE), actor=ROBOT) == Denied(obstacle=Obstacle.NO_POLICY)


@pytest.mark.parametrize(
    "dead", [policy(1, is_disabled=True), policy(1, group=None)], ids=["disabled", "orphaned"]
)
def test_a_policy_that_is_off_grants_nothing(dead: Entity) -> None:
    assert decide(dead) == Denied(obstacle=Obstacle.NO_POLICY)


def test_a_disabled_actor_and_a_disabled_account_are_shut_out() -> None:
    disabled = replace(ADA, is_disabled=True)
    assert decide(disabled, policy(1)) == Denied(obstacle=Obstacle.ACTOR_DISABLED)
    snapshot = Snapshot.of([*BASICS, policy(1)], is_disabled=True)
    assert authorize(snapshot, request(), now=NOW) == Denied(obstacle=Obstacle.ACCOUNT_DISABLED)
    assert connectable_resources(snapshot, ADA.id, FACTS, CURRENT, now=NOW) == {}


def test_a_token_that_ends_now_grants_nothing() -> None:
    assert decide(policy(1), token_expires_at=NOW) == Denied(obstacle=Obstacle.TOKEN_EXPIRED)


def test_a_resource_without_its_site_is_not_reachable() -> None:
    for homeless in (replace(NET, site_id=None), replace(NET, site_id=LAB.id.__class__(int=7))):
        assert decide(homeless, policy(1)) == Denied(obstacle=Obstacle.RESOURCE_WITHOUT_SITE)


def test_unknown_actors_and_resources_are_denied() -> None:
    snapshot = Snapshot.of([*BASICS, policy(1)])
    assert authorize(snapshot.evolve(drops=[ADA]), request(), now=NOW) == Denied(
        obstacle=Obstacle.ACTOR_UNKNOWN
    )
    assert authorize(snapshot.evolve(drops=[NET]), request(), now=NOW) == Denied(
        obstacle=Obstacle.RESOURCE_UNKNOWN
    )


def test_a_denial_lists_each_candidate_with_what_failed() -> None:
    denied = decide(
        policy(1, from_networks("10.0.0.0/8"), regions("DE")),
        policy(2, verified(), from_networks("192.0.2.0/24")),
    )
    assert isinstance(denied, Denied)
    assert denied.obstacle is None
    assert [
        (one.policy.id, [failed.condition.property for failed in one.failed]) for one in denied.alternatives
    ] == [
        (policy(1).id, [Property.REMOTE_IP]),
        (policy(2).id, [Property.VERIFIED, Property.REMOTE_IP]),
    ]
    assert denied.violated_properties == (Property.REMOTE_IP, Property.VERIFIED)


def test_one_satisfied_policy_is_enough_and_the_longest_lasting_is_chosen() -> None:
    grant = decide(policy(1, verified()), policy(2, hours("M/9-13/UTC")), policy(3, hours("M/9-14/UTC")))
    assert isinstance(grant, Granted)
    assert grant.policy == policy(3, hours("M/9-14/UTC"))
    assert grant.expires_at == datetime(2026, 11, 23, 14, tzinfo=UTC)


def test_a_policy_without_end_beats_any_date() -> None:
    grant = decide(policy(1, hours("M/true/UTC")), policy(2))
    assert isinstance(grant, Granted)
    assert grant.policy == policy(2)


def test_the_token_ends_a_grant_that_the_conditions_would_allow_longer() -> None:
    soon = NOW + timedelta(minutes=5)
    grant = decide(policy(1, hours("M/9-14/UTC")), token_expires_at=soon)
    assert isinstance(grant, Granted)
    assert grant.expires_at == soon


def test_a_client_is_shown_what_it_could_reach_now() -> None:
    snapshot = Snapshot.of([*BASICS, policy(1, hours("M/9-13/UTC"))])
    shown = connectable_resources(snapshot, ADA.id, FACTS, CURRENT, now=NOW)
    assert list(shown) == [NET.id]
    later = NOW + timedelta(hours=2)
    assert connectable_resources(snapshot, ADA.id, FACTS, CURRENT, now=later) == {}


def test_the_list_holds_each_resource_once_and_by_id() -> None:
    other = replace(NET, id=NET.id.__class__(int=39))
    policies = [policy(1), policy(2, group=EVERYONE), replace(policy(3), resource_id=other.id)]
    snapshot = Snapshot.of([*BASICS, other, *policies])
    assert list(connectable_resources(snapshot, ADA.id, FACTS, CURRENT, now=NOW)) == [other.id, NET.id]


def test_a_resource_that_the_client_is_too_old_to_be_told_of_is_neither_shown_nor_granted() -> None:
    internet = InternetResource(NET.id, "Internet", LAB.id)
    snapshot = Snapshot.of([*BASICS, internet, policy(1)])
    old, new = (ClientSoftware(Component.HEADLESS, Version(1, minor)) for minor in (2, 3))
    assert connectable_resources(snapshot, ADA.id, FACTS, old, now=NOW) == {}
    asked = replace(request(), software=old)
    assert authorize(snapshot, asked, now=NOW) == Denied(obstacle=Obstacle.CLIENT_TOO_OLD)
    assert isinstance(authorize(snapshot, replace(asked, software=new), now=NOW), Granted)


@pytest.mark.parametrize("minor", range(5))
@pytest.mark.parametrize("address", [None, "app.example", "*.example", "a.*.example"])
def test_what_is_shown_to_a_client_of_any_age_is_what_it_is_granted(address: str | None, minor: int) -> None:
    resource = (
        InternetResource(NET.id, "Internet", LAB.id)
        if address is None
        else DnsResource(NET.id, "app", LAB.id, NamePattern.parse(address))
    )
    snapshot, software = (
        Snapshot.of([*BASICS, resource, policy(1)]),
        ClientSoftware(Component.HEADLESS, Version(1, minor)),
    )
    shown = connectable_resources(snapshot, ADA.id, FACTS, software, now=NOW)
    decision = authorize(snapshot, replace(request(), software=software), now=NOW)
    assert (NET.id in shown) is isinstance(decision, Granted)
    assert NET.id in shown or minor < 3


def test_device_pools_are_shown_to_clients_that_list_them_and_need_no_site() -> None:
    pool = StaticDevicePool(NET.id, "pool")
    snapshot = Snapshot.of([*BASICS, pool, policy(1)])
    assert list(connectable_resources(snapshot, ADA.id, FACTS, CURRENT, now=NOW)) == [pool.id]
    old = ClientSoftware(Component.HEADLESS, Version(1, 5, 8))
    assert connectable_resources(snapshot, ADA.id, FACTS, old, now=NOW) == {}


def test_an_orphan_grants_again_when_its_group_is_linked_back() -> None:
    orphaned = Snapshot.of([*BASICS, policy(1)]).evolve(puts=[policy(1, group=None)])
    assert authorize(orphaned, request(), now=NOW) == Denied(obstacle=Obstacle.NO_POLICY)
    assert connectable_resources(orphaned, ADA.id, FACTS, CURRENT, now=NOW) == {}
    linked = orphaned.evolve(puts=[policy(1)])
    assert isinstance(authorize(linked, request(), now=NOW), Granted)
    assert list(connectable_resources(linked, ADA.id, FACTS, CURRENT, now=NOW)) == [NET.id]


def test_a_policy_that_moves_to_another_group_leaves_the_first() -> None:
    moved = Snapshot.of([*BASICS, policy(1)]).evolve(puts=[policy(1, group=EVERYONE)])
    assert STAFF.id.int not in moved.policies_for
    assert authorize(moved, request(actor=ROBOT), now=NOW) == Denied(obstacle=Obstacle.NO_POLICY)
    assert isinstance(authorize(moved, request(), now=NOW), Granted)


def test_a_site_that_comes_and_goes_takes_its_resources_with_it() -> None:
    snapshot = Snapshot.of([*BASICS, policy(1)])
    without = snapshot.evolve(drops=[LAB])
    assert authorize(without, request(), now=NOW) == Denied(obstacle=Obstacle.RESOURCE_WITHOUT_SITE)
    assert connectable_resources(without, ADA.id, FACTS, CURRENT, now=NOW) == {}
    assert isinstance(authorize(without.evolve(puts=[LAB]), request(), now=NOW), Granted)


def test_a_changed_resource_is_granted_and_shown_as_it_is_now() -> None:
    renamed = replace(NET, name="renamed")
    snapshot = Snapshot.of([*BASICS, policy(1)]).evolve(puts=[renamed])
    grant = authorize(snapshot, request(), now=NOW)
    assert isinstance(grant, Granted)
    assert grant.resource == renamed
    assert connectable_resources(snapshot, ADA.id, FACTS, CURRENT, now=NOW) == {NET.id: renamed}
