"""The frozen facts of one account that decisions are made of, indexed for look-ups without loops.

A snapshot is never changed: `evolve` returns the next one, copying only the tables that a change touches, and of
those that grow with the number of people only a part. Building one from rows and following the change feed is the
portal's.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar
from uuid import UUID

from wardgate.model.domain import Actor, ClientDevice, Group, Membership, Policy, PoolMember, Site
from wardgate.model.ids import (
    ActorId,
    GroupId,
    MembershipId,
    PolicyId,
    PoolMemberId,
    ResourceId,
    SiteId,
)
from wardgate.model.resources import DevicePool, Resource, is_device_pool
from wardgate.policy.evaluation import CompiledPolicy
from wardgate.policy.partitioned import PartitionedDraft, PartitionedMap

_K = TypeVar("_K")
_V = TypeVar("_V")

Entity = Actor | Group | Membership | Site | Resource | Policy | ClientDevice | PoolMember

_NOTHING: Final[Mapping[int, int]] = {}
_NO_MEMBERS: Final[Mapping[int, PoolMemberId]] = {}


@dataclass(frozen=True, slots=True)
class Offer:
    """A resource that can be reached, and the policies that grant it: enabled, with a group, by ascending id."""

    resource: Resource
    policies: tuple[CompiledPolicy, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Entities by id, and the indexes that decisions go by.

    `membership_ids`: actor → group → membership, explicit rows only. `policies_of`: resource → all its policies, and
    `policies_for`: group → its enabled ones, by id, so that answers do not depend on the order of writing. `offers`:
    resource → what is to be had, if an enabled policy grants it to a group and it has the site that it needs.

    `devices`: clients, which device pools lead to. `members_of`: static pool → device → the row that puts it
    there. `devices_by_hostname` (lower case) and `devices_by_address` (both tunnel addresses): those with a
    host name, for dynamic pools.

    The keys of the indexes are the numbers of the ids (`UUID.int`): a `UUID` is hashed and compared in
    Python, and all else about a decision costs less than ten such look-ups. Of memberships, which are many,
    the values are numbers too: half the memory of `UUID`s, and nothing for the collector of garbage to walk
    through.
    """

    is_disabled: bool = False  # the account
    actors: PartitionedMap[ActorId, Actor] = field(default_factory=PartitionedMap)
    groups: Mapping[GroupId, Group] = field(default_factory=dict)
    sites: Mapping[SiteId, Site] = field(default_factory=dict)
    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    policies: Mapping[PolicyId, Policy] = field(default_factory=dict)
    membership_ids: PartitionedMap[int, Mapping[int, int]] = field(default_factory=PartitionedMap)
    policies_of: Mapping[int, tuple[Policy, ...]] = field(default_factory=dict)
    policies_for: Mapping[int, tuple[Policy, ...]] = field(default_factory=dict)
    offers: Mapping[int, Offer] = field(default_factory=dict)
    everyone_group_id: GroupId | None = None
    devices: PartitionedMap[int, ClientDevice] = field(default_factory=PartitionedMap)
    devices_by_hostname: PartitionedMap[str, ClientDevice] = field(default_factory=PartitionedMap)
    devices_by_address: PartitionedMap[str, ClientDevice] = field(default_factory=PartitionedMap)
    members_of: PartitionedMap[int, Mapping[int, PoolMemberId]] = field(default_factory=PartitionedMap)

    @classmethod
    def of(cls, entities: Iterable[Entity], *, is_disabled: bool = False) -> "Snapshot":
        """Build a snapshot from all entities of an account, in any order."""
        return cls(is_disabled=is_disabled).evolve(puts=entities)

    def memberships_of(self, actor: Actor) -> Mapping[GroupId, MembershipId | None]:
        """Return group → membership id of an actor; None for Everyone, which has no rows."""
        memberships: dict[GroupId, MembershipId | None] = {
            GroupId(UUID(int=group)): MembershipId(UUID(int=membership))
            for group, membership in self.membership_ids.get(actor.id.int, _NOTHING).items()
        }
        if self.everyone_group_id is not None and actor.type.is_user:
            memberships[self.everyone_group_id] = None
        return memberships

    def membership_id(self, actor: Actor, group_id: GroupId) -> MembershipId | None:
        """Return the row that puts an actor in a group; None if there is none, as for Everyone."""
        number = self.membership_ids.get(actor.id.int, _NOTHING).get(group_id.int)
        return None if number is None else MembershipId(UUID(int=number))

    def is_member(self, actor: Actor, group_id: GroupId) -> bool:
        """Tell whether an actor is in a group, by a row or implicitly (Everyone)."""
        explicit = self.membership_ids.get(actor.id.int, _NOTHING)
        return group_id.int in explicit or group_id.int == self._everyone(actor)

    def group_numbers(self, actor_id: ActorId) -> set[int]:
        """Return the numbers of the groups that an actor is in; empty for an unknown actor."""
        actor = self.actors.get(actor_id)
        return (
            set()
            if actor is None
            else {*self.membership_ids.get(actor_id.int, _NOTHING), self._everyone(actor)}
        )

    def candidates(self, actor: Actor, offer: Offer) -> list[CompiledPolicy]:
        """Return the policies of an offer whose group the actor is in."""
        explicit = self.membership_ids.get(actor.id.int, _NOTHING)
        everyone = self._everyone(actor)
        return [policy for policy in offer.policies if policy.group in explicit or policy.group == everyone]

    def offers_to(self, actor: Actor) -> list[Offer]:
        """Return the offers with a policy for a group that the actor is in, by ascending id of the resource."""
        numbers = {
            policy.resource_id.int
            for group in (*self.membership_ids.get(actor.id.int, _NOTHING), self._everyone(actor))
            for policy in self.policies_for.get(group, ())
        }
        return [self.offers[number] for number in sorted(numbers) if number in self.offers]

    def _everyone(self, actor: Actor) -> int:
        """Return the number of the group Everyone if the actor is in it; else one that no id has."""
        everyone = self.everyone_group_id
        return -1 if everyone is None or not actor.type.is_user else everyone.int

    def is_reachable(self, resource: Resource) -> bool:
        """Tell whether a resource has the site that it needs; pools need none."""
        site_id = site_of(resource)
        return is_device_pool(resource) if site_id is None else site_id in self.sites

    def evolve(
        self,
        *,
        puts: Iterable[Entity] = (),
        drops: Iterable[Entity] = (),
        is_disabled: bool | None = None,
    ) -> "Snapshot":
        """Return the snapshot after a transaction: `drops` (by id) first, then `puts` (inserted or replaced).

        Membership rows are dropped as entities; one that is gone already, like any other entity, is ignored.
        """
        draft = _Draft(self)
        for entity in drops:
            draft.drop(entity)
        for entity in puts:
            draft.put(entity)
        after = draft.finish()
        return after if is_disabled is None else replace(after, is_disabled=is_disabled)


