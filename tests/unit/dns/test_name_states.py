from uuid import UUID

from wardgate.dns.name_states import (
    ANNOUNCE_INTERVAL_S,
    MAX_ANNOUNCEMENTS,
    Announce,
    Hold,
    NameAction,
    NameKey,
    NameStates,
    Release,
    State,
)
from wardgate.model.ids import DeviceId, GatewayId, ResourceId

GATEWAY = GatewayId(DeviceId(UUID(int=1)))
OTHER = GatewayId(DeviceId(UUID(int=2)))
RESOURCE = ResourceId(UUID(int=3))
KEY = NameKey(GATEWAY, "app.example", RESOURCE)
ADDRESSES = ("100.96.0.1",)


def drained(names: NameStates) -> list[NameAction]:
    actions = []
    while (action := names.poll_action()) is not None:
        actions.append(action)
    return actions


def pending() -> NameStates:
    names = NameStates()
    names.handle_authorized(KEY, ADDRESSES, now=0.0)
    drained(names)
    return names


def confirmed() -> NameStates:
    names = pending()
    names.handle_status(KEY, is_active=True)
    drained(names)
    return names


def test_a_new_name_is_held_then_announced() -> None:
    names = NameStates()
    names.handle_authorized(KEY, ADDRESSES, now=0.0)

    assert drained(names) == [Hold(KEY, ADDRESSES), Announce(KEY, ADDRESSES)]


def test_a_confirmed_name_releases_what_waited() -> None:
    names = pending()
    names.handle_status(KEY, is_active=True)

    assert drained(names) == [Release(KEY, ADDRESSES, flush=True)]
    assert names.state(KEY) is State.CONFIRMED


def test_a_failed_name_drops_what_waited() -> None:
    names = pending()
    names.handle_status(KEY, is_active=False)

    assert drained(names) == [Release(KEY, ADDRESSES, flush=False)]
    assert names.state(KEY) is State.FAILED


def test_a_query_announces_a_confirmed_name_again_while_packets_pass() -> None:
    names = confirmed()
    names.handle_query("app.example", now=1.0)

    assert drained(names) == [Announce(KEY, ADDRESSES)]
    assert names.state(KEY) is State.PENDING_PASS


def test_a_query_holds_a_failed_name_again() -> None:
    names = pending()
    names.handle_status(KEY, is_active=False)
    drained(names)
    names.handle_query("app.example", now=1.0)

    assert drained(names) == [Hold(KEY, ADDRESSES), Announce(KEY, ADDRESSES)]


def test_a_fresh_grant_announces_a_confirmed_name_again_while_packets_pass() -> None:
    names = confirmed()
    names.handle_authorized(KEY, ADDRESSES, now=1.0)

    assert drained(names) == [Announce(KEY, ADDRESSES)]
    assert names.state(KEY) is State.PENDING_PASS


def test_a_fresh_grant_holds_a_failed_name_again() -> None:
    names = pending()
    names.handle_status(KEY, is_active=False)
    drained(names)
    names.handle_authorized(KEY, ADDRESSES, now=1.0)

    assert drained(names) == [Hold(KEY, ADDRESSES), Announce(KEY, ADDRESSES)]


def test_an_inactive_name_puts_the_grant_in_doubt_when_a_query_asked_for_it() -> None:
    names = confirmed()
    names.handle_query("app.example", now=1.0)

    assert names.handle_status(KEY, is_active=False)


def test_an_inactive_name_says_nothing_of_the_grant_that_has_just_announced_it() -> None:
    names = pending()

    assert not names.handle_status(KEY, is_active=False)


def test_an_active_name_says_nothing_of_the_grant() -> None:
    names = confirmed()
    names.handle_query("app.example", now=1.0)

    assert not names.handle_status(KEY, is_active=True)


def test_a_pending_name_is_announced_again_only_after_two_seconds() -> None:
    names = pending()
    names.handle_query("app.example", now=ANNOUNCE_INTERVAL_S - 0.1)
    assert drained(names) == []
    names.handle_query("app.example", now=ANNOUNCE_INTERVAL_S)

    assert drained(names) == [Announce(KEY, ADDRESSES)]


def test_an_unanswered_announcement_is_repeated_once_the_tunnel_stands_and_not_for_ever() -> None:
    names = pending()
    assert names.poll_timeout() is None
    names.handle_established(GATEWAY, now=10.0)
    announced = 0
    while (due_at := names.poll_timeout()) is not None:
        names.handle_timeout(now=due_at)
        announced += len(drained(names))

    assert announced == MAX_ANNOUNCEMENTS - 1


def test_an_answer_ends_the_repetition() -> None:
    names = pending()
    names.handle_established(GATEWAY, now=10.0)
    names.handle_status(KEY, is_active=True)

    assert names.poll_timeout() is None


def test_a_lost_gateway_takes_its_names_along_without_a_word_to_the_engine() -> None:
    names = pending()
    names.forget_gateway(GATEWAY)

    assert drained(names) == []
    assert names.state(KEY) is None


def test_a_removed_resource_drops_what_waited_for_it() -> None:
    names = pending()
    names.forget_resource(RESOURCE)

    assert drained(names) == [Release(KEY, ADDRESSES, flush=False)]


def test_a_resource_that_moved_keeps_its_names_at_the_new_gateway() -> None:
    names = pending()
    moved = NameKey(OTHER, "app.example", RESOURCE)
    names.handle_authorized(moved, ADDRESSES, now=1.0)
    names.forget_resource(RESOURCE, except_at=OTHER)

    assert names.state(KEY) is None
    assert names.state(moved) is State.PENDING_HOLD


def test_a_status_about_nothing_is_ignored() -> None:
    names = confirmed()
    names.handle_status(KEY, is_active=False)
    names.handle_status(NameKey(OTHER, "app.example", RESOURCE), is_active=True)

    assert drained(names) == []
    assert names.state(KEY) is State.CONFIRMED


def test_a_forgotten_name_is_released_without_its_packets_and_waits_for_nothing() -> None:
    states = NameStates()
    states.handle_established(KEY.gateway_id, now=0.0)
    states.handle_authorized(KEY, ("100.96.0.1",), now=0.0)
    drained(states)
    states.forget_name(KEY.name)
    assert drained(states) == [Release(KEY, ("100.96.0.1",), flush=False)]
    assert states.poll_timeout() is None
    states.handle_query(KEY.name, now=5.0)
    assert drained(states) == []
