"""Random accounts as rows, small enough that everything touches everything, and the same as a snapshot."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from support.reference_evaluator import Row, World, ranges
from wardgate.policy.snapshot import Entity, Snapshot
from wardgate.portal.snapshot.entities import entity_of
from wardgate.portal.tables import TABLES

ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Los_Angeles", "Pacific/Chatham"]
ADDRESSES = ["203.0.113.5", "10.1.2.3", "192.0.2.1", "2001:db8::1", "2001:db8:1::7"]
NETWORKS = ["203.0.113.0/24", "10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "2001:db8::/48", "2001:db8::1", "::/0"]
REGIONS = ["DE", "FR", "US"]
PATTERNS = ["app.example.com", "*.example.com", "**.example.com", "a*.example.com", "app.*.example.com"]
POOL_PATTERNS = ["*.lab.example", "**.lab.example", "n?.lab.example", "n*x.lab.example", "n1.lab.example"]
PLACES = [(52.5, 13.4), (48.9, 2.4), (-33.9, 151.2), None]
VERSIONS = [(1, 1, 9), (1, 2, 0), (1, 3, 0), (1, 4, 9), (1, 5, 8), (1, 5, 16), (1, 6, 0), (1, 10, 0), None]
COMPONENTS = ["apple-client", "gui-client", "headless-client", "android-client"]


def random_world(rng: random.Random) -> World:
    sites = [{"id": uuid(rng), "name": "site", "managed_by": "account"} for _ in range(2)]
    groups = [
        {"id": uuid(rng), "name": name, "type": kind, "idp_id": None}
        for name, kind in [
            ("Everyone", "managed"),
            ("one", "static"),
            ("two", "static"),
            ("Everyone", "static"),
        ]
    ]
    actors = [
        {
            "id": uuid(rng),
            "type": rng.choice(["account_user", "account_admin_user", "service_account"]),
            "name": "actor",
            "email": None,
            "is_disabled": rng.random() < 0.1,
        }
        for _ in range(4)
    ]
    resources = [_resource(rng, sites) for _ in range(5)]
    devices = [_device(rng, number) for number in range(5)]
    return {
        "sites": sites,
        "groups": groups,
        "actors": actors,
        "memberships": [
            {"id": uuid(rng), "actor_id": actor["id"], "group_id": group["id"]}
            for actor in actors
            for group in groups[1:]
            if rng.random() < 0.4
        ],
        "resources": resources,
        "policies": [_policy(rng, groups, resources) for _ in range(rng.randint(0, 10))],
        "devices": devices,
        "static_device_pool_members": [
            {"id": uuid(rng), "resource_id": resource["id"], "device_id": device["id"]}
            for resource in resources
            for device in devices
            if resource["type"] == "static_device_pool" and rng.random() < 0.5
        ],
    }


def random_addresses(rng: random.Random, world: World) -> tuple[str | None, str | None]:
    """Draw what a client asks a pool for: mostly one address of a device."""
    device = rng.choice(world["devices"])
    ipv4, ipv6 = device["ipv4"], device["ipv6"]
    return rng.choice(
        [
            (ipv4, None),
            (ipv4, None),
            (None, ipv6),
            (None, ipv6.upper()),
            (ipv4, ipv6),
            (None, None),
            ("", None),
            (ipv6, None),
            (None, ipv4),
            (f"{ipv4}/32", None),
            ("100.64.9.9", None),
        ]
    )


def random_hostname(rng: random.Random, world: World) -> str:
    """Draw a name to resolve: mostly a device's, in any case of letters."""
    names = [one["hostname"] for one in world["devices"] if one["hostname"] is not None]
    return str(rng.choice([*(name.swapcase() for name in names), *names, "nobody.lab.example", ""]))


def random_connection(rng: random.Random, world: World, now: datetime) -> Row:
    version = rng.choice(VERSIONS)
    return {
        "actor_id": rng.choice(world["actors"])["id"],
        "remote_ip": rng.choice(ADDRESSES),
        "region": rng.choice([*REGIONS, None]),
        "auth_provider_id": rng.choice([*PROVIDERS, None]),
        "is_verified": rng.random() < 0.5,
        "token_expires_at": now
        + timedelta(seconds=rng.choice([-1, 0, 60, 3_600, 36_000, 1_000_000, 1_000_000])),
        "component": rng.choice(COMPONENTS),
        "version": version,
        "gateway_rule_version": "unreadable" if version is None and rng.random() < 0.5 else version,
        "position": rng.choice(PLACES),
    }


def random_gateways(rng: random.Random, world: World) -> list[Row]:
    return [
        {
            "id": uuid(rng),
            "site_id": rng.choice(world["sites"])["id"],
            "version": rng.choice(VERSIONS),
            "position": rng.choice(PLACES),
        }
        for _ in range(rng.randint(0, 8))
    ]


def random_instant(rng: random.Random, world: World) -> datetime:
    """Draw an instant in 2026, if it can be at the edge of one of the world's windows, on a day without
    change of clocks.
    """
    windows = [
        value
        for policy in world["policies"]
        for condition in policy["conditions"]
        if condition["property"] == "current_utc_datetime"
        for value in condition["values"]
        if ranges(value)
    ]
    while True:
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(365 * 86_400))
        if windows:
            now = _at_edge(rng, rng.choice(windows), now)
        day = timedelta(days=1)
        if all(_offset(now - day, zone) == _offset(now + day, zone) for zone in ZONES):
            return now


