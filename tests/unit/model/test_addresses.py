from ipaddress import ip_address, ip_network

import pytest

from wardgate.model.addresses import (
    PROXY_IPV4,
    RESERVED,
    SENTINEL_IPV4,
    TUNNEL_IPV4,
    is_proxy_ip,
    may_be_translated_to,
    normalized,
    overlap,
    parse_ip,
    parse_network,
)


def test_host_bits_of_a_network_are_cleared() -> None:
    assert str(parse_network("10.0.0.5/8")) == "10.0.0.0/8"
    assert str(parse_network("2001:db8::1/32")) == "2001:db8::/32"


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/255.0.0.0", "/8", "fe80::%eth0/64", "10.0.0.0/-1"],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_network(text)


@pytest.mark.parametrize("text", ["", "10.0.0.1/32", "010.0.0.1", "fe80::1%eth0", "localhost"])
def test_what_is_no_bare_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_ip(text)


def test_a_mapped_address_is_the_ipv4_one() -> None:
    assert normalized(ip_address("::ffff:192.0.2.1")) == ip_address("192.0.2.1")
    assert normalized(ip_address("2001:db8::1")) == ip_address("2001:db8::1")


def test_networks_of_different_families_never_overlap() -> None:
    assert not overlap(ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert overlap(ip_network("10.0.0.0/8"), ip_network("10.1.0.0/16"))


def test_the_protocols_ranges_lie_in_the_reserved_ones_and_apart() -> None:
    assert all(one.subnet_of(RESERVED[0]) for one in (TUNNEL_IPV4, PROXY_IPV4, SENTINEL_IPV4))
    assert not TUNNEL_IPV4.overlaps(PROXY_IPV4)


@pytest.mark.parametrize(
    ("text", "is_proxy"),
    [
        ("100.95.255.255", False),
        ("100.96.0.0", True),
        ("100.127.255.255", True),
        ("100.128.0.0", False),
        ("100.100.110.255", True),
        ("100.100.111.0", False),
        ("100.100.111.255", False),
        ("10.66.6.6", False),
        ("fd00:2021:1111:7fff:ffff:ffff:ffff:ffff", False),
        ("fd00:2021:1111:8000::", True),
        ("fd00:2021:1111:8000::1f:ffff", True),
        ("fd00:2021:1111:8000::20:0", False),
        ("fd00:2021:1111:8000:100:100:111:0", False),
        ("::ffff:100.96.0.1", False),
    ],
)
def test_proxy_addresses_begin_and_end_where_the_plan_says(text: str, is_proxy: bool) -> None:
    assert is_proxy_ip(ip_address(text)) is is_proxy


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "100.64.0.1",
        "100.96.0.1",
        "100.100.111.1",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "ff02::1",
        "fd00:2021:1111::1",
        "fd00:2021:1111:8000::1",
    ],
)
def test_a_name_never_stands_for_a_special_address(text: str) -> None:
    assert not may_be_translated_to(ip_address(text))


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1", "192.168.1.1", "172.16.0.1", "8.8.8.8", "100.128.0.1", "2001:db8::1", "fd00::1"],
)
def test_a_name_may_stand_for_what_can_be_forwarded_to(text: str) -> None:
    assert may_be_translated_to(ip_address(text))
