from dataclasses import replace
from typing import Any

import pytest

from support.identity_provider import ISSUER, PARTY, claims
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure
from wardgate.portal.sign_in.oidc.profile import MAX_GROUPS, Profile, profile_of

ENTRA = replace(PARTY, subject_claims=("oid",), email_claim="upn")


def profile(userinfo: dict[str, Any] | None = None, /, **changed: Any) -> Profile:
    return profile_of(claims(0, "n", **changed), userinfo, PARTY)


def test_is_what_the_token_says() -> None:
    found = profile(given_name="Ada", picture="https://idp.test/ada.png")
    assert (found.issuer, found.subject, found.email, found.name) == (
        ISSUER, "subject-1", "ada@example.org", "Ada",
    )  # fmt: skip
    assert (found.given_name, found.picture, found.is_email_verified) == (
        "Ada",
        "https://idp.test/ada.png",
        True,
    )
    assert found.groups is None


def test_userinfo_of_the_same_subject_completes_it_and_never_names_the_address() -> None:
    found = profile({"sub": "subject-1", "name": "Ada L.", "nickname": "al", "email": "eve@example.org"})
    assert (found.name, found.nickname, found.email) == ("Ada L.", "al", "ada@example.org")


@pytest.mark.parametrize("sub", ["subject-2", None])
def test_userinfo_of_somebody_else_is_ignored(sub: str | None) -> None:
    found = profile({"sub": sub, "name": "Eve", "email_verified": True}, email_verified=None)
    assert (found.name, found.is_email_verified) == ("Ada", False)


@pytest.mark.parametrize(
    ("token", "userinfo", "is_verified"),
    [
        (True, None, True),
        ("true", None, False),
        (1, None, False),
        (False, True, False),
        (None, True, True),
        (None, "true", False),
        (None, None, False),
    ],
)
def test_an_address_is_verified_if_the_provider_says_true(
    token: Any, userinfo: Any, is_verified: bool
) -> None:
    more = {"sub": "subject-1"} if userinfo is None else {"sub": "subject-1", "email_verified": userinfo}
    assert profile(more, email_verified=token).is_email_verified is is_verified


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"given_name": "Ada", "family_name": "Lovelace"}, "Ada Lovelace"),
        ({"given_name": "Ada"}, "Ada"),
        ({"preferred_username": "ada1", "nickname": "al"}, "ada1"),
        ({"nickname": "al"}, "al"),
        ({}, "ada@example.org"),
    ],
)
def test_a_name_is_put_together_from_what_there_is(changed: dict[str, str], name: str) -> None:
    assert profile(name=None, **changed).name == name


@pytest.mark.parametrize(
    "changed",
    [
        {"email": None},
        {"email": "nobody"},
        {"email": 1},
        {"email": "a" * 160 + "@example.org"},
        {"sub": None},
        {"sub": 1},
        {"sub": "s" * 256},
        {"sub": "a\x00"},
        {"name": "n" * 256},
        {"name": "\ud800"},
        {"picture": "https://" + "p" * 2048},
    ],
)
def test_what_is_missing_or_too_long_ends_the_sign_in(changed: dict[str, Any]) -> None:
    with pytest.raises(OidcFailed) as caught:
        profile(**changed)
    assert caught.value.failure is OidcFailure.PROFILE_REFUSED


def test_what_is_no_text_or_no_web_address_is_left_out() -> None:
    found = profile(nickname=["al"], middle_name={"a": 1}, picture="javascript:alert(1)", profile="//x")
    assert (found.nickname, found.middle_name, found.picture, found.profile) == (None, None, None, None)


def test_a_generic_provider_is_asked_for_the_object_id_first() -> None:
    assert profile(oid="object-1").subject == "object-1"


def test_entra_knows_people_by_object_id_only() -> None:
    found = profile_of(claims(0, "n", oid="object-1", upn="Ada@corp.example"), None, ENTRA)
    assert (found.subject, found.email.lower()) == ("object-1", "ada@corp.example")
    with pytest.raises(OidcFailed):
        profile_of(claims(0, "n", upn="ada@corp.example"), None, ENTRA)


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        (["dev", "ops", "dev", " ", 1, "a\x00b", "x" * 201], ("dev", "ops")),
        ("dev", ("dev",)),
        ([], ()),
        ({"a": 1}, None),
    ],
)
def test_groups_are_distinct_names(groups: Any, found: tuple[str, ...] | None) -> None:
    assert profile(groups=groups).groups == found


def test_groups_are_so_many_and_no_more() -> None:
    assert len(profile(groups=[f"g{n}" for n in range(1000)]).groups or ()) == MAX_GROUPS