def _at_edge(rng: random.Random, window: str, about: datetime) -> datetime:
    day, _, zone = window.split("/", 2)
    on = about.date() + timedelta(days="MTWRFSU".index(day) - about.weekday())
    edge = datetime.combine(on, rng.choice(rng.choice(ranges(window))), tzinfo=ZoneInfo(zone))
    return edge.astimezone(UTC) + timedelta(microseconds=rng.choice([-1, 0, 1, 600_000_000]))


def random_times(rng: random.Random) -> str:
    return (
        f"{rng.choice('MTWRFSU')}/{rng.choice(['true', '', _ranges(rng), _ranges(rng)])}/{rng.choice(ZONES)}"
    )


def snapshot_of(world: World, rng: random.Random) -> Snapshot:
    """Build the snapshot as the portal would: in random order, in steps, past much that is gone in the end."""
    entities = _entities(world, rng)
    passing = [*rng.sample(entities, len(entities) // 4), *_entities(random_world(rng), rng)]
    half = rng.randint(0, len(entities))
    snapshot = Snapshot.of(entities[:half]).evolve(puts=passing)
    rng.shuffle(passing)
    snapshot = snapshot.evolve(drops=passing[1:]).evolve(drops=passing[:1])
    for entity in entities:
        snapshot = snapshot.evolve(puts=[entity])
    return snapshot


def uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


PROVIDERS = [uuid(random.Random(number)) for number in range(2)]


def _entities(world: World, rng: random.Random) -> list[Entity]:
    entities = [_entity(table, row) for table, rows in world.items() for row in rows]
    rng.shuffle(entities)
    return entities


def _entity(table: str, row: Row) -> Entity:
    entity = entity_of(TABLES[table].rows.decode(row))
    assert entity is not None
    return entity


def _resource(rng: random.Random, sites: list[Row]) -> Row:
    kind = rng.choice(["dns", "dns", "cidr", "ip", "internet", "static_device_pool", "dynamic_device_pool"])
    address: dict[str, Any] = {
        "dns": rng.choice(PATTERNS),
        "cidr": "10.0.0.0/8",
        "ip": "10.0.0.1",
        "dynamic_device_pool": rng.choice(POOL_PATTERNS),
    }
    return {
        "id": uuid(rng),
        "type": kind,
        "name": "resource",
        "address": address.get(kind),
        "address_description": None,
        "ip_stack": "dual" if kind == "dns" else None,
        "filters": [],
        "site_id": None
        if kind.endswith("pool")
        else rng.choice([*(site["id"] for site in sites)] * 3 + [None]),
    }


def _device(rng: random.Random, number: int) -> Row:
    hostname = rng.choice(
        [None, f"n{number}", f"N{number}.lab.example", f"n{number}.b.lab.example", f"n{number}-x.lab.example"]
    )
    return {
        "id": uuid(rng),
        "type": "client",
        "name": "device",
        "ipv4": f"100.64.0.{number + 1}",
        "ipv6": f"fd00:2021:1111::{number + 10:x}",
        "hostname": hostname,
    }


def _policy(rng: random.Random, groups: list[Row], resources: list[Row]) -> Row:
    properties = rng.sample(
        [
            "remote_ip_location_region",
            "remote_ip",
            "auth_provider_id",
            "current_utc_datetime",
            "client_verified",
        ],
        rng.choice([0, 0, 1, 1, 2, 3]),
    )
    return {
        "id": uuid(rng),
        "group_id": rng.choice([*(group["id"] for group in groups)] * 2 + [None]),
        "resource_id": rng.choice(resources)["id"],
        "is_disabled": rng.random() < 0.15,
        "description": None,
        "flow_log_uploads_enabled": True,
        "conditions": [_condition(rng, one) for one in properties],
    }


def _condition(rng: random.Random, property_: str) -> Row:
    operator = rng.choice(["is_in", "is_not_in"])
    match property_:
        case "remote_ip_location_region":
            values = _some(rng, REGIONS)
        case "remote_ip":
            operator, values = f"{operator}_cidr", _some(rng, NETWORKS)
        case "auth_provider_id":
            values = _some(rng, PROVIDERS)
        case "client_verified":
            operator, values = "is", [rng.choice(["true", "false"])]
        case _:
            operator = "is_in_day_of_week_time_ranges"
            values = list(dict.fromkeys(random_times(rng) for _ in range(rng.randint(1, 12))))
    return {"property": property_, "operator": operator, "values": values}


def _some(rng: random.Random, values: list[str]) -> list[str]:
    return rng.sample(values, rng.randint(1, min(3, len(values))))


def _ranges(rng: random.Random) -> str:
    return ",".join(_range(rng) for _ in range(rng.randint(1, 3)))


def _range(rng: random.Random) -> str:
    first, last = sorted(rng.choices(range(24), k=2))
    start = rng.choice([f"{first}", f"{first:02}:00", f"{first}:0:0.7"])
    return f"{start}-{rng.choice([f'{last}:15', f'{last}:59:59', f'{last + 1}' if last < 23 else '23:59'])}"


def _offset(at: datetime, zone: str) -> timedelta | None:
    return at.astimezone(ZoneInfo(zone)).utcoffset()
