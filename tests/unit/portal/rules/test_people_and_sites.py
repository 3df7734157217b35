"""Rules of actors, groups and sites, asked without HTTP."""

from dataclasses import replace

import pytest

from unit.portal.rules.conftest import Office
from wardgate.portal.limits import LimitReached
from wardgate.portal.outcomes import Forbidden, Invalid, Missing
from wardgate.portal.people import rules
from wardgate.portal.sites.rules import load_editable_site, make_site


async def test_nobody_disables_themselves_but_another(office: Office) -> None:
    account, admin = office.made.account, office.made.admin
    given = {"name": "Bo", "type": "account_user", "email": "bo@EXAMPLE.org"}
    bo = await rules.make_actor(office.tables, account, given)
    assert bo.email == "bo@example.org"
    with pytest.raises(Forbidden):
        await rules.change_actor(office.tables, account, admin, {"is_disabled": True}, by=admin)
    disabled = await rules.change_actor(office.tables, account, bo, {"is_disabled": True}, by=admin)
    assert disabled.is_disabled


async def test_a_limit_is_asked_when_one_is_made_and_when_one_is_enabled(office: Office) -> None:
    full = replace(office.made.account, limits={"users_count": 1})
    given = {"name": "Bo", "type": "account_user", "email": "bo@example.org"}
    with pytest.raises(LimitReached):
        await rules.make_actor(office.tables, full, given)
    bo = await rules.make_actor(office.tables, office.made.account, given)
    disabled = await rules.change_actor(office.tables, full, bo, {"is_disabled": True}, by=office.made.admin)
    with pytest.raises(LimitReached):
        await rules.change_actor(office.tables, full, disabled, {"is_disabled": False}, by=office.made.admin)


async def test_a_service_account_becomes_nothing_else(office: Office) -> None:
    robot = await rules.make_actor(
        office.tables, office.made.account, {"name": "robot", "type": "service_account"}
    )
    with pytest.raises(Invalid) as refused:
        await rules.change_actor(
            office.tables, office.made.account, robot, {"type": "account_user"}, by=office.made.admin
        )
    assert set(refused.value.errors) == {"type", "email"}


async def test_members_who_stay_keep_their_row(office: Office) -> None:
    group = await rules.make_group(office.tables, {"name": "staff"})
    account, first = office.made.account, office.made.admin
    second = await rules.make_actor(office.tables, account, {"name": "robot", "type": "service_account"})
    await rules.set_members(office.tables, group, {}, {first.id, second.id})
    before = await rules.members_of(office.tables, group)
    await rules.set_members(office.tables, group, before, {second.id})
    assert await rules.members_of(office.tables, group) == {second.id: before[second.id]}


async def test_members_of_everyone_are_not_decided_and_the_group_is_found_only_if_asked_for(
    office: Office,
) -> None:
    everyone = office.made.everyone
    with pytest.raises(Forbidden):
        await rules.load_group_with_editable_members(office.tables, everyone.id)
    with pytest.raises(Missing):
        await rules.load_group(office.tables, everyone.id)
    assert await rules.load_group(office.tables, everyone.id, with_managed=True) == everyone


async def test_a_site_has_a_name_of_its_own_and_the_internet_site_stays(office: Office) -> None:
    with pytest.raises(Invalid) as refused:
        async with office.transaction.savepoint():
            await make_site(office.tables, office.made.account, {"name": "Default Site"})
    assert refused.value.errors == {"name": ["has already been taken"]}
    internet = await office.tables.sites.find(office.tables.sites.c.managed_by == "system")
    assert internet is not None
    with pytest.raises(Forbidden):
        await load_editable_site(office.tables, internet.id)
