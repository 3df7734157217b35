"""What connections do by themselves as time passes, in virtual seconds."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

from portal.channels.test_authorization import grant
from support.pools import static_pair
from support.portal import World, make_world, portal_running
from wardgate.portal.bus import EncodingBus
from wardgate.portal.bus.messages import GrantAcknowledged, OfferDeviceAccess
from wardgate.portal.channels.connect_records import Connect
from wardgate.portal.environment import Environment, InlineExecutor, NoOutbound
from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.simulation.virtual_time import run_virtual

STARTED_AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday


class VirtualClock:
    """The loop's own time, and a wall clock that runs with it."""

    def now(self) -> datetime:
        return STARTED_AT + timedelta(seconds=self.monotonic() - 1000.0)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


Scene = Callable[[World], Coroutine[Any, Any, None]]


def on_virtual_time(scene: Scene) -> Callable[[], None]:
    """Run a scene in a world of its own, on a clock that jumps."""

    @wraps(scene)
    def test() -> None:
        run_virtual(_played(scene))

    del test.__wrapped__  # type: ignore[attr-defined] # pytest would take the scene's argument for a fixture
    return test


async def _played(scene: Scene) -> None:
    environment = Environment(VirtualClock(), random.Random(7), InlineExecutor(), NoOutbound(), EncodingBus())
    async with portal_running(environment=environment) as portal:
        await scene(await make_world(portal))


