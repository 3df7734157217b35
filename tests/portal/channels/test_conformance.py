"""The portal beside what is released: each version is served as the gates say (protocol §6), and every message of the
dialect occurs between live portal code and a peer.
"""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.pools import add_member, caught_up, device_of, make_pool, rename
from support.portal import Peer, World
from wardgate.portal.access.tables import Resource
from wardgate.wire import dialect
from wardgate.wire import messages as m
from wardgate.wire.dialect import Dialect, Generation, Malformed, PeerKind, Unknown

CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.10 52625 typ host"

ASK = {1: "create_flow", 2: "request_authorization"}
OFFER = {1: "authorize_flow", 2: "create_authorization"}
ACKNOWLEDGE = {1: "flow_authorized", 2: "authorization_created"}
CREATED = {1: "flow_created", 2: "authorization_created"}
FAILED = {1: "flow_creation_failed", 2: "authorization_creation_failed"}

# ── every message ────────────────────────────────────────────────────────────────────────────────────────────

Seen = set[tuple[PeerKind, Generation, str, str]]

NEVER_SENT = {
    (PeerKind.RELAY, "disconnect"): "a relay whose token is deleted has its socket closed (§1.9, 11)",
}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Record what the sessions of a portal encode, and what they decode without complaint."""
    found: Seen = set()
    encode, decode = Dialect.encode_to_peer, Dialect.decode_from_peer

    def encoding(self: Dialect, message: m.Message) -> tuple[str, object]:
        event, payload = encode(self, message)
        found.add((self.kind, self.generation, "to peer", event))
        return event, payload

    def decoding(self: Dialect, event: str, payload: bytes) -> dialect.Decoded:
        message = decode(self, event, payload)
        if not isinstance(message, Unknown | Malformed):
            found.add((self.kind, self.generation, "from peer", event))
        return message

    monkeypatch.setattr(Dialect, "encode_to_peer", encoding)
    monkeypatch.setattr(Dialect, "decode_from_peer", decoding)
    return found


@pytest.mark.parametrize("generation", [1, 2])
async def test_every_message_of_the_dialect_occurs(world: World, seen: Seen, generation: int) -> None:
    await _a_whole_life(world, generation)
    expected: Seen = set()
    for kind in PeerKind:
        spoken = Generation.V1 if kind is PeerKind.RELAY else Generation(generation)
        table = dialect._TABLES[kind, spoken]
        expected |= {
            (kind, spoken, "to peer", event)
            for event, _bare in table.to_peer.values()
            if (kind, event) not in NEVER_SENT
        }
        expected |= {(kind, spoken, "from peer", event) for event in table.from_peer}
    assert seen == expected
    counters = world.portal.services.counters
    assert (counters["replies_unknown_message"], counters["channel_crashes"]) == (0, 0), "each was acted upon"


async def _a_whole_life(world: World, generation: int) -> None:
    """Let a relay, a gateway and two clients say and hear all that there is."""
    async with world.client(external_id="nas"):
        pool, _policy = await make_pool(world, "static_device_pool")
        await add_member(world, pool, "nas")
        await rename(world, "nas", "nas.lab.example")
        names, _policy = await make_pool(world, "dynamic_device_pool", address="*.lab.example")
    nas_device = await device_of(world, "nas")
    await caught_up(world)
    async with (
        world.relay() as relay,
        world.gateway(generation=generation) as gateway,
        world.client(external_id="laptop", generation=generation) as laptop,
    ):
        await relay.join({"stamp_secret": "ab" * 32})
        assert len((await gateway.join())["relays"]) == 1
        await laptop.join()
        laptop_device, gateway_device = await device_of(world, "laptop"), await device_of(world, "gateway-1")
        for peer in (gateway, laptop):
            peer.send("set_snownet_capabilities", {"iceless": True, "later": {"more": 1}})
            peer.send("no_relays", {})
            await peer.receive_until("relays_presence")
        await _reach_through_the_gateway(
            world, laptop, gateway, str(laptop_device.id), str(gateway_device.id)
        )
        async with world.client(external_id="nas", generation=generation) as nas:
            await nas.join()
            await _reach_another_client(world, laptop, nas, pool, names)
        laptop.send("invalidate_client_ice_candidates", {"client_id": str(nas_device.id), "candidates": []})
        await laptop.receive_until("client_ice_candidate_error")
        for event in ("prepare_connection", "reuse_connection", "request_connection"):
            ref = laptop.send(event, {"resource_id": str(world.resource.id), "anything": [1]})
            reply = await laptop.receive_until("phx_reply")
            assert (reply["ref"], reply["payload"]) == (
                ref,
                {"status": "error", "response": {"reason": "version_mismatch"}},
            )
        laptop.send("request_device_access", {"anything": 1})
        await _end(world, laptop, gateway)


async def _reach_through_the_gateway(
    world: World, laptop: Peer, gateway: Peer, client_id: str, gateway_id: str
) -> None:
    generation = 1 if laptop._path == "/client/websocket" else 2
    ask = {"resource_id": str(world.resource.id), "connected_gateway_ids": [], "unknown": {"key": True}}
    laptop.send(ASK[generation], ask)
    offered = (await gateway.receive_until(OFFER[generation]))["payload"]
    gateway.send(ACKNOWLEDGE[generation], {"ref": offered["ref"], "unknown": 1})
    created = (await laptop.receive_until(CREATED[generation]))["payload"]
    assert created["gateway_id"] == gateway_id
    laptop.send(ASK[generation], {**ask, "resource_id": str(world.site.id)})
    assert (await laptop.receive_until(FAILED[generation]))["payload"]["reason"] == "not_found"
    one, several = {"candidates": [CANDIDATE]}, {"candidates": [CANDIDATE]}
    for said, target, heard in (
        ("new_gateway_ice_candidates", {"gateway_id": gateway_id}, "ice_candidates"),
        ("invalidate_gateway_ice_candidates", {"gateway_id": gateway_id}, "invalidate_ice_candidates"),
        ("broadcast_ice_candidates", {"gateway_ids": [gateway_id]}, "ice_candidates"),
        ("broadcast_invalidated_ice_candidates", {"gateway_ids": [gateway_id]}, "invalidate_ice_candidates"),
    ):
        laptop.send(said, {**target, **one})
        told = (await gateway.receive_until(heard))["payload"]
        assert told == {"client_id": client_id, "candidates": [CANDIDATE]}
    for said, heard in (
        ("broadcast_ice_candidates", "ice_candidates"),
        ("broadcast_invalidated_ice_candidates", "invalidate_ice_candidates"),
    ):
        gateway.send(said, {"client_ids": [client_id], **several})
        told = (await laptop.receive_until(heard))["payload"]
        assert told == {"gateway_id": gateway_id, "candidates": [CANDIDATE]}
    gateway.send("draining", {"anything": 1})
    laptop.send(ASK[generation], ask)
    assert (await laptop.receive_until(FAILED[generation]))["payload"]["reason"] == "offline"


async def _reach_another_client(
    world: World, laptop: Peer, nas: Peer, pool: Resource, names: Resource
) -> None:
    generation = 1 if laptop._path == "/client/websocket" else 2
    nas_device, laptop_device = await device_of(world, "nas"), await device_of(world, "laptop")
    laptop.send(ASK[generation], {"resource_id": str(pool.id), "ipv4": "no address"})
    assert (await laptop.receive_until("client_device_access_denied"))["payload"][
        "reason"
    ] == "invalid_address"
    laptop.send(ASK[generation], {"resource_id": str(pool.id), "ipv4": nas_device.ipv4})
    await nas.receive_until("client_device_access_authorized")
    await laptop.receive_until("client_device_access_authorized")
    for said, heard in (
        ("new_client_ice_candidates", "client_ice_candidates"),
        ("invalidate_client_ice_candidates", "invalidate_client_ice_candidates"),
    ):
        laptop.send(said, {"client_id": str(nas_device.id), "candidates": [CANDIDATE]})
        told = (await nas.receive_until(heard))["payload"]
        assert told == {"client_id": str(laptop_device.id), "candidates": [CANDIDATE]}
    for domain, heard in (
        ("nas.lab.example", "device_pool_domain_resolved"),
        ("none.lab.example", "device_pool_domain_resolution_failed"),
    ):
        laptop.send("resolve_device_pool_domain", {"resource_id": str(names.id), "domain": domain})
        await laptop.receive_until(heard)
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).resources.save(
            replace(pool, filters=[{"protocol": "tcp", "ports": ["443"]}])
        )
    await nas.receive_until("resource_filters_updated")
    async with world.portal.services.store.writing() as tx:
        grants = tx.of(world.account_id).authorizations
        await grants.delete_where(grants.c.receiving_device_id == nas_device.id)
    await nas.receive_until("reject_access")


async def _end(world: World, laptop: Peer, gateway: Peer) -> None:
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).resources.save(
            replace(world.resource, filters=[{"protocol": "tcp", "ports": ["443"]}])
        )
    await gateway.receive_until("resource_updated")
    await laptop.receive_until("resource_created_or_updated")
    async with world.portal.services.store.writing() as tx:
        account = await tx.accounts.load(world.account_id)
        assert account is not None
        await tx.accounts.save(replace(account, config={"search_domain": "corp.example"}))
    await laptop.receive_until("config_changed")
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).policies.delete(world.policy.id)
    await laptop.receive_until("resource_deleted")
    await gateway.receive_until("reject_access")
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        await tables.client_tokens.delete(world.client_token_id)
        await tables.gateway_tokens.delete(world.gateway_token_id)
    for peer in (laptop, gateway):
        assert (await peer.receive_until("disconnect"))["payload"] == {"reason": "token_expired"}
        await peer.receive("phx_close")
        assert await peer.receive_close() == 1000


# ── every release ────────────────────────────────────────────────────────────────────────────────────────────

AGENTS: dict[str, Callable[[str], str]] = {
    "headless": lambda version: f"Ubuntu/22.4.0 headless-client/{version} (x86_64; 6.8.0)",
    "gui": lambda version: f"Windows/10.0.26200 gui-client/{version} (x86_64)",
    "apple": lambda version: f"Mac OS/15.4.1 apple-client/{version} (arm64; 24.4.0)",
    "android": lambda version: f"Android/15 android-client/{version}",
}

SINCE: dict[str, dict[str, tuple[int, int, int]]] = {
    "headless": {"sites": (1, 5, 6), "moves": (1, 5, 5), "pools": (1, 5, 9), "v2": (1, 5, 11)},
    "gui": {"sites": (1, 5, 10), "moves": (1, 5, 9), "pools": (1, 5, 13), "v2": (1, 5, 16)},
    "apple": {"sites": (1, 5, 11), "moves": (1, 5, 9), "pools": (1, 5, 16), "v2": (1, 5, 19)},
    "android": {"sites": (1, 5, 8), "moves": (1, 5, 5), "pools": (1, 5, 11), "v2": (1, 5, 13)},
}
"""Protocol §6.2, typed in again: the product's own table is what is tested."""

