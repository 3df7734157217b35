"""Headers as every server of the portal reads them."""

import pytest

from wardgate.portal.http.headers import headers_of, host_of, raw_headers, values_of

SCOPE = {"headers": [(b"X-Place", b"first"), (b"host", b"Portal.Example.:8443"), (b"x-place", b"caf\xe9")]}


def test_names_have_no_case_and_the_last_of_a_name_counts() -> None:
    assert headers_of(SCOPE) == {"x-place": "café", "host": "Portal.Example.:8443"}


def test_all_values_of_a_name_are_found_in_their_order() -> None:
    assert values_of(SCOPE, "x-place") == ["first", "café"]
    assert values_of(SCOPE, "accept") == []


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        (b"Portal.Example.:8443", "portal.example"),
        (b"[2001:db8::1]:8443", "2001:db8::1"),
        (b"192.0.2.1", "192.0.2.1"),
        (b"", ""),
    ],
)
def test_a_host_has_neither_port_nor_case(sent: bytes, host: str) -> None:
    assert host_of({"headers": [(b"Host", sent), (b"Host", b"second.example")]}) == host


def test_without_a_host_header_there_is_no_host() -> None:
    assert host_of({"headers": []}) == ""


def test_what_is_written_is_read_again() -> None:
    headers = {"location": "/café", "retry-after": "1"}
    assert headers_of({"headers": raw_headers(headers)}) == headers
