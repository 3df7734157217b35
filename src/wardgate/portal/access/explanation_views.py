"""Explanations and decisions as the API shows them; the fields are those of `wardgate.policy.explanation`."""

from dataclasses import asdict
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel

from wardgate.policy.explanation import Explanation, as_json, as_text, from_json, why_not
from wardgate.portal.access.facts import FACTS
from wardgate.portal.access.tables import Resource as ResourceRow
from wardgate.portal.access.views import ResourceType
from wardgate.portal.logs.grant_flows import ReportedFlows
from wardgate.portal.logs.tables import Decision as DecisionRow
from wardgate.portal.rest.views import Instant, ViewFields, one_of_words

Outcome = Literal["satisfied", "violated", "undetermined"]
InputName = Annotated[str, one_of_words(*(fact.name for fact in FACTS), "software", "token_expires_at")]


class GroupOfActor(BaseModel):
    """A group that the actor is in, and how: a membership made here, or by directory sync, or as every user
    is in Everyone.
    """

    id: UUID
    name: str
    via: Literal["membership", "synced", "everyone"]
    membership_id: UUID | None


class JudgedBy(BaseModel):
    """An input of the decision, and where it comes from; `value` is null if there is none, or if it is unknown
    (`undetermined`).
    """

    name: InputName
    value: str | None
    source: Literal["given", "looked_up", "connection", "device", "undetermined"]


class ExplainedCondition(BaseModel):
    """A condition, what it was compared with (null if unknown), and the result."""

    property: str
    operator: str
    values: list[str]
    input: str | None
    outcome: Outcome
    until: str | None


class CandidatePolicy(BaseModel):
    """A policy that could grant the access."""

    id: UUID
    description: str | None
    group_id: UUID | None
    group_name: str | None
    outcome: Outcome
    until: str | None
    conditions: list[ExplainedCondition]


class OtherPolicy(BaseModel):
    """A policy of the resource that says nothing about this actor, and why."""

    id: UUID
    description: str | None
    group_id: UUID | None
    group_name: str | None
    reason: Literal["not_a_member", "disabled", "orphaned", "not_evaluated"]


class ChosenGateway(BaseModel):
    """The gateway and why it was chosen; `id` is null if none could be."""

    id: UUID | None
    why: str
    name: str | None


class TargetDevice(BaseModel):
    """The device of a pool that was asked for; `refusal` says why access was refused, null if it was not."""

    address: str | None
    client_id: UUID | None
    name: str | None
    refusal: str | None


class AskedTraffic(BaseModel):
    """The packet in question, by its destination port."""

    protocol: Literal["tcp", "udp", "icmp"]
    port: int | None
    is_admitted: bool


class SeenFlows(BaseModel):
    """Reports of flows that passed by a decision: how many, or at least how many, and when the newest flow began."""

    number: int
    is_exact: bool
    last_at: Instant | None


class ExplanationView(BaseModel):
    """An answer to "may this actor use this resource?" with everything that led to it; `text` words it for
    people.
    """

    at: str
    outcome: Literal["granted", "denied", "undetermined"]
    actor_id: UUID
    actor_name: str | None
    actor_type: str | None
    resource_id: UUID
    resource_name: str | None
    resource_type: str | None
    resource_address: str | None
    groups: list[GroupOfActor]
    candidates: list[CandidatePolicy]
    others: list[OtherPolicy]
    obstacle: str | None
    obstacle_text: str | None
    violated_properties: list[str]
    policy_id: UUID | None
    membership_id: UUID | None
    expires_at: str | None
    expires_with: Literal["condition", "token", "undetermined_token"] | None
    expires_property: str | None
    inputs: list[JudgedBy]
    gateway: ChosenGateway | None
    target: TargetDevice | None
    repeats: int
    unlisted: int
    filters: list[str]
    traffic: AskedTraffic | None
    offered: bool | None
    text: str
    decision_log_id: str | None
    flows: SeenFlows | None

    @classmethod
    def of(
        cls, told: Explanation, *, decision_log_id: str | None = None, flows: ReportedFlows | None = None
    ) -> "ExplanationView":
        seen = None if flows is None else SeenFlows(**asdict(flows))
        return cls(**as_json(told), text=as_text(told), decision_log_id=decision_log_id, flows=seen)


class OfferView(BaseModel):
    """Whether one client is offered a resource.

    `is_offered` is null if it depends on what is known only while the client is connected.
    """

    id: UUID
    name: str
    type: ResourceType
    address: str | None
    is_offered: bool | None
    outcome: Literal["granted", "denied", "undetermined"]
    reason: str | None

    @staticmethod
    def fields_of(row: ResourceRow, told: Explanation) -> ViewFields:
        return {
            "id": row.id,
            "name": row.name,
            "type": row.type,
            "address": row.address,
            "is_offered": told.offered,
            "outcome": told.outcome,
            "reason": why_not(told),
        }


class DecisionView(BaseModel):
    """One answered access request. It outlives the policy, the authorization, even the actor."""

    log_id: str
    timestamp: Instant
    outcome: Literal["granted", "denied"]
    reason: str | None
    actor_id: UUID
    actor_name: str
    client_id: UUID
    resource_id: UUID
    resource_name: str | None
    policy_id: UUID | None
    gateway_id: UUID | None
    authorization_id: UUID | None
    expires_at: Instant | None
    explanation: ExplanationView

    @classmethod
    def of(cls, row: DecisionRow, *, flows: ReportedFlows | None = None) -> "DecisionView":
        """`flows` are looked for where a single decision is shown."""
        names = cls.model_fields.keys() - {"timestamp", "client_id", "explanation"}
        values: dict[str, Any] = {name: getattr(row, name) for name in names}
        told = from_json(row.explanation)
        return cls(
            **values,
            timestamp=row.decided_at,
            client_id=row.device_id,
            explanation=ExplanationView.of(told, decision_log_id=row.log_id, flows=flows),
        )
