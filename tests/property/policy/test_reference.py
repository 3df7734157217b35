"""The engine agrees with a slow, obvious evaluator on random accounts; a failure names the world's number."""

import random
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from support import reference_evaluator as reference
from support.random_worlds import (
    random_addresses,
    random_connection,
    random_gateways,
    random_hostname,
    random_instant,
    random_world,
    snapshot_of,
)
from support.reference_evaluator import Row
from wardgate.model.conditions import parse_day_ranges
from wardgate.model.ids import ActorId, AuthProviderId, DeviceId, GatewayId, ResourceId
from wardgate.model.resources import DevicePool
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.policy import pools
from wardgate.policy.engine import AccessRequest, Granted, authorize, connectable_resources
from wardgate.policy.evaluation import Facts, end_of_window
from wardgate.policy.selection import Chosen, OnlineGateway, Position, select_gateway
from wardgate.policy.snapshot import Snapshot

SLICES = 10  # so that each test is short, and they can run beside each other


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.timeout(120)
def test_the_engine_agrees_with_the_reference(part: int, pytestconfig: pytest.Config) -> None:
    worlds = 10_000 if pytestconfig.getoption("--profile") == "long" else 1_000
    for number in range(part, worlds, SLICES):
        check_world(number)


def test_snapshots_that_came_about_in_different_ways_are_equal() -> None:
    for number in range(200):
        rng = random.Random(number)
        world = random_world(rng)
        assert snapshot_of(world, rng) == snapshot_of(world, rng), f"world {number}"


def check_world(number: int) -> None:
    rng = random.Random(number)
    world = random_world(rng)
    now = random_instant(rng, world)
    snapshot = snapshot_of(world, rng)
    gateways = random_gateways(rng, world)
    for _ in range(3):
        connection = random_connection(rng, world, now)
        about = f"world {number}, at {now}, {connection}"
        for resource in world["resources"]:
            check_decision(snapshot, world, connection, resource, now, about)
            if resource["site_id"] is not None and "pool" not in resource["type"]:
                connected = {one["id"] for one in gateways if rng.random() < 0.2}
                check_gateway(snapshot, gateways, connection, resource, connected, rng, about)
            if "pool" in resource["type"]:
                check_pool(snapshot, world, resource, rng, about)
        check_list(snapshot, world, connection, now, about)


def check_decision(
    snapshot: Snapshot, world: reference.World, connection: Row, resource: Row, now: datetime, about: str
) -> None:
    request = AccessRequest(
        ActorId(UUID(connection["actor_id"])),
        ResourceId(UUID(resource["id"])),
        facts_of(connection),
        connection["token_expires_at"],
        software_of(connection),
    )
    decision = authorize(snapshot, request, now=now)
    outcome, expected = reference.decide(world, connection, resource["id"], now)
    if isinstance(decision, Granted):
        assert outcome == "granted", about
        expires_at, policy_ids = expected
        assert decision.expires_at == expires_at, about
        assert str(decision.policy.id) in policy_ids, about
        assert decision.membership_id == membership_of(world, connection, decision), about
    elif decision.alternatives:
        assert outcome == "forbidden", about
        assert {one.value for one in decision.violated_properties} == expected, about
    else:
        assert outcome == "not_found", about


def check_list(
    snapshot: Snapshot, world: reference.World, connection: Row, now: datetime, about: str
) -> None:
    if connection["token_expires_at"] <= now:
        return  # such a connection is over: nobody asks for its list
    listed = connectable_resources(
        snapshot,
        ActorId(UUID(connection["actor_id"])),
        facts_of(connection),
        software_of(connection),
        now=now,
    )
    assert {str(one) for one in listed} == reference.shown(world, connection, now), about
    assert list(listed) == sorted(listed), about


def check_gateway(
    snapshot: Snapshot,
    gateways: list[Row],
    connection: Row,
    resource: Row,
    connected: set[str],
    rng: random.Random,
    about: str,
) -> None:
    outcome, possible = reference.gateways(gateways, resource, connection, connected)
    choice = select_gateway(
        [online(one) for one in gateways if one["site_id"] == resource["site_id"]],
        resource=snapshot.resources[ResourceId(UUID(resource["id"]))],
        client_version=version_of(connection["version"]),
        client_announced_version=connection["gateway_rule_version"] is not None,
        client_position=position_of(connection["position"]),
        connected={gateway_id(one) for one in connected},
        rng=rng,
    )
    if isinstance(choice, Chosen):
        assert outcome == "chosen", about
        assert str(choice.gateway.id) in possible, about
    else:
        assert choice.value == outcome, about


