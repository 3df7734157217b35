"""The portal of a simulated installation, and what its administrator does: to the rows, and to the `Model` too."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from wardgate.portal.access.tables import Policy as PolicyRow
from wardgate.portal.access.tables import Resource as ResourceRow
from wardgate.portal.app import Portal
from wardgate.portal.bus import EncodingBus
from wardgate.portal.credentials import issue
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember
from wardgate.portal.environment import Environment, InlineExecutor, NoOutbound
from wardgate.portal.http.asgi import App, Message
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor as ActorRow
from wardgate.portal.people.tables import Group as GroupRow
from wardgate.portal.people.tables import Membership as MembershipRow
from wardgate.portal.provisioning import Provisioned, provision
from wardgate.portal.services import Services
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.oidc.conversation import Conversation
from wardgate.portal.sites.tables import Site as SiteRow
from wardgate.portal.snapshot.accounts import Accounts
from wardgate.portal.store import AccountTables, Feed, Transaction
from wardgate.simulation.control_link import ControlLink
from wardgate.simulation.distant_store import DistantStore
from wardgate.simulation.model import Grant, Model, Ports, SimPool, SimResource

EPOCH: Final = datetime(2026, 8, 3, 12, 0, tzinfo=UTC)  # a Monday noon: time conditions name it
_SETTINGS: Final = PortalSettings(
    connect_refill_per_s=10.0, connect_capacity=10.0
)  # peers restart faster here


@dataclass
class Counts:
    """What a run exercised."""

    grants: int = 0
    revocations: int = 0
    answered: int = 0
    refused: int = 0
    silent: int = 0
    direct_paths: int = 0
    relayed_paths: int = 0
    lost_datagrams: int = 0
    portal_restarts: int = 0
    refused_writes: int = 0
    checked_grants: int = 0
    checked_flows: int = 0


class _VirtualClock:
    def __init__(self, unix_at_zero: float) -> None:
        self._unix_at_zero = unix_at_zero

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._unix_at_zero + self.monotonic(), UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Administration(ABC):
    """A real portal on SQLite in memory, its one account, and the model of what that account permits."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.counts = Counts()
        self.zone: dict[str, str] = {}
        self.hostnames: dict[str, str] = {}  # of clients that have one
        self._loop = asyncio.get_running_loop()
        self.model = Model(self._loop.time)
        self._unix_at_zero = EPOCH.timestamp() - self._loop.time()
        self._environment = Environment(
            clock=_VirtualClock(self._unix_at_zero),
            rng=random.Random(self.rng.random()),  # noqa: S311
            executor=InlineExecutor(),
            outbound=NoOutbound(),
            bus=EncodingBus(),
        )
        self._keys = Keys.derive(self.rng.randbytes(32))
        self._portal: Portal | None = None
        self._groups: dict[str, UUID] = {}
        self._actors: dict[str, UUID] = {}
        self._links: list[ControlLink] = []

    @abstractmethod
    def public_ips_of(self, actors: frozenset[str]) -> list[str]:
        """Return the addresses from which the portal sees the clients of these actors."""

    # The portal

    async def open(self) -> None:
        """Start the portal with one account."""
        self._far_store = await DistantStore.open(None, self._environment)
        self._far_store.rng = random.Random(self.rng.random())  # noqa: S311
        self._store = self._far_store.near
        async with self._store.writing() as transaction:
            self._account: Provisioned = await provision(
                transaction, name="Sim", slug="sim", admin_email="ada@example.com"
            )
        await self.start_portal()

    async def start_portal(self) -> None:
        store = self._far_store
        feed = Feed(store, self._environment)
        accounts = Accounts(store, feed, self._environment)
        conversation = Conversation(self._environment, redirect_uri=_SETTINGS.oidc_redirect_uri)
        portal = Portal(
            Services(_SETTINGS, self._environment, self._keys, store, feed, accounts, conversation)
        )
        self._portal_life = contextlib.AsyncExitStack()
        await self._portal_life.enter_async_context(portal.running())
        self._portal = portal

    async def stop_portal(self) -> None:
        """As SIGTERM: connections are closed, then nobody answers."""
        if self._portal is not None:
            self._portal = None
            for link in self._links:
                link.reset()
            for link in self._links:
                await link.ended()
            self._links.clear()
            await self._portal_life.aclose()

    @contextlib.contextmanager
    def database_far(self, way_s: float) -> Iterator[None]:
        """For the length of the block a transaction of the portal takes up to so many seconds each way."""
        self._far_store.way_s = way_s
        self.model.database_far_until = math.inf
        try:
            yield
        finally:
            self._far_store.way_s = 0.0
            self.model.database_far_until = self._loop.time() + 2 * way_s  # what is under way, there and back

    @contextlib.contextmanager
    def disk_full(self) -> Iterator[None]:
        """For the length of the block the portal can write nothing."""
        self._far_store.is_full = True
        try:
            yield
        finally:
            self._far_store.is_full = False
            self.counts.refused_writes = self._far_store.failures

    def hold_reading(self, skipped: int) -> asyncio.Future[None]:
        """Keep an answer of the portal's database under way for a second; done when it is."""
        return self._far_store.hold_reading(skipped)

    @property
    def is_portal_up(self) -> bool:
        return self._portal is not None

    @property
    def is_disk_full(self) -> bool:
        return self._far_store.is_full

    def _app(self) -> App | None:
        return self._portal

    # The administrator

    async def add_site(self) -> UUID:
        row: SiteRow = await self._insert(
            lambda tx: SiteRow(id=tx.new_id(), account_id=self._account_id, name=f"site-{tx.new_id()}"),
            "sites",
        )
        return row.id

    async def add_group(self, name: str) -> None:
        row = await self._insert(
            lambda tx: GroupRow(id=tx.new_id(), account_id=self._account_id, name=name), "groups"
        )
        self._groups[name] = row.id
        self.model.members[name] = set()

    async def add_actor(self, name: str) -> None:
        row = await self._insert(
            lambda tx: ActorRow(
                id=tx.new_id(), account_id=self._account_id, type="service_account", name=name
            ),
            "actors",
        )
        self._actors[name] = row.id
        self.model.actors.add(name)

    async def add_resource(self, name: str, resource: SimResource) -> None:
        row = await self._insert(
            lambda tx: ResourceRow(
                id=tx.new_id(),
                account_id=self._account_id,
                type=resource.kind,
                name=name,
                address=resource.address,
                ip_stack="dual" if resource.kind == "dns" else None,
                filters=_filters(resource.udp_ports),
                site_id=resource.site_id,
            ),
            "resources",
        )
        self.model.resources[name] = dataclasses.replace(resource, id=row.id)
        self.model.grants[name] = []
        if resource.name is not None:
            self.zone[resource.name] = resource.real_ip

    async def remove_resource(self, name: str) -> None:
        affected = self.model.allowed_actors(name)
        async with self._store.writing() as transaction:
            await transaction.of(self._account_id).resources.delete(self.model.resources[name].id)
        self.model.grants[name].clear()
        self.model.removed.add(name)
        self.model.note_ended(name, affected)

    async def add_pool(self, name: str, pattern: str | None = None) -> None:
        """A device pool: dynamic with a pattern of host names, or static and empty."""
        row = await self._insert(
            lambda tx: ResourceRow(
                id=tx.new_id(),
                account_id=self._account_id,
                type="static_device_pool" if pattern is None else "dynamic_device_pool",
                name=name,
                address=pattern,
            ),
            "resources",
        )
        self.model.pools[name] = SimPool(row.id, is_dynamic=pattern is not None)
        self.model.grants[name] = []

    async def set_member(self, pool: str, client: str, *, is_member: bool) -> None:
        """Put a client into a static pool, or take it out."""
        async with self._store.writing() as transaction:
            tables = transaction.of(self._account_id)
            device = await self._device(tables, client)
            c = tables.pool_members.c
            if is_member:
                await tables.pool_members.insert(
                    StaticDevicePoolMember(
                        id=transaction.new_id(),
                        account_id=self._account_id,
                        resource_id=self.model.pools[pool].id,
                        device_id=device.id,
                    )
                )
            else:
                await tables.pool_members.delete_where(
                    c.resource_id == self.model.pools[pool].id, c.device_id == device.id
                )
        self.model.put_in_pool(pool, client, is_in=is_member)

    async def name_host(self, client: str, hostname: str | None, pools: set[str]) -> None:
        """Give a device a host name; `pools`: the dynamic ones that cover it."""
        async with self._store.writing() as transaction:
            tables = transaction.of(self._account_id)
            device = await self._device(tables, client)
            await tables.devices.save(dataclasses.replace(device, hostname=hostname))
        self.hostnames.pop(client, None)
        if hostname is not None:
            self.hostnames[client] = hostname
        for name, pool in self.model.pools.items():
            if pool.is_dynamic:
                self.model.put_in_pool(name, client, is_in=name in pools)

    async def _device(self, tables: AccountTables, client: str) -> Device:
        device = await tables.devices.find(tables.devices.c.name == client, tables.devices.c.type == "client")
        assert device is not None
        return device

    async def change_filter(self, name: str, ports: Ports) -> None:
        """Permit other UDP ports of a resource or pool."""
        async with self._store.writing() as transaction:
            resources = transaction.of(self._account_id).resources
            row = await resources.load(self.model.id_of(name))
            assert row is not None
            await resources.save(dataclasses.replace(row, filters=_filters(ports)))
        self.model.change_ports(name, ports)

    async def grant(
        self,
        group: str,
        resource: str,
        *,
        for_s: float | None = None,
        only_for: frozenset[str] | None = None,
    ) -> None:
        """A policy.

        Args:
            for_s: adds a time condition that ends after so many seconds (rounded up to a minute).
            only_for: adds a condition that the addresses of these actors satisfy and no other.
        """
        conditions: list[dict[str, Any]] = []
        ends_at: float | None = None
        if for_s is not None:
            now = self._environment.clock.now()
            end = (now + timedelta(seconds=for_s)).replace(second=0, microsecond=0) + timedelta(minutes=1)
            conditions.append(
                {
                    "property": "current_utc_datetime",
                    "operator": "is_in_day_of_week_time_ranges",
                    "values": [f"M/00:00-{end:%H:%M}/UTC"],
                }
            )
            ends_at = end.timestamp() - self._unix_at_zero
        if only_for is not None:
            conditions.insert(self.rng.randint(0, len(conditions)), self._address_condition(only_for))
        row = await self._insert(
            lambda tx: PolicyRow(
                id=tx.new_id(),
                account_id=self._account_id,
                group_id=self._groups[group],
                resource_id=self.model.id_of(resource),
                conditions=conditions,
            ),
            "policies",
        )
        self.model.grants[resource].append(Grant(row.id, group, ends_at, only_for=only_for))
        self.counts.grants += 1

    def _address_condition(self, only_for: frozenset[str]) -> dict[str, Any]:
        addresses = sorted(self.public_ips_of(only_for))
        return {
            "property": "remote_ip",
            "operator": "is_in_cidr",
            "values": [*addresses, "192.0.2.0/24"],  # where nobody is
        }

    async def move_policy(self, resource: str, grant: Grant, group: str) -> None:
        """Give a policy to another group."""
        affected = self.model.allowed_actors(resource)
        await self._edit_policy(grant, group_id=self._groups[group])
        grant.group = group
        self.model.note_ended(resource, affected)
        self.counts.revocations += 1

    async def narrow_policy(self, resource: str, grant: Grant, only_for: frozenset[str]) -> None:
        """Add a condition to a policy that has none of that kind."""
        affected = self.model.allowed_actors(resource)
        await self._edit_policy(grant, condition=self._address_condition(only_for))
        grant.only_for = only_for
        self.model.note_ended(resource, affected)
        self.counts.revocations += 1

    async def _edit_policy(
        self, grant: Grant, *, condition: dict[str, Any] | None = None, **columns: Any
    ) -> None:
        async with self._store.writing() as transaction:
            policies = transaction.of(self._account_id).policies
            row = await policies.load(grant.policy_id)
            assert row is not None
            if condition is not None:
                columns["conditions"] = [*row.conditions, condition]
            await policies.save(dataclasses.replace(row, **columns))

    async def revoke(self, resource: str, grant: Grant | None = None) -> None:
        """Delete a policy of the resource, the newest unless another is named."""
        affected = self.model.allowed_actors(resource)
        grant = self.model.grants[resource][-1] if grant is None else grant
        self.model.grants[resource] = [one for one in self.model.grants[resource] if one is not grant]
        async with self._store.writing() as transaction:
            await transaction.of(self._account_id).policies.delete(grant.policy_id)
        self.model.note_ended(resource, affected)
        self.counts.revocations += 1

    async def exchange_policy(self, resource: str) -> None:
        """Put an equal policy in place of the resource's newest one, at once: nobody gains or loses anything."""
        grant = self.model.grants[resource][-1]
        async with self._store.writing() as transaction:
            policies = transaction.of(self._account_id).policies
            row = await policies.load(grant.policy_id)
            assert row is not None
            await policies.delete(row.id)
            equal = await policies.insert(dataclasses.replace(row, id=transaction.new_id()))
        grant.policy_id = equal.id

    async def switch_policy(self, resource: str, grant: Grant | None = None) -> None:
        """Disable a policy of the resource, or enable it again: the newest unless another is named."""
        affected = self.model.allowed_actors(resource)
        grant = self.model.grants[resource][-1] if grant is None else grant
        await self._edit_policy(grant, is_disabled=not grant.is_disabled)
        grant.is_disabled = not grant.is_disabled
        self.model.note_ended(resource, affected)

    async def join_group(self, actor: str, group: str) -> None:
        await self._insert(
            lambda tx: MembershipRow(
                id=tx.new_id(),
                account_id=self._account_id,
                actor_id=self._actors[actor],
                group_id=self._groups[group],
            ),
            "memberships",
        )
        self.model.members[group].add(actor)

    async def leave_group(self, actor: str, group: str) -> None:
        affected = {name: self.model.allowed_actors(name) for name in self.model.grants}
        async with self._store.writing() as transaction:
            memberships = transaction.of(self._account_id).memberships
            await memberships.delete_where(
                memberships.c.actor_id == self._actors[actor], memberships.c.group_id == self._groups[group]
            )
        self.model.members[group].discard(actor)
        for name, actors in affected.items():
            self.model.note_ended(name, actors)
        self.counts.revocations += 1

    async def explain(self, actor: str, resource: str) -> str:
        """What the portal's REST API says about this actor and resource, as text for people."""
        token = await self._api_token()
        query = f"actor_id={self._actors[actor]}&resource_id={self.model.resources[resource].id}"
        answer = await self._get("/wardgate/explain", query, token)
        return str(answer["data"]["text"])

    async def _api_token(self) -> str:
        robot = await self._insert(
            lambda tx: ActorRow(id=tx.new_id(), account_id=self._account_id, type="api_client", name="robot"),
            "actors",
        )
        async with self._store.writing() as transaction:
            secret = await issue(
                transaction.of(self._account_id).api_tokens,
                transaction=transaction,
                keys=self._keys,
                account_id=self._account_id,
                actor_id=robot.id,
                name="simulation",
                expires_at=self._environment.clock.now() + timedelta(days=1),
            )
        return secret.text

    async def _get(self, path: str, query: str, token: str) -> Any:
        """One HTTP request to the portal, in process."""
        assert self._portal is not None
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"portal.sim"), (b"authorization", f"Bearer {token}".encode())],
            "client": ("203.0.113.200", 40_000),
            "server": ("portal.sim", 8080),
            "state": {},
        }
        body = bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            body.extend(message.get("body", b""))

        await self._portal(scope, receive, send)
        return json.loads(body)

    @property
    def _account_id(self) -> UUID:
        return self._account.account.id

    async def _insert(self, make: Callable[[Transaction], Any], table: str) -> Any:
        async with self._store.writing() as transaction:
            return await getattr(transaction.of(self._account_id), table).insert(make(transaction))


def _filters(ports: Ports) -> list[dict[str, Any]]:
    return [] if ports is None else [{"protocol": "udp", "ports": [f"{ports[0]} - {ports[1]}"]}]
