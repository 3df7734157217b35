"""The page with the account's picture."""

import html
import re
from datetime import UTC, datetime, timedelta

import httpx2

from support.portal import World, make_world
from wardgate.portal.access.tables import PolicyAuthorization

from .test_log_pages import flow, reported


async def test_an_account_is_drawn_with_who_is_online_and_what_is_authorized(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with (
        world.gateway(query={"name": "gw-1"}) as gateway,
        world.client(query={"name": "laptop"}) as client,
        world.relay() as relay,
    ):
        await gateway.join()
        await relay.join({"stamp_secret": "ab" * 32})
        await client.join()
        await granted(world)
        page = (await admin.get("/acme/topology")).text
    titles = [html.unescape(one) for one in re.findall(r"<title>(.*?)</title>", page)]
    for told in ("laptop, online", "gw-1, online", "r, online", "Berlin: Healthy", "laptop → gw-1: net"):
        assert told in titles
    assert 'data-live="/acme/live?page=%2Ftopology"' in page
    offline = (await admin.get("/acme/topology")).text
    assert ("gw-1, offline" in offline, "Berlin: Offline" in offline) == (True, True)
    assert "laptop, offline" in offline, "as long as its authorization is in force"


async def test_what_is_drawn_is_listed_too(admin: httpx2.AsyncClient, world: World) -> None:
    async with world.gateway(query={"name": "gw-1"}) as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        await granted(world)
    page = (await admin.get("/acme/topology")).text
    (listed,) = re.findall(
        r'<section class="block" aria-labelledby="topology-list">.*?</section>', page, re.DOTALL
    )
    assert (">net</a>" in listed, ">gw-1</a>" in listed) == (True, True)


async def test_the_path_between_two_peers_is_told_where_flows_are_reported(
    admin: httpx2.AsyncClient, world: World
) -> None:
    async with world.gateway() as gateway, world.client() as client, world.relay() as relay:
        await gateway.join()
        await relay.join({"stamp_secret": "ab" * 32})
        await client.join()
        await granted(world)
        assert "direct" not in (await admin.get("/acme/topology")).text
        async with world.portal.services.store.reading() as transaction:
            devices = {one.type: one.id for one in await transaction.of(world.account_id).devices.load_all()}
        ends = {
            "initiator_device_id": devices["client"],
            "responder_device_id": devices["gateway"],
        }
        straight = {"src_ip": "192.0.2.1", "src_port": 1, "dst_ip": "203.0.113.1", "dst_port": 2}
        relayed = {"dst_ip": "198.51.100.7"}  # where the relay of `World` is
        now = datetime.now(UTC)
        for second, (path, told) in enumerate(
            [
                (straight, "direct"),
                (straight | relayed, "through a relay"),
                (straight | {"src_ip": None, "src_port": None}, "through a relay"),
                (straight, "direct"),
            ]
        ):
            at = now + timedelta(seconds=second)
            log_id = f"f{second:023}"
            await reported(world, flow(world, at, log_id=log_id, outers=[straight | relayed, path], **ends))
            page = (await admin.get("/acme/topology")).text
            assert f": net, {told}</title>" in page
            assert f"<span>{told}</span>" in page
            assert ('class="topology-edge relayed"' in page) == (told != "direct")


async def test_an_expired_authorization_is_none_and_another_accounts_peers_are_not_drawn(
    admin: httpx2.AsyncClient, world: World
) -> None:
    other = await make_world(world.portal, "other")
    for one in (world, other):
        async with one.gateway(query={"name": f"gw-{one.account_id}"}) as gateway, one.client() as client:
            await gateway.join()
            await client.join()
            await granted(one, hours=-1 if one is world else 1)
    page = (await admin.get("/acme/topology")).text
    assert "Nobody may reach anything" in page
    assert f"gw-{world.account_id}" in page
    assert f"gw-{other.account_id}" not in page
    assert 'class="topology-edge"' not in page


async def granted(world: World, *, hours: int = 1) -> None:
    """Authorize the world's client for its resource, through its gateway."""
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        devices = {one.type: one for one in await tables.devices.load_all()}
        await tables.authorizations.insert(
            PolicyAuthorization(
                id=transaction.new_id(),
                account_id=world.account_id,
                policy_id=world.policy.id,
                resource_id=world.resource.id,
                initiating_device_id=devices["client"].id,
                receiving_device_id=devices["gateway"].id,
                token_id=world.client_token_id,
                membership_id=world.membership.id,
                initiator_remote_ip="192.0.2.7",
                initiator_user_agent="x",
                receiver_remote_ip=None,
                expires_at=transaction.now + timedelta(hours=hours),
            )
        )
