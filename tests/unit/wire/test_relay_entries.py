from uuid import UUID

import pytest

from wardgate.model.ids import RelayId
from wardgate.wire.messages import Relay, StunRelay, TurnRelay
from wardgate.wire.relay_entries import merge_relay_entries, parse_socket_address

A, B = RelayId(UUID(int=1)), RelayId(UUID(int=2))


def entry(relay_id: RelayId, addr: str) -> TurnRelay:
    return TurnRelay(id=relay_id, addr=addr, username="u", password="p", expires_at=9)


def addresses(*entries: Relay) -> list[tuple[str, ...]]:
    return [server.socket_addresses for server in merge_relay_entries(entries)]


def test_two_adjacent_entries_of_one_relay_are_one_dual_stack_server() -> None:
    both = addresses(entry(A, "192.0.2.1:3478"), entry(A, "[2001:db8::1]:3478"), entry(B, "192.0.2.2:3478"))
    assert both == [("192.0.2.1:3478", "[2001:db8::1]:3478"), ("192.0.2.2:3478",)]


def test_entries_of_one_relay_that_are_apart_replace_each_other() -> None:
    assert addresses(entry(A, "192.0.2.1:1"), entry(B, "192.0.2.2:1"), entry(A, "[2001:db8::1]:1")) == [
        ("[2001:db8::1]:1",),
        ("192.0.2.2:1",),
    ]


def test_stun_entries_and_unreadable_addresses_are_left_out() -> None:
    assert addresses(StunRelay(id=A, addr="192.0.2.1:3478"), entry(B, "relay.example:3478")) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "::1:5",
        "[1.2.3.4]:5",
        "[::1]5",
        "[fe80::1%eth0]:5",
        "1.2.3.4:٣",
    ],
)
def test_what_is_no_socket_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_socket_address(text)
