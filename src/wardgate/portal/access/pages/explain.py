"""The page that explains a decision: who, by which groups and policies, under which conditions, and what would have to
change. It asks the engine that decides, or shows what was recorded with a decision of the past.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from wardgate.model.filters import LAST_PORT, Protocol
from wardgate.policy.explanation import (
    ExplainedCondition,
    ExplainedPolicy,
    Explanation,
    Traffic,
    from_json,
    why_not,
)
from wardgate.portal.access import rules
from wardgate.portal.access.condition_words import sentence
from wardgate.portal.access.country_names import COUNTRY_NAMES
from wardgate.portal.access.explaining import Who, explain_now, find_actor, find_client
from wardgate.portal.access.resource_types import TYPE_NAMES
from wardgate.portal.access.tables import INTERNET_FIRST, RESOURCES, Resource
from wardgate.portal.devices.search import CLIENT_SEARCH
from wardgate.portal.devices.tables import DEVICES, Device
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.portal.logs.grant_flows import ReportedFlows, find_decision, flows_by
from wardgate.portal.logs.pages.log_page import reading_of
from wardgate.portal.logs.streams import DECISION_LOG, LOGS, Stream
from wardgate.portal.logs.tables import DECISIONS, Decision
from wardgate.portal.outcomes import Missing
from wardgate.portal.people import rules as people_rules
from wardgate.portal.people.tables import ACTORS, Actor
from wardgate.portal.sign_in.provider_names import provider_names
from wardgate.portal.store import AccountTables
from wardgate.portal.web.choices import Asked, Choices, Lookup, Option, words_of
from wardgate.portal.web.filters import Search
from wardgate.portal.web.page import Live, PageRoute, Section, TemplatePage
from wardgate.portal.web.toasts import Tone
from wardgate.portal.web.visit import Visit

GRANTS_PROPOSED: Final = 3

_TONES: Final[Mapping[str, Tone]] = {
    "satisfied": "good",
    "violated": "bad",
    "undetermined": "caution",
    "granted": "good",
    "denied": "bad",
}
_HOLDS: Final = {"satisfied": "holds", "violated": "fails", "undetermined": "not known"}
_OTHER: Final = {
    "not_a_member": "not in the group",
    "disabled": "disabled",
    "orphaned": "its group was deleted",
    "not_evaluated": "not looked at",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the form asks; texts as they stand in it."""

    who: str
    resource_id: str
    protocol: str
    port: str
    log_id: str
    authorization_id: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class ConditionView:
    text: str
    outcome: str
    tone: Tone
    was: str


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A policy of the resource, and what became of it."""

    id: str
    name: str
    group_name: str
    outcome: str
    tone: Tone
    conditions: Sequence[ConditionView]


@dataclass(frozen=True, slots=True)
class Remedy:
    """What would change the answer: a link, or with `post` a button that does it."""

    text: str
    path: str
    post: bool = False
    values: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An explanation, ready to be shown."""

    told: Explanation
    is_past: bool
    reason: str
    tone: Tone
    policies: Sequence[PolicyView]
    remedies: Sequence[Remedy]
    again: str
    flows: ReportedFlows | None = None
    authorization_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ExplainPage:
    question: Question
    people: Choices
    clients: Choices
    resources: Choices
    answer: Answer | None
    error: str

    @property
    def is_searched(self) -> bool:
        """Whether there is more to ask about than the lists hold."""
        return any(one.is_searched for one in (self.people, self.clients, self.resources))


