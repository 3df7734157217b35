"""The policy engine once more, slow and obvious: loops over rows, no index, nothing shared with the engine.

Read beside portal-domain §3.10, §5, §6.1 and §6.4. Rows are dictionaries with the store's columns; a
connection is one too.
"""

import ipaddress
import math
import re
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]
World = dict[str, list[Row]]

USERS = ("account_user", "account_admin_user")
POOLS = ("static_device_pool", "dynamic_device_pool")
LISTS_POOLS = {
    "apple-client": (1, 5, 16),
    "gui-client": (1, 5, 13),
    "headless-client": (1, 5, 9),
    "android-client": (1, 5, 11),
}


def decide(world: World, connection: Row, resource_id: str, now: datetime) -> tuple[str, Any]:
    """Return ("granted", (expiry, ids of the policies that may be named)), ("forbidden", properties) or
    ("not_found", None).
    """
    resource = next((one for one in world["resources"] if one["id"] == resource_id), None)
    if resource is None or not can_be_offered(world, connection, resource, now):
        return "not_found", None
    policies = candidates(world, connection["actor_id"], resource_id)
    if not policies:
        return "not_found", None
    ends = {}
    violated = set()
    for policy in policies:
        ends_of_conditions = [end_of(condition, connection, now) for condition in policy["conditions"]]
        if "violated" in ends_of_conditions:
            violated |= {
                condition["property"]
                for condition, end in zip(policy["conditions"], ends_of_conditions, strict=True)
                if end == "violated"
            }
        else:
            ends[policy["id"]] = min(
                [end for end in ends_of_conditions if end != "no limit"],
                default=datetime.max.replace(tzinfo=UTC),
            )
    if not ends:
        return "forbidden", violated
    latest = max(ends.values())
    return "granted", (
        min(latest, connection["token_expires_at"]),
        {policy_id for policy_id, end in ends.items() if end == latest},
    )


def shown(world: World, connection: Row, now: datetime) -> set[str]:
    """Return the ids of the resources that a client is told of."""
    return {
        one["id"] for one in world["resources"] if decide(world, connection, one["id"], now)[0] == "granted"
    }


def candidates(world: World, actor_id: str, resource_id: str) -> list[Row]:
    actor = next(one for one in world["actors"] if one["id"] == actor_id)
    groups = {one["group_id"] for one in world["memberships"] if one["actor_id"] == actor_id}
    if actor["type"] in USERS:
        groups |= {
            one["id"] for one in world["groups"] if one["type"] == "managed" and one["name"] == "Everyone"
        }
    return [
        one
        for one in world["policies"]
        if one["resource_id"] == resource_id and not one["is_disabled"] and one["group_id"] in groups
    ]


def can_be_offered(world: World, connection: Row, resource: Row, now: datetime) -> bool:
    actor = next((one for one in world["actors"] if one["id"] == connection["actor_id"]), None)
    if actor is None or actor["is_disabled"] or connection["token_expires_at"] <= now:
        return False
    version = connection["version"]
    if resource["type"] in POOLS:
        needed = (1, 5, 9) if actor["type"] == "service_account" else LISTS_POOLS[connection["component"]]
        return version is not None and version >= needed
    return resource["site_id"] in [one["id"] for one in world["sites"]] and can_carry(resource, version)


def can_carry(resource: Row, version: tuple[int, int, int] | None) -> bool:
    if version is None:
        return True
    if resource["type"] == "internet":
        return version >= (1, 3, 0)
    if resource["type"] == "dns" and version < (1, 2, 0):
        first, *others = resource["address"].split(".")
        if first not in ("*", "**"):
            others.append(first)
        return not any("*" in label or "?" in label for label in others)
    return True


def end_of(condition: Row, connection: Row, now: datetime) -> datetime | str:
    """Return until when a condition holds, "no limit" or "violated"."""
    values, wants_in = condition["values"], "not" not in condition["operator"]
    match condition["property"]:
        case "remote_ip_location_region":
            region = connection["region"]
            holds = region is not None and (region in values) == wants_in
        case "remote_ip":
            address = ipaddress.ip_address(connection["remote_ip"])
            networks = [ipaddress.ip_network(value, strict=False) for value in values]
            holds = any(address.version == one.version and address in one for one in networks) == wants_in
        case "auth_provider_id":
            holds = (connection["auth_provider_id"] in values) == wants_in
        case "client_verified":
            holds = values == ["false"] or connection["is_verified"]
        case "current_utc_datetime":
            return end_of_time(values, now)
    return "no limit" if holds else "violated"


