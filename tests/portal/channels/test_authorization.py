"""From a client's request to its grant, and from a change to its end."""

from dataclasses import replace
from typing import Any

import pytest

from support.pools import caught_up, device_of
from support.portal import Peer, World
from wardgate.portal.logs.decision_log import newest_decisions

NAMES = {
    1: ("create_flow", "authorize_flow", "flow_authorized", "flow_created", "flow_creation_failed"),
    2: (
        "request_authorization",
        "create_authorization",
        "authorization_created",
        "authorization_created",
        "authorization_creation_failed",
    ),
}


async def test_a_client_is_shown_what_its_policies_grant(world: World) -> None:
    async with world.client() as client:
        init = await client.join()
    assert [(one["id"], one["type"], one["address"]) for one in init["resources"]] == [
        (str(world.resource.id), "cidr", "10.20.0.0/16")
    ]
    assert init["resources"][0]["sites"] == [{"id": str(world.site.id), "name": "Berlin"}]
    assert init["flow_logs"] == {
        "api_url": "http://127.0.0.1:8080/",
        "upload_interval_secs": 60,
        "upload_batch_size": 1000,
    }


@pytest.mark.parametrize("client_generation", [1, 2])
@pytest.mark.parametrize("gateway_generation", [1, 2])
async def test_a_request_is_granted_when_gateway_and_store_have_it(
    world: World, client_generation: int, gateway_generation: int
) -> None:
    async with (
        world.gateway(generation=gateway_generation) as gateway,
        world.client(generation=client_generation) as client,
    ):
        await gateway.join()
        await client.join()
        create, created = await grant(world, client, gateway, client_generation, gateway_generation)
    assert created["preshared_key"] == create["client"]["preshared_key"]
    assert created["client_ice_credentials"] == create["client_ice_credentials"]
    assert created["gateway_public_key"] == gateway.public_key
    assert create["client"]["public_key"] == client.public_key
    assert created["site_id"] == str(world.site.id)
    assert created["use_iceless"] is False
    async with world.portal.services.store.reading() as tx:
        (row,) = await tx.of(world.account_id).authorizations.load_all()
        (decision,) = await newest_decisions(tx.of(world.account_id), limit=10)
    assert row.policy_id == world.policy.id
    assert row.membership_id == world.membership.id
    assert decision.outcome == "granted"
    assert decision.explanation["outcome"] == "granted"


