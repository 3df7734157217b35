from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from uuid import UUID

import pytest

from support.worlds import FACTS, NOW, STAFF, from_networks, hours, policy, regions, verified
from wardgate.model.conditions import (
    KINDS,
    Condition,
    Property,
    TimeCondition,
    UnreadableCondition,
    parse_condition,
)
from wardgate.model.ids import AuthProviderId
from wardgate.policy.evaluation import (
    CompiledPolicy,
    Facts,
    Outcome,
    compile_condition,
    end_of_window,
    input_of,
)

PROVIDER = AuthProviderId(UUID("33333333-3333-4333-8333-333333333333"))


def outcome(condition: Condition, facts: Facts, now: datetime = NOW) -> str:
    return compile_condition(condition)(facts, now).outcome.value


def condition(property_: str, operator: str, *values: str) -> Condition:
    return parse_condition(property_, operator, list(values))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", "satisfied"),
        ("::ffff:10.1.2.3", "satisfied"),
        ("11.0.0.1", "violated"),
        ("2001:db8::1", "violated"),
    ],
)
def test_remote_ip_matches_networks_of_its_own_family(address: str, expected: str) -> None:
    assert outcome(from_networks("10.0.0.0/8"), Facts(ip_address(address))) == expected


def test_an_ipv4_client_is_outside_every_ipv6_network() -> None:
    assert (
        outcome(condition("remote_ip", "is_not_in_cidr", "::/0"), Facts(ip_address("10.0.0.1")))
        == "satisfied"
    )


def test_an_unknown_region_fails_both_operators() -> None:
    facts = Facts(region=None)
    assert outcome(regions("DE"), facts) == "violated"
    assert outcome(condition("remote_ip_location_region", "is_not_in", "DE"), facts) == "violated"
    assert (
        outcome(condition("remote_ip_location_region", "is_not_in", "DE"), Facts(region="FR")) == "satisfied"
    )


def test_a_token_without_provider_fails_is_in_and_passes_is_not_in() -> None:
    facts = Facts(auth_provider_id=None)
    assert outcome(condition("auth_provider_id", "is_in", str(PROVIDER)), facts) == "violated"
    assert outcome(condition("auth_provider_id", "is_not_in", str(PROVIDER)), facts) == "satisfied"
    assert (
        outcome(condition("auth_provider_id", "is_in", str(PROVIDER)), Facts(auth_provider_id=PROVIDER))
        == "satisfied"
    )


def test_verification_is_asked_only_by_true() -> None:
    assert outcome(verified(), Facts(is_verified=True)) == "satisfied"
    assert outcome(verified(), Facts(is_verified=False)) == "violated"
    assert outcome(condition("client_verified", "is", "false"), Facts()) == "satisfied"


@pytest.mark.parametrize(
    "asked",
    [
        regions("DE"),
        from_networks("10.0.0.0/8"),
        condition("auth_provider_id", "is_not_in", str(PROVIDER)),
        verified(),
    ],
    ids=lambda asked: asked.property.value,
)
def test_a_fact_that_nobody_gave_is_undetermined(asked: Condition) -> None:
    assert outcome(asked, Facts()) == Outcome.UNDETERMINED.value


def test_a_condition_that_cannot_be_read_is_violated() -> None:
    assert (
        outcome(UnreadableCondition(Property.REMOTE_IP, "is odd"), Facts(ip_address("10.0.0.1")))
        == "violated"
    )


def window_end(now: datetime, *values: str) -> datetime | None:
    asked = hours(*values)
    assert isinstance(asked, TimeCondition)
    return end_of_window(asked.days, now)


def test_a_window_holds_from_its_first_to_its_last_second() -> None:
    nine, five = datetime(2026, 11, 23, 9, tzinfo=UTC), datetime(2026, 11, 23, 17, tzinfo=UTC)
    assert window_end(nine, "M/9-17/UTC") == five
    assert window_end(five, "M/9-17/UTC") == five
    assert window_end(nine - timedelta(microseconds=1), "M/9-17/UTC") is None
    assert window_end(five + timedelta(microseconds=1), "M/9-17/UTC") is None


def test_the_day_is_that_of_the_named_zone() -> None:
    tuesday_in_tokyo = datetime(2026, 11, 23, 16, tzinfo=UTC)
    assert window_end(tuesday_in_tokyo, "M/true/Asia/Tokyo") is None
    assert window_end(tuesday_in_tokyo, "T/true/Asia/Tokyo") == datetime(2026, 11, 24, 14, 59, 59, tzinfo=UTC)


def test_a_window_does_not_run_into_the_next_day() -> None:
    late = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    assert window_end(late, "M/22-23:59:59/UTC", "T/0-6/UTC") == datetime(
        2026, 11, 23, 23, 59, 59, tzinfo=UTC
    )


def test_touching_ranges_end_together() -> None:
    assert window_end(NOW, "M/4-12/UTC", "M/12-22/UTC") == datetime(2026, 11, 23, 22, tzinfo=UTC)


def test_the_end_of_the_window_knows_summer_time() -> None:
    # 2026-10-25, Berlin: at 03:00 clocks go back to 02:00.
    before = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)  # 01:30 local
    assert window_end(before, "U/1-5/Europe/Berlin") == datetime(2026, 10, 25, 4, tzinfo=UTC)
    # 2026-03-29, Berlin: at 02:00 clocks go to 03:00; the window's end is skipped with that hour.
    before = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)  # 01:30 local
    assert window_end(before, "U/1-2:30/Europe/Berlin") == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert window_end(before, "U/1-4/Europe/Berlin") == datetime(2026, 3, 29, 2, tzinfo=UTC)


def test_a_window_that_starts_in_the_repeated_hour_ends_when_the_hour_repeats() -> None:
    first_time = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)  # 02:45 local, the first time
    assert window_end(first_time, "U/2:30-5/Europe/Berlin") == datetime(2026, 10, 25, 1, tzinfo=UTC)
    second_time = datetime(2026, 10, 25, 1, 45, tzinfo=UTC)  # 02:45 local, the second time
    assert window_end(second_time, "U/2:30-5/Europe/Berlin") == datetime(2026, 10, 25, 4, tzinfo=UTC)


def test_an_empty_range_never_holds() -> None:
    assert window_end(NOW, "M//UTC") is None


MORNING, AFTERNOON = "M/08:00-13:00/UTC", "M/11:00-17:00/UTC"


@pytest.mark.parametrize("windows", [(MORNING, AFTERNOON), (AFTERNOON, MORNING)])
def test_of_two_windows_the_earlier_end_counts(windows: tuple[str, str]) -> None:
    both = policy(1, *(hours(one) for one in windows))
    evaluation = CompiledPolicy.of(both, STAFF.id).evaluate(FACTS, now=NOW)
    assert evaluation.is_satisfied
    assert evaluation.until == datetime(2026, 11, 23, 13, 0, tzinfo=UTC)


@pytest.mark.parametrize("order", [1, -1])
def test_every_condition_must_hold(order: int) -> None:
    conditions = (regions("DE"), from_networks("10.0.0.0/8"))[::order]
    evaluation = CompiledPolicy.of(policy(1, *conditions), STAFF.id).evaluate(FACTS, now=NOW)
    assert not evaluation.is_satisfied
    assert [result.condition for result in evaluation.failed] == [from_networks("10.0.0.0/8")]


def test_each_property_has_a_kind_of_condition_and_a_check() -> None:
    assert set(KINDS) == set(Property)
    for property_ in Property:
        input_of(property_, Facts(), NOW)
