"""docs/policies.md says what the engine does: every block of conditions and every line below one is run."""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from support.worlds import BASICS, NOW, TOKEN_ENDS, policy, request
from wardgate.model.conditions import (
    OPERATORS,
    InvalidCondition,
    Property,
    parse_condition,
    render_condition,
)
from wardgate.model.domain import ClientDevice, Policy, PoolMember
from wardgate.model.ids import AuthProviderId, ClientId, DeviceId, PoolMemberId
from wardgate.model.resources import DevicePool
from wardgate.policy.engine import AccessRequest, Denied, Granted, authorize
from wardgate.policy.evaluation import Facts
from wardgate.policy.explanation import as_text, explain
from wardgate.policy.pools import NoTarget, find_named, find_target
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.access.tables import RESOURCES
from wardgate.portal.snapshot.entities import entity_of

PAGE = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GRANTED = re.compile(r"granted (?:by (?P<policy>.+) )?until (?P<until>.+)")


@dataclass(frozen=True)
class Example:
    policies: tuple[Policy, ...]
    line: str
    text: str | None = None  # the explanation that the page shows of this line


def examples() -> list[Example]:
    found: list[Example] = []
    policies: tuple[Policy, ...] = ()
    for kind, body in BLOCKS:
        match kind:
            case "json":
                policies = policies_of(json.loads(body))
            case "example":
                found += (Example(policies, line) for line in body.splitlines())
            case "text":
                found[-1] = replace(found[-1], text=body.rstrip("\n"))
    return found


def policies_of(block: list[dict[str, object]]) -> tuple[Policy, ...]:
    """A block is the conditions of one policy, or several policies with their conditions."""
    several = block if "conditions" in block[0] else [{"description": None, "conditions": block}]
    return tuple(
        replace(
            policy(number, *(parse_condition(**renamed(condition)) for condition in one["conditions"])),  # type: ignore[arg-type, attr-defined]
            description=one["description"],
        )
        for number, one in enumerate(several)
    )


def renamed(condition: dict[str, object]) -> dict[str, object]:
    return {
        "property_": condition["property"],
        "operator": condition["operator"],
        "values": condition["values"],
    }


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.line)
def test_an_example_on_the_page_is_true(example: Example) -> None:
    asked, _, answer = example.line.partition(" → ")
    now, access = NOW, request(facts=Facts(ip_address("192.0.2.1"), None, None, False))
    for part in asked.split(", "):
        now, access = told(part, now, access)
    snapshot = Snapshot.of([*BASICS, *example.policies])
    decision = authorize(snapshot, access, now=now)
    match decision:
        case Granted():
            grant = GRANTED.fullmatch(answer)
            assert grant is not None, f"granted until {decision.expires_at}"
            until = grant["until"]
            assert decision.expires_at == (TOKEN_ENDS if until == "the token expires" else instant(until))
            assert grant["policy"] in (None, decision.policy.description)
        case Denied():
            assert answer == f"denied: {', '.join(one.value for one in decision.violated_properties)}"
    if example.text is not None:
        assert as_text(explain(snapshot, access, decision, now=now)) == example.text


def told(part: str, now: datetime, access: AccessRequest) -> tuple[datetime, AccessRequest]:
    """Take in one fact of a line; an unknown one fails the test."""
    facts = access.facts
    match part.split(" "):
        case ["from", address]:
            facts = replace(facts, remote_ip=ip_address(address))
        case ["in", "an", "unknown", "country"]:
            facts = replace(facts, region=None)
        case ["in", region]:
            facts = replace(facts, region=region)
        case ["signed", "in", "by", provider]:
            facts = replace(facts, auth_provider_id=AuthProviderId(UUID(provider)))
        case ["without", "provider"]:
            facts = replace(facts, auth_provider_id=None)
        case ["verified"]:
            facts = replace(facts, is_verified=True)
        case ["not", "verified"]:
            facts = replace(facts, is_verified=False)
        case [_, _, _]:
            now = instant(part)
        case _:
            raise AssertionError(f"the page tells {part!r}")
    return now, replace(access, facts=facts)


def instant(text: str) -> datetime:
    date, time, zone = text.split(" ")
    return datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def test_the_table_lists_all_properties_with_their_operators() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", PAGE, re.MULTILINE)
    listed = {name: re.findall(r"`(\w+)`", operators) for name, operators in rows}
    assert listed == {one.value: [operator.value for operator in OPERATORS[one]] for one in OPERATORS}


def test_every_property_has_an_example() -> None:
    used = {
        condition.property for one in examples() for each in one.policies for condition in each.conditions
    }
    assert used == set(Property)


def test_every_operator_of_every_property_has_an_example() -> None:
    used = {
        render_condition(condition)[:2]
        for one in examples()
        for each in one.policies
        for condition in each.conditions
    }
    assert used == {(one, operator) for one, operators in OPERATORS.items() for operator in operators}


@dataclass(frozen=True)
class Reach:
    world: str  # JSON: a pool, its members' names, and devices
    line: str


def reaches() -> list[Reach]:
    found: list[Reach] = []
    world = ""
    for kind, body in BLOCKS:
        match kind:
            case "pool":
                world = body
            case "reach":
                found += (Reach(world, line) for line in body.splitlines())
    return found


@pytest.mark.parametrize("reach", reaches(), ids=lambda reach: reach.line)
def test_a_pool_on_the_page_leads_where_the_page_says(reach: Reach) -> None:
    told = json.loads(reach.world)
    row = {
        "id": UUID(int=1),
        "name": "pool",
        "site_id": None,
        "address": None,
        "filters": [],
        "address_description": None,
    }
    pool = entity_of(RESOURCES.rows.decode({**row, **told["pool"]}))
    assert isinstance(pool, DevicePool)
    devices = [
        ClientDevice(ClientId(DeviceId(UUID(int=10 + number))), **{"hostname": None, **device})
        for number, device in enumerate(told["devices"])
    ]
    members = [
        PoolMember(PoolMemberId(UUID(int=20 + number)), pool.id, device.id)
        for number, device in enumerate(devices)
        if device.name in told.get("members", ())
    ]
    snapshot = Snapshot.of([pool, *devices, *members])
    asked, _, answer = reach.line.partition(" → ")
    if asked.startswith("name "):
        device = find_named(snapshot, pool, asked.removeprefix("name "))
        assert answer == ("not found" if device is None else device.name)
        return
    addresses = [] if asked == "no address" else asked.split(", ")
    ipv4 = next((one for one in addresses if ":" not in one), None)
    ipv6 = next((one for one in addresses if ":" in one), None)
    found = find_target(snapshot, pool, ipv4=ipv4, ipv6=ipv6)
    assert answer == (f"denied: {found.value}" if isinstance(found, NoTarget) else found.name)


REFUSED = [line for kind, body in BLOCKS if kind == "refused" for line in body.splitlines()]


@pytest.mark.parametrize("line", REFUSED)
def test_what_the_page_calls_refused_is_refused_in_these_words(line: str) -> None:
    condition, _, reason = line.partition(" → ")
    property_, operator, value = condition.split(" ")
    with pytest.raises(InvalidCondition) as caught:
        parse_condition(property_, operator, [value])
    assert caught.value.message == reason


def test_the_page_holds_no_block_that_nobody_runs() -> None:
    assert {kind for kind, _ in BLOCKS} == {"json", "example", "text", "refused", "pool", "reach"}
    assert PAGE.count("```") == 2 * len(BLOCKS)
    assert len(examples()) > 20
    assert REFUSED