LAST = {"headless": 12, "gui": 17, "apple": 20, "android": 14}
CLIENTS = [
    (component, version)
    for component, last in LAST.items()
    for version in [(1, 4, 0), (1, 4, 9), *((1, 5, patch) for patch in range(last + 1))]
]
GATEWAYS = [
    ((1, 4, 19), 1), ((1, 5, 0), 1), ((1, 5, 1), 1), ((1, 5, 2), 1), ((1, 6, 0), 2), ((1, 6, 1), 2)
]  # fmt: skip
RELAYS = ["Linux/6.8 relay/1.0.0 (x86_64)", "Linux/6.8 relay/1.5.9", "Linux/6.8 connlib/1.0.0", "unknown"]


async def test_every_released_client_is_served_as_its_version_asks(world: World) -> None:
    async with world.client(external_id="nas"):
        pool, _policy = await make_pool(world, "static_device_pool")
        await add_member(world, pool, "nas")
    await caught_up(world)
    async with world.gateway(user_agent="Linux/6.8 gateway/1.5.2 (x86_64)", generation=1) as gateway:
        await gateway.join()
        for component, version in CLIENTS:
            since = SINCE[component]
            generation = 2 if version >= since["v2"] else 1
            agent = AGENTS[component](".".join(map(str, version)))
            async with world.client(user_agent=agent, generation=generation, external_id="laptop") as client:
                init = await client.join()
                what = f"{component} {version}"
                listed = {one["type"]: one for one in init["resources"]}
                site = {"id": str(world.site.id), "name": "Berlin"}
                wanted, other = ("sites", "gateway_groups") if version >= since["sites"] else (
                    "gateway_groups",
                    "sites",
                )  # fmt: skip
                assert listed["cidr"][wanted] == [site], what
                assert other not in listed["cidr"], what
                assert ("static_device_pool" in listed) == (version >= since["pools"]), what
                client.send(ASK[generation], {"resource_id": str(world.resource.id)})
                offered = (await gateway.receive_until("authorize_flow"))["payload"]
                gateway.send("flow_authorized", {"ref": offered["ref"]})
                created = (await client.receive_until(CREATED[generation]))["payload"]
                key = "site_id" if version >= since["sites"] else "gateway_group_id"
                assert created[key] == str(world.site.id), what
                assert len({"site_id", "gateway_group_id"} & created.keys()) == 1, what


