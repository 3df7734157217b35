"""As many allocations as a relay is sized for, on real sockets (operations §15)."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import md5

import pytest
from aioice import stun
from wardgate_native import RelayHost

from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.wire.derived_secrets import derive_turn_credentials

STAMP_SECRET = "5e" * 32
ALLOCATIONS = 5_000
PORTS = range(10_000, 20_000)  # below those that the kernel gives to whoever asks for any
PATIENCE_S = 10.0


@pytest.fixture
def relay() -> Iterator[RelayHost]:
    limit = raise_descriptor_limit(ALLOCATIONS + 1_000)
    if limit < ALLOCATIONS + 500:
        pytest.skip(f"this machine allows {limit} open files, {ALLOCATIONS} allocations take more")
    host = RelayHost(
        stamp_secret=STAMP_SECRET,
        ipv4="127.0.0.1",
        ipv6=None,
        port=0,
        first_port=PORTS[0],
        last_port=PORTS[-1],
        max_sockets=ALLOCATIONS,
    )
    yield host
    host.close()


@pytest.mark.timeout(120)
def test_five_thousand_clients_hold_allocations_and_the_next_is_told_why_not(relay: RelayHost) -> None:
    codes = [allocate(relay, client) for client in range(ALLOCATIONS)]
    assert codes == [None] * ALLOCATIONS
    stats = relay.stats()
    assert (stats["allocations"], stats["sockets"]) == (ALLOCATIONS, ALLOCATIONS)
    assert (stats["allocations_refused"], stats["rate_limited"]) == (0, 0)

    assert allocate(relay, ALLOCATIONS) == 508
    assert relay.stats()["allocations_refused"] == 1
    warnings, fault = relay.take_news()
    assert [warning for warning in warnings if "LimitNOFILE" in warning] != []
    assert fault is None


def allocate(relay: RelayHost, number: int) -> int | None:
    """Allocate for a client of its own address, which then falls silent; returns the error code, if any."""
    expires_at = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    credentials = derive_turn_credentials(STAMP_SECRET, f"client{number}", expires_at)
    key = md5(
        f"{credentials.username}:firezone:{credentials.password}".encode(), usedforsecurity=False
    ).digest()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE_S)
        client.bind((f"127.1.{number >> 8}.{number & 255}", 9))
        client.connect(("127.0.0.1", relay.local_port()))
        challenge = ask(client, credentials.username, key, nonce=None)
        assert challenge.attributes["ERROR-CODE"][0] == 401
        answer = ask(client, credentials.username, key, nonce=challenge.attributes["NONCE"])
    error = answer.attributes.get("ERROR-CODE")
    return None if error is None else error[0]


def ask(client: socket.socket, username: str, key: bytes, *, nonce: bytes | None) -> stun.Message:
    request = stun.Message(stun.Method.ALLOCATE, stun.Class.REQUEST)
    request.attributes["REQUESTED-TRANSPORT"] = 17 << 24
    request.attributes["USERNAME"] = username
    request.attributes["REALM"] = "firezone"
    if nonce is not None:
        request.attributes["NONCE"] = nonce
    request.add_message_integrity(key)
    client.send(bytes(request))
    return stun.parse_message(client.recv(2_000))