async def test_the_client_is_not_told_before_the_gateway_acknowledged(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send(
            "request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        )
        await gateway.receive("create_authorization")
        assert await client.is_quiet()


async def test_without_a_gateway_the_answer_is_offline(world: World) -> None:
    async with world.client() as client:
        await client.join()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        failed = await client.receive("authorization_creation_failed")
    assert failed["payload"] == {"resource_id": str(world.resource.id), "reason": "offline"}


async def test_what_is_not_shown_is_not_found(world: World) -> None:
    async with world.client() as client:
        await client.join()
        client.send("request_authorization", {"resource_id": "00000000-0000-4000-8000-000000000000"})
        failed = await client.receive("authorization_creation_failed")
    assert failed["payload"]["reason"] == "not_found"
    assert "violated_properties" not in failed["payload"]


async def test_what_is_not_shown_is_not_found_also_when_a_condition_is_why(world: World) -> None:
    async with world.portal.services.store.writing() as tx:
        nowhere = {"property": "remote_ip", "operator": "is_in_cidr", "values": ["203.0.113.0/24"]}
        await tx.of(world.account_id).policies.save(replace(world.policy, conditions=[nowhere]))
    async with world.client() as client:
        assert (await client.join())["resources"] == []
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        failed = await client.receive("authorization_creation_failed")
    assert failed["payload"] == {"resource_id": str(world.resource.id), "reason": "not_found"}


async def test_deleting_the_policy_revokes_at_the_gateway_and_hides_at_the_client(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        create, _created = await grant(world, client, gateway)
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).policies.delete(world.policy.id)
        rejected = await gateway.receive("reject_access")
        assert rejected["payload"] == {
            "client_id": create["client"]["id"],
            "resource_id": str(world.resource.id),
        }
        deleted = await client.receive("resource_deleted")
        assert deleted["payload"] == str(world.resource.id)


async def test_a_client_that_keeps_a_resource_is_made_to_ask_again(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        await grant(world, client, gateway)
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).policies.save(replace(world.policy, flow_log_uploads_enabled=False))
        await gateway.receive("reject_access")
        await client.receive("resource_deleted")
        again = await client.receive("resource_created_or_updated")
        assert again["payload"]["id"] == str(world.resource.id)
        await grant(world, client, gateway)


async def test_an_older_grant_of_the_pair_does_not_revoke_the_newer(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        await grant(world, client, gateway)
        async with world.portal.services.store.reading() as tx:
            (older,) = await tx.of(world.account_id).authorizations.load_all()
        await grant(world, client, gateway)
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).authorizations.delete(older.id)
        await caught_up(world)
        assert await gateway.is_quiet()


async def test_a_gateway_that_returns_is_told_all_grants_it_holds(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        create, _created = await grant(world, client, gateway)
    async with world.gateway() as gateway:
        init = await gateway.join()
    assert init["authorizations"] == [
        {
            "client_id": create["client"]["id"],
            "resource_id": str(world.resource.id),
            "expires_at": create["expires_at"],
        }
    ]


async def test_filters_that_were_narrowed_while_the_gateway_was_away_reach_it(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        await grant(world, client, gateway)
    async with world.portal.services.store.writing() as tx:
        narrowed = replace(world.resource, filters=[{"protocol": "tcp", "ports": ["443"]}])
        await tx.of(world.account_id).resources.save(narrowed)
    await caught_up(world)
    async with world.gateway() as gateway:
        init = await gateway.join()
        updated = await gateway.receive("resource_updated")
    assert len(init["authorizations"]) == 1
    assert updated["payload"]["filters"] == [
        {"protocol": "tcp", "port_range_start": 443, "port_range_end": 443}
    ]


async def test_candidates_of_the_gateway_never_overtake_the_grant(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send(
            "request_authorization", {"resource_id": str(world.resource.id), "connected_gateway_ids": []}
        )
        create = (await gateway.receive("create_authorization"))["payload"]
        candidates = {"client_ids": [create["client"]["id"]], "candidates": ["candidate:1"]}
        gateway.send("broadcast_ice_candidates", candidates)
        assert await client.is_quiet()
        gateway.send("authorization_created", {"ref": create["ref"]})
        await client.receive("authorization_created")
        assert (await client.receive("ice_candidates"))["payload"]["candidates"] == ["candidate:1"]


async def test_candidates_pass_between_related_peers_only(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        create, created = await grant(world, client, gateway)
        client.send(
            "new_gateway_ice_candidates", {"gateway_id": created["gateway_id"], "candidates": ["candidate:1"]}
        )
        forwarded = await gateway.receive("ice_candidates")
        assert forwarded["payload"] == {"client_id": create["client"]["id"], "candidates": ["candidate:1"]}
        gateway.send(
            "broadcast_ice_candidates",
            {"client_ids": [create["client"]["id"]], "candidates": ["candidate:2"]},
        )
        assert (await client.receive("ice_candidates"))["payload"]["candidates"] == ["candidate:2"]
        gateway.send(
            "broadcast_invalidated_ice_candidates",
            {"client_ids": [create["client"]["id"]], "candidates": ["c"]},
        )
        await client.receive("invalidate_ice_candidates")

        async with world.client(external_id="stranger") as stranger:
            await stranger.join()
            stranger.send(
                "new_gateway_ice_candidates", {"gateway_id": created["gateway_id"], "candidates": ["x"]}
            )
            assert await stranger.is_quiet()
            assert await gateway.is_quiet()
            their_id = str((await device_of(world, "stranger")).id)
            for event in ("broadcast_ice_candidates", "broadcast_invalidated_ice_candidates"):
                gateway.send(event, {"client_ids": [their_id], "candidates": ["x"]})
            assert await gateway.is_quiet()
            assert await stranger.is_quiet()


@pytest.mark.parametrize("kind", ["client", "gateway", "relay"])
async def test_who_leaves_its_channel_is_there_no_more(world: World, kind: str) -> None:
    bus = world.portal.services.environment.bus
    peers: dict[str, Any] = {"client": world.client, "gateway": world.gateway, "relay": world.relay}
    account_id = None if kind == "relay" else world.account_id
    async with peers[kind]() as peer:
        payload = {"stamp_secret": "ab" * 32} if kind == "relay" else None
        await peer.join(payload)
        assert len(bus.members(kind, account_id)) == 1
        peer.send("phx_leave")
        await peer.receive("phx_reply")
        await peer.receive("phx_close")
        assert bus.members(kind, account_id) == []
        await peer.join(payload)
        assert len(bus.members(kind, account_id)) == 1
    assert bus.members(kind, account_id) == []


async def grant(
    world: World, client: Peer, gateway: Peer, client_generation: int = 2, gateway_generation: int = 2
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask for the world's resource; return what the gateway and what the client were told."""
    request, _, _, created, _ = NAMES[client_generation]
    _, create, acknowledge, _, _ = NAMES[gateway_generation]
    client.send(request, {"resource_id": str(world.resource.id), "connected_gateway_ids": []})
    offered = await gateway.receive(create)
    ref = gateway.send(acknowledge, {"ref": offered["payload"]["ref"]})
    reply = await gateway.receive("phx_reply")
    assert (reply["ref"], reply["payload"]["status"]) == (ref, "ok")
    told = await client.receive(created)
    return offered["payload"], told["payload"]
