"""The frozen facts of one account that decisions are made of (design §4), indexed for look-ups without loops.

A snapshot is never changed: `evolve` returns the next one, copying only the tables that a change touches. Building
one from rows and following the change feed is the portal's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from wardgate.model.domain import Actor, Group, Membership, Policy, Site
from wardgate.model.ids import ActorId, GroupId, MembershipId, PolicyId, ResourceId, SiteId
from wardgate.model.resources import Resource
from wardgate.policy.evaluation import CompiledPolicy

_K = TypeVar("_K")
_V = TypeVar("_V")

Entity = Actor | Group | Membership | Site | Resource | Policy

_NOTHING: Final[Mapping[GroupId, MembershipId]] = {}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Entities by id, and the indexes that decisions go by.

    `membership_ids`: actor → group → membership, explicit rows only. `policies_of` and `policies_for`: resource and
    group → their enabled policies that have a group, by id, so that answers do not depend on the order of writing.
    """

    is_disabled: bool = False  # the account
    actors: Mapping[ActorId, Actor] = field(default_factory=dict)
    groups: Mapping[GroupId, Group] = field(default_factory=dict)
    sites: Mapping[SiteId, Site] = field(default_factory=dict)
    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    policies: Mapping[PolicyId, Policy] = field(default_factory=dict)
    membership_ids: Mapping[ActorId, Mapping[GroupId, MembershipId]] = field(default_factory=dict)
    policies_of: Mapping[ResourceId, tuple[CompiledPolicy, ...]] = field(default_factory=dict)
    policies_for: Mapping[GroupId, tuple[CompiledPolicy, ...]] = field(default_factory=dict)
    everyone_group_id: GroupId | None = None

    @classmethod
    def of(cls, entities: Iterable[Entity], *, is_disabled: bool = False) -> "Snapshot":
        """Build a snapshot from all entities of an account, in any order."""
        return cls(is_disabled=is_disabled).evolve(puts=entities)

    def memberships_of(self, actor: Actor) -> Mapping[GroupId, MembershipId | None]:
        """Return group → membership id of an actor; None: through Everyone, which has no rows."""
        explicit = self.membership_ids.get(actor.id, _NOTHING)
        if self.everyone_group_id is None or not actor.type.is_user:
            return explicit
        return {**explicit, self.everyone_group_id: None}

    def membership_id(self, actor: Actor, group_id: GroupId) -> MembershipId | None:
        """Return the row that puts an actor in a group; None: none, or implicitly (Everyone)."""
        return self.membership_ids.get(actor.id, _NOTHING).get(group_id)

    def candidates(self, actor: Actor, resource_id: ResourceId) -> list[CompiledPolicy]:
        """Return the enabled policies of a resource whose group the actor is in, by ascending id."""
        policies = self.policies_of.get(resource_id)
        if policies is None:
            return []
        explicit = self.membership_ids.get(actor.id, _NOTHING)
        return [
            policy
            for policy in policies
            if policy.group_id in explicit
            or (policy.group_id == self.everyone_group_id and actor.type.is_user)
        ]

    def all_candidates(self, actor: Actor) -> dict[ResourceId, list[CompiledPolicy]]:
        """Return the candidates of every resource that has any for the actor."""
        found: dict[ResourceId, list[CompiledPolicy]] = {}
        for group_id in self.memberships_of(actor):
            for policy in self.policies_for.get(group_id, ()):
                found.setdefault(policy.policy.resource_id, []).append(policy)
        return found

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