def check_pool(
    snapshot: Snapshot, world: reference.World, resource: Row, rng: random.Random, about: str
) -> None:
    pool = snapshot.resources[ResourceId(UUID(resource["id"]))]
    assert isinstance(pool, DevicePool)
    ipv4, ipv6 = random_addresses(rng, world)
    found = pools.find_target(snapshot, pool, ipv4=ipv4, ipv6=ipv6)
    outcome = found.value if isinstance(found, pools.NoTarget) else str(found.id)
    assert outcome == reference.target(world, resource, ipv4, ipv6), f"{about}: {ipv4}, {ipv6}"
    hostname = random_hostname(rng, world)
    device = pools.find_named(snapshot, pool, hostname)
    expected = reference.named(world, resource, hostname)
    assert (None if device is None else str(device.id)) == expected, f"{about}: {hostname}"
    members = {str(one.id) for one in pools.members_of(snapshot, pool.id)}
    if resource["type"] == "static_device_pool":
        assert members == {
            one["id"] for one in world["devices"] if reference.is_in_pool(world, resource, one)
        }, about


def membership_of(world: reference.World, connection: Row, grant: Granted) -> UUID | None:
    return next(
        (
            UUID(one["id"])
            for one in world["memberships"]
            if one["actor_id"] == connection["actor_id"] and one["group_id"] == str(grant.policy.group_id)
        ),
        None,
    )


def facts_of(connection: Row) -> Facts:
    provider_id = connection["auth_provider_id"]
    return Facts(
        ip_address(connection["remote_ip"]),
        connection["region"],
        None if provider_id is None else AuthProviderId(UUID(provider_id)),
        connection["is_verified"],
    )


def software_of(connection: Row) -> ClientSoftware:
    return ClientSoftware(Component(connection["component"]), version_of(connection["version"]))


def online(gateway: Row) -> OnlineGateway:
    return OnlineGateway(
        gateway_id(gateway["id"]), version_of(gateway["version"]), position_of(gateway["position"])
    )


def gateway_id(text: str) -> GatewayId:
    return GatewayId(DeviceId(UUID(text)))


def version_of(numbers: tuple[int, int, int] | None) -> Version | None:
    return None if numbers is None else Version(*numbers)


def position_of(place: tuple[float, float] | None) -> Position | None:
    return None if place is None else Position(*place)


CLOCK_CHANGES = [
    # Of a year that is over: of others a newer database of time zones may say something else.
    ("Europe/Berlin", datetime(2024, 3, 31, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2024, 10, 27, 1, tzinfo=UTC)),
    ("America/Havana", datetime(2024, 3, 10, 5, tzinfo=UTC)),  # midnight is skipped
    ("America/Havana", datetime(2024, 11, 3, 5, tzinfo=UTC)),  # the day's first hour repeats
    ("Africa/Cairo", datetime(2024, 10, 31, 21, tzinfo=UTC)),  # the day's last hour repeats
    ("Australia/Lord_Howe", datetime(2024, 4, 6, 15, tzinfo=UTC)),  # half an hour
]


@pytest.mark.parametrize(("zone_name", "change"), CLOCK_CHANGES)
def test_where_clocks_change_a_window_ends_when_a_walk_through_it_leaves_it(
    zone_name: str, change: datetime
) -> None:
    rng, zone = random.Random(7), ZoneInfo(zone_name)
    before, after = ((change + timedelta(seconds=one)).astimezone(zone).utcoffset() for one in (-1, 0))
    assert before != after
    walked = 0
    while walked < 12:
        now = change + timedelta(minutes=rng.randint(-90, 60))
        local = now.astimezone(zone)
        first, last = sorted(
            f"{rng.randrange(24):02}:{rng.choice(['00', '15', '30', '45'])}" for _ in range(2)
        )
        day = parse_day_ranges(f"{'MTWRFSU'[local.weekday()]}/{first}-{last}/{zone_name}")
        end = end_of_window((day,), now)
        left = end_of_walk(day.day.value, f"{first}:00", f"{last}:00", zone, now)
        if left is None or abs(left - now) < timedelta(hours=3):
            assert end == left, f"{local} in {first}-{last}"
            walked += 1


def end_of_walk(day: str, first: str, last: str, zone: ZoneInfo, now: datetime) -> datetime | None:
    """Go on by half seconds while the window holds, for three hours at most."""

    def holds(at: datetime) -> bool:
        local = at.astimezone(zone)
        is_on = "MTWRFSU"[local.weekday()] == day
        return is_on and reference.clock(first) <= local.time() <= reference.clock(last)

    if not holds(now):
        return None
    at, step = now, timedelta(seconds=0.5)
    while holds(at + step) and at < now + timedelta(hours=3):
        at += step
    return at if at.microsecond == 0 else at + step
