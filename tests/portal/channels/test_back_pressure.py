"""What one peer takes from the others: the real endpoint, sockets replaced."""

from typing import Any

import pytest

from support.portal import Peer, World
from wardgate.portal.access.tables import Resource

CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.7 40000 typ host"


@pytest.mark.parametrize("event", ["broadcast_ice_candidates", "broadcast_invalidated_ice_candidates"])
async def test_an_id_that_a_client_repeats_in_a_broadcast_counts_once(world: World, event: str) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        gateway_id, _client_id = await _grant(world, gateway, client)
        client.send(event, {"gateway_ids": [gateway_id] * 1_000, "candidates": [CANDIDATE]})
        assert await client.is_quiet()
        assert len(await gateway.news()) == 1


@pytest.mark.parametrize("event", ["broadcast_ice_candidates", "broadcast_invalidated_ice_candidates"])
async def test_an_id_that_a_gateway_repeats_in_a_broadcast_counts_once(world: World, event: str) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        _gateway_id, client_id = await _grant(world, gateway, client)
        gateway.send(event, {"client_ids": [client_id] * 1_000, "candidates": [CANDIDATE]})
        assert await gateway.is_quiet()
        assert len(await client.news()) == 1


async def test_a_flood_of_one_client_keeps_another_waiting_for_one_frame_at_a_time(world: World) -> None:
    """Both have everything in the portal's hands; the quiet one's request is not behind the flood but beside it."""
    async with (
        world.gateway() as gateway,
        world.client() as flooding,
        world.client(external_id="quiet") as quiet,
    ):
        for peer in (gateway, flooding, quiet):
            await peer.join()
        for _ in range(500):
            flooding.send("heartbeat", {}, topic="phoenix")
        quiet.send("request_authorization", _ask(world.resource))
        await gateway.receive("create_authorization")
        assert flooding.waiting_frames > 450


def _ask(resource: Resource) -> dict[str, Any]:
    return {"resource_id": str(resource.id), "connected_gateway_ids": []}


async def _grant(world: World, gateway: Peer, client: Peer) -> tuple[str, str]:
    """Let the client have its resource; return the gateway's id and the client's."""
    client.send("request_authorization", _ask(world.resource))
    create = (await gateway.receive("create_authorization"))["payload"]
    gateway.send("authorization_created", {"ref": create["ref"]})
    await gateway.receive("phx_reply")
    return (await client.receive("authorization_created"))["payload"]["gateway_id"], create["client"]["id"]
