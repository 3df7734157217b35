"""A decision, explained: rendered from the evaluation that made it, never from a second one.

`explain` turns a decision into an `Explanation`, plain values that JSON can hold (`as_json`) and that stay readable
after the policy is gone; `as_text` renders it for a person. Conditions whose input nobody gave are *undetermined*.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from wardgate.model.conditions import Condition, Property, UnreadableCondition, render_condition
from wardgate.model.domain import Actor, Policy
from wardgate.model.filters import Filter, Protocol, admits
from wardgate.model.resources import InternetResource, Resource, StaticDevicePool
from wardgate.model.shown_text import shown_text
from wardgate.policy.engine import AccessRequest, Decision, Denied, Granted, Obstacle
from wardgate.policy.evaluation import ConditionResult, Evaluation, Facts, Outcome, Undetermined, input_of
from wardgate.policy.snapshot import Snapshot

TOKEN_UNDETERMINED: Final = datetime.max.replace(tzinfo=UTC)
"""`AccessRequest.token_expires_at` where no token is given: never the earlier of two ends."""


class ExplainedGroup(msgspec.Struct, frozen=True):
    """`via`: a membership that an administrator made, one that a directory sync made, or implicitly as every
    user is in Everyone.
    """

    id: str
    name: str
    via: Literal["membership", "synced", "everyone"]
    membership_id: str | None = None


class ExplainedInput(msgspec.Struct, frozen=True):
    """An input of the decision, and where it comes from.

    `value` is None if there is none, or if it is unknown (`undetermined`).
    """

    name: str
    value: str | None
    source: Literal["given", "looked_up", "connection", "device", "undetermined"]


class ExplainedCondition(msgspec.Struct, frozen=True):
    property: str
    operator: str
    values: list[str]
    input: str | None  # what was compared; None if undetermined or absent
    outcome: Literal["satisfied", "violated", "undetermined"]
    until: str | None = None


class ExplainedPolicy(msgspec.Struct, frozen=True):
    id: str
    description: str | None
    group_id: str | None
    group_name: str | None
    outcome: Literal["satisfied", "violated", "undetermined"]
    until: str | None
    conditions: list[ExplainedCondition]


class OtherPolicy(msgspec.Struct, frozen=True):
    """A policy of the resource that says nothing about this actor, and why."""

    id: str
    description: str | None
    group_id: str | None
    group_name: str | None
    reason: Literal["not_a_member", "disabled", "orphaned", "not_evaluated"]


class ExplainedGateway(msgspec.Struct, frozen=True):
    """`id` is None if none could be chosen; `why` says so."""

    id: str | None
    why: str
    name: str | None = None


class ExplainedTarget(msgspec.Struct, frozen=True):
    """The device of a pool that was asked for. `refusal`: the wire's reason for refusing it; None if it was granted."""

    address: str | None
    client_id: str | None
    name: str | None
    refusal: str | None = None


class ExplainedTraffic(msgspec.Struct, frozen=True):
    """The packet in question: `port` is its destination port (icmp has none); `is_admitted` by the
    resource's filters.
    """

    protocol: Literal["tcp", "udp", "icmp"]
    port: int | None
    is_admitted: bool


class Explanation(msgspec.Struct, frozen=True):
    """Who asked for what, when, what came out, and everything that it followed from. Instants are ISO 8601, UTC.

    A client that policies grant a resource is denied it all the same when there is no gateway or no such device for it.

    Attributes:
        filters: what the resource lets through, such as `tcp 443, 8000 - 8010`; empty: everything.
        traffic: the packet that was asked about; None if the question was about the whole resource.
        offered: whether the client is offered the resource; None if the question was not about a client or
            the answer depends on unknown facts.
        inputs: what the request was judged by, where that is not one client's own connection.
        expires_property: the condition that ends the access, where one does.
        repeats: in the log of decisions: how many equal requests were denied since the entry before, and not listed.
        unlisted: likewise, how many other requests of the same connection.
    """

    at: str
    outcome: Literal["granted", "denied", "undetermined"]
    actor_id: str
    actor_name: str | None
    actor_type: str | None
    resource_id: str
    resource_name: str | None
    resource_type: str | None
    resource_address: str | None
    groups: list[ExplainedGroup]
    candidates: list[ExplainedPolicy]
    others: list[OtherPolicy]
    obstacle: str | None = None
    obstacle_text: str | None = None
    violated_properties: list[str] = []
    policy_id: str | None = None
    membership_id: str | None = None
    expires_at: str | None = None
    expires_with: Literal["condition", "token", "undetermined_token"] | None = None
    expires_property: str | None = None
    inputs: list[ExplainedInput] = []
    gateway: ExplainedGateway | None = None
    target: ExplainedTarget | None = None
    repeats: int = 0
    unlisted: int = 0
    filters: list[str] = []
    traffic: ExplainedTraffic | None = None
    offered: bool | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """A packet to be asked about; ICMP has no port, the others have their destination's."""

    protocol: Protocol
    port: int | None

    def __post_init__(self) -> None:
        if (self.protocol is Protocol.ICMP) is not (self.port is None):
            raise ValueError("tcp and udp have a port, icmp has none")