async def load(visit: Visit) -> ExplainPage:
    given = visit.request.query_params
    who, resource_id, protocol, port, log_id, authorization_id = (
        given.get(name, "").strip()[:80]
        for name in ("who", "resource_id", "protocol", "port", "log_id", "authorization_id")
    )
    words = words_of(given.get("find"))
    question = Question(who, resource_id, protocol, port, log_id, authorization_id, words)
    answer, error = None, ""
    try:
        if question.log_id:
            answer = await _recorded(visit, question.log_id)
        elif question.authorization_id:
            answer = await _authorized(visit, _id(question.authorization_id))
        elif question.who and question.resource_id and "search" not in given:
            answer = await _asked(visit, question)
    except ValueError as wrong:
        error = str(wrong)
    except Missing:
        error = "What was asked about does not exist any more."
    async with visit.reading() as tables:
        if answer is not None and answer.is_past:
            question = Question(
                answer.again, answer.told.resource_id, "", "", question.log_id, question.authorization_id
            )
        asked_for = Asked((question.who.rpartition(":")[2],), question.words)
        return ExplainPage(
            question,
            await _PEOPLE(visit, tables, asked_for),
            await _CLIENTS(visit, tables, asked_for),
            await _RESOURCES(visit, tables, Asked((question.resource_id,), question.words)),
            answer,
            error,
        )


async def _asked(visit: Visit, question: Question) -> Answer:
    """Return the answer of this moment. Raises Missing and ValueError."""
    traffic = _traffic(question.protocol, question.port)
    async with visit.reading() as tables:
        who = await _who(visit, tables, question.who)
    told = await explain_now(visit.services, visit.reading, who, _id(question.resource_id), traffic=traffic)
    return await _answer(visit, told, question.who, is_past=False)


async def _recorded(visit: Visit, log_id: str) -> Answer:
    """Return what was recorded with a decision. Raises ValueError."""
    async with visit.reading() as tables:
        found = await newest_decisions(tables, DECISIONS.c.log_id == log_id.lower(), limit=1)
    if not found:
        raise ValueError("There is no such decision in the log; old ones are deleted.")
    return await _of_the_past(visit, found[0])


async def _authorized(visit: Visit, authorization_id: UUID) -> Answer:
    """Return what was recorded with the decision that made an authorization. Raises ValueError."""
    found = await find_decision(reading_of(visit, DECISION_LOG), visit.account.id, authorization_id)
    if found is None:
        raise ValueError(
            "The decision by which this passed is not in the log any more; old ones are deleted."
        )
    return await _of_the_past(visit, found)


async def _of_the_past(visit: Visit, decision: Decision) -> Answer:
    try:
        told = from_json(decision.explanation)
    except msgspec.ValidationError:
        raise ValueError("This decision was explained by another version of the program.") from None
    flows = await flows_by(reading_of(visit, LOGS[Stream.FLOW]), visit.account.id, decision)
    answer = await _answer(visit, told, f"client:{decision.device_id}", is_past=True)
    return replace(answer, flows=flows, authorization_id=decision.authorization_id)


async def _who(visit: Visit, tables: AccountTables, text: str) -> Who:
    kind, _, id_ = text.partition(":")
    if kind == "client":
        return await find_client(visit.services, tables, _id(id_))
    return await find_actor(tables, _id(id_))


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Missing from None


def _traffic(protocol: str, port: str) -> Traffic | None:
    if not protocol:
        return None
    if protocol not in list(Protocol):
        raise ValueError("The protocol is tcp, udp or icmp.")
    if protocol == Protocol.ICMP:
        return Traffic(Protocol.ICMP, None)
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 1 <= int(port) <= LAST_PORT):
        raise ValueError("The port is a number from 1 to 65535.")
    return Traffic(Protocol(protocol), int(port))


async def _answer(visit: Visit, told: Explanation, who: str, *, is_past: bool) -> Answer:
    async with visit.reading() as tables:
        providers = await provider_names(tables)
        remedies = [] if told.outcome == "granted" else await _remedies(tables, told, who)
    names = {str(id_): name for id_, name in providers.items()}
    policies = [_policy(one, providers, names) for one in told.candidates] + [
        PolicyView(
            one.id,
            one.description or "",
            one.group_name or "Group deleted",
            _OTHER[one.reason],
            "neutral",
            (),
        )
        for one in told.others
    ]
    tone = _TONES.get(told.outcome, "caution")
    return Answer(told, is_past, why_not(told) or "", tone, policies, remedies, who)