@on_virtual_time
async def test_a_gateway_that_does_not_acknowledge_in_fifteen_seconds_counts_as_offline(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        offered = await gateway.receive("create_authorization")
        asked_at = _now()
        failed = await _receive(client)
        assert failed["event"] == "authorization_creation_failed"
        assert failed["payload"]["reason"] == "offline"
        assert 14.9 < _now() - asked_at < 15.2
        gateway.send("authorization_created", {"ref": offered["payload"]["ref"]})
        await gateway.receive("phx_reply")
        assert await client.is_quiet()


@on_virtual_time
async def test_a_repeated_request_replaces_the_pending_one_and_restarts_its_time(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        first = await gateway.receive("create_authorization")
        await asyncio.sleep(10)
        await _beat(client, gateway)
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        second = await gateway.receive("create_authorization")
        gateway.send("authorization_created", {"ref": first["payload"]["ref"]})
        await gateway.receive("phx_reply")
        assert await client.is_quiet()
        await asyncio.sleep(10)
        gateway.send("authorization_created", {"ref": second["payload"]["ref"]})
        await client.receive("authorization_created")


@on_virtual_time
async def test_a_client_that_does_not_confirm_a_grant_to_it_counts_as_offline(world: World) -> None:
    async with static_pair(world) as pair:
        nas, bus = await pair.device("nas"), world.portal.services.environment.bus
        (present,) = [one for one in bus.members("client", world.account_id) if one.address.id == nas.id]
        offers: list[object] = []
        bus.register(present, offers.append)
        pair.ask(ipv4=nas.ipv4)
        asked_at = _now()
        denied = await _receive(pair.laptop)
        assert 14.9 < _now() - asked_at < 15.2
        assert denied["event"] == "client_device_access_denied"
        assert denied["payload"] == {"ipv4": nas.ipv4, "client_id": str(nas.id), "reason": "offline"}
        offer = offers[0]
        assert isinstance(offer, OfferDeviceAccess)
        bus.send(offer.reply_to, GrantAcknowledged(offer.holding.authorization_id))
        assert await pair.laptop.is_quiet()
    await world.portal.journal.flush()
    async with world.portal.services.store.reading() as tx:
        denial, granted = await newest_decisions(tx.of(world.account_id), limit=10)
    assert (granted.outcome, denial.outcome, denial.reason) == ("granted", "denied", "offline")
    assert denial.explanation["outcome"] == "denied"


@on_virtual_time
async def test_a_request_is_decided_on_the_list_that_the_client_is_shown_then(world: World) -> None:
    await _give_window(world, "M/12:00:30-12:00:59/UTC")
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        assert (await client.join())["resources"] == []
        await asyncio.sleep(31)
        await _beat(gateway, client)
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        shown = await client.receive("resource_created_or_updated")
        assert shown["payload"]["id"] == str(world.resource.id)
        offered = await gateway.receive("create_authorization")
        gateway.send("authorization_created", {"ref": offered["payload"]["ref"]})
        await client.receive("authorization_created")


@on_virtual_time
async def test_what_has_just_ended_is_forbidden_and_gone_from_the_list(world: World) -> None:
    await _give_window(world, "M/12:00:00-12:00:20/UTC")
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        assert len((await client.join())["resources"]) == 1
        await asyncio.sleep(21)
        await _beat(gateway, client)
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        assert (await client.receive("resource_deleted"))["payload"] == str(world.resource.id)
        failed = await client.receive("authorization_creation_failed")
        assert failed["payload"]["reason"] == "forbidden"
        assert failed["payload"]["violated_properties"] == ["current_utc_datetime"]
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        failed = await client.receive("authorization_creation_failed")
        assert failed["payload"]["reason"] == "not_found"
    await world.portal.journal.flush()
    async with world.portal.services.store.reading() as tx:
        decisions = await newest_decisions(tx.of(world.account_id), limit=10)
    assert [one.reason for one in decisions] == ["not_found", "forbidden"]
    assert {one.explanation["outcome"] for one in decisions} == {"denied"}


@on_virtual_time
async def test_equal_denials_are_counted_into_one_more_entry(world: World) -> None:
    async with world.client() as client:
        await client.join()
        for _ in range(7):
            client.send("request_authorization", {"resource_id": str(world.resource.id)})
            await client.receive("authorization_creation_failed")
        await asyncio.sleep(11)
        client.send("request_authorization", {"resource_id": "00000000-0000-4000-8000-000000000000"})
        await client.receive("authorization_creation_failed")
        await world.portal.journal.flush()
        async with world.portal.services.store.reading() as tx:
            other, last, first = await newest_decisions(tx.of(world.account_id), limit=10)
    assert (first.explanation["repeats"], last.explanation["repeats"]) == (0, 5)
    assert (first.reason, last.reason, other.reason) == ("offline", "offline", "not_found")


@on_virtual_time
async def test_no_denial_of_a_flood_goes_uncounted(world: World) -> None:
    async with world.client() as client:
        await client.join()
        for number in range(200):
            client.send("request_authorization", {"resource_id": f"00000000-0000-4000-8000-{number:012}"})
            await client.receive("authorization_creation_failed")
        client.send("request_authorization", {"resource_id": "00000000-0000-4000-8000-000000000000"})
        await client.receive("authorization_creation_failed")
    await world.portal.journal.flush()
    async with world.portal.services.store.reading() as tx:
        listed = await newest_decisions(tx.of(world.account_id), limit=1000)
    counted = sum(1 + one.explanation["repeats"] + one.explanation["unlisted"] for one in listed)
    assert (counted, len(listed)) == (201, 34)


@on_virtual_time
async def test_a_connect_that_is_not_recorded_in_fifteen_seconds_ends(world: World) -> None:
    lost: list[Connect] = []
    world.portal.journal.write_connect = lost.append  # type: ignore[method-assign]
    async with world.gateway() as gateway:
        await gateway.join()
        connected_at = _now()
        assert (await _receive(gateway))["event"] == "phx_close"
        assert 14.9 < _now() - connected_at < 15.2
        assert await gateway.receive_close() == 1000
    assert world.portal.services.counters["closed_unrecorded"] == 1


@on_virtual_time
async def test_a_client_is_signed_out_when_its_token_expires(world: World) -> None:
    services = world.portal.services
    async with services.store.writing() as tx:
        tokens = tx.of(world.account_id).client_tokens
        row = await tokens.load(world.client_token_id)
        assert row is not None
        await tokens.save(replace(row, expires_at=tx.now + timedelta(seconds=20)))
    async with world.client() as client:
        await client.join()
        joined_at = _now()
        disconnect = await _receive(client)
        assert disconnect["payload"] == {"reason": "token_expired"}
        assert 19.9 < _now() - joined_at < 20.2
        assert await client.receive_close() == 1000


@on_virtual_time
async def test_a_resource_goes_within_a_minute_of_its_time_window(world: World) -> None:
    await _give_window(world, "M/12:00:00-12:00:30/UTC")
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        assert len((await client.join())["resources"]) == 1
        create, _created = await grant(world, client, gateway)
        assert create["expires_at"] == int((STARTED_AT + timedelta(seconds=30)).timestamp())
        for _ in range(6):
            await asyncio.sleep(10)
            await _beat(gateway)
            client.send("heartbeat", {}, topic="phoenix")
        deleted = await client.receive_until("resource_deleted")
        assert deleted["payload"] == str(world.resource.id)
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        failed = await client.receive_until("authorization_creation_failed")
        assert failed["payload"]["reason"] == "not_found"


@on_virtual_time
async def test_an_expired_grant_is_removed_without_a_word(world: World) -> None:
    await _give_window(world, "M/12:00:00-12:00:30/UTC")
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        await grant(world, client, gateway)
        for _ in range(4):
            await asyncio.sleep(10)
            await _beat(gateway)
            client.send("heartbeat", {}, topic="phoenix")
        async with world.portal.services.store.writing() as tx:
            (row,) = await tx.of(world.account_id).authorizations.load_all()
            assert row.expires_at <= tx.now
            await tx.of(world.account_id).authorizations.delete(row.id)
        await asyncio.sleep(1)
        assert await gateway.is_quiet()


@on_virtual_time
async def test_a_lost_relay_is_announced_after_a_second_of_quiet(world: World) -> None:
    async with world.client() as client:
        async with world.relay() as relay:
            await relay.join({"stamp_secret": "ab" * 32})
            (entry,) = (await client.join())["relays"]
        lost_at = _now()
        presence = await _receive(client)
        assert presence["event"] == "relays_presence"
        assert presence["payload"] == {"disconnected_ids": [entry["id"]], "connected": []}
        assert 0.9 < _now() - lost_at < 1.2


@on_virtual_time
async def test_a_relay_that_returns_within_the_second_causes_no_message(world: World) -> None:
    async with world.client() as client:
        async with world.relay() as relay:
            await relay.join({"stamp_secret": "ab" * 32})
            await client.join()
        await asyncio.sleep(0.5)
        async with world.relay() as relay:
            await relay.join({"stamp_secret": "ab" * 32})
            await asyncio.sleep(3)
            assert await client.is_quiet()


@on_virtual_time
async def test_a_relay_that_comes_and_goes_does_not_keep_the_loss_of_another_from_being_told(
    world: World,
) -> None:
    async with world.client() as client:
        async with world.relay() as relay:
            await relay.join({"stamp_secret": "ab" * 32})
            (entry,) = (await client.join())["relays"]
        for _ in range(10):
            async with world.relay() as restless:
                await restless.join({"stamp_secret": "cd" * 32})
                await asyncio.sleep(0.3)
            await asyncio.sleep(0.3)
        presence = next(frame for frame in await client.news() if frame["event"] == "relays_presence")
        assert presence["payload"]["disconnected_ids"] == [entry["id"]]


@on_virtual_time
async def test_a_change_of_relays_is_looked_at_once(world: World) -> None:
    async with world.client() as client, world.relay() as relay:
        await relay.join({"stamp_secret": "ab" * 32})
        await client.join()
        async with world.relay() as second:
            await second.join({"stamp_secret": "cd" * 32})
            await asyncio.sleep(3)
            assert [frame["event"] for frame in await client.news()] == ["relays_presence"]
            await asyncio.sleep(10)
            assert await client.is_quiet()


@on_virtual_time
async def test_two_relays_are_given_of_three_and_dual_stack_entries_stand_together(world: World) -> None:
    relays = [world.relay(query={"ipv6": "2001:db8::7"}, remote_ip=f"192.0.2.{n}") for n in range(3)]
    for number, relay in enumerate(relays):
        await relay.__aenter__()
        await relay.join({"stamp_secret": f"{number:02x}" * 32})
    async with world.client() as client:
        entries = (await client.join())["relays"]
    assert len(entries) == 4
    assert entries[0]["id"] == entries[1]["id"] != entries[2]["id"] == entries[3]["id"]
    assert [entry["addr"] for entry in entries[:2]] == ["198.51.100.7:3478", "[2001:db8::7]:3478"]
    for relay in relays:
        await relay.__aexit__()


@on_virtual_time
async def test_no_relays_is_answered_at_once(world: World) -> None:
    async with world.relay() as relay, world.client() as client:
        await client.join()
        await relay.join({"stamp_secret": "ab" * 32})
        client.send("no_relays", {})
        presence = await client.receive("relays_presence")
        assert presence["payload"]["disconnected_ids"] == []
        assert len(presence["payload"]["connected"]) == 1


@on_virtual_time
async def test_a_silent_connection_ends_and_its_presence_with_it(world: World) -> None:
    async with world.gateway() as gateway:
        await gateway.join()
        bus = world.portal.services.environment.bus
        assert len(bus.members("gateway", world.account_id)) == 1
        await asyncio.sleep(36.9)
        assert len(bus.members("gateway", world.account_id)) == 1
        await asyncio.sleep(0.3)
        assert bus.members("gateway", world.account_id) == []
        assert await gateway.receive_close() == 1001


async def _give_window(world: World, times: str) -> None:
    async with world.portal.services.store.writing() as tx:
        window = {
            "property": "current_utc_datetime",
            "operator": "is_in_day_of_week_time_ranges",
            "values": [times],
        }
        await tx.of(world.account_id).policies.save(replace(world.policy, conditions=[window]))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _receive(peer: Any) -> dict[str, Any]:
    """Return the next frame, beating every ten seconds until it comes."""
    while True:
        try:
            async with asyncio.timeout(4):
                frame = await peer.receive()
        except (TimeoutError, AssertionError):
            peer.send("heartbeat", {}, topic="phoenix")
            continue
        if frame["topic"] != "phoenix":
            return frame


async def _beat(*peers: Any) -> None:
    for peer in peers:
        peer.send("heartbeat", {}, topic="phoenix")
        await peer.receive("phx_reply")
