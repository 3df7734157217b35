import pytest

from wardgate.model.conditions import (
    InvalidCondition,
    RemoteIpCondition,
    TimeCondition,
    TimeRange,
    UnreadableCondition,
    parse_condition,
    parse_day_ranges,
    parse_stored_condition,
    render_condition,
)

STORED = [
    ("remote_ip_location_region", "is_in", ["DE", "FR"]),
    ("remote_ip_location_region", "is_not_in", ["US"]),
    ("remote_ip", "is_in_cidr", ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]),
    ("remote_ip", "is_not_in_cidr", ["10.0.0.0/8"]),
    ("auth_provider_id", "is_in", ["33333333-3333-4333-8333-333333333333"]),
    ("auth_provider_id", "is_not_in", ["33333333-3333-4333-8333-333333333333"]),
    (
        "current_utc_datetime",
        "is_in_day_of_week_time_ranges",
        ["M/09:00-17:00,18-20/Europe/Berlin", "U/true/UTC"],
    ),
    ("client_verified", "is", ["true"]),
    ("client_verified", "is", ["false"]),
]


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: f"{stored[0]}-{stored[1]}")
def test_a_stored_condition_renders_to_what_it_was(stored: tuple[str, str, list[str]]) -> None:
    assert render_condition(parse_condition(*stored)) == stored


@pytest.mark.parametrize(
    ("stored", "field", "index"),
    [
        (("weather", "is_in", ["sun"]), "property", None),
        (("remote_ip", "is_in", ["10.0.0.0/8"]), "operator", None),
        (("remote_ip", "contains", ["10.0.0.0/8"]), "operator", None),
        (("remote_ip", "is_in_cidr", []), "values", None),
        (("remote_ip", "is_in_cidr", ["10.0.0.0/8", " 10.0.0.0/8 "]), "values", None),
        (("remote_ip", "is_in_cidr", ["10.0.0.0/8", "10.0.0.0/33"]), "values", 1),
        (("remote_ip", "is_in_cidr", ["fe80::1%eth0"]), "values", 0),
        (("remote_ip_location_region", "is_in", ["DE", "XX"]), "values", 1),
        (("auth_provider_id", "is_in", ["google"]), "values", 0),
        (("client_verified", "is", ["yes"]), "values", 0),
        (("client_verified", "is", ["true", "false"]), "values", None),
    ],
)
def test_an_error_names_the_field_and_element_at_fault(
    stored: tuple[str, str, list[str]], field: str, index: int | None
) -> None:
    with pytest.raises(InvalidCondition) as caught:
        parse_condition(*stored)
    assert (caught.value.field, caught.value.index) == (field, index)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("M/9-17", "timezone is required"),
        ("M/9-17/", "timezone is required"),
        ("X/9-17/UTC", "day of the week"),
        ("m/9-17/UTC", "day of the week"),
        ("M/9-17/Mars/Base", "timezone"),
        ("M/9-17/../etc/passwd", "timezone"),
        ("M/9-17/Europe", "timezone"),
        ("M/9-17/localtime", "timezone"),
        ("M/9-17/posixrules", "timezone"),
        ("M/9-17/right/UTC", "timezone"),
        ("M/9-17/posix/Europe/Berlin", "timezone"),
        ("M/17-9/UTC", "ends before"),
        ("M/9-24/UTC", "invalid time"),
        ("M/9-10:60/UTC", "invalid time"),
        ("M/9/UTC", "time range"),
        ("M/a-b/UTC", "invalid time"),
    ],
)
def test_each_kind_of_bad_time_range_has_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_day_ranges(text)


def test_times_may_lack_parts_and_ranges_that_touch_are_one() -> None:
    assert parse_day_ranges("F/4-11,11:00-22:30:15.99/UTC").ranges == (TimeRange(4 * 3600, 22 * 3600 + 1815),)
    assert parse_day_ranges("F/true/UTC").ranges == (TimeRange(0, 86_399),)
    assert parse_day_ranges("F//UTC").ranges == ()


def test_values_of_one_day_and_zone_are_pooled() -> None:
    condition = parse_condition(
        "current_utc_datetime", "is_in_day_of_week_time_ranges", ["M/8-10/UTC", "M/10-12/UTC"]
    )
    assert isinstance(condition, TimeCondition)
    (day,) = condition.days
    assert day.ranges == (TimeRange(8 * 3600, 12 * 3600),)


def test_a_bare_address_is_a_full_length_network() -> None:
    condition = parse_condition("remote_ip", "is_in_cidr", ["192.0.2.1"])
    assert isinstance(condition, RemoteIpCondition)
    assert [str(network) for network in condition.networks] == ["192.0.2.1/32"]


def test_an_unreadable_stored_condition_survives_as_one_that_nobody_satisfies() -> None:
    condition = parse_stored_condition("remote_ip", "is_in_cidr", ["nonsense"])
    assert isinstance(condition, UnreadableCondition)
    with pytest.raises(ValueError, match="unreadable"):
        render_condition(condition)


def test_a_stored_condition_with_a_value_that_is_no_text_is_unreadable_and_breaks_nothing() -> None:
    condition = parse_stored_condition("remote_ip", "is_in_cidr", ["10.0.0.0/8", 7])  # type: ignore[list-item]
    assert isinstance(condition, UnreadableCondition)


def test_duplicate_values_are_refused_in_the_words_of_the_api() -> None:
    with pytest.raises(InvalidCondition, match="must not contain duplicate values"):
        parse_condition("remote_ip_location_region", "is_in", ["DE", "DE "])
