"""Where peers are, as a trusted proxy tells, decides which gateway and which relays they are given (protocol §3.6.2,
§3.6.5).
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ipaddress import ip_network
from typing import Any

import pytest

from support.pools import device_of
from support.portal import Peer, World, make_world, portal_running
from wardgate.portal.settings import PortalSettings

PLACES = {
    "berlin": "52.52,13.40",
    "vienna": "48.21,16.37",
    "new york": "40.71,-74.01",
    "sydney": "-33.87,151.21",
}


def at(place: str | None, address: str = "203.0.113.9") -> dict[str, str]:
    """Return what a proxy says of a connection."""
    told = {"x-forwarded-for": address}
    return told if place is None else {**told, "x-geo-location-coordinates": PLACES[place]}


@pytest.fixture
async def placed() -> AsyncIterator[World]:
    settings = PortalSettings(connect_capacity=100.0, trusted_proxies=(ip_network("192.0.2.0/24"),))
    async with portal_running(settings) as portal:
        yield await make_world(portal)


class _Acknowledging:
    """Lets every gateway acknowledge what it is told."""

    def __init__(self, gateways: dict[str, Peer]) -> None:
        self._gateways = gateways

    async def ask(self, world: World, client: Peer, connected: tuple[str, ...] = ()) -> str:
        ids = [str((await device_of(world, name)).id) for name in connected]
        client.send(
            "request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": ids}
        )
        for name, gateway in self._gateways.items():
            news = await gateway.news()
            for frame in news:
                if frame["event"] == "create_authorization":
                    gateway.send("authorization_created", {"ref": frame["payload"]["ref"]})
                    created = await client.receive_until("authorization_created")
                    assert created["payload"]["gateway_id"] == str((await device_of(world, name)).id)
                    return name
        raise AssertionError("no gateway was told")


@pytest.mark.parametrize(
    ("client", "gateway"),
    [("berlin", "vienna"), ("new york", "new york"), ("sydney", "sydney"), ("vienna", "vienna")],
)
async def test_the_nearest_gateway_of_a_site_is_chosen(placed: World, client: str, gateway: str) -> None:
    async with AsyncExitStack() as stack:
        gateways = {
            name: await stack.enter_async_context(placed.gateway(external_id=name, headers=at(place)))
            for name, place in (
                ("vienna", "vienna"), ("new york", "new york"), ("sydney", "sydney"), ("nowhere", None),
            )
        }  # fmt: skip
        for one in gateways.values():
            await one.join()
        peer = await stack.enter_async_context(placed.client(headers=at(client)))
        await peer.join()
        assert await _Acknowledging(gateways).ask(placed, peer) == gateway


async def test_a_gateway_that_is_connected_already_beats_a_nearer_one(placed: World) -> None:
    async with (
        placed.gateway(external_id="vienna", headers=at("vienna")) as near,
        placed.gateway(external_id="sydney", headers=at("sydney")) as far,
        placed.client(headers=at("berlin")) as client,
    ):
        await near.join()
        await far.join()
        await client.join()
        gateways = _Acknowledging({"vienna": near, "sydney": far})
        assert await gateways.ask(placed, client, connected=("sydney",)) == "sydney"


async def test_places_that_a_client_tells_by_itself_are_not_believed(placed: World) -> None:
    async with (
        placed.gateway(external_id="vienna", headers=at("vienna")) as near,
        placed.gateway(external_id="sydney", headers=at("sydney")) as far,
        placed.client(remote_ip="198.51.100.1", headers=at("sydney")) as client,
    ):
        await near.join()
        await far.join()
        await client.join()
        async with placed.portal.services.store.reading() as tx:
            devices = tx.of(placed.account_id).devices
            (row,) = await devices.load_all(devices.c.firezone_id == "client-1")
        await placed.portal.journal.flush()
        assert row.last_seen_remote_ip_location_lat is None


@pytest.mark.parametrize(
    ("client", "expected"), [("berlin", {"berlin", "vienna"}), ("new york", {"new york", "berlin"})]
)
async def test_a_peer_is_given_the_two_nearest_relays(placed: World, client: str, expected: set[str]) -> None:
    async with AsyncExitStack() as stack:
        addresses = {}
        for number, place in enumerate(PLACES, start=1):
            addresses[f"198.51.100.{number}:3478"] = place
            relay = placed.relay(query={"ipv4": f"198.51.100.{number}"}, headers=at(place))
            await (await stack.enter_async_context(relay)).join({"stamp_secret": f"{number:02x}" * 32})
        for kind in (placed.client, placed.gateway):
            peer = await stack.enter_async_context(kind(headers=at(client)))
            told: dict[str, Any] = await peer.join()
            assert {addresses[one["addr"]] for one in told["relays"]} == expected