def _policy(one: ExplainedPolicy, providers: Mapping[UUID, str], names: Mapping[str, str]) -> PolicyView:
    return PolicyView(
        one.id,
        one.description or "",
        one.group_name or "Group deleted",
        _HOLDS[one.outcome],
        _TONES[one.outcome],
        [_condition(each, providers, names) for each in one.conditions],
    )


def _condition(
    one: ExplainedCondition, providers: Mapping[UUID, str], names: Mapping[str, str]
) -> ConditionView:
    stored = {"property": one.property, "operator": one.operator, "values": one.values}
    text = f"A condition that cannot be read: {', '.join(one.values)}"
    if one.operator != "unreadable":
        text = sentence(stored, providers)
    if one.input is None:
        was = "" if one.outcome == "undetermined" else "there is none"
    else:
        was = COUNTRY_NAMES.get(one.input, names.get(one.input, one.input))
        was = {"true": "it is", "false": "it is not"}.get(was, was)
    return ConditionView(text, _HOLDS[one.outcome], _TONES[one.outcome], was)


# What would change the answer


async def _remedies(tables: AccountTables, told: Explanation, who: str) -> list[Remedy]:
    """Return what would change the answer, as far as it still exists."""
    actor, resource = f"/actors/{told.actor_id}", f"/resources/{told.resource_id}"
    if told.actor_type == "service_account":
        actor = f"/service_accounts/{told.actor_id}"
    match told.obstacle:
        case "actor_disabled":
            return [Remedy(f"Enable {told.actor_name}", actor)]
        case "account_disabled":
            return [Remedy("Look at the account", "/account")]
        case "resource_without_site":
            return [Remedy("Give the resource a site", f"{resource}/edit")]
        case "filtered":
            return [Remedy("Change what the resource lets through", f"{resource}/edit")]
        case "no_gateway" | "no_target":
            return [Remedy("Look at the resource", resource)]
        case "client_too_old":
            return [Remedy("Look at the client", "/clients")]
        case "token_expired":
            return [Remedy(f"Look at the sessions of {told.actor_name}", f"{actor}?tab=tokens")]
        case "actor_unknown" | "resource_unknown":
            return []
    return [*_of_conditions(told, who), *await _of_policies(tables, told)]


def _of_conditions(told: Explanation, who: str) -> list[Remedy]:
    remedies = []
    for one in told.candidates:
        failing = [each for each in one.conditions if each.outcome != "satisfied"]
        if (
            failing
            and all(each.property == "client_verified" for each in failing)
            and who.startswith("client:")
        ):
            remedies.append(Remedy("Verify the client", f"/clients/{who.removeprefix('client:')}"))
        if failing:
            remedies.append(
                Remedy(
                    f"Change the conditions for {one.group_name or 'the group'}", f"/policies/{one.id}/edit"
                )
            )
    return remedies


async def _of_policies(tables: AccountTables, told: Explanation) -> list[Remedy]:
    remedies = []
    for one in told.others:
        if one.reason == "disabled":
            values = {"policy_id": one.id}
            remedies.append(
                Remedy(f"Enable the policy for {one.group_name}", "/explain/enable", True, values)
            )
        elif one.reason == "orphaned":
            remedies.append(Remedy("Give the policy a group", f"/policies/{one.id}/edit"))
        elif one.reason == "not_a_member" and one.group_id is not None:
            found = await tables.groups.load(UUID(one.group_id))
            if found is not None and found.type == "static" and found.idp_id is None:
                values = {"group_id": one.group_id, "actor_id": told.actor_id}
                remedies.append(
                    Remedy(f"Add {told.actor_name} to {found.name}", "/explain/join", True, values)
                )
    if not told.candidates:
        having = {one.group_id for one in told.others}
        own = [group for group in told.groups if group.id not in having]
        own.sort(key=lambda group: group.via == "everyone")
        for group in own[:GRANTS_PROPOSED]:
            path = f"/policies/new?group_id={group.id}&resource_id={told.resource_id}"
            remedies.append(Remedy(f"Grant {told.resource_name} to {group.name}", path))
    return remedies


