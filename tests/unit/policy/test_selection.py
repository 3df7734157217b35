import random
from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from uuid import UUID

import pytest

from support.worlds import LAB
from wardgate.model.ids import DeviceId, GatewayId, RelayId, ResourceId
from wardgate.model.resources import InternetResource, IpResource, Resource
from wardgate.model.versions import Version
from wardgate.policy.selection import (
    Chosen,
    NoGateway,
    OnlineGateway,
    OnlineRelay,
    Position,
    WhyChosen,
    distance_km,
    select_gateway,
    select_relays,
)

BERLIN, PARIS, SYDNEY = Position(52.52, 13.40), Position(48.85, 2.35), Position(-33.87, 151.21)
HOST = IpResource(ResourceId(UUID(int=1)), "host", LAB.id, ip_address("192.0.2.1"))
INTERNET = InternetResource(ResourceId(UUID(int=2)), "Internet", LAB.id)


def gateway(number: int, version: str | None = "1.5.0", position: Position | None = None) -> OnlineGateway:
    return OnlineGateway(
        GatewayId(DeviceId(UUID(int=number))), None if version is None else Version.parse(version), position
    )


def select(
    *online: OnlineGateway,
    resource: Resource = HOST,
    client: str | None = "1.5.0",
    announced: bool = True,
    position: Position | None = None,
    connected: tuple[OnlineGateway, ...] = (),
    seed: int = 1,
) -> Chosen | NoGateway:
    return select_gateway(
        online,
        resource=resource,
        client_version=None if client is None else Version.parse(client),
        client_announced_version=announced,
        client_position=position,
        connected={one.id for one in connected},
        rng=random.Random(seed),
    )


def test_no_gateway_is_offline_and_no_compatible_one_a_version_mismatch() -> None:
    assert select() is NoGateway.OFFLINE
    assert select(gateway(1, "1.3.0")) is NoGateway.VERSION_MISMATCH
    assert select(gateway(1, None)) is NoGateway.VERSION_MISMATCH
    assert select(gateway(1), client=None, announced=True) is NoGateway.VERSION_MISMATCH
    assert select(gateway(1, "1.2.0"), resource=INTERNET, client="1.3.0") is NoGateway.VERSION_MISMATCH


def test_a_client_that_announces_no_version_is_served_by_all() -> None:
    assert isinstance(select(gateway(1, "0.1.0"), client=None, announced=False), Chosen)


def test_a_tunnel_that_stands_beats_distance() -> None:
    far = gateway(1, position=SYDNEY)
    chosen = select(far, gateway(2, position=BERLIN), position=BERLIN, connected=(far,))
    assert chosen == Chosen(far, WhyChosen.ALREADY_CONNECTED)


def test_one_that_drains_is_chosen_for_nothing_new_whoever_has_a_tunnel_to_it() -> None:
    draining = replace(gateway(1, position=BERLIN), is_draining=True)
    far = gateway(2, position=SYDNEY)
    assert select(draining, far, position=BERLIN, connected=(draining,)) == Chosen(far, WhyChosen.ONLY)
    assert select(draining, position=BERLIN, connected=(draining,)) is NoGateway.DRAINING
    assert select(draining, gateway(2, "1.3.0")) is NoGateway.DRAINING
    assert {none: none.reason for none in NoGateway} == {
        NoGateway.OFFLINE: "offline",
        NoGateway.DRAINING: "offline",
        NoGateway.VERSION_MISMATCH: "version_mismatch",
    }


def test_the_nearest_place_wins_and_there_the_highest_version() -> None:
    best = gateway(3, "1.10.0", PARIS)
    chosen = select(
        gateway(1, "1.10.0", SYDNEY),
        gateway(2, "1.9.0", PARIS),
        best,
        gateway(4, "1.10.1"),
        position=BERLIN,
        client="1.10.0",
    )
    assert chosen == Chosen(best, WhyChosen.NEAREST)


def test_gateways_without_position_come_last() -> None:
    placed = gateway(2, position=SYDNEY)
    assert select(gateway(1), placed, position=BERLIN) == Chosen(placed, WhyChosen.NEAREST)


def test_among_gateways_without_position_none_is_called_the_nearest() -> None:
    newest = gateway(2, "1.5.1")
    assert select(gateway(1), newest, position=BERLIN) == Chosen(newest, WhyChosen.NEWEST)


def test_a_gateway_without_rival_is_not_said_to_be_chosen_by_chance() -> None:
    assert select(gateway(1), gateway(2, "1.3.0")) == Chosen(gateway(1), WhyChosen.ONLY)
    assert select(gateway(1), position=BERLIN) == Chosen(gateway(1), WhyChosen.ONLY)


def test_an_unknown_client_position_spreads_the_load() -> None:
    chosen = Counter()
    for seed in range(300):
        one = select(gateway(1), gateway(2, position=SYDNEY), gateway(3), seed=seed)
        assert isinstance(one, Chosen)
        chosen[one.gateway.id] += 1
    assert len(chosen) == 3
    assert min(chosen.values()) > 60


def test_the_order_of_presence_does_not_matter() -> None:
    gateways = [gateway(number) for number in range(5)]
    assert select(*gateways) == select(*reversed(gateways))


def test_distance_is_measured_on_the_sphere() -> None:
    assert distance_km(BERLIN, PARIS) == pytest.approx(878, abs=3)
    assert distance_km(BERLIN, BERLIN) == 0
    assert distance_km(Position(0, 0), Position(0, 180)) == pytest.approx(20015, abs=1)


def relay(number: int, position: Position | None = None) -> OnlineRelay:
    return OnlineRelay(RelayId(UUID(int=number)), position)


def test_two_nearest_relays_are_given_and_those_without_position_last() -> None:
    online = [relay(1), relay(2, SYDNEY), relay(3, PARIS)]
    chosen = select_relays(online, position=BERLIN, rng=random.Random(1))
    assert [one.id.int for one in chosen] == [3, 2]


def test_a_peer_without_position_gets_two_by_chance_and_never_the_same_twice() -> None:
    online = [relay(number) for number in range(4)]
    seen = {select_relays(online, position=None, rng=random.Random(seed)) for seed in range(100)}
    assert all(len(set(pair)) == 2 for pair in seen)
    assert len(seen) == 12
    assert select_relays(online[:1], position=None, rng=random.Random(1)) == (relay(0),)
    assert select_relays([], position=None, rng=random.Random(1)) == ()


@pytest.mark.parametrize("place", [PARIS, None], ids=["in one place", "without position"])
def test_relays_that_are_equally_far_share_the_load(place: Position | None) -> None:
    online = [relay(number, place) for number in range(4)]
    chosen = Counter(
        one.id.int
        for seed in range(200)
        for one in select_relays(online, position=BERLIN, rng=random.Random(seed))
    )
    assert len(chosen) == 4
    assert min(chosen.values()) > 60
