"""The decision (portal-domain §5): may this client use this resource now, until when, and if not, why not.

Pure: the same snapshot, request and time give the same answer. Default deny: without a satisfied policy there is no
grant. Policies only grant, so their order means nothing; of several the longest lasting is recorded.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

import msgspec

from wardgate.model.conditions import Property
from wardgate.model.domain import Actor, Policy
from wardgate.model.ids import ActorId, MembershipId, ResourceId
from wardgate.model.resources import (
    DynamicDevicePool,
    Resource,
    StaticDevicePool,
    is_expressible,
    knows_all_but_pools,
)
from wardgate.model.versions import ClientSoftware, lists_device_pools
from wardgate.policy.evaluation import Evaluation, Facts, failed_properties
from wardgate.policy.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Who asks for what.

    Attributes:
        token_expires_at: ends every grant of the connection; aware.
        software: what the client runs, which may be too old for some resources; None if unknown: not checked.
    """

    actor_id: ActorId
    resource_id: ResourceId
    facts: Facts
    token_expires_at: datetime
    software: ClientSoftware | None = None


class Obstacle(Enum):
    """Why no policy was even looked at; the value is for people."""

    ACCOUNT_DISABLED = "the account is disabled"
    ACTOR_UNKNOWN = "the actor does not exist"
    ACTOR_DISABLED = "the actor is disabled"
    TOKEN_EXPIRED = "the token has expired"  # noqa: S105 - prose
    RESOURCE_UNKNOWN = "the resource does not exist"
    RESOURCE_WITHOUT_SITE = "the resource has no site"
    CLIENT_TOO_OLD = "the client's version cannot be told of the resource"
    NO_POLICY = "no enabled policy grants the resource to a group of the actor"


class Granted(msgspec.Struct, frozen=True, gc=False):
    """A grant.

    `membership_id` is None through Everyone. `expires_at` = min(conditions, token), aware UTC or the token's
    zone.
    """

    resource: Resource
    policy: Policy
    membership_id: MembershipId | None
    expires_at: datetime
    evaluations: tuple[Evaluation, ...]


class Denied(msgspec.Struct, frozen=True, gc=False):
    """A denial: an obstacle, or every candidate policy with the conditions that failed.

    Towards the client an obstacle is `not_found` and reveals nothing; alternatives are `forbidden`.
    """

    alternatives: tuple[Evaluation, ...] = ()
    obstacle: Obstacle | None = None

    @property
    def violated_properties(self) -> tuple[Property, ...]:
        return failed_properties(self.alternatives)


Decision = Granted | Denied


def authorize(snapshot: Snapshot, request: AccessRequest, *, now: datetime) -> Decision:
    """Decide one request; `now` is aware."""
    actor = snapshot.actors.get(request.actor_id)
    offer = snapshot.offers.get(request.resource_id.int)
    if (
        actor is None
        or offer is None
        or snapshot.is_disabled
        or actor.is_disabled
        or request.token_expires_at <= now
    ):
        return Denied(obstacle=_obstacle(snapshot, actor, request, now=now))
    if request.software is not None and not _can_be_told(offer.resource, actor, request.software):
        return Denied(obstacle=Obstacle.CLIENT_TOO_OLD)
    candidates = snapshot.candidates(actor, offer)
    if not candidates:
        return Denied(obstacle=Obstacle.NO_POLICY)
    facts = request.facts
    evaluations = tuple([policy.evaluate(facts, now=now) for policy in candidates])
    best = _longest_lasting(evaluations)
    if best is None:
        return Denied(evaluations)
    expires_at, group_id = request.token_expires_at, best.policy.group_id
    if best.until is not None and best.until < expires_at:
        expires_at = best.until
    assert group_id is not None  # a candidate has a group
    return Granted(
        offer.resource, best.policy, snapshot.membership_id(actor, group_id), expires_at, evaluations
    )


def connectable_resources(
    snapshot: Snapshot, actor_id: ActorId, facts: Facts, software: ClientSoftware, *, now: datetime
) -> dict[ResourceId, Resource]:
    """Return what a client is offered (§5.4): resources of satisfied policies that it can know, by ascending id."""
    actor = snapshot.actors.get(actor_id)
    if actor is None or snapshot.is_disabled or actor.is_disabled:
        return {}
    # What is the same for all of them is asked once: this runs for each resource of each client that connects.
    groups = snapshot.group_numbers(actor_id)
    are_pools_listed = _lists_pools(actor, software)
    knows_all = knows_all_but_pools(software.version)
    offered: dict[ResourceId, Resource] = {}
    for offer in snapshot.offers_to(actor):
        resource = offer.resource
        if isinstance(resource, _POOLS):
            can_be_told = are_pools_listed
        else:
            can_be_told = knows_all or is_expressible(resource, software.version)
        if can_be_told:
            for policy in offer.policies:
                if policy.group in groups and policy.evaluate(facts, now=now).is_satisfied:
                    offered[resource.id] = resource
                    break
    return offered


def is_offered(snapshot: Snapshot, request: AccessRequest, *, now: datetime) -> bool:
    """Tell whether the client is offered the resource; it never asks for others, so no decision tells why not."""
    assert request.software is not None  # whoever is shown anything has said what it runs
    shown = connectable_resources(snapshot, request.actor_id, request.facts, request.software, now=now)
    return request.resource_id in shown


def _longest_lasting(evaluations: tuple[Evaluation, ...]) -> Evaluation | None:
    best: Evaluation | None = None
    best_until: datetime | None = None
    for one in evaluations:
        if not one.is_satisfied:
            continue
        until = one.until
        if until is None:
            return one
        if best_until is None or until > best_until:
            best, best_until = one, until
    return best


def _can_be_told(resource: Resource, actor: Actor, software: ClientSoftware) -> bool:
    if isinstance(resource, _POOLS):
        return _lists_pools(actor, software)
    return is_expressible(resource, software.version)


def _lists_pools(actor: Actor, software: ClientSoftware) -> bool:
    return lists_device_pools(software, is_service_account=not actor.type.is_user)


_POOLS: Final = (StaticDevicePool, DynamicDevicePool)


def _obstacle(snapshot: Snapshot, actor: Actor | None, request: AccessRequest, *, now: datetime) -> Obstacle:
    if snapshot.is_disabled:
        return Obstacle.ACCOUNT_DISABLED
    if actor is None:
        return Obstacle.ACTOR_UNKNOWN
    if actor.is_disabled:
        return Obstacle.ACTOR_DISABLED
    if request.token_expires_at <= now:
        return Obstacle.TOKEN_EXPIRED
    resource = snapshot.resources.get(request.resource_id)
    if resource is None:
        return Obstacle.RESOURCE_UNKNOWN
    return Obstacle.NO_POLICY if snapshot.is_reachable(resource) else Obstacle.RESOURCE_WITHOUT_SITE
