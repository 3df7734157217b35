"""The relay and a foreign STUN, TURN and ICE implementation (aioice) over real sockets on loopback."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from aioice import Candidate, Connection, TransportPolicy, stun
from aioice.turn import TurnTransport, create_turn_endpoint
from wardgate_native import RelayHost

from support.patience import PATIENCE_S
from wardgate.wire.derived_secrets import TurnCredentials, derive_turn_credentials

STAMP_SECRET = "5e" * 32


@pytest.fixture
def relay() -> Iterator[RelayHost]:
    host = RelayHost(stamp_secret=STAMP_SECRET, ipv4="127.0.0.1", ipv6=None, port=0, max_sockets=1000)
    yield host
    host.close()


async def test_binding_tells_the_address_that_the_relay_sees(relay: RelayHost) -> None:
    inbox = Inbox()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: inbox, remote_addr=_address(relay)
    )
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    transport.sendto(bytes(request))
    answer = stun.parse_message((await inbox.next())[0])
    assert answer.message_class == stun.Class.RESPONSE
    assert answer.transaction_id == request.transaction_id
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == transport.get_extra_info("sockname")
    transport.close()


async def test_an_allocation_relays_both_ways_over_a_channel_and_is_freed(relay: RelayHost) -> None:
    client, peer = Inbox(), Inbox()
    allocation = await _allocate(relay, client, _credentials("client"))
    peer_transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: peer, local_addr=("127.0.0.1", 0)
    )
    peer_address = peer_transport.get_extra_info("sockname")
    relayed_address = allocation.get_extra_info("sockname")
    for payload in (b"a", b"odd", bytes(1300)):
        allocation.sendto(payload, peer_address)
        assert await peer.next() == (payload, relayed_address)
        peer_transport.sendto(payload[::-1], relayed_address)
        assert await client.next() == (payload[::-1], peer_address)
    assert relay.stats()["allocations"] == 1
    assert relay.stats()["channels"] == 1
    allocation.close()
    await asyncio.wait_for(client.lost.wait(), PATIENCE_S)
    assert relay.stats()["allocations"] == 0
    peer_transport.close()


@pytest.mark.parametrize("wrong", ["password", "expiry"])
async def test_an_allocation_is_refused_with_the_wrong(relay: RelayHost, wrong: str) -> None:
    if wrong == "password":
        credentials = TurnCredentials(_credentials("client").username, "guess", 0)
    else:
        credentials = _credentials("client", lifetime=timedelta(seconds=-5))
    with pytest.raises(stun.TransactionFailed) as refused:
        await asyncio.wait_for(_allocate(relay, Inbox(), credentials), PATIENCE_S)
    assert refused.value.response.error_code == 401
    assert relay.stats()["allocations"] == 0


async def test_a_relay_that_denies_private_ranges_binds_no_such_peer() -> None:
    relay = RelayHost(
        stamp_secret=STAMP_SECRET, ipv4="127.0.0.1", ipv6=None, port=0, deny_private=True, max_sockets=1000
    )
    client, peer = Inbox(), Inbox()
    try:
        allocation = await _allocate(relay, client, _credentials("client"))
        for address in ("10.0.0.1", "192.168.1.1", "100.64.0.1"):
            allocation.sendto(b"never sent", (address, 9))
            refusal = await asyncio.wait_for(client.refusals.get(), PATIENCE_S)
            assert isinstance(refusal, stun.TransactionFailed)
            assert refusal.response.error_code == 403
        peer_transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: peer, local_addr=("127.0.0.1", 0)
        )
        allocation.sendto(b"a", peer_transport.get_extra_info("sockname"))
        assert (await peer.next())[0] == b"a"
        allocation.close()
        await asyncio.wait_for(client.lost.wait(), PATIENCE_S)
        peer_transport.close()
    finally:
        relay.close()


async def test_two_ice_agents_meet_inside_the_relay(relay: RelayHost) -> None:
    agents = [_agent(relay, controlling=controlling) for controlling in (True, False)]
    for agent in agents:
        await agent.gather_candidates()
    for agent, other in zip(agents, reversed(agents), strict=True):
        assert [candidate.type for candidate in other.local_candidates] == ["relay"]
        for candidate in other.local_candidates:
            await agent.add_remote_candidate(Candidate.from_sdp(candidate.to_sdp()))
        await agent.add_remote_candidate(None)
        agent.remote_username, agent.remote_password = other.local_username, other.local_password
    await asyncio.wait_for(asyncio.gather(*(agent.connect() for agent in agents)), PATIENCE_S)
    left, right = agents
    for sender, receiver in ((left, right), (right, left)):
        await sender.send(b"over the relay")
        assert await asyncio.wait_for(receiver.recv(), PATIENCE_S) == b"over the relay"
    assert relay.stats()["allocations"] == 2
    for agent in agents:
        await agent.close()


class Inbox(asyncio.DatagramProtocol):
    """Keeps what arrives, with its sender."""

    def __init__(self) -> None:
        self.datagrams: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()
        self.refusals: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.datagrams.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.refusals.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    async def next(self) -> tuple[bytes, tuple[str, int]]:
        return await asyncio.wait_for(self.datagrams.get(), PATIENCE_S)


async def _allocate(relay: RelayHost, inbox: Inbox, credentials: TurnCredentials) -> TurnTransport:
    transport, _ = await create_turn_endpoint(
        lambda: inbox, _address(relay), credentials.username, credentials.password
    )
    return transport


def _agent(relay: RelayHost, *, controlling: bool) -> Connection:
    credentials = _credentials(f"agent {controlling}")
    return Connection(
        ice_controlling=controlling,
        turn_server=_address(relay),
        turn_username=credentials.username,
        turn_password=credentials.password,
        transport_policy=TransportPolicy.RELAY,
    )


def _credentials(name: str, *, lifetime: timedelta = timedelta(hours=1)) -> TurnCredentials:
    """What the portal hands to a peer; the name stands for its public key."""
    return derive_turn_credentials(STAMP_SECRET, name, int((datetime.now(UTC) + lifetime).timestamp()))


def _address(relay: RelayHost) -> tuple[str, int]:
    return "127.0.0.1", relay.local_port()
