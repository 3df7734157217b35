"""Grants on their way to a client, and what that costs."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from uuid import UUID

import pytest

from wardgate.model.ids import AuthorizationId, ClientId, DeviceId, GatewayId, ResourceId
from wardgate.portal.bus.messages import Holding
from wardgate.portal.channels import asked_grants
from wardgate.portal.channels.asked_grants import AskedGrants, Key
from wardgate.wire import messages as wire

GATEWAY = DeviceId(UUID(int=1))
CLIENT = ClientId(DeviceId(UUID(int=2)))


def key(number: int) -> Key:
    return ResourceId(UUID(int=number)), None


def holding(number: int, receiver_id: DeviceId = GATEWAY) -> Holding:
    return Holding(
        AuthorizationId(UUID(int=10_000 + number)), CLIENT, receiver_id, ResourceId(UUID(int=number)), 100
    )


def told(number: int) -> wire.Message:
    return wire.ResourceDeleted(ResourceId(UUID(int=number)))


def candidates(text: str) -> asked_grants.Candidates:
    return wire.GatewayIceCandidates(GatewayId(GATEWAY), (text,))


def never(reason: str, why: str) -> None:
    raise AssertionError(f"denied: {reason}, {why}")


def expect(asked: AskedGrants, number: int, receiver_id: DeviceId = GATEWAY) -> AuthorizationId:
    asked.expect(key(number), holding(number, receiver_id), told(number), never, deadline=15.0 + number)
    return holding(number).authorization_id


def test_candidates_wait_until_no_grant_of_their_sender_is_on_its_way() -> None:
    pushed: list[wire.Message] = []
    asked = AskedGrants(pushed.append, [])
    first, second = expect(asked, 1), expect(asked, 2)
    asked.pass_on(GATEWAY, candidates("a"))
    for one in (first, second):
        asked.acknowledge(one)
        asked.pass_on(GATEWAY, candidates(f"behind {one}"))
        asked.confirm_stored(one)
    assert pushed == [
        told(1),
        told(2),
        candidates("a"),
        candidates(f"behind {first}"),
        candidates(f"behind {second}"),
    ]
    asked.pass_on(GATEWAY, candidates("b"))
    assert pushed[-1] == candidates("b")


def test_a_newer_grant_of_the_same_thing_takes_the_place_of_the_older() -> None:
    pushed: list[wire.Message] = []
    asked = AskedGrants(pushed.append, [(key(1), holding(1))])
    newer = Holding(AuthorizationId(UUID(int=9)), CLIENT, DeviceId(UUID(int=8)), ResourceId(UUID(int=1)), 200)
    asked.expect(key(1), newer, told(1), never, deadline=15.0)
    asked.acknowledge(newer.authorization_id)
    asked.confirm_stored(newer.authorization_id)
    assert asked.revoke(holding(1).authorization_id, now_unix=0) is None
    assert not asked.is_related(GATEWAY)
    assert asked.revoke(newer.authorization_id, now_unix=0) == newer
    assert not asked.is_related(newer.receiver_id)


def test_of_many_on_their_way_those_that_are_due_are_denied() -> None:
    denied: list[tuple[int, str]] = []
    asked = AskedGrants(lambda _message: None, [])
    for number in range(4):
        asked.expect(
            key(number),
            holding(number),
            told(number),
            lambda reason, _why, number=number: denied.append((number, reason)),
            deadline=15.0 + number,
        )
    assert asked.poll_timeout() == 15.0
    asked.handle_timeout(now=16.5)
    assert denied == [(0, "offline"), (1, "offline")]
    assert asked.poll_timeout() == 17.0


@pytest.mark.parametrize("text", ["", "x" * 10_000])
def test_a_receiver_that_never_acknowledges_fills_no_memory(text: str) -> None:
    pushed: list[wire.Message] = []
    asked = AskedGrants(pushed.append, [])
    expect(asked, 1)
    fitting = asked_grants.MAX_WAITING_BYTES // (asked_grants.MESSAGE_BYTES + len(text))
    for _ in range(fitting + 5):
        asked.pass_on(GATEWAY, candidates(text))
    assert pushed == [candidates(text)] * 5
    asked.drop(key(1))
    assert len(pushed) == fitting + 5
    expect(asked, 2)
    asked.pass_on(GATEWAY, candidates(text))
    assert len(pushed) == fitting + 5


STEPS: dict[str, Callable[[AskedGrants, int], Any]] = {
    "acknowledged": lambda asked, last: asked.acknowledge(holding(last).authorization_id),
    "stored": lambda asked, last: asked.confirm_stored(holding(last).authorization_id),
    "given up": lambda asked, last: asked.give_up(holding(last).authorization_id, "offline", ""),
    "revoked": lambda asked, last: asked.revoke(holding(last).authorization_id, now_unix=0),
    "asked for": lambda asked, _last: expect(asked, 9_999),
    "candidates": lambda asked, _last: asked.pass_on(GATEWAY, candidates("a")),
    "strangers": lambda asked, _last: asked.is_related(DeviceId(UUID(int=77))),
    "timer": lambda asked, _last: asked.poll_timeout(),
}


@pytest.mark.parametrize("step", STEPS)
def test_what_a_message_costs_does_not_grow_with_what_is_on_its_way(step: str) -> None:
    costs = []
    for many in (3, 300):
        before = [(key(number), holding(number)) for number in range(5_000, 5_000 + many)]
        asked = AskedGrants(lambda _message: None, before)
        for number in range(many):
            asked.expect(key(number), holding(number), told(number), lambda *_: None, deadline=15.0 + number)
        asked.pass_on(GATEWAY, candidates("a"))
        costs.append(lines_run(lambda asked=asked, many=many: STEPS[step](asked, many - 1)))
    assert costs[0] == costs[1] > 0


def lines_run(action: Callable[[], Any]) -> int:
    """Count the lines of `asked_grants` that an action runs, those of loops as often as they run."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != asked_grants.__file__:
            return None
        count += event == "line"
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(former)
    return count
