"""Scoping, deletion map, effects on other rows, and what the feed is told of them."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select

from unit.portal.store.conftest import make_account
from unit.portal.store.whole_database import fill_database
from wardgate.portal.access.tables import Policy, PolicyAuthorization, Resource
from wardgate.portal.database import repositories as repositories_module
from wardgate.portal.database.consequences import ACCOUNT_TABLES_IN_DELETION_ORDER, DEPENDANTS
from wardgate.portal.database.errors import AddressesExhausted
from wardgate.portal.devices import repositories as device_repositories
from wardgate.portal.devices.repositories import DeviceRepository
from wardgate.portal.devices.tables import Device
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import Conflict, DanglingReference, Repository, Store, Transaction, Unstorable
from wardgate.portal.tables import metadata

pytestmark = pytest.mark.slow

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def test_the_deletion_map_covers_every_foreign_key() -> None:
    covered = {
        (dependant.table, dependant.column) for targets in DEPENDANTS.values() for dependant in targets
    }
    for table in metadata.tables.values():
        for constraint in table.foreign_key_constraints:
            for key in constraint.elements:
                if key.column.name == "id" and key.column.table.name != "accounts":
                    assert (table.name, key.parent.name) in covered
        if "account_id" in table.primary_key.columns and table.foreign_key_constraints:
            assert table.name in ACCOUNT_TABLES_IN_DELETION_ORDER


async def test_an_account_sees_only_its_own_rows(store: Store, account_id: UUID) -> None:
    other_id = await make_account(store, "other")
    async with store.writing() as transaction:
        site = await transaction.of(other_id).sites.insert(_site(transaction, other_id))
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        assert await tables.sites.load(site.id) is None
        assert await tables.sites.load_all() == []
        assert not await tables.sites.delete(site.id)
        with pytest.raises(DanglingReference):
            await tables.sites.save(replace(site, account_id=account_id, name="taken"))
        with pytest.raises(ValueError, match="another account"):
            await tables.sites.insert(site)


async def test_a_row_cannot_name_another_accounts_row(store: Store, account_id: UUID) -> None:
    other_id = await make_account(store, "other")
    async with store.writing() as transaction:
        site = await transaction.of(other_id).sites.insert(_site(transaction, other_id))
    with pytest.raises(DanglingReference):
        async with store.writing() as transaction:
            await transaction.of(account_id).resources.insert(
                Resource(
                    id=transaction.new_id(),
                    account_id=account_id,
                    type="cidr",
                    name="n",
                    address="10.0.0.0/8",
                    site_id=site.id,
                )
            )


async def test_a_duplicate_names_the_fields_that_clash(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        await transaction.of(account_id).sites.insert(_site(transaction, account_id))
    with pytest.raises(Conflict) as clash:
        async with store.writing() as transaction:
            await transaction.of(account_id).sites.insert(_site(transaction, account_id))
    assert clash.value.fields == ("name", "managed_by")


async def test_emails_are_unique_without_regard_to_case(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        actors = transaction.of(account_id).actors
        await actors.insert(_user(transaction, account_id, "Ada@example.org"))
    with pytest.raises(Conflict) as clash:  # noqa: PT012
        async with store.writing() as transaction:
            actors = transaction.of(account_id).actors
            await actors.insert(_user(transaction, account_id, "ada@example.org"))
    assert clash.value.fields == ("email",)


async def test_a_failed_transaction_leaves_nothing_behind(store: Store, account_id: UUID) -> None:
    position = (await store.sequences())[account_id]
    with pytest.raises(RuntimeError):  # noqa: PT012
        async with store.writing() as transaction:
            await transaction.of(account_id).sites.insert(_site(transaction, account_id))
            raise RuntimeError
    async with store.reading() as transaction:
        assert await transaction.of(account_id).sites.count() == 0
    assert (await store.sequences())[account_id] == position


async def test_a_refused_statement_ends_its_transaction(store: Store, account_id: UUID) -> None:
    with pytest.raises(Conflict):  # noqa: PT012
        async with store.writing() as transaction:
            sites = transaction.of(account_id).sites
            await sites.insert(_site(transaction, account_id))
            with pytest.raises(Conflict):
                await sites.insert(_site(transaction, account_id))
            with pytest.raises(RuntimeError, match="cannot go on"):
                await sites.count()
    async with store.reading() as transaction:
        assert await transaction.of(account_id).sites.count() == 0


async def test_a_savepoint_undoes_only_what_happened_inside(store: Store, account_id: UUID) -> None:
    position = (await store.sequences())[account_id]
    async with store.writing() as transaction:
        sites = transaction.of(account_id).sites
        await sites.insert(_site(transaction, account_id))
        with pytest.raises(Conflict):  # noqa: PT012
            async with transaction.savepoint():
                await sites.insert(replace(_site(transaction, account_id), name="Hamburg"))
                await sites.insert(_site(transaction, account_id))
        await sites.insert(replace(_site(transaction, account_id), name="Bremen"))
    async with store.reading() as transaction:
        names = {site.name for site in await transaction.of(account_id).sites.load_all()}
        changes = await transaction.changes_after(account_id, position, 10)
    assert names == {"Berlin", "Bremen"}
    assert [change.after["name"] for change in changes if change.after] == ["Berlin", "Bremen"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 65),
        ("name", "a\0b"),
        ("name", "\ud800"),
        ("health_threshold", 1 << 31),
    ],
)
async def test_what_does_not_fit_a_column_is_refused_alike(
    store: Store, account_id: UUID, field: str, value: object
) -> None:
    with pytest.raises(Unstorable) as refused:
        async with store.writing() as transaction:
            await transaction.of(account_id).sites.insert(
                replace(_site(transaction, account_id), **{field: value})
            )
    assert (refused.value.table, refused.value.field) == ("sites", field)


@pytest.mark.parametrize("value", [{"a": ["\0"]}, {"\ud800": 1}, {"a": float("nan")}])
async def test_json_that_does_not_fit_is_refused_alike(
    store: Store, account_id: UUID, value: dict[str, object]
) -> None:
    with pytest.raises(Unstorable):  # noqa: PT012
        async with store.writing() as transaction:
            account = await transaction.accounts.load(account_id)
            assert account is not None
            await transaction.accounts.save(replace(account, config=value))


async def test_a_condition_that_no_text_can_meet_finds_nothing_or_is_refused(
    store: Store, account_id: UUID
) -> None:
    with contextlib.suppress(Unstorable):
        async with store.reading() as transaction:
            sites = transaction.of(account_id).sites
            assert await sites.load_all(sites.c.name == "\0") == []


async def test_what_a_writer_has_read_still_holds_when_it_writes(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        site = await transaction.of(account_id).sites.insert(_site(transaction, account_id))

    async def raise_threshold() -> None:
        async with store.writing() as transaction:
            sites = transaction.of(account_id).sites
            current = await sites.load(site.id)
            assert current is not None
            await asyncio.sleep(0)
            await sites.save(replace(current, health_threshold=current.health_threshold + 1))

    await asyncio.gather(*(raise_threshold() for _ in range(8)))
    async with store.reading() as transaction:
        after = await transaction.of(account_id).sites.load(site.id)
    assert after is not None
    assert after.health_threshold == site.health_threshold + 8


async def test_each_mutation_is_numbered_without_gaps_and_names_who_did_it(
    store: Store, account_id: UUID
) -> None:
    async with store.writing({"actor_name": "Ada"}) as transaction:
        sites = transaction.of(account_id).sites
        site = await sites.insert(_site(transaction, account_id))
        site = await sites.save(replace(site, name="Hamburg"))
        await sites.save(site)
        await sites.delete(site.id)
    async with store.reading() as transaction:
        changes = await transaction.changes_after(account_id, 1, 10)
    assert [(change.sequence, change.object, change.operation) for change in changes] == [
        (2, "sites", "insert"),
        (3, "sites", "update"),
        (4, "sites", "delete"),
    ]
    assert {change.subject["actor_name"] for change in changes if change.subject} == {"Ada"}
    assert changes[1].before is not None
    assert changes[1].after is not None
    assert (changes[1].before["name"], changes[1].after["name"]) == ("Berlin", "Hamburg")


async def test_secrets_do_not_reach_the_feed(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        actor = await transaction.of(account_id).actors.insert(_user(transaction, account_id))
        await transaction.of(account_id).client_tokens.insert(
            _client_token(transaction, account_id, actor.id)
        )
    async with store.reading() as transaction:
        images = [change.after for change in await transaction.changes_after(account_id, 0, 10)]
    assert images[0] is not None
    assert images[0]["ingest_signing_key"] == "[redacted]"
    assert images[-1] is not None
    assert images[-1]["secret_hash"] == images[-1]["secret_salt"] == "[redacted]"


async def test_a_connect_is_neither_audited_nor_broadcast(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        world = await _granted(transaction, account_id)
    position = (await store.sequences())[account_id]
    async with store.writing() as transaction:
        devices = transaction.of(account_id).devices
        await devices.save(replace(world.client, public_key="k" * 44, last_seen_at=transaction.now))
    assert (await store.sequences())[account_id] == position
    async with store.reading() as transaction:
        client = await transaction.of(account_id).devices.load(world.client.id)
    assert client is not None
    assert client.public_key == "k" * 44


async def test_devices_draw_distinct_addresses_of_both_pools(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        world = await _granted(transaction, account_id)
    assert world.client.ipv4.startswith("100.")
    assert world.client.ipv6.startswith("fd00:2021:1111:")
    assert world.client.ipv4 != world.gateway.ipv4
    assert world.client.ipv6 != world.gateway.ipv6


async def test_devices_that_draw_a_taken_address_get_the_next_free_one_until_none_is_left(
    store: Store, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_repositories, "LAST_TUNNEL_OFFSET", 5)
    monkeypatch.setattr(DeviceRepository, "_random_offset", lambda _self: 3)
    async with store.writing() as transaction:
        devices = transaction.of(account_id).devices
        site = await transaction.of(account_id).sites.insert(_site(transaction, account_id))

        def gateway(name: str) -> Device:
            return Device(
                id=transaction.new_id(),
                account_id=account_id,
                type="gateway",
                name=name,
                psk_base=b"p" * 32,
                firezone_id=name,
                site_id=site.id,
            )

        # The same address, drawn by two that are made together; then one that is taken.
        made = await devices.insert_all([gateway("g0"), gateway("g1")])
        made.append(await devices.insert(gateway("g2")))
        made += await devices.insert_all([gateway("g3")])
        addresses = [device.ipv4 for device in made]
        assert addresses == ["100.64.0.4", "100.64.0.5", "100.64.0.1", "100.64.0.2"]
        assert [device.ipv6[-1] for device in made] == ["4", "5", "1", "2"]
        with pytest.raises(AddressesExhausted):
            await devices.insert_all([gateway("g4"), gateway("g5")])


@pytest.mark.parametrize(
    "victim", ["actor", "membership", "group", "site", "resource", "policy", "client", "gateway", "token"]
)
async def test_a_grant_goes_with_whatever_it_rests_on(store: Store, account_id: UUID, victim: str) -> None:
    async with store.writing() as transaction:
        world = await _granted(transaction, account_id)
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        repository = {
            "actor": tables.actors,
            "membership": tables.memberships,
            "group": tables.groups,
            "site": tables.sites,
            "resource": tables.resources,
            "policy": tables.policies,
            "client": tables.devices,
            "gateway": tables.devices,
            "token": tables.client_tokens,
        }[victim]
        assert await repository.delete(getattr(world, victim).id)
    async with store.reading() as transaction:
        changes = await transaction.changes_after(account_id, 0, 100)
        assert await transaction.of(account_id).authorizations.count() == 0
    gone = [
        change
        for change in changes
        if (change.object, change.operation) == ("policy_authorizations", "delete")
    ]
    assert len(gone) == 1
    assert gone[0].audience == "internal"


async def test_a_policy_outlives_its_group_as_an_orphan(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        world = await _granted(transaction, account_id)
    async with store.writing() as transaction:
        await transaction.of(account_id).groups.delete(world.group.id)
    async with store.reading() as transaction:
        policy = await transaction.of(account_id).policies.load(world.policy.id)
    assert policy is not None
    assert policy.group_id is None


async def test_changes_that_break_a_grants_basis_end_it(store: Store, account_id: UUID) -> None:
    for breaking in (
        lambda world: replace(world.policy, is_disabled=True),
        lambda world: replace(
            world.policy, conditions=[{"property": "remote_ip", "operator": "is_in_cidr", "values": ["::1"]}]
        ),
        lambda world: replace(world.resource, address="10.9.0.0/16"),
        lambda world: replace(world.actor, is_disabled=True),
        lambda world: replace(world.client, verified_at=None),
    ):
        account = await make_account(store, f"a{breaking.__code__.co_firstlineno}")
        async with store.writing() as transaction:
            world = await _granted(transaction, account)
        async with store.writing() as transaction:
            tables = transaction.of(account)
            row = breaking(world)
            repository = {
                "policies": tables.policies,
                "resources": tables.resources,
                "actors": tables.actors,
            }.get(row.table, tables.devices)
            await repository.save(row)
            assert await tables.authorizations.count() == 0, row.table


async def test_changes_that_do_not_matter_to_a_grant_leave_it(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        world = await _granted(transaction, account_id)
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        await tables.policies.save(replace(world.policy, description="why"))
        await tables.resources.save(
            replace(world.resource, name="other", filters=[{"protocol": "tcp", "ports": ["80"]}])
        )
        await tables.actors.save(replace(world.actor, name="Ada L."))
        assert await tables.authorizations.count() == 1


async def test_of_a_group_of_grants_only_the_dangling_are_left_out(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        world = await _granted(transaction, account_id)
    async with store.writing() as transaction:
        good = replace(world.authorization, id=transaction.new_id())
        bad = replace(world.authorization, id=transaction.new_id(), policy_id=transaction.new_id())
        stored = await transaction.of(account_id).authorizations.insert_each([bad, good])
    assert [row.id for row in stored] == [good.id]


async def test_deleting_an_account_leaves_only_the_news_of_it(store: Store, account_id: UUID) -> None:
    async with store.writing() as transaction:
        await _granted(transaction, account_id)
    position = (await store.sequences())[account_id]
    async with store.writing() as transaction:
        await transaction.accounts.delete(account_id)
    async with store.reading() as transaction:
        assert await transaction.accounts.load(account_id) is None
        changes = await transaction.changes_after(account_id, position, 100)
    assert [change.sequence for change in changes] == list(range(position + 1, position + 1 + len(changes)))
    assert (changes[-1].object, changes[-1].operation) == ("accounts", "delete")


async def test_a_read_transaction_refuses_to_write(store: Store, account_id: UUID) -> None:
    async with store.reading() as transaction:
        with pytest.raises(RuntimeError, match="reading only"):
            await transaction.of(account_id).sites.insert(_site(transaction, account_id))


async def test_grants_that_take_several_statements_go_all_with_their_policy_and_no_others(
    store: Store, account_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories_module, "ROWS_A_TURN", 2)
    monkeypatch.setattr(repositories_module, "MANY", 2)
    async with store.writing() as transaction:
        world = await _granted(transaction, account_id)
        tables = transaction.of(account_id)
        other = await tables.resources.insert(replace(world.resource, id=transaction.new_id(), name="other"))
        kept = await tables.policies.insert(
            replace(world.policy, id=transaction.new_id(), resource_id=other.id)
        )
        grants = [
            replace(world.authorization, id=transaction.new_id(), policy_id=policy_id)
            for policy_id in (world.policy.id, world.policy.id, kept.id, world.policy.id)
        ]
        await tables.authorizations.insert_all(grants)
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        assert await tables.policies.save(replace(world.policy, is_disabled=True))
    async with store.reading() as transaction:
        left = await transaction.of(account_id).authorizations.load_all()
        changes = await transaction.changes(account_id, limit=5, newest_first=True)
    assert [row.id for row in left] == [grants[2].id]
    gone = {str(row.id) for row in (world.authorization, grants[0], grants[1], grants[3])}
    assert {one.before["id"] for one in changes[:4] if one.before is not None} == gone
    assert [(one.object, one.operation) for one in changes] == [("policy_authorizations", "delete")] * 4 + [
        ("policies", "update")
    ]


class _World:
    """Everything one grant rests on."""

    actor: Actor
    group: Group
    membership: Membership
    site: Site
    resource: Resource
    policy: Policy
    token: ClientToken
    client: Device
    gateway: Device
    authorization: PolicyAuthorization


async def _granted(transaction: Transaction, account_id: UUID) -> _World:
    tables, world, new_id = transaction.of(account_id), _World(), transaction.new_id
    world.actor = await tables.actors.insert(_user(transaction, account_id))
    world.group = await tables.groups.insert(Group(id=new_id(), account_id=account_id, name="Engineering"))
    world.membership = await tables.memberships.insert(
        Membership(id=new_id(), account_id=account_id, actor_id=world.actor.id, group_id=world.group.id)
    )
    world.site = await tables.sites.insert(_site(transaction, account_id))
    world.resource = await tables.resources.insert(
        Resource(
            id=new_id(),
            account_id=account_id,
            type="cidr",
            name="net",
            address="10.1.0.0/16",
            site_id=world.site.id,
        )
    )
    world.policy = await tables.policies.insert(
        Policy(id=new_id(), account_id=account_id, group_id=world.group.id, resource_id=world.resource.id)
    )
    world.token = await tables.client_tokens.insert(_client_token(transaction, account_id, world.actor.id))
    world.client = await tables.devices.insert(
        Device(
            id=new_id(),
            account_id=account_id,
            type="client",
            name="laptop",
            psk_base=transaction.random_bytes(32),
            actor_id=world.actor.id,
            client_token_id=world.token.id,
            verified_at=transaction.now,
        )
    )
    world.gateway = await tables.devices.insert(
        Device(
            id=new_id(),
            account_id=account_id,
            type="gateway",
            name="gw",
            psk_base=transaction.random_bytes(32),
            site_id=world.site.id,
        )
    )
    world.authorization = await tables.authorizations.insert(
        PolicyAuthorization(
            id=new_id(),
            account_id=account_id,
            policy_id=world.policy.id,
            resource_id=world.resource.id,
            initiating_device_id=world.client.id,
            receiving_device_id=world.gateway.id,
            token_id=world.token.id,
            membership_id=world.membership.id,
            initiator_remote_ip="192.0.2.1",
            initiator_user_agent="test",
            receiver_remote_ip=None,
            expires_at=LATER,
        )
    )
    return world


def _site(transaction: Transaction, account_id: UUID) -> Site:
    return Site(id=transaction.new_id(), account_id=account_id, name="Berlin")


def _user(transaction: Transaction, account_id: UUID, email: str = "ada@example.org") -> Actor:
    return Actor(id=transaction.new_id(), account_id=account_id, type="account_user", name="Ada", email=email)


def _client_token(transaction: Transaction, account_id: UUID, actor_id: UUID) -> ClientToken:
    return ClientToken(
        id=transaction.new_id(),
        account_id=account_id,
        actor_id=actor_id,
        secret_salt="s" * 22,
        secret_hash="h" * 64,
        expires_at=transaction.now + timedelta(days=7),
    )


async def test_nothing_of_a_deleted_account_is_left_but_its_deletion(store: Store) -> None:
    account_id = await fill_database(store)
    async with store.writing() as transaction:
        await transaction.accounts.delete(account_id)
        while await transaction.accounts.delete_remains(account_id):
            pass
    async with store.reading() as transaction:
        left = {}
        for name, table in metadata.tables.items():
            if "account_id" in table.c and name not in ("change_counters", "changes"):
                statement = select(func.count()).select_from(table).where(table.c.account_id == account_id)
                left[name] = (await transaction.execute(statement)).scalar_one()
        assert {name: count for name, count in left.items() if count} == {}
        assert {"flow_logs", "decisions", "session_logs"} <= left.keys()
        (change,) = await transaction.changes_after(account_id, 0, 10)
        assert (change.object, change.operation) == ("accounts", "delete")


async def test_an_accounts_repositories_come_into_being_when_they_are_asked_for(store: Store) -> None:
    async with store.reading() as transaction:
        tables = transaction.of(transaction.new_id())
        assert not [one for one in vars(tables).values() if isinstance(one, Repository)]
        assert tables.sites is tables.sites
        assert tables.by_name("devices") is tables.devices
        assert type(tables.by_name("devices")) is DeviceRepository
        assert len([one for one in vars(tables).values() if isinstance(one, Repository)]) == 2
