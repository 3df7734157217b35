from ipaddress import ip_address, ip_network

import pytest

from wardgate.portal.outbound import ReachableAddresses

PUBLIC_ONLY = ReachableAddresses()
WITH_TEN = ReachableAddresses((ip_network("10.20.0.0/16"), ip_network("fd12::/32")))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.255.255", "192.0.0.8",
        "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.1.1", "192.175.48.1", "198.19.0.1",
        "198.51.100.1", "203.0.113.1", "224.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::1",
        "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:db8::1", "2001:20::1", "2002:a00:1::", "fc00::1",
        "fd00::1", "fe80::1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_special_addresses_are_out_of_reach(text: str) -> None:
    assert ip_address(text) not in PUBLIC_ONLY


@pytest.mark.parametrize("text", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_reached(text: str) -> None:
    assert ip_address(text) in PUBLIC_ONLY


@pytest.mark.parametrize(
    ("text", "is_reached"),
    [
        ("10.20.0.1", True),
        ("::ffff:10.20.0.1", True),
        ("fd12::1", True),
        ("10.21.0.1", False),
        ("::ffff:10.21.0.1", False),
        ("127.0.0.1", False),
        ("fd13::1", False),
    ],
)
def test_an_allowed_network_opens_itself_and_no_other(text: str, is_reached: bool) -> None:
    assert (ip_address(text) in WITH_TEN) is is_reached


@pytest.mark.parametrize(
    "uri",
    [
        "https://idp.example.org/.well-known/openid-configuration",
        "https://idp.example.org:8443/x",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
    ],
)
def test_public_uris_may_be_named(uri: str) -> None:
    assert PUBLIC_ONLY.may_name(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "", "http://idp.example.org/", "ftp://idp.example.org/", "https://", "https:///path", "https://localhost/",
        "https://idp/", "https://idp.localhost/", "https://10.20.0.1/", "https://[::ffff:10.20.0.1]/",
        "https://127.1/", "https://2130706433/", "https://user@idp.example.org/", "https://idp.example.org/#a",
        "https://idp.example.org:0/", "https://idp.example.org:99999/", "https://idp..example.org/",
        "https://idp.example.org\\@10.0.0.1/", "https://idp.exämple.org/", "https://idp.example.org/ x",
        "https://[::1/",
    ],
)  # fmt: skip
def test_others_may_not(uri: str) -> None:
    assert not PUBLIC_ONLY.may_name(uri)


def test_an_allowed_network_may_be_named_by_address_and_by_inner_name() -> None:
    assert WITH_TEN.may_name("http://10.20.0.1:8080/x")
    assert WITH_TEN.may_name("https://keycloak/x")
    assert not WITH_TEN.may_name("https://10.21.0.1/x")
    assert not WITH_TEN.may_name("https://127.1/")