@pytest.mark.parametrize(("version", "generation"), GATEWAYS)
async def test_every_released_gateway_serves_clients_of_its_window(
    world: World, version: tuple[int, int, int], generation: int
) -> None:
    agent = f"Linux/6.8 gateway/{'.'.join(map(str, version))} (x86_64)"
    async with world.gateway(user_agent=agent, generation=generation) as gateway:
        init = await gateway.join()
        assert init.keys() >= {"interface", "config", "relays", "authorizations", "flow_logs"}
        for client_version in ("1.4.9", "1.5.10", "1.6.0"):
            minor = int(client_version.split(".")[1])
            async with world.client(
                user_agent=AGENTS["headless"](client_version), generation=1, external_id="laptop"
            ) as client:
                await client.join()
                client.send("create_flow", {"resource_id": str(world.resource.id)})
                if minor - 1 <= version[1] < minor + 2:
                    offered = (await gateway.receive_until(OFFER[generation]))["payload"]
                    assert offered["client"]["version"] == client_version
                    gateway.send(ACKNOWLEDGE[generation], {"ref": offered["ref"]})
                    await client.receive_until("flow_created")
                else:
                    failed = (await client.receive_until("flow_creation_failed"))["payload"]
                    assert failed["reason"] == "version_mismatch"


