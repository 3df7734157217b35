"""Each value that a peer chooses and another one receives, or the portal keeps: what is too long, has other spellings
or could not be read by who gets it, on its way through the portal.
"""

import base64
import json
from typing import Any

import pytest

from support.pools import static_pair
from support.portal import Peer, Refused, World
from wardgate.portal.logs.decision_log import newest_decisions

KEY = bytes(range(32))
CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.7 40000 typ host"
HEAVY = [CANDIDATE, *["candidate:" + "x" * 1_000] * 30]
"""As much as one message may have, nearly."""

FLOOD = 400

TEXTS = ["name", "external_id"]
HARDWARE_IDS = ["device_serial", "device_uuid", "identifier_for_vendor", "firebase_installation_id"]


# ── at the upgrade ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["client", "gateway"])
async def test_a_key_has_one_spelling(world: World, kind: str) -> None:
    """The last character of 32 bytes in base64 has two bits to spare. Whoever came with the key of a connected
    device in another spelling would be let in, and take over its tunnels.
    """
    text = base64.b64encode(KEY).decode()
    other = text[:-2] + chr(ord(text[-2]) + 1) + "="
    assert (base64.b64decode(other, validate=True), other != text) == (KEY, True)
    peers: dict[str, Any] = {"client": world.client, "gateway": world.gateway}
    async with world.client(external_id="laptop", key=KEY) as laptop:
        await laptop.join()
        refused = await refusal_of(peers[kind](external_id="mallory", query={"public_key": other}))
        assert problem(refused) == (400, "public_key must be a base64-encoded string")


@pytest.mark.parametrize(
    ("kind", "field"),
    [*(("client", one) for one in TEXTS + HARDWARE_IDS), *(("gateway", one) for one in TEXTS)],
)
async def test_a_text_that_a_database_cannot_keep_is_refused_by_name(
    world: World, kind: str, field: str
) -> None:
    peers: dict[str, Any] = {"client": world.client, "gateway": world.gateway}
    refused = await refusal_of(peers[kind](query={field: "a\0b"}))
    assert problem(refused) == (400, f"{field} is invalid")


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\u202eabc", "\uffff", "\U0001f600" * 255])
async def test_any_other_text_is_taken_as_it_is(world: World, text: str) -> None:
    """Who shows it makes it fit for showing."""
    async with world.client(query=dict.fromkeys([*TEXTS, *HARDWARE_IDS], text)) as client:
        await client.join()


@pytest.mark.parametrize(
    ("field", "address"),
    [
        ("ipv6", "fe80::1%eth0"),
        ("ipv6", "2001:db8::7%1"),
        ("ipv6", "::ffff:198.51.100.7"),
        ("ipv6", "::"),
        ("ipv6", "ff02::1"),
        ("ipv4", "0.0.0.0"),
        ("ipv4", "224.0.0.1"),
        ("ipv4", "255.255.255.255"),
    ],
)
async def test_a_relay_announces_addresses_that_all_peers_understand(
    world: World, field: str, address: str
) -> None:
    """A released peer that is told of `[fe80::1%eth0]:3478` drops the whole `init`."""
    relay = Peer(world.portal, "relay", world.relay_token, "Linux/6.8 relay/1.0.0", query={field: address})
    assert problem(await refusal_of(relay)) == (400, f"{field} is invalid")


async def test_others_are_told_the_beginning_of_a_user_agent(world: World) -> None:
    agent = "Ubuntu/22.4.0 headless-client/1.5.12 (x86_64; " + "x" * 8_000 + ")"
    async with world.gateway() as gateway, world.client(user_agent=agent) as client:
        await gateway.join()
        await client.join()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        told = (await gateway.receive("create_authorization"))["payload"]
    assert told["subject"]["user_agent"] == agent[:255]