def end_of_time(values: list[str], now: datetime) -> datetime | str:
    for value in values:
        day, _, zone_name = value.split("/", 2)
        zone = ZoneInfo(zone_name)
        local = now.astimezone(zone)
        if "MTWRFSU"[local.weekday()] != day:
            continue
        pooled = [
            one for other in values if other.split("/", 2)[::2] == [day, zone_name] for one in ranges(other)
        ]
        for start, end in merged(pooled):
            if start <= local.time() <= end:
                return datetime.combine(local.date(), end, tzinfo=zone).astimezone(UTC)
    return "violated"


def ranges(value: str) -> list[tuple[time, time]]:
    text = value.split("/", 2)[1]
    if text == "true":
        return [(time(0), time(23, 59, 59))]
    return [tuple(clock(part) for part in one.split("-")) for one in text.split(",") if one]  # type: ignore[misc]


def clock(text: str) -> time:
    return time(*(int(part) for part in text.split(".")[0].split(":")))


def merged(pooled: list[tuple[time, time]]) -> list[tuple[time, time]]:
    """Join two that touch or overlap, and start again, until there are none."""
    for one in pooled:
        for other in pooled:
            if one is not other and one[0] <= other[1] and other[0] <= one[1]:
                rest = [each for each in pooled if each is not one and each is not other]
                return merged([*rest, (min(one[0], other[0]), max(one[1], other[1]))])
    return pooled


def gateways(online: list[Row], resource: Row, connection: Row, connected: set[str]) -> tuple[str, set[str]]:
    """Return ("chosen", ids of which chance takes one), or the reason and none. `version` "": cannot be parsed."""
    online = [one for one in online if one["site_id"] == resource["site_id"]]
    if not online:
        return "offline", set()
    client = connection["gateway_rule_version"]
    usable = [
        one
        for one in online
        if can_carry(resource, one["version"]) and (client is None or is_compatible(client, one["version"]))
    ]
    if not usable:
        return "version_mismatch", set()
    usable = [one for one in usable if one["id"] in connected] or usable
    here = connection["position"]
    if here is not None:
        place = min((one["position"] for one in usable), key=lambda there: distance(here, there))
        usable = [one for one in usable if one["position"] == place]
        newest = max(one["version"] or (-1,) for one in usable)
        usable = [one for one in usable if (one["version"] or (-1,)) == newest]
    return "chosen", {one["id"] for one in usable}


def target(world: World, pool: Row, ipv4: str | None, ipv6: str | None) -> str:
    """Return the id of the device of a pool that has an address, or the reason why none is meant."""
    if ipv4 is not None and ipv6 is not None:
        return "ambiguous_address"
    if ipv4 is None and ipv6 is None:
        return "missing_address"
    try:
        address = ipaddress.IPv6Address(ipv6) if ipv4 is None else ipaddress.IPv4Address(ipv4)  # type: ignore[arg-type]
    except ValueError:
        return "invalid_address"
    for device in world["devices"]:
        has_address = str(address) in (device["ipv4"], device["ipv6"])
        if has_address and is_in_pool(world, pool, device):
            return str(device["id"])
    return "forbidden"


def named(world: World, pool: Row, hostname: str) -> str | None:
    """Return the id of the device of a dynamic pool that has a host name."""
    for device in world["devices"]:
        name = device["hostname"]
        if name is not None and name.lower() == hostname.lower() and pool["type"] == "dynamic_device_pool":
            return str(device["id"]) if is_in_pool(world, pool, device) else None
    return None


def is_in_pool(world: World, pool: Row, device: Row) -> bool:
    if pool["type"] == "static_device_pool":
        pairs = [(one["resource_id"], one["device_id"]) for one in world["static_device_pool_members"]]
        return (pool["id"], device["id"]) in pairs
    pattern = re.escape(pool["address"]).replace(r"\*\*", ".*").replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
    name = device["hostname"]
    return name is not None and re.fullmatch(pattern, name, re.IGNORECASE) is not None


def is_compatible(client: tuple[int, int, int] | str, gateway: tuple[int, int, int] | None) -> bool:
    if isinstance(client, str) or gateway is None:
        return False
    return (client[0], client[1] - 1, 0) <= gateway < (client[0], client[1] + 2, 0)


def distance(here: tuple[float, float], there: tuple[float, float] | None) -> float:
    """Haversine, in km; without position: farther than everything."""
    if there is None:
        return math.inf
    lat1, lon1, lat2, lon2 = (math.radians(one) for one in (*here, *there))
    half = (
        math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * 6371.0 * math.asin(math.sqrt(half))
