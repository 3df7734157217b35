"""The policy engine's frozen snapshot of each account in use, kept current from the change feed.

An `AccountView` is loaded when the first connection of its account appears, follows the feed, tells its listeners of each
batch of changes after its snapshot has taken them in, and is dropped when nobody has listened for a while.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from wardgate.model.addresses import parse_ip, parse_network
from wardgate.model.conditions import Condition, parse_stored_condition
from wardgate.model.domain import (
    Actor,
    ActorType,
    ClientDevice,
    Group,
    GroupType,
    Membership,
    Policy,
    PoolMember,
    Site,
    SiteManager,
)
from wardgate.model.filters import Filter, PortRange
from wardgate.model.filters import Protocol as FilterProtocol
from wardgate.model.ids import (
    ActorId,
    ClientId,
    DeviceId,
    GroupId,
    MembershipId,
    PolicyId,
    PoolMemberId,
    ResourceId,
    SiteId,
)
from wardgate.model.name_pattern import NamePattern
from wardgate.model.resources import (
    CidrResource,
    DnsResource,
    DynamicDevicePool,
    InternetResource,
    IpResource,
    IpStack,
    Resource,
    StaticDevicePool,
)
from wardgate.policy.snapshot import Entity, Snapshot
from wardgate.portal.environment import Environment
from wardgate.portal.store import AccountTables, Feed, Store
from wardgate.portal.store.rows import Change, TenantRow

log = logging.getLogger(__name__)

_IDLE_S: Final = 60.0
_SLICE: Final = 500  # rows a load takes in before other tasks run
EVERYONE: Final = "Everyone"

_Id = TypeVar("_Id")


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What connections need of the account itself; `ingest_signing_key` never changes and is empty for the installation."""

    id: UUID
    name: str = ""
    slug: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] = field(default_factory=dict)
    ingest_signing_key: bytes = field(default=b"", repr=False)


class Listener(Protocol):
    """A connection that lives off an account's view."""

    def handle_changes(self, changes: list[Change]) -> None:
        """Take in one batch; the view already shows the state after it. Must not block or raise."""


class AccountView:
    """One account in memory: `snapshot`, `facts`, and the feed position they stand at."""

    def __init__(self, facts: AccountFacts, snapshot: Snapshot, sequence: int) -> None:
        self.facts = facts
        self.snapshot = snapshot
        self.sequence = sequence
        self.users = 0
        self._listeners: dict[int, Listener] = {}

    def attach(self, listener: Listener) -> None:
        self._listeners[id(listener)] = listener

    def detach(self, listener: Listener) -> None:
        self._listeners.pop(id(listener), None)

    def apply(self, changes: list[Change]) -> None:
        """Take in a batch of the feed, then tell the listeners. Changes at or before the position are repeats."""
        fresh = [change for change in changes if change.sequence > self.sequence]
        if not fresh:
            return
        self.sequence = fresh[-1].sequence
        self.snapshot = evolve(self.snapshot, fresh)
        for change in fresh:
            if change.object == "accounts" and change.after is not None:
                self.facts = replace(
                    self.facts,
                    name=change.after["name"],
                    slug=change.after["slug"],
                    config=change.after["config"],
                    features=change.after["features"],
                )
        for listener in tuple(self._listeners.values()):
            listener.handle_changes(fresh)


