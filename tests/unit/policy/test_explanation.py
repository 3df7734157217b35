import json
from dataclasses import replace
from uuid import UUID

import pytest

from support.worlds import (
    ADA,
    ADA_IN_STAFF,
    BASICS,
    EVERYONE,
    FACTS,
    NET,
    NOW,
    ROBOT,
    STAFF,
    from_networks,
    hours,
    policy,
    regions,
    request,
    verified,
)
from wardgate.model.domain import Policy
from wardgate.model.filters import Filter, PortRange, Protocol
from wardgate.model.ids import ResourceId
from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.policy.engine import authorize, is_offered
from wardgate.policy.evaluation import Facts
from wardgate.policy.explanation import (
    MOST_PARTS,
    TOKEN_UNDETERMINED,
    Backgrounds,
    ExplainedGateway,
    ExplainedInput,
    ExplainedTarget,
    ExplainedTraffic,
    Explanation,
    Traffic,
    as_json,
    as_text,
    explain,
    from_json,
    why_not,
)
from wardgate.policy.snapshot import Entity, Snapshot


def explained(*entities: Entity, facts: Facts = FACTS, with_token: bool = True) -> Explanation:
    snapshot = Snapshot.of([*BASICS, *entities])
    asked = request(facts=facts) if with_token else request(facts=facts, token_expires_at=TOKEN_UNDETERMINED)
    return explain(snapshot, asked, authorize(snapshot, asked, now=NOW), now=NOW)


def test_a_grant_names_its_policy_membership_and_what_ends_it() -> None:
    told = explained(policy(1, hours("M/9-17/UTC")))
    assert (told.outcome, told.policy_id, told.membership_id) == (
        "granted",
        str(policy(1).id),
        str(ADA_IN_STAFF.id),
    )
    assert (told.expires_at, told.expires_with, told.expires_property) == (
        "2026-11-23T17:00:00Z",
        "condition",
        "current_utc_datetime",
    )
    assert "until 2026-11-23T17:00:00Z, when the policy's current_utc_datetime ends" in as_text(told)
    free = explained(policy(1))
    assert (free.expires_with, free.expires_property) == ("token", None)


def test_a_synced_membership_is_told_from_one_that_was_made_here() -> None:
    told = explained(replace(STAFF, is_synced=True), policy(1))
    assert [group.via for group in told.groups] == ["synced", "everyone"]
    assert "member of: Staff (by directory sync), Everyone (every user is)" in as_text(told)


def test_who_is_locked_out_is_not_told_to_be_in_no_group() -> None:
    told = explained(replace(ADA, is_disabled=True), policy(1))
    assert (told.obstacle, [one.reason for one in told.others]) == ("actor_disabled", ["not_evaluated"])
    assert "was not looked at" in as_text(told)


def test_what_was_judged_by_says_where_it_comes_from() -> None:
    snapshot, asked = Snapshot.of([*BASICS, policy(1)]), request()
    told = explain(
        snapshot,
        asked,
        authorize(snapshot, asked, now=NOW),
        now=NOW,
        inputs=[
            ExplainedInput("remote_ip", "203.0.113.5", "given"),
            ExplainedInput("region", None, "looked_up"),
            ExplainedInput("software", None, "undetermined"),
        ],
    )
    lines = as_text(told).splitlines()
    assert "  judged by: remote ip 203.0.113.5 (given), region none (looked up)" in lines
    assert "  not known: software" in lines


def test_an_input_that_there_is_not_is_told_from_one_that_nobody_knows() -> None:
    for facts, said in (
        (replace(FACTS, region=None), "regions"),
        (Facts(), "undetermined"),
    ):
        (candidate,) = explained(policy(1, regions("DE")), facts=facts).candidates
        assert candidate.conditions[0].input is None
        text = as_text(explained(policy(1, regions("DE")), facts=facts))
        assert ("(there is none)" in text) is (said == "regions")


def test_groups_say_how_each_membership_was_obtained() -> None:
    told = explained()
    assert [(group.name, group.via, group.membership_id) for group in told.groups] == [
        (STAFF.name, "membership", str(ADA_IN_STAFF.id)),
        (EVERYONE.name, "everyone", None),
    ]


def test_a_denial_shows_every_condition_with_its_input_and_outcome() -> None:
    told = explained(policy(1, from_networks("10.0.0.0/8"), verified()))
    (candidate,) = told.candidates
    assert [(one.property, one.input, one.outcome) for one in candidate.conditions] == [
        ("remote_ip", "203.0.113.5", "violated"),
        ("client_verified", "false", "violated"),
    ]
    assert told.violated_properties == ["remote_ip", "client_verified"]