@pytest.mark.parametrize("agent", RELAYS)
async def test_every_relay_is_served_whatever_it_runs(world: World, agent: str) -> None:
    """There is one generation of its channel, and no gate of it (protocol §6.5)."""
    relay = Peer(
        world.portal, "relay", world.relay_token, agent, query={"name": "vienna", "ipv6": "2001:db8::7"}
    )
    async with relay, world.client() as client:
        assert await relay.join({"stamp_secret": "ab" * 32}) == {}
        ref = relay.send("teleport", {})
        reply = await relay.receive("phx_reply")
        assert (reply["ref"], reply["payload"]["response"]) == (ref, {"reason": "unknown_message"})
        relays = (await client.join())["relays"]
        assert [one["addr"] for one in relays] == ["198.51.100.7:3478", "[2001:db8::7]:3478"]
        assert len({one["id"] for one in relays}) == 1


async def test_what_a_later_version_adds_is_borne(world: World) -> None:
    agent = "Plan 9/5 headless-client/2.7.0-beta.1 (riscv64)"
    async with world.client(user_agent=agent, query={"attestation": "x", "vsn": "1.0.0"}) as client:
        await client.join({"capabilities": ["teleport"]})
        frame = {"topic": "client", "event": "phx_join", "payload": None, "ref": 9, "trace": "x", "v": 3}
        client.send_text(json.dumps(frame))
        await client.receive_until("init")
        ref = client.send("teleport", {"to": "mars"})
        reply = await client.receive_until("phx_reply")
        assert (reply["ref"], reply["payload"]["response"]) == (ref, {"reason": "unknown_message"})
        assert await client.is_quiet()
