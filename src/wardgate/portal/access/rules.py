"""What may be done with resources, device pools and policies (portal-domain §3.10, §3.11, rest-api §8.11,
§8.13).

Functions take the tables of an account, in a transaction, and the fields that somebody gave; they return the
object as stored, or raise one of `portal.outcomes`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self
from uuid import UUID

from wardgate.model.conditions import InvalidCondition, parse_condition, render_condition
from wardgate.portal.access.addresses import MAX_FILTERS, check_address, check_filters
from wardgate.portal.access.tables import POLICIES, RESOURCES, Policy, Resource
from wardgate.portal.edits import BLANK, INVALID, Edit, Given
from wardgate.portal.installation.tables import Account
from wardgate.portal.outcomes import FieldErrors, Forbidden, Invalid, Missing
from wardgate.portal.store import AccountTables, Conflict

IP_STACKS: Final = ("dual", "ipv4_only", "ipv6_only")
POOL_TYPES: Final = ("static_device_pool", "dynamic_device_pool")
RESOURCE_TYPES: Final = ("dns", "ip", "cidr", "internet", *POOL_TYPES)
DEVICE_POOL: Final = "device_pool"
"""What later consumers of the API call any pool; its criteria say which of `POOL_TYPES` it is (rest-api §13)."""
CRITERIA: Final = "device_membership_criteria"
MODES: Final = {"listed": "static_device_pool", "dynamic": "dynamic_device_pool"}
"""The type of a pool by the mode of its criteria."""
MAX_CONDITIONS: Final = 5
MAX_VALUES: Final = 1000  # ours
MAX_VALUE_CHARS: Final = 1000  # ours; a day's ranges are some dozens

NO_POOLS: Final = "device pools cannot be created via the API"
NO_CRITERIA: Final = f"is of the type {DEVICE_POOL} only"
SAME_MODE: Final = "cannot be changed: make another pool"
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
    """Make a resource that gateways of a site reach, or a `device_pool`. Raises Invalid."""
    if given.get("type") == DEVICE_POOL:
        return await make_device_pool(tables, given)
    new, edit = _new_resource(tables, given)
    _check_no_criteria(edit)
    return await tables.resources.insert(replace(new, **await _checked_resource(tables, edit, None)))


async def change_resource(tables: AccountTables, before: Resource, given: Given) -> Resource:
    """Change a resource that `load_editable_resource` returned, pools included. Raises Invalid."""
    if _is_pool(before.type) and (given.get("type") == DEVICE_POOL or given.get(CRITERIA) is not None):
        return await change_device_pool(tables, before, given)
    edit = Edit(given, asdict(before))
    _check_no_criteria(edit)
    if edit.gave("type"):
        edit.put("membership_mode", None)
    values = await _checked_resource(tables, edit, before)
    return await tables.resources.save(replace(before, **values))


async def make_device_pool(tables: AccountTables, given: Given) -> Resource:
    """Make a pool of clients. Raises Invalid."""
    criteria = _Criteria.of(given) if given.get("type") == DEVICE_POOL else None
    new, edit = _new_resource(tables, given if criteria is None else criteria.told(given))
    edit.choice("type", POOL_TYPES, required=criteria is None)
    return await tables.resources.insert(replace(new, **_checked_pool(edit, criteria)))


async def change_device_pool(tables: AccountTables, before: Resource, given: Given) -> Resource:
    """Change a pool, but not whether its members are listed or found by host name. Raises Invalid."""
    is_called = given.get("type") == DEVICE_POOL or (before.membership_mode is not None and CRITERIA in given)
    criteria = _Criteria.of(given, before) if is_called else None
    edit = Edit(given if criteria is None else criteria.told(given), asdict(before))
    return await tables.resources.save(replace(before, **_checked_pool(edit, criteria)))


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
    type_ = edit.value("type")
    was_same = before is not None and before.type == type_
    if _is_pool(type_) and not was_same:
        edit.error("type", NO_POOLS)
    _check_address(edit, type_)
    _check_ip_stack(edit, type_)
    _check_filters(edit)
    await _check_site(edit, tables, type_)
    return edit.finish()


@dataclass(frozen=True, slots=True)
class _Criteria:
    """What somebody gave as the membership criteria of a `device_pool`.

    Attributes:
        mode: None if it is none of `MODES`, or not the pool's.
        hostname: the pattern, of a dynamic pool.
    """

    mode: str | None
    hostname: str | None
    errors: FieldErrors

    @classmethod
    def of(cls, given: Given, before: Resource | None = None) -> Self:
        """Read them; a pool that is there keeps what is left out, but not what is null."""
        stored = (
            None if before is None else next(mode for mode, type_ in MODES.items() if type_ == before.type)
        )
        criteria = given.get(CRITERIA)
        if criteria is None and (stored is None or CRITERIA in given):
            return cls(None, None, {CRITERIA: [BLANK]})
        criteria = criteria or {}
        mode, hostname = criteria.get("mode", stored), criteria.get("hostname") or None
        errors: FieldErrors = {}
        if mode not in MODES:
            errors["mode"] = [BLANK if mode is None else INVALID]
        elif stored not in (None, mode):
            errors["mode"] = [SAME_MODE]
        elif mode == "listed" and hostname is not None:
            errors["hostname"] = ["must be blank where the members are listed"]
        return cls(None if errors else mode, hostname, {CRITERIA: errors} if errors else {})

    def told(self, given: Given) -> dict[str, Any]:
        """Return what was given in the words of the pool's own type."""
        told = {name: value for name, value in given.items() if name not in ("type", CRITERIA)}
        if self.mode is not None:
            told["type"] = MODES[self.mode]
            if self.hostname is not None:
                told["address"] = self.hostname
        return told


def _check_no_criteria(edit: Edit) -> None:
    if edit.gave(CRITERIA) and edit.raw(CRITERIA) is not None:
        edit.error(CRITERIA, NO_CRITERIA)


def _checked_pool(edit: Edit, criteria: _Criteria | None) -> dict[str, Any]:
    if criteria is None:
        _check_no_criteria(edit)
    else:
        edit.put("membership_mode", criteria.mode)
        edit.errors.update(criteria.errors)
    edit.columns(RESOURCES)
    if edit.value("type") == "static_device_pool" and edit.gave("address") and edit.raw("address"):
        edit.error("address", "must be blank for a static pool: its members are listed")
    _check_address(edit, None if "type" in edit.errors else edit.value("type"))
    if criteria is not None and (wrong := edit.errors.pop("address", None)):
        edit.nested_error(CRITERIA, {"hostname": wrong})
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