def explain(
    snapshot: Snapshot,
    request: AccessRequest,
    decision: Decision,
    *,
    now: datetime,
    inputs: Sequence[ExplainedInput] = (),
    gateway: ExplainedGateway | None = None,
    target: ExplainedTarget | None = None,
    traffic: Traffic | None = None,
    offered: bool | None = None,
    backgrounds: "Backgrounds | None" = None,
) -> Explanation:
    """Explain a decision that `authorize` made of the same snapshot, request and time.

    Args:
        inputs: where the facts of the request come from, if not from the client's connection alone.
        gateway: the choice that followed a grant, if one was made.
        target: likewise the device, if the resource is a pool.
        traffic: a packet that the resource's filters are asked about.
        offered: the result of `is_offered` for the client; None if it was not asked.
        backgrounds: what was told in earlier explanations of the same account; None: nothing is remembered.
    """
    resource = snapshot.resources.get(request.resource_id)
    evaluations = decision.evaluations if isinstance(decision, Granted) else decision.alternatives
    if backgrounds is None:
        background = _background(snapshot, request, evaluations)
    else:
        background = backgrounds.of(snapshot, request, evaluations)
    return msgspec.structs.replace(
        background,
        at=instant_text(now),
        candidates=[_policy(snapshot, one, request.facts, now) for one in evaluations],
        inputs=list(inputs),
        gateway=gateway,
        target=target,
        traffic=None if traffic is None else _traffic(traffic, resource),
        offered=offered,
        **(_answer_fields(decision, request, gateway, target) | _filter_fields(decision, traffic, resource)),
    )


MOST_PARTS: Final = 20_000
"""Groups and policies in the backgrounds of one account that are kept; some 200 bytes each."""


class Backgrounds:
    """What explanations say of an actor and a resource whatever comes out, until anything that it tells of changes.

    Explaining a grant is a tenth of what it costs, and half of that is the same from one to the next.
    """

    def __init__(self) -> None:
        self._told_of: tuple[object, ...] = ()
        self._kept: dict[tuple[int, int, bool], Explanation] = {}
        self._parts = 0

    def of(
        self, snapshot: Snapshot, request: AccessRequest, evaluations: tuple[Evaluation, ...]
    ) -> Explanation:
        """Return an explanation in which all that depends on the request's instant and facts is left open.

        `evaluations`: those of a decision of `authorize`, which looks at all candidates or at none.
        """
        # A snapshot shares with the one before it what has not changed.
        told_of = (
            snapshot.actors,
            snapshot.groups,
            snapshot.resources,
            snapshot.membership_ids,
            snapshot.policies_of,
            snapshot.everyone_group_id,
        )
        if (
            any(one is not other for one, other in zip(told_of, self._told_of, strict=False))
            or not self._told_of
        ):
            self._forget()
            self._told_of = told_of
        key = request.actor_id.int, request.resource_id.int, bool(evaluations)
        known = self._kept.get(key)
        if known is not None:
            return known
        made = _background(snapshot, request, evaluations)
        if made.actor_name is None or made.resource_name is None:
            # Names of what is not there can be made up without end.
            return made
        parts = 1 + len(made.groups) + len(made.others)
        if self._parts + parts > MOST_PARTS:
            self._forget()
        if parts <= MOST_PARTS:
            self._kept[key] = made
            self._parts += parts
        return made

    def count(self) -> int:
        """Return how many pairs of actor and resource are remembered."""
        return len(self._kept)

    def _forget(self) -> None:
        self._kept.clear()
        self._parts = 0


