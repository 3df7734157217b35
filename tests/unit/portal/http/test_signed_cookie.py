"""A cookie says what the portal wrote, for as long as the portal said, under the name that it was written for."""

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.signed_cookie import SignedCookie

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEY = b"k" * 32


def written(cookie: SignedCookie, value: Any, *, of: object = None) -> tuple[str, str]:
    response = Response()
    cookie.set(response, value, lifetime=MINUTE, now=NOW, of=of)
    parsed = SimpleCookie(response.headers["set-cookie"])
    ((name, morsel),) = parsed.items()
    return name, morsel.value


def request_with(name: str, value: str) -> Request:
    return Request({"type": "http", "headers": [(b"cookie", f"{name}={value}".encode())]})


def test_reads_what_it_wrote_until_its_end() -> None:
    cookie = SignedCookie(KEY, "kept", is_secure=True)
    request = request_with(*written(cookie, ["a", 1, None]))
    assert cookie.read(request, now=NOW + MINUTE - timedelta(seconds=1)) == ["a", 1, None]
    assert cookie.read(request, now=NOW + MINUTE) is None


def test_a_value_is_worth_nothing_under_another_name_or_key() -> None:
    cookie = SignedCookie(KEY, "kept", is_secure=True)
    _name, value = written(cookie, "a", of="one")
    assert cookie.read(request_with("kept_one", value), now=NOW, of="one") == "a"
    assert cookie.read(request_with("kept_two", value), now=NOW, of="two") is None
    assert (
        SignedCookie(KEY, "other", is_secure=True).read(request_with("other_one", value), now=NOW, of="one")
        is None
    )
    assert (
        SignedCookie(b"x" * 32, "kept", is_secure=True).read(
            request_with("kept_one", value), now=NOW, of="one"
        )
        is None
    )


@pytest.mark.parametrize("value", ["", "x", "a.b", "WzEsMl0.x", "é"])
def test_what_we_did_not_sign_is_no_value(value: str) -> None:
    assert SignedCookie(KEY, "kept", is_secure=True).read(request_with("kept", value), now=NOW) is None


@pytest.mark.parametrize("is_secure", [True, False])
def test_is_kept_from_scripts_and_from_other_sites_forms(is_secure: bool) -> None:
    response = Response()
    SignedCookie(KEY, "kept", is_secure=is_secure).set(response, "a", lifetime=MINUTE, now=NOW)
    header = response.headers["set-cookie"]
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    assert "Path=/" in header
    assert "Domain" not in header
    assert "Max-Age=60" in header
    assert ("Secure" in header) is is_secure