# ── in messages ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "message",
    [
        ("request_authorization", {"ipv4": "1" * 65}),
        ("request_authorization", {"ipv6": "1" * 65}),
        ("resolve_device_pool_domain", {"domain": "a" * 256}),
    ],
)
async def test_what_the_portal_would_repeat_is_no_longer_than_it_can_be(
    world: World, message: tuple[str, dict[str, str]]
) -> None:
    """Answers repeat it, and the decision log keeps it."""
    async with static_pair(world) as pair:
        event, fields = message
        ref = pair.laptop.send(event, {"resource_id": str(pair.pool.id), **fields})
        (reply,) = await pair.laptop.news()
        assert (reply["ref"], reply["payload"]["response"]) == (ref, {"reason": "unknown_message"})
        assert (await pair.denial(ipv4="1" * 64))["reason"] == "invalid_address"
    await world.portal.journal.flush()
    async with world.portal.services.store.reading() as tx:
        kept = await newest_decisions(tx.of(world.account_id), limit=10)
    assert len(kept) == 1


@pytest.mark.parametrize("event", ["broadcast_ice_candidates", "broadcast_invalidated_ice_candidates"])
@pytest.mark.parametrize("sender", ["client", "gateway"])
async def test_more_candidates_than_any_host_has_go_nowhere(world: World, sender: str, event: str) -> None:
    async with world.gateway() as gateway, world.client() as client:
        ids = await granted(world, gateway, client)
        peers = {"client": client, "gateway": gateway}
        speaker = peers.pop(sender)
        (hearer,) = peers.values()
        named = {"gateway_ids" if sender == "client" else "client_ids": [ids[hearer.kind]]}
        ref = speaker.send(event, {**named, "candidates": HEAVY * 2})
        (reply,) = await speaker.news()
        assert (reply["ref"], reply["payload"]["response"]) == (ref, {"reason": "unknown_message"})
        assert await hearer.is_quiet()
        speaker.send(event, {**named, "candidates": HEAVY})
        assert (await hearer.receive())["payload"]["candidates"] == HEAVY
    assert world.portal.services.counters["candidates_too_many"] == 1


@pytest.mark.parametrize("event", ["new_gateway_ice_candidates", "invalidate_gateway_ice_candidates"])
async def test_heavy_candidates_for_a_gateway_cost_by_their_size(world: World, event: str) -> None:
    """Otherwise one client could send a gateway more than its line takes, until that is closed as a slow reader."""
    async with world.gateway() as gateway, world.client() as client:
        ids = await granted(world, gateway, client)
        for _ in range(FLOOD):
            client.send(event, {"gateway_id": ids["gateway"], "candidates": HEAVY})
        assert 50 < await heard_beside(gateway) < FLOOD / 2
        assert client.take_back() > FLOOD / 2


@pytest.mark.parametrize("event", ["new_client_ice_candidates", "invalidate_client_ice_candidates"])
async def test_candidates_between_clients_are_bounded_alike(world: World, event: str) -> None:
    async with static_pair(world) as pair:
        await pair.grant()
        target = {"client_id": str((await pair.device("nas")).id)}
        pair.laptop.send(event, {**target, "candidates": HEAVY * 2})
        assert [one["event"] for one in await pair.laptop.news()] == ["phx_reply"]
        assert await pair.nas.is_quiet()
        for _ in range(FLOOD):
            pair.laptop.send(event, {**target, "candidates": HEAVY})
        assert 50 < await heard_beside(pair.nas) < FLOOD / 2
        assert pair.laptop.take_back() > FLOOD / 2


async def granted(world: World, gateway: Peer, client: Peer) -> dict[str, str]:
    """Let the client have its resource; return the ids of both by kind."""
    await gateway.join()
    await client.join()
    client.send("request_authorization", {"resource_id": str(world.resource.id)})
    create = (await gateway.receive("create_authorization"))["payload"]
    gateway.send("authorization_created", {"ref": create["ref"]})
    await gateway.receive("phx_reply")
    created = (await client.receive("authorization_created"))["payload"]
    return {"gateway": created["gateway_id"], "client": create["client"]["id"]}


async def heard_beside(peer: Peer) -> int:
    """Return how many frames of a flood reach a peer while the portal answers as many of its own: it reads the two
    side by side.
    """
    return sum([len(await peer.news()) for _ in range(FLOOD)])


async def refusal_of(peer: Peer) -> Any:
    try:
        async with peer:
            pass
    except Refused as error:
        return error.refusal
    raise AssertionError("it was let in")


def problem(refused: Any) -> tuple[int, str]:
    document = json.loads(refused.body)
    assert document["code"] == "invalid_connect_params"
    return refused.status, document["detail"]
