"""What may be done with resources, device pools and policies (portal-domain §3.10, §3.11, rest-api §8.11,
§8.13).

Functions take the tables of an account, in a transaction, and the fields that somebody gave; they return the
object as stored, or raise one of `portal.outcomes`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final
from uuid import UUID

from wardgate.model.conditions import InvalidCondition, parse_condition, render_condition
from wardgate.portal.access.addresses import MAX_FILTERS, check_address, check_filters
from wardgate.portal.access.tables import POLICIES, RESOURCES, Policy, Resource
from wardgate.portal.edits import BLANK, Edit, Given
from wardgate.portal.installation.tables import Account
from wardgate.portal.outcomes import Forbidden, Invalid, Missing
from wardgate.portal.store import AccountTables, Conflict

IP_STACKS: Final = ("dual", "ipv4_only", "ipv6_only")
POOL_TYPES: Final = ("static_device_pool", "dynamic_device_pool")
RESOURCE_TYPES: Final = ("dns", "ip", "cidr", "internet", *POOL_TYPES)
MAX_CONDITIONS: Final = 5
MAX_VALUES: Final = 1000  # ours
MAX_VALUE_CHARS: Final = 1000  # ours; a day's ranges are some dozens

NO_POOLS: Final = "device pools cannot be created via the API"
POOLS_ELSEWHERE: Final = "device pools are made and changed at /wardgate/device_pools"
ONE_PER_PROPERTY: Final = "must not contain more than one condition per property"
DUPLICATE_POLICY: Final = {"base": ["Policy for the selected Group and Resource already exists"]}


async def load_resource(
    tables: AccountTables, id_: UUID | None, *, types: Collection[str] = RESOURCE_TYPES
) -> Resource:
    """Return a resource of one of these types. Raises Missing."""
    resource = None if id_ is None else await tables.resources.load(id_)
    if resource is None or resource.type not in types:
        raise Missing
    return resource


async def load_editable_resource(tables: AccountTables, id_: UUID | None) -> Resource:
    """Return a resource that may be changed and deleted. Raises Missing, and Forbidden for the Internet
    resource."""
    resource = await load_resource(tables, id_)
    if resource.type == "internet":
        raise Forbidden("Internet Resource cannot be modified")
    return resource


async def make_resource(tables: AccountTables, given: Given) -> Resource:
    """Make a resource that gateways of a site reach. Raises Invalid."""
    new, edit = _new_resource(tables, given)
    return await tables.resources.insert(replace(new, **await _checked_resource(tables, edit, None)))


async def change_resource(tables: AccountTables, before: Resource, given: Given) -> Resource:
    """Change a resource that `load_editable_resource` returned, pools included. Raises Invalid."""
    values = await _checked_resource(tables, Edit(given, asdict(before)), before)
    return await tables.resources.save(replace(before, **values))


async def make_device_pool(tables: AccountTables, given: Given) -> Resource:
    """Make a pool of clients. Raises Invalid."""
    new, edit = _new_resource(tables, given)
    edit.choice("type", POOL_TYPES, required=True)
    return await tables.resources.insert(replace(new, **_checked_pool(edit)))


async def change_device_pool(tables: AccountTables, before: Resource, given: Given) -> Resource:
    """Change a pool, but not its type. Raises Invalid."""
    return await tables.resources.save(replace(before, **_checked_pool(Edit(given, asdict(before)))))


async def load_policy(tables: AccountTables, id_: UUID | None) -> Policy:
    """Raises Missing."""
    policy = None if id_ is None else await tables.policies.load(id_)
    if policy is None:
        raise Missing
    return policy


async def make_policy(tables: AccountTables, account: Account, given: Given) -> Policy:
    """Let a group use a resource.

    Raises:
        Invalid: a value is wrong, or the group has a policy for the resource.
        Missing: the resource does not exist.
        Forbidden: the account does not have the Internet resource.
    """
    new = Policy(id=tables.new_id(), account_id=tables.account_id, group_id=None, resource_id=_NIL)
    edit = Edit(given, {**asdict(new), "resource_id": None})
    values = await _checked_policy(tables, account, edit, None)
    try:
        return await tables.policies.insert(replace(new, **values))
    except Conflict:
        raise Invalid(DUPLICATE_POLICY) from None


async def change_policy(tables: AccountTables, account: Account, before: Policy, given: Given) -> Policy:
    """Change a policy. Raises as `make_policy`."""
    values = await _checked_policy(tables, account, Edit(given, asdict(before)), before)
    try:
        return await tables.policies.save(replace(before, **values))
    except Conflict:
        raise Invalid(DUPLICATE_POLICY) from None


def _new_resource(tables: AccountTables, given: Given) -> tuple[Resource, Edit]:
    new = Resource(id=tables.new_id(), account_id=tables.account_id, type="", name="")
    return new, Edit(given, {**asdict(new), "type": None, "name": None})


async def _checked_resource(tables: AccountTables, edit: Edit, before: Resource | None) -> dict[str, Any]:
    edit.columns(RESOURCES)
    edit.choice("type", RESOURCE_TYPES, required=True)
    if edit.gave("type") and edit.raw("type") == "device_pool":
        edit.error("type", POOLS_ELSEWHERE)
    type_ = edit.value("type")
    was_same = before is not None and before.type == type_
    if _is_pool(type_) and not was_same:
        edit.error("type", NO_POOLS)
    _check_address(edit, type_)
    _check_ip_stack(edit, type_)
    _check_filters(edit)
    await _check_site(edit, tables, type_)
    return edit.finish()


def _checked_pool(edit: Edit) -> dict[str, Any]:
    edit.columns(RESOURCES)
    if edit.value("type") == "static_device_pool" and edit.gave("address") and edit.raw("address"):
        edit.error("address", "must be blank for a static pool: its members are listed")
    _check_address(edit, None if "type" in edit.errors else edit.value("type"))
    _check_filters(edit)
    edit.put("ip_stack", None)
    edit.put("site_id", None)
    return edit.finish()


def _check_address(edit: Edit, type_: str | None) -> None:
    edit.text("address", longest=4096)
    if type_ in (None, "internet", "static_device_pool"):
        if type_ is not None:
            edit.put("address", None)
        return
    address = edit.value("address")
    if address is None:
        edit.error("address", BLANK)
        return
    normal, errors = check_address(type_, address)
    edit.put("address", normal)
    for error in errors:
        edit.error("address", error)


def _check_ip_stack(edit: Edit, type_: str | None) -> None:
    edit.choice("ip_stack", IP_STACKS)
    if type_ != "dns":
        if edit.gave("ip_stack") and edit.raw("ip_stack") is not None:
            edit.error("ip_stack", "IP stack must be blank for this type of Resource")
        edit.put("ip_stack", None)
    elif edit.value("ip_stack") is None:
        edit.put("ip_stack", "dual")


def _check_filters(edit: Edit) -> None:
    if not edit.gave("filters"):
        return
    given = edit.raw("filters") or []
    if len(given) > MAX_FILTERS:
        edit.error("filters", f"should have at most {MAX_FILTERS} item(s)")
        return
    stored, errors = check_filters(given)
    edit.put("filters", stored)
    if errors is not None:
        edit.nested_error("filters", errors)


async def _check_site(edit: Edit, tables: AccountTables, type_: str | None) -> None:
    if _is_pool(type_):
        edit.put("site_id", None)
        return
    edit.id("site_id", required=True)
    site_id = edit.value("site_id")
    if not isinstance(site_id, UUID):
        return
    site = await tables.sites.load(site_id)
    if site is None:
        edit.error("site_id", "does not exist")
    elif type_ == "internet" and site.managed_by != "system":
        edit.error("site_id", "must be the Internet Site for an Internet Resource")
    elif type_ == "internet":
        edit.error("type", "an Internet Resource already exists")
    elif site.managed_by == "system":
        edit.error("site_id", "cannot be the Internet Site")


def _is_pool(type_: str | None) -> bool:
    return type_ is not None and type_.endswith("_device_pool")


_NIL: Final = UUID(int=0)


async def _checked_policy(
    tables: AccountTables, account: Account, edit: Edit, before: Policy | None
) -> dict[str, Any]:
    edit.id("resource_id", required=True)
    edit.id("group_id", required=before is None or edit.gave("group_id"))
    resource = await _resource_of_policy(tables, account, edit)
    edit.columns(POLICIES)
    is_moved = before is None or (resource is not None and before.resource_id != resource.id)
    if resource is not None and resource.type == "internet" and is_moved:
        edit.put(
            "flow_log_uploads_enabled",
            edit.gave("flow_log_uploads_enabled") and edit.raw("flow_log_uploads_enabled") is True,
        )
    await _check_group(tables, edit)
    _check_conditions(edit)
    return edit.finish()


async def _resource_of_policy(tables: AccountTables, account: Account, edit: Edit) -> Resource | None:
    resource_id = edit.value("resource_id")
    if "resource_id" in edit.errors or resource_id is None:
        return None
    resource = await load_resource(tables, resource_id)
    if resource.type == "internet" and not account.features.get("internet_resource", False):
        raise Forbidden("Internet resource is not enabled for this account")
    return resource


async def _check_group(tables: AccountTables, edit: Edit) -> None:
    group_id = edit.value("group_id")
    if "group_id" in edit.errors or group_id is None:
        return
    group = await tables.groups.load(group_id)
    if group is None:
        edit.error("group_id", "does not exist")
    else:
        edit.put("group_idp_id", group.idp_id)


def _check_conditions(edit: Edit) -> None:
    if not edit.gave("conditions"):
        return
    given = edit.raw("conditions") or []
    if len(given) > MAX_CONDITIONS:
        edit.error("base", ONE_PER_PROPERTY)
        return
    stored: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []
    for one in given:
        condition, wrong = _checked_condition(one)
        stored.append(condition)
        errors.append(wrong)
    edit.put("conditions", stored)
    if any(errors):
        edit.nested_error("conditions", errors)
    elif len({condition["property"] for condition in stored}) < len(stored):
        edit.error("base", ONE_PER_PROPERTY)


def _checked_condition(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    property_ = given.get("property") or "remote_ip_location_region"
    operator = given.get("operator") or "is_in"
    values = given.get("values") or []
    if len(values) > MAX_VALUES:
        return {}, {"values": [f"should have at most {MAX_VALUES} item(s)"]}
    too_long = [index for index, value in enumerate(values) if len(value) > MAX_VALUE_CHARS]
    if too_long:
        message = f"should be at most {MAX_VALUE_CHARS} character(s)"
        return {}, {"values": [f"entry {index}: {message}" for index in too_long]}
    try:
        rendered = render_condition(parse_condition(property_, operator, values))
    except InvalidCondition as error:
        each = [] if error.index is None else _wrong_elements(property_, operator, values)
        return {}, {error.field: each or [error.message]}
    return {
        "property": rendered[0].value,
        "operator": rendered[1].value,
        "values": _as_given(values, rendered[2]),
    }, {}


def _wrong_elements(property_: str, operator: str, values: Sequence[str]) -> list[str]:
    """Tell of each element that is wrong by itself, which one it is (portal-domain §3.11)."""
    wrong: list[str] = []
    for index, value in enumerate(values):
        try:
            parse_condition(property_, operator, [value])
        except InvalidCondition as error:
            wrong.append(f"entry {index}: {error.message}")
    return wrong


def _as_given(values: Sequence[str], rendered: list[str]) -> list[str]:
    """Keep the order and spelling of what was given; rendering proved that it parses."""
    return [value.strip() for value in values] if len(values) == len(rendered) else rendered