def test_policies_that_say_nothing_about_the_actor_are_listed_with_the_reason() -> None:
    told = explained(policy(1, is_disabled=True), policy(2, group=None))
    assert (told.outcome, told.obstacle) == ("denied", "no_policy")
    assert [one.reason for one in told.others] == ["disabled", "orphaned"]


def test_without_a_connection_the_answer_is_undetermined_when_only_its_facts_are_missing() -> None:
    told = explained(policy(1, from_networks("10.0.0.0/8")), facts=Facts(), with_token=False)
    assert told.outcome == "undetermined"
    both = explained(
        policy(1, from_networks("10.0.0.0/8"), hours("T/true/UTC")), facts=Facts(), with_token=False
    )
    assert both.outcome == "denied"
    free = explained(policy(1), facts=Facts(), with_token=False)
    assert (free.outcome, free.expires_at, free.expires_with) == ("granted", None, "undetermined_token")


def test_only_what_is_not_known_is_said_to_be_unknown() -> None:
    text = as_text(
        explained(
            policy(1, from_networks("10.0.0.0/8")),
            policy(2, hours("T/true/UTC")),
            facts=Facts(),
            with_token=False,
        )
    )
    assert "because it depends on what is not known: remote_ip" in text.replace("\n", " ")
    assert "current_utc_datetime is not known" not in text


def test_a_time_condition_tells_the_time_it_was_asked_for() -> None:
    (candidate,) = explained(policy(1, hours("M/9-17/UTC"))).candidates
    assert candidate.conditions[0].input == "2026-11-23T12:00:00Z"


def test_an_explanation_survives_json() -> None:
    told = explained(policy(1, hours("M/9-17/UTC")), policy(2, verified()))
    assert from_json(json.loads(json.dumps(as_json(told)))) == told


def test_the_text_starts_with_the_answer_and_tells_the_reasons() -> None:
    text = as_text(explained(policy(1, from_networks("10.0.0.0/8"))))
    first, *rest = text.splitlines()
    assert first == f"DENIED: {ADA.name} → {NET.name} (10.20.0.0/16), at 2026-11-23T12:00:00Z"
    assert any("remote_ip is_in_cidr 10.0.0.0/8: violated (was 203.0.113.5)" in line for line in rest)


def test_the_chosen_gateway_and_why_is_part_of_it() -> None:
    snapshot = Snapshot.of([*BASICS, policy(1)])
    decision = authorize(snapshot, request(), now=NOW)
    told = explain(
        snapshot, request(), decision, now=NOW, gateway=ExplainedGateway("g1", "it is the nearest")
    )
    assert "gateway g1: it is the nearest" in as_text(told)


def test_what_policies_grant_is_denied_where_nothing_can_serve_it() -> None:
    snapshot = Snapshot.of([*BASICS, policy(1)])
    decision = authorize(snapshot, request(), now=NOW)
    without_gateway = explain(
        snapshot, request(), decision, now=NOW, gateway=ExplainedGateway(None, "offline")
    )
    assert (without_gateway.outcome, without_gateway.policy_id) == ("denied", None)
    assert "because no gateway of its site is online" in as_text(without_gateway)
    draining = explain(snapshot, request(), decision, now=NOW, gateway=ExplainedGateway(None, "draining"))
    assert "because every gateway of its site that could serve it drains" in as_text(draining)
    away = ExplainedTarget("100.64.0.9", "c9", "nas", "offline")
    assert explain(snapshot, request(), decision, now=NOW, target=away).obstacle == "no_target"
    there = explain(snapshot, request(), decision, now=NOW, target=ExplainedTarget("100.64.0.9", "c9", "nas"))
    assert there.outcome == "granted"
    assert "device nas (100.64.0.9): c9" in as_text(there)


def asked_about(traffic: Traffic, *policies: Policy, facts: Facts = FACTS) -> Explanation:
    web_only = replace(NET, filters=(Filter(Protocol.TCP, (PortRange(80, 80), PortRange(443, 443))),))
    snapshot = Snapshot.of([*BASICS, web_only, *policies])
    asked = request(facts=facts)
    return explain(snapshot, asked, authorize(snapshot, asked, now=NOW), now=NOW, traffic=traffic)


def test_what_the_filters_do_not_let_through_is_denied_whatever_policies_say() -> None:
    told = asked_about(Traffic(Protocol.TCP, 81), policy(1))
    assert (told.outcome, told.obstacle, told.policy_id, told.expires_at) == (
        "denied",
        "filtered",
        None,
        None,
    )
    assert told.filters == ["tcp 80, 443"]
    text = as_text(told)
    assert "because the resource's filters do not let tcp 81 through" in text
    assert "lets through: tcp 80, 443" in text
    admitted = asked_about(Traffic(Protocol.TCP, 443), policy(1))
    assert (admitted.outcome, admitted.policy_id) == ("granted", str(policy(1).id))
    assert "tcp 443: admitted by the resource's filters" in as_text(admitted)
    assert asked_about(Traffic(Protocol.UDP, 443), policy(1)).obstacle == "filtered"
    assert asked_about(Traffic(Protocol.ICMP, None), policy(1)).obstacle == "filtered"
    assert from_json(as_json(told)) == told


