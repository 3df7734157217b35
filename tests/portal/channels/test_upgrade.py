"""Who is let in, and how everyone else is answered (protocol §1.5)."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest

from support.portal import (
    CLIENT_AGENT,
    Peer,
    Refusal,
    Refused,
    World,
    make_world,
    portal_running,
    portal_with_held_clock,
)
from wardgate.portal import credentials
from wardgate.portal.access.tables import Resource
from wardgate.portal.devices.tables import Device
from wardgate.portal.people.tables import Actor
from wardgate.portal.settings import PortalSettings
from wardgate.wire.user_agent import CLIENT_SPEAKS


async def test_without_a_token_the_answer_is_missing_token(world: World) -> None:
    refusal = await _refused(Peer(world.portal, "client", None, CLIENT_AGENT))
    assert (refusal.status, refusal.code) == (401, "missing_token")


async def test_a_token_in_the_query_counts_when_there_is_no_header(world: World) -> None:
    async with Peer(
        world.portal, "client", None, CLIENT_AGENT, query={"token": world.client_token}
    ) as client:
        assert (await client.join())["resources"] != []


async def test_a_token_of_another_kind_is_invalid(world: World) -> None:
    refusal = await _refused(Peer(world.portal, "gateway", world.client_token, CLIENT_AGENT))
    assert (refusal.status, refusal.code) == (401, "invalid_token")


async def test_an_expired_token_is_invalid(world: World) -> None:
    async with world.portal.services.store.writing() as tx:
        tokens = tx.of(world.account_id).client_tokens
        row = await tokens.load(world.client_token_id)
        assert row is not None
        await tokens.save(replace(row, expires_at=tx.now - timedelta(seconds=1)))
    refusal = await _refused(world.client())
    assert (refusal.status, refusal.code) == (401, "invalid_token")


async def test_a_disabled_actor_is_refused(world: World) -> None:
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        (token,) = await tables.client_tokens.load_all()
        await tables.actors.save(replace(world.actor, is_disabled=True))
        # Disabling takes tokens away; one that was made since counts no more than those.
        await tables.client_tokens.insert(token)
    assert (await _refused(world.client())).code == "invalid_token"


async def test_every_fault_of_the_query_is_named(world: World) -> None:
    peer = Peer(
        world.portal,
        "client",
        world.client_token,
        "curl/8",
        query={"public_key": "short", "external_id": " "},
    )
    refusal = await _refused(peer)
    assert (refusal.status, refusal.code) == (400, "invalid_connect_params")
    for field in ("public_key", "external_id", "user_agent"):
        assert field in refusal.body.decode()


async def test_a_second_gateway_of_an_identity_is_told_to_wait(world: World) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        refusal = await _refused(world.gateway())
    assert (refusal.status, refusal.code) == (409, "gateway_already_connected")
    assert int(refusal.headers["retry-after"]) > 0


async def test_a_gateway_that_raced_past_the_check_is_turned_away(world: World) -> None:
    async with world.gateway() as first, world.gateway() as second:
        await first.join()
        second.send("phx_join")
        await second.receive("phx_reply")
        assert (await second.receive("disconnect"))["payload"] == {"reason": "token_expired"}
        await second.receive_close()
        assert await first.is_quiet()


async def test_a_newer_connection_of_a_client_ends_the_older(world: World) -> None:
    async with world.client() as older:
        await older.join()
        async with world.client() as newer:
            await newer.join()
            assert (await older.receive("disconnect"))["payload"] == {"reason": "token_expired"}
            await older.receive("phx_close")
            await older.receive_close()
            assert await newer.is_quiet()


async def test_a_newer_connection_of_a_relay_ends_the_older_without_signing_it_out(world: World) -> None:
    async with world.relay() as older, world.relay() as newer:
        await older.join({"stamp_secret": "ab" * 32})
        await newer.join({"stamp_secret": "ab" * 32})
        await older.receive("phx_close")
        await older.receive_close()
        assert await newer.is_quiet()


async def test_a_relay_without_an_address_may_try_again(world: World) -> None:
    refusal = await _refused(world.relay(query={"ipv4": ""}))
    assert (refusal.status, refusal.code) == (500, "unhandled_connect_error")


async def test_unsupported_serializers_get_an_empty_403(world: World) -> None:
    refusal = await _refused(world.client(query={"vsn": "3.0.0"}))
    assert (refusal.status, refusal.body) == (403, b"")


async def test_a_trace_context_and_what_else_is_not_known_is_borne(world: World) -> None:
    later = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
        "x": "\u2713",
    }
    for peer in (world.client(query=later), world.gateway(query={**later, "traceparent": "no trace"})):
        async with peer:
            await peer.join()
    async with world.relay(query=later) as relay:
        await relay.join({"stamp_secret": "ab" * 32})


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        ("https://portal.example", True),
        ("http://portal.example:8080", True),
        ("https://attacker.example", False),
        ("https://portal.example.attacker.example", False),
        ("null", False),
        ("", False),
        ("https://[", False),
    ],
)
async def test_no_page_of_another_origin_opens_a_channel(world: World, origin: str, is_let_in: bool) -> None:
    headers = {"origin": origin, "host": "portal.example"}
    if is_let_in:
        async with world.client(headers=headers) as client:
            await client.join()
        return
    with pytest.raises(Refused) as caught:
        async with world.client(headers=headers):
            pass
    assert (caught.value.refusal.status, caught.value.refusal.body) == (403, b"")


async def test_an_unknown_path_is_not_found(world: World) -> None:
    assert (await _refused(world.client(path="/client/v3/websocket"))).status == 404


@pytest.mark.one_database  # a held clock stands on SQLite
async def test_connects_of_one_token_and_address_are_limited() -> None:
    async with portal_with_held_clock() as (portal, clock):
        world = await make_world(portal)
        async with world.client():
            refusal = await _refused(world.client())
            assert (refusal.status, refusal.code) == (503, "rate_limit")
            assert refusal.headers["retry-after"] == "1"
            async with world.client(remote_ip="192.0.2.8"):
                pass
            clock.at_s += 1.0
            async with world.client():
                pass


@pytest.mark.parametrize(
    ("limits", "is_over"),
    [
        ({"users_count": 1}, True),
        ({"users_count": 2}, False),
        ({"monthly_active_users_count": 0}, False),
        ({"service_accounts_count": 0}, False),
    ],
)
async def test_an_account_with_more_users_than_it_may_have_lets_none_of_their_clients_in(
    world: World, limits: dict[str, int], is_over: bool
) -> None:
    # The world has two users, Ada and the admin.
    await _limit(world, limits)
    if is_over:
        refusal = await _refused(world.client(query={"public_key": "no key"}))
        assert (refusal.status, refusal.code) == (402, "limits_exceeded")
    else:
        async with world.client() as client:
            await client.join()
    async with world.gateway() as gateway:
        await gateway.join()


async def test_service_accounts_have_a_limit_of_their_own(world: World) -> None:
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        actor = await tables.actors.insert(
            Actor(id=tx.new_id(), account_id=world.account_id, type="service_account", name="robot")
        )
        issued = await credentials.issue(
            tables.client_tokens,
            transaction=tx,
            keys=world.portal.services.keys,
            account_id=world.account_id,
            actor_id=actor.id,
            expires_at=tx.now + timedelta(days=1),
        )
    await _limit(world, {"users_count": 0, "service_accounts_count": 1})
    async with world.client(token=issued.text) as client:
        await client.join()
    await _limit(world, {"service_accounts_count": 0})
    assert (await _refused(world.client(token=issued.text))).status == 402


async def test_a_dead_token_is_told_so_whatever_the_account_has(world: World) -> None:
    await _limit(world, {"users_count": 0})
    assert (await _refused(world.client(token=world.gateway_token))).status == 401


@pytest.mark.parametrize("base", ["/access", "/a/b", "/client/websocket"])
async def test_peers_append_their_path_to_any_base(world: World, base: str) -> None:
    async with world.client(path=f"{base}/client/v2/websocket") as client:
        init = await client.join()
    assert "flow_logs" in init


async def test_what_only_ends_like_a_channel_is_none(world: World) -> None:
    for path in ("/xclient/websocket", "/client/websocket/", "/client/v3/websocket", "client/websocket"):
        assert (await _refused(world.client(path=path))).status == 404, path


async def test_a_device_is_made_once_and_keeps_its_addresses(world: World) -> None:
    seen = []
    for _ in range(2):
        async with world.client(query={"device_serial": "S1"}) as client:
            seen.append((await client.join())["interface"])
    assert seen[0] == seen[1]
    (device,) = await _devices(world)
    assert device.device_serial == "S1"
    assert device.name == "client"


async def test_what_a_connect_omits_keeps_its_stored_value(world: World) -> None:
    async with world.client(query={"device_serial": "S1"}) as client:
        await client.join()
    async with world.client(query={"device_uuid": "U1"}) as client:
        await client.join()
    (device,) = await _devices(world)
    assert (device.device_serial, device.device_uuid) == ("S1", "U1")


async def test_our_own_client_is_offered_what_only_newer_levels_are(world: World) -> None:
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        internet = await tables.resources.find(tables.resources.c.type == "internet")
        deep = await tables.resources.insert(
            Resource(
                id=tx.new_id(),
                account_id=world.account_id,
                type="dns",
                name="deep",
                address="**.corp.example",
                ip_stack="dual",
                site_id=world.site.id,
            )
        )
        assert internet is not None
        for resource in (internet, deep):
            await tables.policies.insert(replace(world.policy, id=tx.new_id(), resource_id=resource.id))
    async with world.client() as client:
        listed = {one["type"]: one for one in (await client.join())["resources"]}
    assert listed["dns"]["address"] == "**.corp.example"
    assert "internet" in listed


async def test_the_latest_session_is_recorded(world: World) -> None:
    async with world.client() as client:
        await client.join()
    await world.portal.journal.flush()
    (device,) = await _devices(world)
    assert device.public_key == client.public_key
    assert device.last_seen_remote_ip == "192.0.2.7"
    assert device.last_seen_version == str(CLIENT_SPEAKS)
    assert device.client_token_id == world.client_token_id


@pytest.mark.parametrize(
    ("trusted", "seen"), [((), "192.0.2.7"), ((ip_network("192.0.2.0/24"),), "203.0.113.9")]
)
async def test_a_forwarded_address_is_believed_from_trusted_proxies_only(trusted: tuple, seen: str) -> None:  # type: ignore[type-arg]
    async with portal_running(PortalSettings(trusted_proxies=trusted)) as portal:
        world = await make_world(portal)
        headers = {"x-forwarded-for": "198.51.100.1, 203.0.113.9, 192.0.2.1"}
        async with world.client(headers=headers) as client:
            await client.join()
        await portal.journal.flush()
        (device,) = await _devices(world)
    assert device.last_seen_remote_ip == seen


async def _limit(world: World, limits: dict[str, int]) -> None:
    async with world.portal.services.store.writing() as tx:
        account = await tx.accounts.load(world.account_id)
        assert account is not None
        await tx.accounts.save(replace(account, limits=limits))


async def _refused(peer: Peer) -> Refusal:
    with pytest.raises(Refused) as refused:
        await peer.__aenter__()
    return refused.value.refusal


async def _devices(world: World) -> list[Device]:
    async with world.portal.services.store.reading() as tx:
        return await tx.of(world.account_id).devices.load_all()