def _background(
    snapshot: Snapshot, request: AccessRequest, evaluations: tuple[Evaluation, ...]
) -> Explanation:
    actor = snapshot.actors.get(request.actor_id)
    resource = snapshot.resources.get(request.resource_id)
    return Explanation(
        at="",
        outcome="undetermined",
        actor_id=str(request.actor_id),
        actor_name=None if actor is None else actor.name,
        actor_type=None if actor is None else actor.type.value,
        resource_id=str(request.resource_id),
        resource_name=None if resource is None else resource.name,
        resource_type=None if resource is None else resource.type.value,
        resource_address=None if resource is None else _address(resource),
        groups=[] if actor is None else list(_groups(snapshot, actor)),
        candidates=[],
        others=list(_others(snapshot, request, evaluations)),
        filters=[_filter_text(one) for one in _filters(resource)],
    )


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return plain values for JSON."""
    plain: dict[str, Any] = msgspec.to_builtins(explanation)
    return plain


def from_json(plain: object) -> Explanation:
    """Read an explanation back, e.g. out of the log of decisions.

    Raises:
        msgspec.ValidationError: it is not one.
    """
    return msgspec.convert(plain, Explanation)


def as_text(explanation: Explanation) -> str:
    """Tell it to a person: the answer first, then its reasons, one fact a line."""
    return "\n".join(map(shown_text, _lines(explanation)))


def _answer_fields(
    decision: Decision,
    request: AccessRequest,
    gateway: ExplainedGateway | None,
    target: ExplainedTarget | None,
) -> dict[str, Any]:
    if isinstance(decision, Denied):
        hangs = any(is_open(one) for one in decision.alternatives)
        return {"outcome": "undetermined" if hangs else "denied", **_denial_fields(decision)}
    if gateway is not None and gateway.id is None:
        return _unreachable("no_gateway", _NO_GATEWAY.get(gateway.why, gateway.why))
    if target is not None and target.refusal is not None:
        return _unreachable("no_target", _NO_TARGET.get(target.refusal, target.refusal))
    return {"outcome": "granted", **_grant_fields(decision, request)}


def _unreachable(obstacle: str, text: str) -> dict[str, Any]:
    return {"outcome": "denied", "obstacle": obstacle, "obstacle_text": text}


_NO_GATEWAY: Final = {
    "offline": "no gateway of its site is online",
    "draining": "every gateway of its site that could serve it drains",
    "version_mismatch": "no gateway of its site that is online fits the client's version",
}
_NO_TARGET: Final = {
    "offline": "the device is not online",
    "version_mismatch": "the version of the client and that of the device do not fit",
    "forbidden": "the pool has no other device of this address",
    "ambiguous_address": "the request names two addresses",
    "missing_address": "the request names no address",
    "invalid_address": "the request names what is no address",
}


def _filter_fields(decision: Decision, traffic: Traffic | None, resource: Resource | None) -> dict[str, Any]:
    """Deny what no policy can let through: the filters stand behind every grant."""
    if traffic is None or resource is None or _traffic(traffic, resource).is_admitted:
        return {}
    if isinstance(decision, Denied) and not any(is_open(one) for one in decision.alternatives):
        return {}  # denied in any case, and for better reasons
    text = f"the resource's filters do not let {_traffic_text(traffic.protocol, traffic.port)} through"
    nothing = {"policy_id": None, "membership_id": None, "expires_at": None, "expires_with": None}
    return _unreachable("filtered", text) | nothing | {"expires_property": None}


def _traffic(traffic: Traffic, resource: Resource | None) -> ExplainedTraffic:
    is_admitted = resource is not None and admits(_filters(resource), traffic.protocol, traffic.port)
    return ExplainedTraffic(traffic.protocol.value, traffic.port, is_admitted)


def _traffic_text(protocol: str, port: int | None) -> str:
    return protocol if port is None else f"{protocol} {port}"


def _filters(resource: Resource | None) -> tuple[Filter, ...]:
    return () if resource is None or isinstance(resource, InternetResource) else resource.filters


def _filter_text(one: Filter) -> str:
    return f"{one.protocol.value} {', '.join(map(str, one.ports))}".rstrip()


def is_open(evaluation: Evaluation) -> bool:
    """Tell whether only what is not known stands between the policy and a grant."""
    return all(result.outcome is Outcome.UNDETERMINED for result in evaluation.failed)


def _grant_fields(grant: Granted, request: AccessRequest) -> dict[str, Any]:
    if request.token_expires_at is TOKEN_UNDETERMINED and grant.expires_at is TOKEN_UNDETERMINED:
        expiry = {"expires_at": None, "expires_with": "undetermined_token"}
    else:
        ending = _ending_property(grant)
        expiry = {
            "expires_at": instant_text(grant.expires_at),
            "expires_with": "token" if ending is None else "condition",
            "expires_property": ending,
        }
    return {
        "policy_id": str(grant.policy.id),
        "membership_id": None if grant.membership_id is None else str(grant.membership_id),
        **expiry,
    }


def _ending_property(grant: Granted) -> str | None:
    """Return the condition of the granting policy that ends the grant, or None if the token ends first."""
    results = [one for each in grant.evaluations if each.policy.id == grant.policy.id for one in each.results]
    return next((one.condition.property.value for one in results if one.until == grant.expires_at), None)


def _denial_fields(denial: Denied) -> dict[str, Any]:
    obstacle: Obstacle | None = denial.obstacle
    return {
        "obstacle": None if obstacle is None else obstacle.name.lower(),
        "obstacle_text": None if obstacle is None else obstacle.value,
        "violated_properties": [one.value for one in denial.violated_properties],
    }


def _groups(snapshot: Snapshot, actor: Actor) -> Iterable[ExplainedGroup]:
    for group_id, membership_id in snapshot.memberships_of(actor).items():
        group = snapshot.groups.get(group_id)
        name = "" if group is None else group.name
        if membership_id is None:
            yield ExplainedGroup(str(group_id), name, "everyone")
        else:
            via: Literal["membership", "synced"] = (
                "synced" if group is not None and group.is_synced else "membership"
            )
            yield ExplainedGroup(str(group_id), name, via, str(membership_id))


def _policy(snapshot: Snapshot, evaluation: Evaluation, facts: Facts, now: datetime) -> ExplainedPolicy:
    policy = evaluation.policy
    if evaluation.is_satisfied:
        outcome = Outcome.SATISFIED
    else:
        outcome = Outcome.UNDETERMINED if is_open(evaluation) else Outcome.VIOLATED
    until = evaluation.until if outcome is Outcome.SATISFIED else None
    return ExplainedPolicy(
        id=str(policy.id),
        description=policy.description,
        group_id=None if policy.group_id is None else str(policy.group_id),
        group_name=_group_name(snapshot, policy),
        outcome=outcome.value,
        until=None if until is None else instant_text(until),
        conditions=[_condition(result, facts, now) for result in evaluation.results],
    )


def _condition(result: ConditionResult, facts: Facts, now: datetime) -> ExplainedCondition:
    operator, values = _rendered(result.condition)
    return ExplainedCondition(
        property=result.condition.property.value,
        operator=operator,
        values=values,
        input=_input(result.condition.property, facts, now),
        outcome=result.outcome.value,
        until=None if result.until is None else instant_text(result.until),
    )


def _rendered(condition: Condition) -> tuple[str, list[str]]:
    if isinstance(condition, UnreadableCondition):
        return "unreadable", [condition.reason]
    _, operator, values = render_condition(condition)
    return operator.value, values


def _input(property_: Property, facts: Facts, now: datetime) -> str | None:
    match input_of(property_, facts, now):
        case None | Undetermined():
            return None
        case bool(value):
            return str(value).lower()
        case datetime() as instant:
            return instant_text(instant)
        case value:
            return str(value)


def _others(
    snapshot: Snapshot, request: AccessRequest, evaluations: tuple[Evaluation, ...]
) -> Iterable[OtherPolicy]:
    candidates = {one.policy.id for one in evaluations}
    actor = snapshot.actors.get(request.actor_id)
    # With candidates, every policy of the actor's groups is among them.
    own_groups = {} if actor is None or evaluations else snapshot.memberships_of(actor)
    for policy in snapshot.policies_of.get(request.resource_id.int, ()):
        if policy.id in candidates:
            continue
        reason: Literal["not_a_member", "disabled", "orphaned", "not_evaluated"] = "not_a_member"
        if policy.group_id is None:
            reason = "orphaned"
        elif policy.is_disabled:
            reason = "disabled"
        elif policy.group_id in own_groups:
            reason = "not_evaluated"
        yield OtherPolicy(
            id=str(policy.id),
            description=policy.description,
            group_id=None if policy.group_id is None else str(policy.group_id),
            group_name=_group_name(snapshot, policy),
            reason=reason,
        )


def _group_name(snapshot: Snapshot, policy: Policy) -> str | None:
    group = None if policy.group_id is None else snapshot.groups.get(policy.group_id)
    return None if group is None else group.name


def _address(resource: Resource) -> str | None:
    return None if isinstance(resource, InternetResource | StaticDevicePool) else str(resource.address)


def instant_text(instant: datetime) -> str:
    """Write an instant as explanations do: ISO 8601 in UTC, with a Z."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _lines(explanation: Explanation) -> Iterable[str]:
    who = explanation.actor_name or explanation.actor_id
    what = explanation.resource_name or explanation.resource_id
    address = f" ({explanation.resource_address})" if explanation.resource_address else ""
    yield f"{_VERDICTS[explanation.outcome]}: {who} → {what}{address}, at {explanation.at}"
    yield from _reason_lines(explanation)
    if explanation.groups:
        names = [f"{group.name}{_MEMBERSHIPS[group.via]}" for group in explanation.groups]
        yield f"  member of: {', '.join(names)}"
    if explanation.inputs:
        known = [one for one in explanation.inputs if one.source != "undetermined"]
        if known:
            yield f"  judged by: {', '.join(map(_input_text, known))}"
        unknown = [one.name.replace("_", " ") for one in explanation.inputs if one not in known]
        if unknown:
            yield f"  not known: {', '.join(unknown)}"
    for policy in explanation.candidates:
        yield f"  policy {_label(policy)}: {policy.outcome}" + (
            f", until {policy.until}" if policy.until else ""
        )
        for condition in policy.conditions:
            yield f"    {_condition_line(condition)}"
    for other in explanation.others:
        yield f"  policy {_label(other)}: {_OTHER_REASONS[other.reason]}"
    if explanation.filters:
        yield f"  lets through: {'; '.join(explanation.filters)}"
    if explanation.traffic is not None:
        traffic = explanation.traffic
        admitted = "admitted by" if traffic.is_admitted else "refused by"
        yield f"  {_traffic_text(traffic.protocol, traffic.port)}: {admitted} the resource's filters"
    if explanation.offered is not None:
        yield "  offered to the client" if explanation.offered else f"  {_NOT_OFFERED}"
    if explanation.gateway is not None and explanation.gateway.id is not None:
        gateway = explanation.gateway
        yield f"  gateway {' '.join(filter(None, (gateway.name, gateway.id)))}: {gateway.why}"
    if explanation.target is not None and explanation.target.client_id is not None:
        target = explanation.target
        yield f"  device {target.name} ({target.address}): {target.client_id}"
    if explanation.repeats or explanation.unlisted:
        yield f"  stands for {explanation.repeats} more that were equal and {explanation.unlisted} others"