class _Draft:
    """Copies each table on its first change, and rebuilds the index entries of touched resources at the end."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self._actors: dict[ActorId, Actor] | None = None
        self._groups: dict[GroupId, Group] | None = None
        self._sites: dict[SiteId, Site] | None = None
        self._resources: dict[ResourceId, Resource] | None = None
        self._policies: dict[PolicyId, Policy] | None = None
        self._membership_ids: dict[ActorId, dict[GroupId, MembershipId]] = {}
        self._policies_of: dict[ResourceId, dict[PolicyId, CompiledPolicy]] = {}
        self._policies_for: dict[GroupId, dict[PolicyId, CompiledPolicy]] = {}

    def put(self, entity: Entity) -> None:
        match entity:
            case Actor():
                self._actors = _copied(self._actors, self._base.actors)
                self._actors[entity.id] = entity
            case Group():
                self._groups = _copied(self._groups, self._base.groups)
                self._groups[entity.id] = entity
            case Site():
                self._sites = _copied(self._sites, self._base.sites)
                self._sites[entity.id] = entity
            case Membership():
                self._groups_of(entity.actor_id)[entity.group_id] = entity.id
            case Policy():
                self._remove_policy(entity.id)
                self._policies = _copied(self._policies, self._base.policies)
                self._policies[entity.id] = entity
                if entity.group_id is not None and not entity.is_disabled:
                    policy = CompiledPolicy.of(entity, entity.group_id)
                    self._of(entity.resource_id)[entity.id] = policy
                    self._for(entity.group_id)[entity.id] = policy
            case _:
                self._resources = _copied(self._resources, self._base.resources)
                self._resources[entity.id] = entity

    def drop(self, entity: Entity) -> None:
        match entity:
            case Actor():
                self._actors = _copied(self._actors, self._base.actors)
                self._actors.pop(entity.id, None)
            case Group():
                self._groups = _copied(self._groups, self._base.groups)
                self._groups.pop(entity.id, None)
            case Site():
                self._sites = _copied(self._sites, self._base.sites)
                self._sites.pop(entity.id, None)
            case Membership():
                groups = self._groups_of(entity.actor_id)
                if groups.get(entity.group_id) == entity.id:
                    del groups[entity.group_id]
            case Policy():
                self._remove_policy(entity.id)
            case _:
                self._resources = _copied(self._resources, self._base.resources)
                self._resources.pop(entity.id, None)

    def finish(self) -> Snapshot:
        base = self._base
        groups = base.groups if self._groups is None else self._groups
        return Snapshot(
            is_disabled=base.is_disabled,
            actors=base.actors if self._actors is None else self._actors,
            groups=groups,
            sites=base.sites if self._sites is None else self._sites,
            resources=base.resources if self._resources is None else self._resources,
            policies=base.policies if self._policies is None else self._policies,
            membership_ids=self._finished_memberships(),
            policies_of=_merged(self._base.policies_of, self._policies_of),
            policies_for=_merged(self._base.policies_for, self._policies_for),
            everyone_group_id=(
                base.everyone_group_id
                if self._groups is None
                else next((group.id for group in groups.values() if group.is_everyone), None)
            ),
        )

    def _groups_of(self, actor_id: ActorId) -> dict[GroupId, MembershipId]:
        if actor_id not in self._membership_ids:
            self._membership_ids[actor_id] = dict(self._base.membership_ids.get(actor_id, {}))
        return self._membership_ids[actor_id]

    def _of(self, resource_id: ResourceId) -> dict[PolicyId, CompiledPolicy]:
        if resource_id not in self._policies_of:
            self._policies_of[resource_id] = _by_id(self._base.policies_of.get(resource_id, ()))
        return self._policies_of[resource_id]

    def _for(self, group_id: GroupId) -> dict[PolicyId, CompiledPolicy]:
        if group_id not in self._policies_for:
            self._policies_for[group_id] = _by_id(self._base.policies_for.get(group_id, ()))
        return self._policies_for[group_id]

    def _remove_policy(self, policy_id: PolicyId) -> None:
        current = self._base.policies if self._policies is None else self._policies
        known = current.get(policy_id)
        if known is not None:
            self._policies = _copied(self._policies, self._base.policies)
            del self._policies[policy_id]
            self._of(known.resource_id).pop(policy_id, None)
            if known.group_id is not None:
                self._for(known.group_id).pop(policy_id, None)

    def _finished_memberships(self) -> Mapping[ActorId, Mapping[GroupId, MembershipId]]:
        if not self._membership_ids:
            return self._base.membership_ids
        merged = dict(self._base.membership_ids)
        for actor_id, groups in self._membership_ids.items():
            if groups:
                merged[actor_id] = groups
            else:
                merged.pop(actor_id, None)
        return merged


def _by_id(policies: Iterable[CompiledPolicy]) -> dict[PolicyId, CompiledPolicy]:
    return {policy.policy.id: policy for policy in policies}


def _merged(
    base: Mapping[_K, tuple[CompiledPolicy, ...]], touched: Mapping[_K, dict[PolicyId, CompiledPolicy]]
) -> Mapping[_K, tuple[CompiledPolicy, ...]]:
    if not touched:
        return base
    merged = dict(base)
    for key, policies in touched.items():
        if policies:
            merged[key] = tuple(policies[policy_id] for policy_id in sorted(policies))
        else:
            merged.pop(key, None)
    return merged


def _copied(draft: dict[_K, _V] | None, base: Mapping[_K, _V]) -> dict[_K, _V]:
    return dict(base) if draft is None else draft
