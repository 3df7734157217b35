from ipaddress import IPv4Address, IPv6Address

import pytest

from wardgate.wire.json_types import ENCODER


@pytest.mark.parametrize(
    "text",
    ["0.0.0.0", "100.70.0.1", "255.255.255.255", "::", "fd00:2021:1111::1:7", "::ffff:1.2.3.4", "::1", "fe80::1%eth0"],
)  # fmt: skip
def test_an_address_is_written_as_the_standard_library_does_each_time(text: str) -> None:
    address = IPv6Address(text) if ":" in text else IPv4Address(text)
    for _ in range(2):
        assert ENCODER.encode(address).decode() == f'"{address}"'


def test_addresses_of_the_same_number_are_not_taken_for_each_other() -> None:
    both = [IPv4Address(1), IPv6Address(1), IPv6Address("::1%a"), IPv6Address("::1%b")]
    assert ENCODER.encode(both).decode() == '["0.0.0.1","::1","::1%a","::1%b"]'
