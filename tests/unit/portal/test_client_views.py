"""Views that the clients of an account share."""

from dataclasses import replace
from ipaddress import ip_network
from uuid import UUID

from support.worlds import BASICS, LAB, NET
from wardgate.model.domain import ClientDevice, PoolMember
from wardgate.model.ids import ClientId, DeviceId, PoolMemberId, ResourceId
from wardgate.model.resources import InternetResource, StaticDevicePool
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.snapshot.client_views import ClientViews
from wardgate.wire import messages as wire

CURRENT = ClientSoftware(Component.HEADLESS, Version(1, 5, 12))
NEWER = ClientSoftware(Component.APPLE, Version(1, 6, 0))
OLD = ClientSoftware(Component.HEADLESS, Version(1, 2, 9))
SNAPSHOT = Snapshot.of(BASICS)


def test_clients_of_one_style_share_a_view() -> None:
    views = ClientViews()
    assert views.of(SNAPSHOT, [NET], CURRENT)[NET.id] is views.of(SNAPSHOT, [NET], NEWER)[NET.id]


def test_clients_that_are_shown_the_same_share_the_list_and_a_change_leaves_an_older_one_as_it_was() -> None:
    views = ClientViews()
    first = views.of(SNAPSHOT, [NET], CURRENT)
    assert views.of(SNAPSHOT, [NET], NEWER) is first
    assert views.of(SNAPSHOT, [], CURRENT) == {}
    renamed = replace(NET, name="Net")
    after = views.of(SNAPSHOT.evolve(puts=[renamed]), [renamed], CURRENT)
    assert ([one.name for one in first.values()], [one.name for one in after.values()]) == (
        [NET.name],
        ["Net"],
    )


def test_resources_of_one_site_share_its_view() -> None:
    other = replace(NET, id=ResourceId(UUID(int=41)))
    first, second = ClientViews().of(SNAPSHOT, [NET, other], CURRENT).values()
    assert isinstance(first, wire.ClientCidrResource)
    assert isinstance(second, wire.ClientCidrResource)
    assert first.served_by[0] is second.served_by[0]


def test_clients_of_another_style_have_a_view_of_their_own() -> None:
    views = ClientViews()
    current, old = (views.of(SNAPSHOT, [NET], software)[NET.id] for software in (CURRENT, OLD))
    assert isinstance(current, wire.ClientCidrResource)
    assert isinstance(old, wire.ClientCidrResource)
    assert current.sites == old.gateway_groups == (wire.Site(LAB.id, "Lab"),)


def test_what_a_client_cannot_be_told_of_is_left_out_for_it_alone() -> None:
    views, internet = ClientViews(), InternetResource(ResourceId(UUID(int=41)), "Internet", LAB.id)
    for _ in range(2):
        assert views.of(SNAPSHOT, [internet], OLD) == {}
        assert list(views.of(SNAPSHOT, [internet], CURRENT)) == [internet.id]


def test_a_changed_resource_and_a_renamed_site_are_seen_at_once() -> None:
    views = ClientViews()
    views.of(SNAPSHOT, [NET], CURRENT)
    moved = replace(NET, address=ip_network("10.30.0.0/16"))
    after = SNAPSHOT.evolve(puts=[moved])
    view = views.of(after, [moved], CURRENT)[NET.id]
    assert isinstance(view, wire.ClientCidrResource)
    assert view.address == "10.30.0.0/16"
    after = after.evolve(puts=[replace(LAB, name="Cellar")])
    view = views.of(after, [moved], CURRENT)[NET.id]
    assert isinstance(view, wire.ClientCidrResource)
    assert view.sites == (wire.Site(LAB.id, "Cellar"),)


def test_a_static_pool_shows_its_members_as_they_are_now() -> None:
    views, pool = ClientViews(), StaticDevicePool(ResourceId(UUID(int=41)), "printers")
    device = ClientDevice(ClientId(DeviceId(UUID(int=50))), "laptop", "100.64.0.1", "fd00:2021:1111::1", None)
    member = PoolMember(PoolMemberId(UUID(int=60)), pool.id, device.id)
    before = SNAPSHOT.evolve(puts=[pool, device])
    after = before.evolve(puts=[member])
    for snapshot, expected in ((before, ()), (after, (device.id,)), (before, ())):
        view = views.of(snapshot, [pool], CURRENT)[pool.id]
        assert isinstance(view, wire.ClientStaticDevicePool)
        assert tuple(one.client_id for one in view.devices) == expected


def test_views_of_deleted_resources_do_not_pile_up() -> None:
    views, snapshot, resource = ClientViews(), SNAPSHOT, NET
    for number in range(100, 120):
        following = replace(NET, id=ResourceId(UUID(int=number)))
        snapshot = snapshot.evolve(drops=[resource], puts=[following])
        resource = following
        assert list(views.of(snapshot, [resource], CURRENT)) == [resource.id]
        assert views.count() == 1
