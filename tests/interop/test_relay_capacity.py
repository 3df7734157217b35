"""As many allocations as a relay is sized for, on real sockets (operations §15)."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Self

import pytest
from aioice import stun
from wardgate_native import RelayHost

from support.patience import PATIENCE_S
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.wire.derived_secrets import derive_turn_credentials

STAMP_SECRET = "5e" * 32
ALLOCATIONS = 5_000
PORTS = range(10_000, 20_000)  # below those that the kernel gives to whoever asks for any
AT_ONCE = 100


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
    codes: list[int | None] = []
    for first in range(0, ALLOCATIONS, AT_ONCE):
        codes += allocate(relay, range(first, first + AT_ONCE))
    assert codes == [None] * ALLOCATIONS
    stats = relay.stats()
    assert (stats["allocations"], stats["sockets"]) == (ALLOCATIONS, ALLOCATIONS)
    assert (stats["allocations_refused"], stats["rate_limited"]) == (0, 0)

    assert allocate(relay, [ALLOCATIONS]) == [508]
    assert relay.stats()["allocations_refused"] == 1
    warnings, fault = relay.take_news()
    assert [warning for warning in warnings if "LimitNOFILE" in warning] != []
    assert fault is None


def allocate(relay: RelayHost, numbers: Iterable[int]) -> list[int | None]:
    """Allocate for clients of addresses of their own, which then fall silent; returns the error code of each,
    if any.
    """
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(relay, number)) for number in numbers]
        for client in clients:
            client.ask(nonce=None)
        for client in clients:
            challenge = client.answer()
            assert challenge.attributes["ERROR-CODE"][0] == 401
            client.ask(nonce=challenge.attributes["NONCE"])
        answers = [client.answer().attributes.get("ERROR-CODE") for client in clients]
    return [None if error is None else error[0] for error in answers]


class Client:
    def __init__(self, relay: RelayHost, number: int) -> None:
        expires_at = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
        credentials = derive_turn_credentials(STAMP_SECRET, f"client{number}", expires_at)
        self._username = credentials.username
        secret = f"{credentials.username}:firezone:{credentials.password}".encode()
        self._key = md5(secret, usedforsecurity=False).digest()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.bind((f"127.1.{number >> 8}.{number & 255}", 0))
        self._socket.connect(("127.0.0.1", relay.local_port()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *, nonce: bytes | None) -> None:
        request = stun.Message(stun.Method.ALLOCATE, stun.Class.REQUEST)
        request.attributes["REQUESTED-TRANSPORT"] = 17 << 24
        request.attributes["USERNAME"] = self._username
        request.attributes["REALM"] = "firezone"
        if nonce is not None:
            request.attributes["NONCE"] = nonce
        request.add_message_integrity(self._key)
        self._socket.send(bytes(request))

    def answer(self) -> stun.Message:
        return stun.parse_message(self._socket.recv(2_000))
