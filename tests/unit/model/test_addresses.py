from ipaddress import ip_address, ip_network

import pytest

from wardgate.model.addresses import (
    PROXY_IPV4,
    RESERVED,
    SENTINEL_IPV4,
    TUNNEL_IPV4,
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