def test_filters_decide_what_is_undetermined_and_leave_alone_what_is_denied() -> None:
    open_ = asked_about(Traffic(Protocol.TCP, 81), policy(1, regions("DE")), facts=Facts())
    assert (open_.outcome, open_.obstacle) == ("denied", "filtered")
    still_open = asked_about(Traffic(Protocol.TCP, 80), policy(1, regions("DE")), facts=Facts())
    assert still_open.outcome == "undetermined"
    denied = asked_about(Traffic(Protocol.TCP, 81))
    assert (denied.obstacle, denied.traffic) == ("no_policy", ExplainedTraffic("tcp", 81, is_admitted=False))


@pytest.mark.parametrize(("protocol", "port"), [(Protocol.ICMP, 8), (Protocol.TCP, None)])
def test_icmp_has_no_port_and_the_others_have(protocol: Protocol, port: int | None) -> None:
    with pytest.raises(ValueError, match="icmp has none"):
        Traffic(protocol, port)


def test_what_a_client_is_not_offered_is_said_with_the_reason() -> None:
    snapshot = Snapshot.of(BASICS)
    asked = replace(request(), software=ClientSoftware(Component.HEADLESS, Version(1, 5)))
    decision = authorize(snapshot, asked, now=NOW)
    told = explain(snapshot, asked, decision, now=NOW, offered=is_offered(snapshot, asked, now=NOW))
    assert told.offered is False
    assert why_not(told) == "no enabled policy grants the resource to a group of the actor"
    assert "not offered to the client, which therefore never asks for it" in as_text(told)
    granting = Snapshot.of([*BASICS, policy(1)])
    assert is_offered(granting, asked, now=NOW)


def test_a_name_forges_no_line_and_commands_no_terminal() -> None:
    told = explained(replace(ADA, name="Ada\nGRANTED: \x1b[31m"), policy(1, verified()), facts=Facts())
    lines = as_text(told).split("\n")
    assert len([one for one in lines if one.startswith(("GRANTED", "DENIED", "UNDETERMINED"))]) == 1
    assert all(one.isprintable() for one in lines)


def test_what_is_remembered_between_explanations_is_never_older_than_the_snapshot() -> None:
    backgrounds = Backgrounds()
    snapshot = Snapshot.of([*BASICS, policy(1), policy(2, is_disabled=True), policy(3, group=None)])
    steps: list[dict[str, list[Entity] | bool]] = [
        {},
        {"puts": [replace(ADA, name="Ada L.")]},
        {"puts": [replace(STAFF, name="Crew")]},
        {"puts": [replace(NET, name="network", filters=(Filter(Protocol.TCP, (PortRange(80, 80),)),))]},
        {"puts": [policy(2)]},
        {"puts": [policy(4, group=EVERYONE)]},
        {"drops": [ADA_IN_STAFF]},
        {"drops": [policy(4, group=EVERYONE)]},
        {"puts": [ADA_IN_STAFF]},
        {"is_disabled": True},
        {"is_disabled": False},
        {"drops": [NET]},
    ]
    for step in steps:
        snapshot = snapshot.evolve(**step)  # type: ignore[arg-type]
        for actor in (ADA, ROBOT):
            asked = request(actor)
            decision = authorize(snapshot, asked, now=NOW)
            expected = explain(snapshot, asked, decision, now=NOW)
            for _ in range(2):
                told = explain(snapshot, asked, decision, now=NOW, backgrounds=backgrounds)
                assert told == expected, step


def test_what_is_remembered_is_bounded_and_nothing_is_of_what_does_not_exist() -> None:
    backgrounds = Backgrounds()
    disabled = [policy(number, is_disabled=True) for number in range(MOST_PARTS // 2)]
    snapshot = Snapshot.of([*BASICS, *disabled, replace(NET, id=ResourceId(UUID(int=41)))])
    for actor in (ADA, ROBOT, ADA):
        asked = request(actor)
        decision = authorize(snapshot, asked, now=NOW)
        told = explain(snapshot, asked, decision, now=NOW, backgrounds=backgrounds)
        assert (len(told.others), backgrounds.count()) == (len(disabled), 1)
    for number in range(100):
        asked = replace(request(), resource_id=ResourceId(UUID(int=5000 + number)))
        decision = authorize(snapshot, asked, now=NOW)
        explain(snapshot, asked, decision, now=NOW, backgrounds=backgrounds)
    assert backgrounds.count() == 1
