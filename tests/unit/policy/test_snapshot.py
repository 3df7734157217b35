from dataclasses import replace
from uuid import UUID

from support.worlds import ADA, ADA_IN_STAFF, BASICS, EVERYONE, NET, STAFF, policy
from wardgate.model.domain import ClientDevice, PoolMember
from wardgate.model.ids import ClientId, DeviceId, PoolMemberId, ResourceId
from wardgate.policy.snapshot import Snapshot


def test_a_snapshot_is_not_changed_by_what_follows_it() -> None:
    before = Snapshot.of([*BASICS, policy(1)])
    after = before.evolve(drops=[policy(1), ADA_IN_STAFF], puts=[policy(2)])
    assert list(before.policies) == [policy(1).id]
    assert before.membership_id(ADA, STAFF.id) == ADA_IN_STAFF.id
    assert [one.id for one in after.policies_of[NET.id.int]] == [policy(2).id]
    assert after.membership_id(ADA, STAFF.id) is None


def test_following_changes_gives_what_loading_gives() -> None:
    step_by_step = Snapshot()
    for entity in [*BASICS, policy(3), policy(1), policy(2, is_disabled=True)]:
        step_by_step = step_by_step.evolve(puts=[entity])
    assert step_by_step == Snapshot.of([policy(1), policy(2, is_disabled=True), policy(3), *BASICS])


def test_a_policy_that_moves_to_another_resource_leaves_the_first() -> None:
    moved = replace(policy(1), resource_id=NET.id.__class__(int=41))
    after = Snapshot.of([*BASICS, policy(1)]).evolve(puts=[moved])
    assert NET.id.int not in after.policies_of
    assert [one.id for one in after.policies_of[moved.resource_id.int]] == [moved.id]


def test_dropping_what_is_gone_changes_nothing() -> None:
    before = Snapshot.of(BASICS)
    assert before.evolve(drops=[policy(1)]) == before
    other = replace(ADA_IN_STAFF, id=ADA_IN_STAFF.id.__class__(int=77))
    assert before.evolve(drops=[other]).membership_id(ADA, STAFF.id) == ADA_IN_STAFF.id


def test_everyone_is_found_and_forgotten_with_its_group() -> None:
    snapshot = Snapshot.of(BASICS)
    assert snapshot.everyone_group_id == EVERYONE.id
    assert snapshot.evolve(drops=[EVERYONE]).everyone_group_id is None
    assert snapshot.memberships_of(ADA) == {STAFF.id: ADA_IN_STAFF.id, EVERYONE.id: None}


def test_tables_that_a_change_does_not_touch_are_shared() -> None:
    before = Snapshot.of(BASICS)
    after = before.evolve(puts=[policy(1)])
    assert after.actors is before.actors
    assert after.membership_ids is before.membership_ids


NAS = ClientDevice(
    ClientId(DeviceId(UUID(int=60))), "nas", "100.64.0.60", "fd00:2021:1111::60", "NAS.lab.example"
)


def test_a_device_is_found_by_its_name_and_addresses_as_long_as_it_has_a_name() -> None:
    snapshot = Snapshot.of([*BASICS, NAS])
    assert snapshot.devices_by_hostname == {"nas.lab.example": NAS}
    assert snapshot.devices_by_address == {NAS.ipv4: NAS, NAS.ipv6: NAS}
    nameless = snapshot.evolve(puts=[replace(NAS, hostname=None)])
    assert not nameless.devices_by_hostname
    assert not nameless.devices_by_address
    assert snapshot.evolve(drops=[NAS]) == Snapshot.of(BASICS)


def test_a_name_may_go_over_to_another_device_in_one_batch() -> None:
    other = replace(NAS, id=ClientId(DeviceId(UUID(int=61))), ipv4="100.64.0.61", ipv6="fd00:2021:1111::61")
    snapshot = Snapshot.of([*BASICS, NAS])
    for puts in ([other, replace(NAS, hostname="old")], [replace(NAS, hostname="old"), other]):
        after = snapshot.evolve(puts=puts)
        assert after.devices_by_hostname["nas.lab.example"] == other
        assert after.devices_by_hostname["old"].id == NAS.id


def test_only_the_row_that_put_a_device_in_a_pool_takes_it_out() -> None:
    pool = ResourceId(UUID(int=41))
    first, second = (PoolMember(PoolMemberId(UUID(int=number)), pool, NAS.id) for number in (70, 71))
    snapshot = Snapshot.of([*BASICS, NAS, second])
    assert snapshot.evolve(drops=[first]) == snapshot
    assert snapshot.evolve(drops=[second]).members_of == {}
