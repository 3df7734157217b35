"""Rules of resources and policies, asked without HTTP."""

from typing import Any

import pytest

from unit.portal.rules.conftest import Office
from wardgate.portal.access import rules
from wardgate.portal.access.tables import Resource
from wardgate.portal.outcomes import Forbidden, Invalid, Missing


async def _resource(office: Office, **given: Any) -> Resource:
    plain = {
        "name": "intranet",
        "type": "cidr",
        "address": "10.20.0.7/16",
        "site_id": str(office.made.site.id),
    }
    return await rules.make_resource(office.tables, plain | given)


async def test_a_resource_is_stored_as_it_was_checked(office: Office) -> None:
    resource = await _resource(office, filters=[{"protocol": "tcp", "ports": ["443", 8000]}])
    assert resource.address == "10.20.0.0/16"
    assert resource.filters == [{"protocol": "tcp", "ports": ["443", "8000"]}]
    assert await office.tables.resources.load(resource.id) == resource


async def test_all_that_is_wrong_is_told_at_once_and_nothing_is_stored(office: Office) -> None:
    before = await office.tables.resources.count()
    with pytest.raises(Invalid) as refused:
        await _resource(office, name=" ", address="no network", site_id="no id", filters=[{"protocol": "x"}])
    assert refused.value.errors == {
        "name": ["can't be blank"],
        "address": ["is not a valid CIDR range"],
        "site_id": ["is invalid"],
        "filters": [{"protocol": ["is invalid"]}],
    }
    assert await office.tables.resources.count() == before


async def test_a_change_keeps_what_is_not_given_and_the_internet_resource_takes_none(office: Office) -> None:
    resource = await _resource(office, address_description="the office")
    renamed = await rules.change_resource(office.tables, resource, {"name": "lan"})
    assert (renamed.name, renamed.address, renamed.address_description) == (
        "lan",
        "10.20.0.0/16",
        "the office",
    )
    internet = await office.tables.resources.find(office.tables.resources.c.type == "internet")
    assert internet is not None
    with pytest.raises(Forbidden):
        await rules.load_editable_resource(office.tables, internet.id)


async def test_a_pool_is_made_and_found_as_a_pool_only(office: Office) -> None:
    with pytest.raises(Invalid) as refused:
        await _resource(office, type="static_device_pool")
    assert refused.value.errors == {"type": [rules.NO_POOLS]}
    given = {"name": "laptops", "type": "static_device_pool"}
    pool = await rules.make_device_pool(office.tables, given)
    assert (await rules.load_resource(office.tables, pool.id, types=rules.POOL_TYPES)) == pool
    resource = await _resource(office)
    with pytest.raises(Missing):
        await rules.load_resource(office.tables, resource.id, types=rules.POOL_TYPES)


async def test_one_policy_for_a_group_and_a_resource(office: Office) -> None:
    resource = await _resource(office)
    given = {"group_id": str(office.made.everyone.id), "resource_id": str(resource.id)}
    policy = await rules.make_policy(office.tables, office.made.account, given)
    assert (policy.group_id, policy.resource_id) == (office.made.everyone.id, resource.id)
    with pytest.raises(Invalid) as refused:
        async with office.transaction.savepoint():
            await rules.make_policy(office.tables, office.made.account, given)
    assert refused.value.errors == rules.DUPLICATE_POLICY


async def test_a_condition_names_the_value_that_is_wrong(office: Office) -> None:
    resource = await _resource(office)
    given = {
        "group_id": str(office.made.everyone.id),
        "resource_id": str(resource.id),
        "conditions": [
            {"property": "remote_ip", "operator": "is_in_cidr", "values": ["10.0.0.0/8", "nowhere"]},
            {"property": "client_verified", "operator": "is", "values": ["true"]},
        ],
    }
    with pytest.raises(Invalid) as refused:
        await rules.make_policy(office.tables, office.made.account, given)
    (wrong, right) = refused.value.errors["conditions"]
    assert [message.partition(":")[0] for message in wrong["values"]] == ["entry 1"]
    assert right == {}