def site_of(resource: Resource) -> SiteId | None:
    """Return the site whose gateways reach a resource; pools have none."""
    return None if isinstance(resource, DevicePool) else resource.site_id


class _Draft:
    """Copies each table on its first change, and rebuilds the index entries of touched resources at the end."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self._actors: PartitionedDraft[ActorId, Actor] | None = None
        self._groups: dict[GroupId, Group] | None = None
        self._sites: dict[SiteId, Site] | None = None
        self._resources: dict[ResourceId, Resource] | None = None
        self._policies: dict[PolicyId, Policy] | None = None
        self._membership_ids: dict[int, dict[int, int]] = {}
        self._policies_of: _IndexDraft = {}
        self._policies_for: _IndexDraft = {}
        self._put_resources: set[int] = set()  # or dropped
        self._devices: _DevicesDraft | None = None
        self._members_of: dict[int, dict[int, PoolMemberId]] = {}

    def put(self, entity: Entity) -> None:
        match entity:
            case Actor():
                self._opened_actors()[entity.id] = entity
            case Group():
                self._groups = _copied(self._groups, self._base.groups)
                self._groups[entity.id] = entity
            case Site():
                self._sites = _copied(self._sites, self._base.sites)
                self._sites[entity.id] = entity
            case Membership():
                self._groups_of(entity.actor_id)[entity.group_id.int] = entity.id.int
            case Policy():
                self._remove_policy(entity.id)
                self._policies = _copied(self._policies, self._base.policies)
                self._policies[entity.id] = entity
                self._of(entity.resource_id)[entity.id] = entity
                if entity.group_id is not None and not entity.is_disabled:
                    self._for(entity.group_id)[entity.id] = entity
            case ClientDevice():
                self._opened_devices().put(entity)
            case PoolMember():
                self._members(entity.resource_id)[entity.device_id.int] = entity.id
            case _:
                self._resources = _copied(self._resources, self._base.resources)
                self._resources[entity.id] = entity
                self._put_resources.add(entity.id.int)

    def drop(self, entity: Entity) -> None:
        match entity:
            case Actor():
                self._opened_actors().pop(entity.id)
            case Group():
                self._groups = _copied(self._groups, self._base.groups)
                self._groups.pop(entity.id, None)
            case Site():
                self._sites = _copied(self._sites, self._base.sites)
                self._sites.pop(entity.id, None)
            case Membership():
                groups = self._groups_of(entity.actor_id)
                if groups.get(entity.group_id.int) == entity.id.int:
                    del groups[entity.group_id.int]
            case Policy():
                self._remove_policy(entity.id)
            case ClientDevice():
                self._opened_devices().drop(entity)
            case PoolMember():
                members = self._members(entity.resource_id)
                if members.get(entity.device_id.int) == entity.id:
                    del members[entity.device_id.int]
            case _:
                self._resources = _copied(self._resources, self._base.resources)
                self._resources.pop(entity.id, None)
                self._put_resources.add(entity.id.int)

    def finish(self) -> Snapshot:
        base = self._base
        groups = base.groups if self._groups is None else self._groups
        devices = self._devices
        after = Snapshot(
            is_disabled=base.is_disabled,
            actors=base.actors if self._actors is None else self._actors.finish(),
            groups=groups,
            sites=base.sites if self._sites is None else self._sites,
            resources=base.resources if self._resources is None else self._resources,
            policies=base.policies if self._policies is None else self._policies,
            membership_ids=_without_empty(base.membership_ids, self._membership_ids),
            policies_of=_merged(base.policies_of, self._policies_of),
            policies_for=_merged(base.policies_for, self._policies_for),
            offers=base.offers,
            everyone_group_id=(
                base.everyone_group_id
                if self._groups is None
                else next((group.id for group in groups.values() if group.is_everyone), None)
            ),
            devices=base.devices if devices is None else devices.by_id.finish(),
            devices_by_hostname=base.devices_by_hostname if devices is None else devices.by_hostname.finish(),
            devices_by_address=base.devices_by_address if devices is None else devices.by_address.finish(),
            members_of=_without_empty(base.members_of, self._members_of),
        )
        touched = self._policies_of.keys() | self._put_resources
        if after.sites.keys() != base.sites.keys():
            touched |= after.policies_of.keys()
        return replace(after, offers=_offers(after, touched)) if touched else after

    def _opened_actors(self) -> PartitionedDraft[ActorId, Actor]:
        if self._actors is None:
            self._actors = self._base.actors.draft()
        return self._actors

    def _groups_of(self, actor_id: ActorId) -> dict[int, int]:
        actor = actor_id.int
        if actor not in self._membership_ids:
            self._membership_ids[actor] = dict(self._base.membership_ids.get(actor, _NOTHING))
        return self._membership_ids[actor]

    def _members(self, pool_id: ResourceId) -> dict[int, PoolMemberId]:
        pool = pool_id.int
        if pool not in self._members_of:
            self._members_of[pool] = dict(self._base.members_of.get(pool, _NO_MEMBERS))
        return self._members_of[pool]

    def _opened_devices(self) -> "_DevicesDraft":
        if self._devices is None:
            self._devices = _DevicesDraft(self._base)
        return self._devices

    def _of(self, resource_id: ResourceId) -> dict[PolicyId, Policy]:
        return _opened(self._policies_of, self._base.policies_of, resource_id.int)

    def _for(self, group_id: GroupId) -> dict[PolicyId, Policy]:
        return _opened(self._policies_for, self._base.policies_for, group_id.int)

    def _remove_policy(self, policy_id: PolicyId) -> None:
        current = self._base.policies if self._policies is None else self._policies
        known = current.get(policy_id)
        if known is not None:
            self._policies = _copied(self._policies, self._base.policies)
            del self._policies[policy_id]
            self._of(known.resource_id).pop(policy_id, None)
            if known.group_id is not None:
                self._for(known.group_id).pop(policy_id, None)


class _DevicesDraft:
    """Drafts of the devices and of what finds them by name and address."""

    def __init__(self, base: Snapshot) -> None:
        self.by_id = base.devices.draft()
        self.by_hostname = base.devices_by_hostname.draft()
        self.by_address = base.devices_by_address.draft()

    def put(self, device: ClientDevice) -> None:
        self.drop(device)
        self.by_id[device.id.int] = device
        if device.hostname is not None:
            self.by_hostname[device.hostname.lower()] = device
            self.by_address[device.ipv4] = self.by_address[device.ipv6] = device

    def drop(self, device: ClientDevice) -> None:
        known = self.by_id.pop(device.id.int)
        if known is None or known.hostname is None:
            return
        # In one batch a name may have gone over to another device already.
        for index, key in (
            (self.by_hostname, known.hostname.lower()),
            (self.by_address, known.ipv4),
            (self.by_address, known.ipv6),
        ):
            if index.get(key) is known:
                index.pop(key)


_Index = Mapping[int, tuple[Policy, ...]]
_IndexDraft = dict[int, dict[PolicyId, Policy]]


def _opened(draft: _IndexDraft, base: _Index, key: int) -> dict[PolicyId, Policy]:
    """Return the entry of one key, taken from the base when it is first touched."""
    if key not in draft:
        draft[key] = {policy.id: policy for policy in base.get(key, ())}
    return draft[key]


def _without_empty(
    base: PartitionedMap[int, Mapping[int, _V]], entries: Mapping[int, Mapping[int, _V]]
) -> PartitionedMap[int, Mapping[int, _V]]:
    """Return the base with these entries in place of its own; one that is empty goes."""
    if not entries:
        return base
    draft = base.draft()
    for key, entry in entries.items():
        if entry:
            draft[key] = entry
        else:
            draft.pop(key)
    return draft.finish()


def _merged(base: _Index, draft: _IndexDraft) -> _Index:
    if not draft:
        return base
    merged = dict(base)
    for key, policies in draft.items():
        if policies:
            merged[key] = tuple(policies[policy_id] for policy_id in sorted(policies))
        else:
            merged.pop(key, None)
    return merged


def _offers(after: Snapshot, touched: Collection[int]) -> Mapping[int, Offer]:
    offers = dict(after.offers)
    for number in touched:
        policies = after.policies_of.get(number, ())
        resource = after.resources.get(policies[0].resource_id) if policies else None
        compiled = tuple(
            CompiledPolicy.of(policy, policy.group_id)
            for policy in policies
            if policy.group_id is not None and not policy.is_disabled
        )
        if resource is not None and compiled and after.is_reachable(resource):
            offers[number] = Offer(resource, compiled)
        else:
            offers.pop(number, None)
    return offers


def _copied(draft: dict[_K, _V] | None, base: Mapping[_K, _V]) -> dict[_K, _V]:
    return dict(base) if draft is None else draft
