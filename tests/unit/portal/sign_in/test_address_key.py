"""What an address counts as where tries and forms are counted."""

from ipaddress import ip_address

from wardgate.portal.sign_in.steps import address_key


def test_the_addresses_of_one_ipv6_network_count_together() -> None:
    subscriber = {address_key(ip_address(f"2001:db8:1:2::{n:x}")) for n in (1, 2, 0xFFFF)}
    assert len(subscriber) == 1
    assert address_key(ip_address("2001:db8:1:3::1")) not in subscriber


def test_ipv4_addresses_count_alone() -> None:
    assert address_key(ip_address("192.0.2.1")) != address_key(ip_address("192.0.2.2"))