async def enable(visit: Visit) -> Response:
    """Enable a policy, and ask again."""
    async with visit.writing() as (tables, _):
        policy = await rules.load_policy(tables, _form_id(visit, "policy_id"))
        await rules.change_policy(tables, visit.account, policy, {"is_disabled": False})
    return _again(visit, "The policy was enabled.")


async def join(visit: Visit) -> Response:
    """Add the actor to a group, and ask again."""
    async with visit.writing() as (tables, _):
        actor = await people_rules.load_actor(tables, _form_id(visit, "actor_id"))
        await people_rules.add_to_groups(tables, actor, [_form_id(visit, "group_id")])
    return _again(visit, f"{actor.name} was added to the group.")


def _form_id(visit: Visit, name: str) -> UUID:
    return _id(str(visit.form.get(name, "")))


def _again(visit: Visit, toast: str) -> Response:
    asked = {
        name: str(visit.form.get(name, ""))[:80] or None
        for name in ("who", "resource_id", "protocol", "port")
    }
    response = visit.go("/explain", toast=toast)
    response.headers["location"] = visit.url("/explain", **asked)
    return response


# What can be asked about


async def _people_as_options(
    _visit: Visit, _tables: AccountTables, actors: Sequence[Actor]
) -> Sequence[Option]:
    return [Option(f"actor:{one.id}", one.name, one.email or "service account") for one in actors]


async def _clients_as_options(
    visit: Visit, tables: AccountTables, devices: Sequence[Device]
) -> Sequence[Option]:
    owners = await tables.actors.load_all(ACTORS.c.id.in_({one.actor_id for one in devices}))
    names = {one.id: one.name for one in owners}
    online = visit.online("client")
    return [
        Option(
            f"client:{one.id}",
            one.name,
            _told(names.get(one.actor_id, "") if one.actor_id else "", is_online=one.id in online),
        )
        for one in devices
    ]


def _told(owner: str, *, is_online: bool) -> str:
    return ", ".join(part for part in (owner, "online" if is_online else "") if part)


async def _resources_as_options(
    _visit: Visit, _tables: AccountTables, rows: Sequence[Resource]
) -> Sequence[Option]:
    return [Option(str(one.id), one.name, one.address or TYPE_NAMES[one.type]) for one in rows]


_PEOPLE: Final = Lookup[Actor](
    repository=lambda tables: tables.actors,
    search=Search(label="Person", columns=(ACTORS.c.name, ACTORS.c.email)),
    describe=_people_as_options,
    order_by=(ACTORS.c.name, ACTORS.c.id),
    only=lambda _visit, _tables: (ACTORS.c.type.in_(people_rules.MEMBER_TYPES),),
)
_CLIENTS: Final = Lookup[Device](
    repository=lambda tables: tables.devices,
    search=CLIENT_SEARCH,
    describe=_clients_as_options,
    order_by=(DEVICES.c.name, DEVICES.c.id),
    only=lambda _visit, _tables: (DEVICES.c.type == "client",),
)
_RESOURCES: Final = Lookup[Resource](
    repository=lambda tables: tables.resources,
    search=Search(label="Resource", columns=(RESOURCES.c.name, RESOURCES.c.address)),
    describe=_resources_as_options,
    order_by=(INTERNET_FIRST, RESOURCES.c.name, RESOURCES.c.id),
)

PAGE: Final = TemplatePage(
    name="Explain",
    path="/explain",
    icon="circle-help",
    section=Section.ACCESS,
    live=Live(
        tables=frozenset({"policies", "groups", "memberships", "resources", "actors", "devices"}),
        presence=frozenset({"client", "gateway"}),
    ),
    template="access/explain.html",
    load=load,
    more=(PageRoute("/enable", enable, "POST"), PageRoute("/join", join, "POST")),
)