class Accounts:
    """The views in use. `using` holds one open; closing stops all followers."""

    def __init__(self, store: Store, feed: Feed, environment: Environment) -> None:
        self._store = store
        self._feed = feed
        self._environment = environment
        self._views: dict[UUID, AccountView] = {}
        self._followers: dict[UUID, asyncio.Task[None]] = {}
        self._loading: dict[UUID, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def using(self, account_id: UUID) -> AsyncIterator[AccountView]:
        """Keep an account's view alive and current for the length of the block."""
        async with self._loading.setdefault(account_id, asyncio.Lock()):
            view = self._views.get(account_id)
            if view is None:
                view = await self._load(account_id)
                self._views[account_id] = view
                self._followers[account_id] = asyncio.create_task(
                    self._follow(account_id, view), name=f"follow {account_id}"
                )
            view.users += 1
        try:
            yield view
        finally:
            view.users -= 1

    async def close(self) -> None:
        followers = list(self._followers.values())
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        self._followers.clear()
        self._views.clear()

    async def run(self) -> None:
        """Drop views that nobody uses; returns never."""
        idle: set[UUID] = set()
        while True:
            await self._environment.clock.sleep(_IDLE_S)
            unused = {account_id for account_id, view in self._views.items() if view.users == 0}
            for account_id in unused & idle:
                follower = self._followers.pop(account_id)
                del self._views[account_id]
                follower.cancel()
            idle = unused

    async def _follow(self, account_id: UUID, view: AccountView) -> None:
        async for changes in self._feed.follow(account_id, view.sequence):
            view.apply(changes)

    async def _load(self, account_id: UUID) -> AccountView:
        # Position first: what is committed while the tables are read in slices comes again from the feed.
        sequence = await self._feed.position(account_id)
        async with self._store.reading() as transaction:
            account = await transaction.accounts.load(account_id)
        facts = AccountFacts(account_id)
        if account is not None:
            facts = AccountFacts(
                account_id,
                account.name,
                account.slug,
                account.config,
                account.features,
                account.ingest_signing_key,
            )
        snapshot = Snapshot(is_disabled=account is None or account.is_disabled)
        for table in (
            "actors",
            "groups",
            "sites",
            "memberships",
            "resources",
            "policies",
            "devices",
            "pool_members",
        ):
            snapshot = await self._load_table(snapshot, account_id, table)
        return AccountView(facts, snapshot, sequence)

    async def _load_table(self, snapshot: Snapshot, account_id: UUID, table: str) -> Snapshot:
        after: UUID | None = None
        entities: list[Entity] = []
        while True:
            async with self._store.reading() as transaction:
                rows = await _slice(transaction.of(account_id), table, after)
            for row in rows:
                entity = entity_of(table, {name: getattr(row, name) for name in row.__dataclass_fields__})
                if entity is not None:
                    entities.append(entity)
            if len(rows) < _SLICE:
                return snapshot.evolve(puts=entities)
            after = rows[-1].id
            await asyncio.sleep(0)


async def _slice(tables: AccountTables, table: str, after: UUID | None) -> list[TenantRow]:
    repository: Any = getattr(tables, table)
    conditions = () if after is None else (repository.c.id > after,)
    rows: list[TenantRow] = await repository.load_all(*conditions, order_by=(repository.c.id,), limit=_SLICE)
    return rows


def evolve(snapshot: Snapshot, changes: list[Change]) -> Snapshot:
    """Return the snapshot after a batch of changes, in their order."""
    puts: dict[tuple[str, str], Entity] = {}
    drops: dict[tuple[str, str], Entity] = {}
    is_disabled: bool | None = None
    for change in changes:
        image = change.after if change.after is not None else change.before
        assert image is not None
        if change.object == "accounts":
            is_disabled = True if change.after is None else bool(change.after["is_disabled"])
            continue
        entity = entity_of(change.object, image)
        key = (change.object, str(image["id"]))
        if change.after is not None and entity is not None:
            puts[key] = entity
            continue
        puts.pop(key, None)
        before = entity if change.before is None else entity_of(change.object, change.before)
        if before is not None:
            drops[key] = before
    return snapshot.evolve(puts=puts.values(), drops=drops.values(), is_disabled=is_disabled)


def entity_of(table: str, values: Mapping[str, Any]) -> Entity | None:
    """Build what the policy engine knows of a row or of its JSON image; none: it needs nothing of this table or row."""
    match table:
        case "actors":
            return Actor(
                ActorId(_uuid(values["id"])),
                ActorType(values["type"]),
                values["name"],
                values["email"],
                values["is_disabled"],
            )
        case "groups":
            synced = values["idp_id"] is not None
            return Group(
                GroupId(_uuid(values["id"])),
                values["name"],
                GroupType(values["type"]),
                is_everyone=values["type"] == "managed" and not synced and values["name"] == EVERYONE,
                is_synced=synced,
            )
        case "memberships":
            return Membership(
                MembershipId(_uuid(values["id"])),
                ActorId(_uuid(values["actor_id"])),
                GroupId(_uuid(values["group_id"])),
            )
        case "sites":
            return Site(SiteId(_uuid(values["id"])), values["name"], SiteManager(values["managed_by"]))
        case "policies":
            return _policy_of(values)
        case "resources":
            return resource_of(values)
        case "devices" if values["type"] == "client":
            return ClientDevice(
                ClientId(DeviceId(_uuid(values["id"]))),
                values["name"],
                values["ipv4"],
                values["ipv6"],
                values["hostname"],
            )
        case "static_device_pool_members" | "pool_members":
            return PoolMember(
                PoolMemberId(_uuid(values["id"])),
                ResourceId(_uuid(values["resource_id"])),
                ClientId(DeviceId(_uuid(values["device_id"]))),
            )
        case _:
            return None


def _policy_of(values: Mapping[str, Any]) -> Policy | None:
    """Build a policy; none (and a warning) when a condition is of an unknown property: it then grants nothing."""
    try:
        conditions = tuple(_condition(condition) for condition in values["conditions"])
    except (ValueError, KeyError, TypeError):
        log.warning(
            "a stored policy cannot be read and grants nothing", extra={"policy_id": str(values["id"])}
        )
        return None
    return Policy(
        PolicyId(_uuid(values["id"])),
        None if values["group_id"] is None else GroupId(_uuid(values["group_id"])),
        ResourceId(_uuid(values["resource_id"])),
        conditions,
        values["is_disabled"],
        values["description"],
        values["flow_log_uploads_enabled"],
    )


def resource_of(values: Mapping[str, Any]) -> Resource | None:
    """Build a resource; none (and a warning) when what is stored cannot be read, so that nobody is granted it."""
    id_ = ResourceId(_uuid(values["id"]))
    site_id = None if values["site_id"] is None else SiteId(_uuid(values["site_id"]))
    name, described = values["name"], values["address_description"]
    try:
        filters = tuple(_filter(one) for one in values["filters"])
        match values["type"]:
            case "dns":
                pattern = NamePattern.parse(values["address"])
                return DnsResource(
                    id_, name, site_id, pattern, IpStack(values["ip_stack"]), described, filters
                )
            case "cidr":
                return CidrResource(id_, name, site_id, parse_network(values["address"]), described, filters)
            case "ip":
                return IpResource(id_, name, site_id, parse_ip(values["address"]), described, filters)
            case "internet":
                return InternetResource(id_, name, site_id)
            case "static_device_pool":
                return StaticDevicePool(id_, name, filters)
            case "dynamic_device_pool":
                return DynamicDevicePool(id_, name, NamePattern.parse(values["address"]), filters)
            case _:
                return None
    except (ValueError, KeyError, TypeError):
        log.warning(
            "a stored resource cannot be read and is offered to nobody", extra={"resource_id": str(id_)}
        )
        return None


def _filter(stored: Mapping[str, Any]) -> Filter:
    return Filter(
        FilterProtocol(stored["protocol"]), tuple(PortRange.parse(ports) for ports in stored.get("ports", ()))
    )


def _condition(stored: Mapping[str, Any]) -> Condition:
    return parse_stored_condition(stored["property"], stored["operator"], list(stored["values"]))


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
