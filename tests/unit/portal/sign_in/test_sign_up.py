"""The link of a sign-up holds what was typed, for a day; what may be typed."""

from datetime import UTC, datetime, timedelta

import pytest

from wardgate.portal.keys import Keys
from wardgate.portal.outcomes import Invalid
from wardgate.portal.sign_in.sign_up import LINK_LIFETIME, Wanted, check_wanted, make_link, read_link

KEYS = Keys.derive(b"k" * 32)
AT = datetime(2026, 12, 1, 12, 30, tzinfo=UTC)
WANTED = Wanted("grace@new.example", "Grâce & Söhne", "Grace Hopper")


def test_a_link_says_what_was_typed_until_its_end() -> None:
    link = make_link(WANTED, now=AT, keys=KEYS)
    last = AT + LINK_LIFETIME - timedelta(seconds=1)
    assert read_link(link, now=last, keys=KEYS) == WANTED
    assert read_link(link, now=last + timedelta(seconds=1), keys=KEYS) is None


def test_a_link_of_other_keys_or_another_kind_says_nothing() -> None:
    link = make_link(WANTED, now=AT, keys=Keys.derive(b"o" * 32))
    assert read_link(link, now=AT, keys=KEYS) is None
    for wrong in ("", "x", ".", link[:-1], "\x00", "é"):
        assert read_link(wrong, now=AT, keys=KEYS) is None


@pytest.mark.parametrize(
    ("field", "typed", "is_good"),
    [
        ("account_name", "abc", True),
        ("account_name", "ab", False),
        ("account_name", "a" * 64, True),
        ("account_name", "a" * 65, False),
        ("name", "a" * 255, True),
        ("name", "a" * 256, False),
        ("name", "   ", False),
        ("name", "a\x00b", False),
        ("email", "grace@new.example", True),
        ("email", "grace@new.example\r\nBcc: eve@evil.example", False),
        ("email", "grace", False),
    ],
)
def test_what_may_be_typed(field: str, typed: str, is_good: bool) -> None:
    given = {"email": WANTED.email, "account_name": "Grace", "name": "Grace", field: typed}
    if is_good:
        assert getattr(check_wanted(given, ()), field) == typed
        return
    with pytest.raises(Invalid) as caught:
        check_wanted(given, ())
    assert set(caught.value.errors) == {field}


@pytest.mark.parametrize(
    ("email", "is_good"),
    [
        ("a@one.example", True),
        ("a@TWO.example", True),
        ("a@sub.one.example", False),
        ("a@notone.example", False),
        ("one.example@evil.example", False),
    ],
)
def test_only_named_domains_are_taken_when_some_are_named(email: str, is_good: bool) -> None:
    given = {"email": email, "account_name": "Grace", "name": "Grace"}
    domains = ("one.example", "two.example")
    if is_good:
        check_wanted(given, domains)
    else:
        with pytest.raises(Invalid):
            check_wanted(given, domains)
