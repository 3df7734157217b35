"""The policy engine on the account of a large organisation: decisions, a client's list, building and memory
of a snapshot.

Seconds are CPU time of this one process, so that a busy machine does not count; the collector of garbage
stays on. Every request brings identifiers of its own, as those from the wire do: nothing is found by being
the same object.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final
from uuid import UUID

from wardgate.model.domain import ClientDevice
from wardgate.model.ids import ActorId, ClientId, DeviceId, ResourceId
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.policy.engine import AccessRequest, Denied, Granted, authorize, connectable_resources
from wardgate.policy.evaluation import Facts
from wardgate.policy.snapshot import Entity, Snapshot
from wardgate.portal.snapshot.entities import entity_of
from wardgate.portal.tables import TABLES

Row = dict[str, Any]

NOW: Final = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)  # a Monday, in the midst of office hours
ACTORS, GROUPS_EACH, GROUPS, POLICIES, RESOURCES = 10_000, 8, 500, 1_000, 2_000
DEVICES: Final = 50_000
LISTED = 500  # resources of the client whose list is measured
REQUESTS = 50_000
SOFTWARE: Final = ClientSoftware(Component.HEADLESS, Version(1, 5, 12))
OFFICE_HOURS: Final = [f"{day}/8:30-18/Europe/Berlin" for day in "MTWRF"]
CONDITIONS: Final[list[list[Row]]] = [
    [
        {
            "property": "remote_ip",
            "operator": "is_in_cidr",
            "values": ["192.0.2.0/24", "203.0.113.0/24", "2001:db8::/32"],
        }
    ],
    [{"property": "remote_ip_location_region", "operator": "is_in", "values": ["DE", "FR", "NL", "PL"]}],
    [{"property": "client_verified", "operator": "is", "values": ["true"]}],
    [
        {
            "property": "current_utc_datetime",
            "operator": "is_in_day_of_week_time_ranges",
            "values": OFFICE_HOURS,
        }
    ],
    [
        {
            "property": "current_utc_datetime",
            "operator": "is_in_day_of_week_time_ranges",
            "values": [*OFFICE_HOURS, "S/true/Europe/Berlin"],
        },
        {"property": "remote_ip", "operator": "is_not_in_cidr", "values": ["198.51.100.0/24"]},
    ],
]


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Medians of `runs`; memory is that of the snapshot and the entities it alone holds."""
    rng = random.Random(1)
    tables = account(rng)
    loaded = [measure(lambda: Snapshot.of(entities(tables))) for _ in range(runs)]
    built = entities(tables)
    indexed = [measure(lambda: Snapshot.of(built)) for _ in range(runs)]
    snapshot = Snapshot.of(built)
    asked = requests(rng, tables)
    decided = [measure(lambda: decide_all(snapshot, asked)) for _ in range(runs)]
    outcomes = [authorize(snapshot, one, now=NOW) for one in asked]
    wide = with_wide_group(snapshot, tables, rng)
    rich = tables["actors"][0]["id"]
    listed = [measure(lambda: list_of(wide, rich)) for _ in range(runs * 5)]
    shown = len(list_of(wide, rich))
    assert shown >= LISTED
    changed = [measure(lambda: snapshot.evolve(puts=[built[-1]])) for _ in range(runs * 5)]
    crowded = Snapshot.of(device(rng, number) for number in range(DEVICES))
    new_device = device(rng, DEVICES)
    connected = [measure(lambda: crowded.evolve(puts=[new_device])) for _ in range(runs * 5)]
    results: dict[str, Any] = {
        "decisions_per_s": round(len(asked) / statistics.median(decided)),
        "granted": sum(isinstance(one, Granted) for one in outcomes),
        "forbidden": sum(isinstance(one, Denied) and bool(one.alternatives) for one in outcomes),
        "not_found": sum(isinstance(one, Denied) and not one.alternatives for one in outcomes),
        "load_s": statistics.median(loaded),
        "index_s": statistics.median(indexed),
        "change_ms": statistics.median(changed) * 1e3,
        "new_device_ms": statistics.median(connected) * 1e3,
        "list_ms": statistics.median(listed) * 1e3,
        "listed": shown,
        "snapshot_mb": memory_mb(tables),
    }
    report(results)
    return results


def account(rng: random.Random) -> dict[str, list[Row]]:
    """Make the rows of an account; half of the policies have conditions."""
    site = {"id": uuid(rng), "name": "site", "managed_by": "account"}
    groups = [
        {"id": uuid(rng), "name": f"group {number}", "type": "static", "idp_id": None}
        for number in range(GROUPS)
    ]
    actors = [
        {
            "id": uuid(rng),
            "type": "account_user",
            "name": f"Person {number}",
            "email": f"person{number}@example.org",
            "is_disabled": False,
        }
        for number in range(ACTORS)
    ]
    everyone = {"id": uuid(rng), "name": "Everyone", "type": "managed", "idp_id": None}
    resources = [
        {
            "id": uuid(rng),
            "type": "dns",
            "name": f"service {number}",
            "address": f"service{number}.example.org",
            "address_description": None,
            "ip_stack": "dual",
            "filters": [{"protocol": "tcp", "ports": ["443"]}],
            "site_id": site["id"],
        }
        for number in range(RESOURCES)
    ]
    return {
        "sites": [site],
        "groups": [everyone, *groups],
        "actors": actors,
        "memberships": [
            {"id": uuid(rng), "actor_id": actor["id"], "group_id": group["id"]}
            for actor in actors
            for group in rng.sample(groups, GROUPS_EACH)
        ],
        "resources": resources,
        "policies": [
            policy(rng, number, rng.choice(groups), rng.choice(resources)) for number in range(POLICIES)
        ],
    }


