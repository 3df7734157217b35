"""Client to client: requests for devices of a pool, over real frames between two clients, in both generations."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from msgspec.structs import replace

from support.pools import (
    FAILURES,
    REQUESTS,
    Pair,
    add_member,
    caught_up,
    dynamic_pair,
    make_pool,
    rename,
    static_pair,
)
from support.portal import World
from wardgate.model.ids import DeviceId
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.wire.derived_secrets import derive_client_psk, derive_ice_credentials
from wardgate.wire.ingest_tokens import parse_ingest_token

BOTH = pytest.mark.parametrize("generation", [1, 2])


@BOTH
async def test_a_static_pool_is_shown_with_its_members(world: World, generation: int) -> None:
    async with static_pair(world, generation) as pair:
        nas = await pair.device("nas")
    (pool,) = [one for one in pair.init["resources"] if one["id"] == str(pair.pool.id)]
    assert pool == {
        "id": str(pair.pool.id),
        "type": "static_device_pool",
        "name": "devices",
        "filters": [],
        "devices": [{"client_id": str(nas.id), "ipv4": f"{nas.ipv4}/32", "ipv6": f"{nas.ipv6}/128"}],
    }


@BOTH
async def test_both_clients_are_told_of_a_grant_with_the_same_secrets(world: World, generation: int) -> None:
    async with static_pair(world, generation) as pair:
        to_target, to_initiator = await pair.grant()
        laptop, nas = await pair.device("laptop"), await pair.device("nas")
    assert (to_target["ice_role"], to_initiator["ice_role"]) == ("controlled", "controlling")
    assert to_target["local_ice_credentials"] == to_initiator["remote_ice_credentials"]
    assert to_target["remote_ice_credentials"] == to_initiator["local_ice_credentials"]
    ids = {"initiator_id": DeviceId(laptop.id), "initiator_key": pair.laptop.public_key}
    ice = derive_ice_credentials(**ids, receiver_id=DeviceId(nas.id), receiver_key=pair.nas.public_key)
    assert to_initiator["local_ice_credentials"] == {
        "username": ice.initiator_username,
        "password": ice.initiator_password,
    }
    psk = derive_client_psk(
        **ids,
        initiator_psk_base=laptop.psk_base,
        target_id=DeviceId(nas.id),
        target_key=pair.nas.public_key,
        target_psk_base=nas.psk_base,
    )
    assert to_target["preshared_key"] == to_initiator["preshared_key"] == psk
    for told, other, name in ((to_target, laptop, pair.laptop), (to_initiator, nas, pair.nas)):
        assert (told["client_id"], told["client_name"]) == (str(other.id), "client")
        assert (told["client_ipv4"], told["client_ipv6"]) == (other.ipv4, other.ipv6)
        assert told["client_public_key"] == name.public_key
        assert told["use_iceless"] is False


@BOTH
async def test_two_clients_that_reach_each_other_have_one_connection(world: World, generation: int) -> None:
    """Whoever asks second is told the secrets of the connection that is there, and keeps it."""
    async with static_pair(world, generation) as pair:
        await add_member(world, pair.pool, "laptop")
        for peer in (pair.laptop, pair.nas):
            await peer.receive("resource_created_or_updated")
        to_nas, to_laptop = await pair.grant()
        back = {"resource_id": str(pair.pool.id), "ipv4": (await pair.device("laptop")).ipv4}
        pair.nas.send(REQUESTS[generation], back)
        to_laptop_back = (await pair.laptop.receive("client_device_access_authorized"))["payload"]
        to_nas_back = (await pair.nas.receive("client_device_access_authorized"))["payload"]
    assert_same_connection(to_laptop, to_laptop_back)
    assert_same_connection(to_nas, to_nas_back)
    assert "resource" in to_laptop_back
    assert "resource" not in to_nas_back


async def test_with_grants_in_both_directions_either_end_is_told_the_same_again(world: World) -> None:
    async with static_pair(world) as pair:
        await add_member(world, pair.pool, "laptop")
        for peer in (pair.laptop, pair.nas):
            await peer.receive("resource_created_or_updated")
        laptop, nas = await pair.device("laptop"), await pair.device("nas")
        back = {"resource_id": str(pair.pool.id), "ipv4": laptop.ipv4}
        there = {"resource_id": str(pair.pool.id), "ipv4": nas.ipv4}
        told = []
        for asking, request in (
            (pair.laptop, there),
            (pair.nas, back),
            (pair.laptop, there),
            (pair.nas, back),
        ):
            asking.send(REQUESTS[2], request)
            told.append(
                [
                    (await peer.receive("client_device_access_authorized"))["payload"]
                    for peer in (pair.laptop, pair.nas)
                ]
            )
    for messages in told[2:]:
        roles = [message["ice_role"] for message in messages]
        is_laptop_lower = IPv4Address(laptop.ipv4) < IPv4Address(nas.ipv4)
        assert roles == (["controlling", "controlled"] if is_laptop_lower else ["controlled", "controlling"])
    for former, latter in zip(told[2], told[3], strict=True):
        assert_same_connection(former, latter)


@BOTH
async def test_only_the_target_is_told_what_it_has_to_enforce(world: World, generation: int) -> None:
    async with static_pair(world, generation) as pair:
        to_target, to_initiator = await pair.grant()
    assert to_target["resource"]["id"] == str(pair.pool.id)
    assert to_target["expires_at"] == to_target["authorization_expires_at"]
    assert to_target["subject"]["actor_name"] == "Ada"
    assert not {"resource", "expires_at", "authorization_expires_at", "subject"} & to_initiator.keys()
    roles = [parse_ingest_token(one["flow_logs_ingest_token"]).role for one in (to_target, to_initiator)]
    assert roles == ["responder", "initiator"]


async def test_a_grant_is_stored_and_explained_with_its_target(world: World) -> None:
    async with static_pair(world) as pair:
        await pair.grant()
        laptop, nas = await pair.device("laptop"), await pair.device("nas")
    async with world.portal.services.store.reading() as tx:
        (row,) = await tx.of(world.account_id).authorizations.load_all()
        (decision,) = await newest_decisions(tx.of(world.account_id), limit=10)
    assert (row.initiating_device_id, row.receiving_device_id) == (laptop.id, nas.id)
    assert (row.policy_id, row.membership_id) == (pair.policy.id, world.membership.id)
    assert (decision.outcome, decision.explanation["outcome"]) == ("granted", "granted")
    assert decision.explanation["target"] == {
        "address": nas.ipv4,
        "client_id": str(nas.id),
        "name": "client",
        "refusal": None,
    }
    assert decision.gateway_id is None


@BOTH
async def test_a_dynamic_pool_leads_to_whom_its_pattern_covers(world: World, generation: int) -> None:
    async with dynamic_pair(world, generation) as pair:
        (pool,) = [one for one in pair.init["resources"] if one["id"] == str(pair.pool.id)]
        assert (pool["type"], pool["address"]) == ("dynamic_device_pool", "*.lab.example")
        nas = await pair.device("nas")
        pair.laptop.send(
            "resolve_device_pool_domain", {"resource_id": str(pair.pool.id), "domain": "nas.LAB.example"}
        )
        resolved = await pair.laptop.receive("device_pool_domain_resolved")
        assert resolved["payload"] == {
            "resource_id": str(pair.pool.id),
            "domain": "nas.LAB.example",
            "ipv4": nas.ipv4,
            "ipv6": nas.ipv6,
        }
        pair.ask(ipv6=nas.ipv6)
        await pair.nas.receive("client_device_access_authorized")
        await pair.laptop.receive("client_device_access_authorized")


@pytest.mark.parametrize("domain", ["other.lab.example", "lab.example", "nas.example", ""])
async def test_a_name_that_no_device_of_the_pool_has_is_not_found(world: World, domain: str) -> None:
    async with dynamic_pair(world) as pair:
        await rename(world, "laptop", "nas.example")
        pair.laptop.send("resolve_device_pool_domain", {"resource_id": str(pair.pool.id), "domain": domain})
        failed = await pair.laptop.receive("device_pool_domain_resolution_failed")
    assert failed["payload"] == {
        "resource_id": str(pair.pool.id),
        "domain": domain,
        "reason": "not_found",
    }


async def test_names_of_a_pool_that_is_not_shown_are_not_found(world: World) -> None:
    async with dynamic_pair(world) as pair:
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).policies.delete(pair.policy.id)
        await pair.laptop.receive("resource_deleted")
        pair.laptop.send(
            "resolve_device_pool_domain",
            {"resource_id": str(pair.pool.id), "domain": "nas.lab.example"},
        )
        failed = await pair.laptop.receive("device_pool_domain_resolution_failed")
    assert failed["payload"]["reason"] == "not_found"


@BOTH
@pytest.mark.parametrize(
    ("address", "reason", "echoed"),
    [
        ({}, "missing_address", {"resource_id"}),
        ({"ipv4": "100.64.0.1", "ipv6": "fd00:2021:1111::1"}, "ambiguous_address", {"ipv4", "ipv6"}),
        ({"ipv4": "nas"}, "invalid_address", {"ipv4"}),
        ({"ipv4": "fd00:2021:1111::1"}, "invalid_address", {"ipv4"}),
        ({"ipv6": "100.64.0.1"}, "invalid_address", {"ipv6"}),
        ({"ipv4": "100.64.0.1"}, "forbidden", {"ipv4"}),
    ],
)
async def test_an_address_that_names_no_member_is_refused_with_the_reason(
    world: World, generation: int, address: dict[str, str], reason: str, echoed: set[str]
) -> None:
    async with static_pair(world, generation) as pair:
        denied = await pair.denial(**address)
        assert await pair.nas.is_quiet()
    assert denied == {
        "reason": reason,
        **{name: address.get(name, str(pair.pool.id)) for name in echoed},
    }
    await assert_logged_denial(pair, reason)


async def test_a_device_that_was_renamed_out_of_the_pattern_is_forbidden(world: World) -> None:
    async with dynamic_pair(world) as pair:
        nas = await pair.device("nas")
        await rename(world, "nas", "nas.attic.example")
        await caught_up(world)
        assert (await pair.denial(ipv4=nas.ipv4))["reason"] == "forbidden"


async def test_a_client_does_not_reach_itself(world: World) -> None:
    async with static_pair(world) as pair:
        await add_member(world, pair.pool, "laptop")
        await pair.laptop.receive("resource_created_or_updated")
        denied = await pair.denial(ipv4=(await pair.device("laptop")).ipv4)
    assert denied["reason"] == "forbidden"


@BOTH
async def test_a_member_that_is_away_is_offline(world: World, generation: int) -> None:
    async with world.client(external_id="away"):
        pass
    async with static_pair(world, generation) as pair:
        await add_member(world, pair.pool, "away")
        await pair.laptop.receive("resource_created_or_updated")
        device = await pair.device("away")
        denied = await pair.denial(ipv4=device.ipv4)
    assert denied == {"ipv4": device.ipv4, "client_id": str(device.id), "reason": "offline"}
    await assert_logged_denial(pair, "offline")


@BOTH
@pytest.mark.parametrize(
    "user_agent",
    [
        "Ubuntu/22.4.0 headless-client/1.5.6 (x86_64)",  # too old to be a target
        "Ubuntu/22.4.0 headless-client/1.6.0 (x86_64)",  # another minor version
        "Ubuntu/22.4.0 headless-client/new (x86_64)",  # no version at all
    ],
)
async def test_versions_that_do_not_fit_are_a_mismatch(
    world: World, generation: int, user_agent: str
) -> None:
    async with static_pair(world, generation, user_agent=user_agent) as pair:
        device = await pair.device("nas")
        denied = await pair.denial(ipv6=device.ipv6)
    assert denied == {"ipv6": device.ipv6, "client_id": str(device.id), "reason": "version_mismatch"}
    await assert_logged_denial(pair, "version_mismatch")


@pytest.mark.parametrize(
    ("user_agent", "shows_pools"),
    [
        ("Ubuntu/22.4.0 headless-client/1.5.8 (x86_64)", False),
        ("Ubuntu/22.4.0 headless-client/1.5.9 (x86_64)", True),
        ("Windows/10.0 gui-client/1.5.12 (x86_64)", False),
        ("Windows/10.0 gui-client/1.5.13 (x86_64)", True),
        ("Mac OS/15.4.1 apple-client/1.5.15 (arm64)", False),
        ("Mac OS/15.4.1 apple-client/1.5.16 (arm64)", True),
        ("Android/15 android-client/1.5.10 (arm64)", False),
        ("Android/15 android-client/1.5.11 (arm64)", True),
    ],
)
async def test_pools_are_withheld_from_clients_that_cannot_be_told(
    world: World, user_agent: str, shows_pools: bool
) -> None:
    pool, _ = await make_pool(world, "static_device_pool")
    async with world.client(user_agent=user_agent) as client:
        init = await client.join()
        shown = {one["id"] for one in init["resources"]}
        assert (str(pool.id) in shown) is shows_pools
        if not shows_pools:
            client.send("request_authorization", {"resource_id": str(pool.id), "ipv4": "100.64.0.1"})
            failed = await client.receive("authorization_creation_failed")
            assert failed["payload"]["reason"] == "not_found"


@BOTH
async def test_what_policies_say_comes_before_any_address_is_looked_at(world: World, generation: int) -> None:
    async with static_pair(world, generation) as pair:
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).policies.delete(pair.policy.id)
        await pair.laptop.receive("resource_deleted")
        pair.ask(ipv4="nas", ipv6="nas")
        failed = await pair.laptop.receive(FAILURES[generation])
    assert failed["payload"] == {"resource_id": str(pair.pool.id), "reason": "not_found"}


@BOTH
async def test_candidates_pass_both_ways_between_clients_with_a_grant(world: World, generation: int) -> None:
    async with static_pair(world, generation) as pair:
        to_target, to_initiator = await pair.grant()
        here, there = to_target["client_id"], to_initiator["client_id"]
        pair.laptop.send("new_client_ice_candidates", {"client_id": there, "candidates": ["candidate:1"]})
        got = await pair.nas.receive("client_ice_candidates")
        assert got["payload"] == {"client_id": here, "candidates": ["candidate:1"]}
        pair.nas.send("new_client_ice_candidates", {"client_id": here, "candidates": ["candidate:2"]})
        got = await pair.laptop.receive("client_ice_candidates")
        assert got["payload"] == {"client_id": there, "candidates": ["candidate:2"]}
        pair.nas.send("invalidate_client_ice_candidates", {"client_id": here, "candidates": ["candidate:2"]})
        got = await pair.laptop.receive("invalidate_client_ice_candidates")
        assert got["payload"] == {"client_id": there, "candidates": ["candidate:2"]}


async def test_candidates_for_a_client_without_a_grant_go_nowhere(world: World) -> None:
    async with static_pair(world) as pair:
        nas = str((await pair.device("nas")).id)
        pair.laptop.send("new_client_ice_candidates", {"client_id": nas, "candidates": ["candidate:1"]})
        assert await pair.laptop.is_quiet()
        pair.laptop.send(
            "invalidate_client_ice_candidates", {"client_id": nas, "candidates": ["candidate:1"]}
        )
        error = await pair.laptop.receive("client_ice_candidate_error")
        assert error["payload"] == {"client_id": nas, "reason": "offline"}
        assert await pair.nas.is_quiet()
    assert world.portal.services.counters["candidates_unrelated"] == 2


async def test_candidates_for_a_client_that_has_left_are_answered_only_when_invalidated(world: World) -> None:
    async with static_pair(world) as pair:
        _, to_initiator = await pair.grant()
        there = to_initiator["client_id"]
        await pair.nas.__aexit__()
        pair.laptop.send("new_client_ice_candidates", {"client_id": there, "candidates": ["candidate:1"]})
        assert await pair.laptop.is_quiet()
        pair.laptop.send(
            "invalidate_client_ice_candidates", {"client_id": there, "candidates": ["candidate:1"]}
        )
        error = await pair.laptop.receive("client_ice_candidate_error")
        assert error["payload"] == {"client_id": there, "reason": "offline"}
        await pair.nas.__aenter__()


async def test_a_target_that_returns_is_told_all_grants_to_it(world: World) -> None:
    async with static_pair(world) as pair:
        to_target, _ = await pair.grant()
        async with world.client(external_id="nas") as again:
            init = await again.join()
            filters = await again.receive("resource_filters_updated")
    assert filters["payload"] == {"id": str(pair.pool.id), "filters": []}
    assert init["authorizations"] == [
        {
            "client_id": to_target["client_id"],
            "resource_id": str(pair.pool.id),
            "expires_at": to_target["expires_at"],
        }
    ]


async def test_an_initiator_that_returns_still_signals_to_its_target(world: World) -> None:
    async with static_pair(world) as pair:
        _, to_initiator = await pair.grant()
        await pair.laptop.__aexit__()
        async with world.client(external_id="laptop") as again:
            await again.join()
            message = {"client_id": to_initiator["client_id"], "candidates": ["candidate:1"]}
            again.send("new_client_ice_candidates", message)
            told = await pair.nas.receive("client_ice_candidates")
            assert told["payload"]["candidates"] == ["candidate:1"]
        await pair.laptop.__aenter__()


async def test_several_devices_of_a_pool_may_be_asked_for(world: World) -> None:
    async with static_pair(world) as pair, world.client(external_id="printer") as printer:
        await printer.join()
        await add_member(world, pair.pool, "printer")
        await pair.laptop.receive("resource_created_or_updated")
        await pair.nas.receive("resource_created_or_updated")
        await pair.grant()
        pair.ask(ipv4=(await pair.device("printer")).ipv4)
        await printer.receive_until("client_device_access_authorized")
        await pair.laptop.receive("client_device_access_authorized")
    async with world.portal.services.store.reading() as tx:
        assert await tx.of(world.account_id).authorizations.count() == 2


async def test_a_grant_of_another_account_reaches_nobody(world: World) -> None:
    """Addresses are unique within an account only: presence of another one with the same address means nothing."""
    async with static_pair(world) as pair:
        nas = await pair.device("nas")
        bus = world.portal.services.environment.bus
        (present,) = [one for one in bus.members("client", world.account_id) if one.address.id == nas.id]
        bus.update(replace(present, account_id=world.portal.services.environment.new_id()))
        assert (await pair.denial(ipv4=nas.ipv4))["reason"] == "offline"
        bus.update(present)


def assert_same_connection(one: dict[str, Any], other: dict[str, Any]) -> None:
    """What a client compares before it replaces a connection (data-plane §1.8)."""
    for name in (
        "client_public_key",
        "preshared_key",
        "local_ice_credentials",
        "remote_ice_credentials",
        "ice_role",
        "use_iceless",
    ):
        assert one[name] == other[name], name


async def assert_logged_denial(pair: Pair, reason: str) -> None:
    await pair.world.portal.journal.flush()
    async with pair.world.portal.services.store.reading() as tx:
        (decision,) = await newest_decisions(tx.of(pair.world.account_id), limit=10)
    assert (decision.outcome, decision.reason) == ("denied", reason)
    explanation: dict[str, Any] = decision.explanation
    assert (explanation["outcome"], explanation["obstacle"]) == ("denied", "no_target")
    assert explanation["target"]["refusal"] == reason
