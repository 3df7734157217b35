"""A public key is no proof: whoever comes with the key of another connected device is refused."""

from typing import Any

import pytest

from support.portal import Peer, Refused, World, make_world

KEY = bytes(range(32))


async def test_a_second_device_with_the_key_of_a_connected_one_is_refused(world: World) -> None:
    async with world.client(external_id="laptop", key=KEY) as laptop:
        await laptop.join()
        refusal = await refused(world.client(external_id="mallory", key=KEY))
        assert (refusal.status, refusal.code, refusal.headers["retry-after"]) == (
            409,
            "public_key_in_use",
            "5",
        )
        assert await laptop.is_quiet()
    assert world.portal.services.counters["public_keys_in_use"] == 1
    async with world.client(external_id="mallory", key=KEY) as later:
        await later.join()


@pytest.mark.parametrize("first", ["client", "gateway"])
async def test_keys_of_clients_and_gateways_are_told_apart_too(world: World, first: str) -> None:
    peers: dict[str, Any] = {"client": world.client, "gateway": world.gateway}
    second = "gateway" if first == "client" else "client"
    async with peers[first](key=KEY) as peer:
        await peer.join()
        assert (await refused(peers[second](key=KEY))).code == "public_key_in_use"


async def test_a_device_comes_back_with_its_own_key(world: World) -> None:
    async with world.client(key=KEY) as former:
        await former.join()
        async with world.client(key=KEY) as again:
            await again.join()
            assert (await former.receive("disconnect"))["payload"] == {"reason": "token_expired"}
        assert await refused_or_none(world.client(external_id="mallory", key=KEY)) is None


async def test_of_two_that_connect_at_once_with_one_key_the_second_to_join_is_sent_away(
    world: World,
) -> None:
    async with (
        world.client(external_id="laptop", key=KEY) as laptop,
        world.client(external_id="mallory", key=KEY) as mallory,
    ):
        await laptop.join()
        mallory.send("phx_join")
        assert (await mallory.receive_until("phx_close"))["event"] == "phx_close"
        assert [frame["event"] for frame in mallory.frames if frame["event"] in ("init", "disconnect")] == []
        assert await mallory.receive_close() == 1000
        assert await laptop.is_quiet()


async def test_of_two_gateways_that_connect_at_once_with_one_key_the_second_to_join_is_sent_away(
    world: World,
) -> None:
    async with (
        world.gateway(external_id="one", key=KEY) as one,
        world.gateway(external_id="two", key=KEY) as two,
    ):
        await one.join()
        two.send("phx_join")
        await two.receive_until("phx_close")
        assert await two.receive_close() == 1000
        assert await one.is_quiet()


async def test_another_account_may_use_the_same_key(world: World) -> None:
    other = await make_world(world.portal, "other")
    async with world.client(key=KEY) as client, other.client(key=KEY) as theirs:
        await client.join()
        await theirs.join()
        assert await client.is_quiet()


async def refused(peer: Peer) -> Any:
    refusal = await refused_or_none(peer)
    assert refusal is not None, "it was let in"
    return refusal


async def refused_or_none(peer: Peer) -> Any:
    try:
        async with peer:
            return None
    except Refused as error:
        return error.refusal