def policy(rng: random.Random, number: int, group: Row, resource: Row) -> Row:
    return {
        "id": uuid(rng),
        "group_id": group["id"],
        "resource_id": resource["id"],
        "conditions": CONDITIONS[number // 2 % len(CONDITIONS)] if number % 2 else [],
        "is_disabled": False,
        "description": f"policy {number}",
        "flow_log_uploads_enabled": True,
    }


def device(rng: random.Random, number: int) -> ClientDevice:
    """Make a client with a host name of its own, which is found by name and addresses as well."""
    return ClientDevice(
        ClientId(DeviceId(UUID(uuid(rng)))),
        f"laptop {number}",
        f"100.{64 + number // 65536}.{number // 256 % 256}.{number % 256}",
        f"fd00:2021:1111::{number:x}",
        f"laptop{number}.example.org",
    )


def with_wide_group(snapshot: Snapshot, tables: dict[str, list[Row]], rng: random.Random) -> Snapshot:
    """Add a group of the first actor's alone, whose policies name `LISTED` resources."""
    group = {"id": uuid(rng), "name": "wide", "type": "static", "idp_id": None}
    membership = {"id": uuid(rng), "actor_id": tables["actors"][0]["id"], "group_id": group["id"]}
    resources = rng.sample(tables["resources"], LISTED)
    policies = [policy(rng, number, group, resource) for number, resource in enumerate(resources)]
    added = {"groups": [group], "memberships": [membership], "policies": policies}
    return snapshot.evolve(puts=entities(added))


def entities(tables: dict[str, list[Row]]) -> list[Entity]:
    """Turn rows into entities as the portal does: every reference becomes an object of its own."""
    made = (entity_of(TABLES[table].rows.decode(row)) for table, rows in tables.items() for row in rows)
    return [one for one in made if one is not None]


def requests(rng: random.Random, tables: dict[str, list[Row]]) -> list[AccessRequest]:
    """Nine of ten ask for what a policy names for one of their groups, one for anything."""
    members: dict[str, list[str]] = {}
    for row in tables["memberships"]:
        members.setdefault(row["group_id"], []).append(row["actor_id"])
    named = [
        (row["group_id"], row["resource_id"]) for row in tables["policies"] if row["group_id"] in members
    ]
    return [_request(rng, tables, members, named) for _ in range(REQUESTS)]


def _request(
    rng: random.Random,
    tables: dict[str, list[Row]],
    members: dict[str, list[str]],
    named: list[tuple[str, str]],
) -> AccessRequest:
    group_id, resource_id = rng.choice(named)
    actor_id = rng.choice(members[group_id])
    if rng.random() < 0.1:
        resource_id = rng.choice(tables["resources"])["id"]
    address = ip_address(rng.choice(["203.0.113.5", "198.51.100.7", "2001:db8::1"]))
    facts = Facts(address, rng.choice(["DE", "US"]), None, rng.random() < 0.5)
    return AccessRequest(
        ActorId(UUID(actor_id)), ResourceId(UUID(resource_id)), facts, NOW + timedelta(days=1), SOFTWARE
    )


def decide_all(snapshot: Snapshot, asked: list[AccessRequest]) -> None:
    for one in asked:
        authorize(snapshot, one, now=NOW)


def list_of(snapshot: Snapshot, actor_id: str) -> dict[ResourceId, Any]:
    facts = Facts(ip_address("203.0.113.5"), "DE", None, True)
    return connectable_resources(snapshot, ActorId(UUID(actor_id)), facts, SOFTWARE, now=NOW)


def memory_mb(tables: dict[str, list[Row]]) -> float:
    gc.collect()
    tracemalloc.start()
    snapshot = Snapshot.of(entities(tables))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(snapshot.actors) == ACTORS
    return held / 1e6


def measure(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def report(results: dict[str, Any]) -> None:
    print(
        f"\ndecisions: {ACTORS:,} actors in {GROUPS_EACH} groups each, {GROUPS} groups, {POLICIES:,} "
        f"policies, {RESOURCES:,} resources"
    )
    rate, megabytes = results["decisions_per_s"], results["snapshot_mb"]
    print(
        f"  decisions, one client × one resource  {rate:>9,} /s   budget ≥ 100,000 /s: {_verdict(rate >= 100_000)}; "
        f"{results['granted']:,} granted, {results['forbidden']:,} forbidden, {results['not_found']:,} not found"
    )
    print(f"  list of a client with {results['listed']} resources    {results['list_ms']:>9.2f} ms")
    print(
        f"  rows of the feed into a snapshot      {results['load_s']:>9.2f} s    its indexes alone "
        f"{results['index_s']:.2f} s"
    )
    print(f"  one changed policy                    {results['change_ms']:>9.2f} ms")
    print(f"  one new device, of {DEVICES:,}              {results['new_device_ms']:>9.2f} ms")
    print(
        f"  memory of the snapshot                {megabytes:>9.1f} MB   budget < 60 MB: {_verdict(megabytes < 60)}"
    )


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"