def _reason_lines(explanation: Explanation) -> Iterable[str]:
    match explanation.expires_with:
        case "condition":
            ending = explanation.expires_property
            condition = "the policy's conditions end" if ending is None else f"the policy's {ending} ends"
            yield f"  until {explanation.expires_at}, when {condition}"
        case "token":
            yield f"  until {explanation.expires_at}, when the client's token expires"
        case "undetermined_token":
            yield "  until the client's token expires"
        case None:
            pass
    reason = why_not(explanation)
    if reason is not None:
        yield f"  because {reason}"


def why_not(explanation: Explanation) -> str | None:
    """Return in one line why access is not granted; None if it is."""
    if explanation.obstacle_text is not None:
        return explanation.obstacle_text
    if explanation.outcome == "undetermined":
        return f"it depends on what is not known: {', '.join(_unknown(explanation))}"
    if explanation.violated_properties:
        return f"no policy holds: {', '.join(explanation.violated_properties)} fails"
    return None


def _unknown(explanation: Explanation) -> list[str]:
    """Return the properties that stand between the actor and the policies that may yet hold."""
    return list(
        dict.fromkeys(
            condition.property
            for policy in explanation.candidates
            if policy.outcome == "undetermined"
            for condition in policy.conditions
            if condition.outcome == "undetermined"
        )
    )


def _input_text(one: ExplainedInput) -> str:
    return f"{one.name.replace('_', ' ')} {one.value or 'none'} ({one.source.replace('_', ' ')})"


def _label(policy: ExplainedPolicy | OtherPolicy) -> str:
    return f"{policy.description or policy.id} for {policy.group_name or 'a deleted group'}"


def _condition_line(condition: ExplainedCondition) -> str:
    values = ", ".join(condition.values)
    text = f"{condition.property} {condition.operator} {values}: {condition.outcome}"
    if condition.input is not None:
        text += f" (was {condition.input})"
    elif condition.outcome != "undetermined":
        text += " (there is none)"
    return text + (f", until {condition.until}" if condition.until else "")


_NOT_OFFERED: Final = "not offered to the client, which therefore never asks for it"
_VERDICTS: Final = {"granted": "GRANTED", "denied": "DENIED", "undetermined": "UNDETERMINED"}
_OTHER_REASONS: Final = {
    "not_a_member": "does not apply, the actor is not in the group",
    "disabled": "is disabled",
    "orphaned": "grants nothing, its group was deleted",
    "not_evaluated": "was not looked at",
}
_MEMBERSHIPS: Final = {"membership": "", "synced": " (by directory sync)", "everyone": " (every user is)"}
