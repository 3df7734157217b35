"""A gateway that an administrator drains: nothing new until it is used again."""

import httpx2

from support.pools import caught_up
from support.portal import World

ASK = "request_authorization"


async def place_of(api: httpx2.AsyncClient, world: World) -> str:
    (gateway,) = (await api.get(f"/sites/{world.site.id}/gateways")).json()["data"]
    assert "is_draining" not in gateway  # the published gateway has no such field
    return f"/wardgate/sites/{world.site.id}/gateways/{gateway['id']}"


async def test_a_drained_gateway_gets_nothing_new_until_it_is_used_again(
    api: httpx2.AsyncClient, world: World
) -> None:
    ask = {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
    async with world.gateway() as gateway, world.client() as laptop:
        await gateway.join()
        await laptop.join()
        place = await place_of(api, world)
        drained = (await api.put(f"{place}/drain")).json()["data"]
        assert (drained["online"], drained["is_draining"]) == (True, True)
        again = (await api.put(f"{place}/drain")).json()["data"]
        assert again["draining_since"] == drained["draining_since"]
        await caught_up(world)
        await gateway.news()
        laptop.send(ASK, ask)
        failed = (await laptop.receive_until("authorization_creation_failed"))["payload"]
        assert failed["reason"] == "offline"
        assert await gateway.is_quiet()

        used = await api.put(f"{place}/undrain")
        assert (used.json()["data"]["is_draining"], used.json()["data"]["draining_since"]) == (False, None)
        await caught_up(world)
        await gateway.news()
        laptop.send(ASK, ask)
        await gateway.receive_until("create_authorization")
    changes = (await api.get("/logs?type=change&q=draining_since")).json()["data"]
    drains = [
        (one["before"]["draining_since"] is None, one["after"]["draining_since"] is None)
        for one in changes
        if one["operation"] == "update"
        and one["before"].get("draining_since") != one["after"].get("draining_since")
    ]
    assert drains == [(False, True), (True, False)]


async def test_it_still_drains_when_it_comes_back_and_a_stale_version_changes_nothing(
    api: httpx2.AsyncClient, world: World
) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        place = await place_of(api, world)
        shown = await api.get(place)
        assert shown.json()["data"]["is_draining"] is False
        assert (await api.put(f"{place}/drain")).status_code == 200
        stale = await api.put(f"{place}/undrain", headers={"if-match": shown.headers["etag"]})
        assert stale.status_code == 412
    offline = (await api.get(place)).json()["data"]
    assert (offline["online"], offline["is_draining"]) == (False, True)
    await caught_up(world)
    async with world.gateway() as gateway, world.client() as laptop:
        await gateway.join()
        await laptop.join()
        laptop.send(ASK, {"resource_id": str(world.resource.id), "connected_gateway_ids": []})
        failed = (await laptop.receive_until("authorization_creation_failed"))["payload"]
        assert failed["reason"] == "offline"
        assert await gateway.is_quiet()
    (listed,) = (await api.get(place.rpartition("/")[0])).json()["data"]
    assert listed["is_draining"] is True
    other = place.replace(str(world.site.id), str(world.group.id))
    assert (await api.put(f"{other}/drain")).status_code == 404
