import asyncio
import random

import pytest

from wardgate.simulation.network import Datagram, Nat, NatKind, SimNetwork
from wardgate.simulation.virtual_time import run_virtual

SERVER, OTHER = "203.0.113.5:3478", "203.0.113.6:3478"
INSIDE = "10.0.0.2:52625"


def test_a_cone_keeps_its_mapping_and_a_symmetric_router_does_not() -> None:
    cone = Nat(NatKind.PORT_RESTRICTED, "198.51.100.1")
    symmetric = Nat(NatKind.SYMMETRIC, "198.51.100.2")
    assert cone.outbound(INSIDE, SERVER, 0) == cone.outbound(INSIDE, OTHER, 0) == "198.51.100.1:52625"
    assert symmetric.outbound(INSIDE, SERVER, 0) != symmetric.outbound(INSIDE, OTHER, 0)


@pytest.mark.parametrize(
    ("kind", "same_ip_other_port", "stranger"),
    [
        (NatKind.FULL_CONE, True, True),
        (NatKind.ADDRESS_RESTRICTED, True, False),
        (NatKind.PORT_RESTRICTED, False, False),
        (NatKind.SYMMETRIC, False, False),
    ],
)
def test_filtering_follows_the_kind(kind: NatKind, same_ip_other_port: bool, stranger: bool) -> None:
    nat = Nat(kind, "198.51.100.1")
    public = nat.outbound(INSIDE, SERVER, 0)
    assert nat.inbound(SERVER, public, 1) == INSIDE
    assert (nat.inbound("203.0.113.5:9", public, 1) is not None) is same_ip_other_port
    assert (nat.inbound("203.0.113.9:9", public, 1) is not None) is stranger


def test_a_binding_expires_when_nothing_refreshes_it() -> None:
    nat = Nat(NatKind.FULL_CONE, "198.51.100.1", binding_s=30)
    public = nat.outbound(INSIDE, SERVER, 0)
    assert nat.inbound(SERVER, public, 29) == INSIDE
    assert nat.inbound(SERVER, public, 58) == INSIDE
    assert nat.inbound(SERVER, public, 89) is None


def test_a_datagram_takes_both_edges_latency_and_comes_back_through_the_router() -> None:
    got: list[tuple[float, Datagram]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        network = SimNetwork(random.Random(1))
        nat = Nat(NatKind.PORT_RESTRICTED, "198.51.100.1")
        client = network.attach(
            "c", "10.0.0.2", lambda d: got.append((loop.time() - start, d)), nat=nat, latency_s=0.02
        )
        server = network.attach(
            "s", "203.0.113.5", lambda d: network.send(server, (d[1], d[0], d[2])), latency_s=0.03
        )
        network.send(client, (INSIDE, SERVER, b"ping"))
        await asyncio.sleep(1)

    run_virtual(main())
    assert got == [(pytest.approx(0.1), (SERVER, INSIDE, b"ping"))]


def test_a_lossy_edge_loses_its_share() -> None:
    async def main() -> int:
        network = SimNetwork(random.Random(7))
        network.attach("s", "203.0.113.5", lambda _: None, loss=0.5)
        client = network.attach("c", "203.0.113.7", lambda _: None)
        for _ in range(1000):
            network.send(client, ("203.0.113.7:1", SERVER, b"x"))
        await asyncio.sleep(1)
        return network.lost

    assert 400 < run_virtual(main()) < 600
