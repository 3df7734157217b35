"""Another account's ids, addresses, names and references in every field of every message that a peer can send: nobody
there hears of it, nothing changes there, and the answer tells no more than that there is no such thing.
"""

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from support.pools import add_member, caught_up, device_of, make_pool, rename
from support.portal import Peer, World, make_world
from wardgate.wire import dialect
from wardgate.wire.dialect import Generation, PeerKind

CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.10 52625 typ host"
ASK = {1: "create_flow", 2: "request_authorization"}
OFFER = {1: "authorize_flow", 2: "create_authorization"}
CREATED = {1: "flow_created", 2: "authorization_created"}
HOSTNAME = "vault.lab.example"


class Elsewhere:
    """Another account in which everything is connected, granted and under way."""

    def __init__(self, world: World, generation: int) -> None:
        self.world = world
        self.generation = generation
        self.gateway = world.gateway(generation=generation, external_id="gateway-elsewhere")
        self.laptop = world.client(generation=generation, external_id="laptop-elsewhere")
        self.vault = world.client(generation=generation, external_id="vault-elsewhere")

    async def prepare(self) -> None:
        async with self.world.client(external_id="vault-elsewhere"):
            await rename(self.world, "vault-elsewhere", HOSTNAME)
            self.pool, _ = await make_pool(self.world, "static_device_pool")
            await add_member(self.world, self.pool, "vault-elsewhere")
            self.names, _ = await make_pool(self.world, "dynamic_device_pool", address="*.lab.example")
        await caught_up(self.world)

    async def connect(self) -> None:
        """Connect all three; the gateway is told of a grant, and has not acknowledged it."""
        for peer in (self.gateway, self.laptop, self.vault):
            await peer.join()
        self.laptop.send(ASK[self.generation], {"resource_id": str(self.world.resource.id)})
        self.ref = (await self.gateway.receive_until(OFFER[self.generation]))["payload"]["ref"]
        self.gateway_id = str((await device_of(self.world, "gateway-elsewhere")).id)
        self.client_id = str((await device_of(self.world, "laptop-elsewhere")).id)
        self.vault_device = await device_of(self.world, "vault-elsewhere")
        await self.hears_nothing()

    async def hears_nothing(self) -> None:
        for peer in (self.gateway, self.laptop, self.vault):
            heard = [frame for frame in await peer.news() if frame["event"] != "phx_reply"]
            assert heard == [], "somebody in the other account was told something"

    def payloads(self, kind: PeerKind) -> dict[str, list[dict[str, Any]]]:
        """Return, for each event of a kind of peer, payloads with ids of this account in every field."""
        gateway_ids, client_ids = [self.gateway_id], [self.client_id, str(self.vault_device.id)]
        said: dict[str, Any] = {"candidates": [CANDIDATE]}
        resources = (str(self.world.resource.id), str(self.pool.id), str(self.names.id))
        addresses: tuple[dict[str, Any], ...] = (
            {}, {"ipv4": self.vault_device.ipv4}, {"ipv6": self.vault_device.ipv6},
        )  # fmt: skip
        requests = [
            {"resource_id": resource_id, "connected_gateway_ids": gateway_ids, **address}
            for resource_id in resources
            for address in addresses
        ]
        of_client: dict[str, list[dict[str, Any]]] = {
            "set_snownet_capabilities": [{"iceless": True, "client_id": self.client_id}],
            "no_relays": [{"client_id": self.client_id}],
            ASK[self.generation]: requests,
            "resolve_device_pool_domain": [
                {"resource_id": resource_id, "domain": HOSTNAME} for resource_id in resources
            ],
            "request_device_access": [{"client_id": self.client_id}],
            **{
                key: [{"gateway_id": one, **said} for one in (*gateway_ids, *client_ids)]
                for key in ("new_gateway_ice_candidates", "invalidate_gateway_ice_candidates")
            },
            **{
                key: [{"client_id": one, **said} for one in (*gateway_ids, *client_ids)]
                for key in ("new_client_ice_candidates", "invalidate_client_ice_candidates")
            },
            **{
                key: [{"gateway_ids": gateway_ids + client_ids, **said}]
                for key in ("broadcast_ice_candidates", "broadcast_invalidated_ice_candidates")
            },
            **{
                key: [{"resource_id": resources[0], "gateway_id": self.gateway_id, "payload": "x"}]
                for key in ("prepare_connection", "reuse_connection", "request_connection")
            },
        }
        of_gateway: dict[str, list[dict[str, Any]]] = {
            "set_snownet_capabilities": [{"iceless": True, "gateway_id": self.gateway_id}],
            "no_relays": [{"gateway_id": self.gateway_id}],
            "draining": [{"gateway_id": self.gateway_id}],
            {1: "flow_authorized", 2: "authorization_created"}[self.generation]: [
                {"ref": ref} for ref in (self.ref, self.client_id, str(self.world.resource.id))
            ],
            **{
                key: [{"client_ids": client_ids + gateway_ids, **said}]
                for key in ("broadcast_ice_candidates", "broadcast_invalidated_ice_candidates")
            },
        }
        return of_client if kind is PeerKind.CLIENT else of_gateway


@pytest.mark.parametrize("generation", [1, 2])
async def test_no_field_of_any_message_reaches_into_another_account(world: World, generation: int) -> None:
    elsewhere = Elsewhere(await make_world(world.portal, "elsewhere"), generation)
    await elsewhere.prepare()
    async with (
        elsewhere.gateway, elsewhere.laptop, elsewhere.vault,
        world.gateway(generation=generation) as gateway, world.client(generation=generation) as client,
    ):  # fmt: skip
        await elsewhere.connect()
        for kind, peer in ((PeerKind.GATEWAY, gateway), (PeerKind.CLIENT, client)):
            await peer.join()
            payloads = elsewhere.payloads(kind)
            assert payloads.keys() == dialect._TABLES[kind, Generation(generation)].from_peer.keys() - {
                "phx_join"
            }
            for event, several in payloads.items():
                for payload in several:
                    await _tells_nothing(peer, event, payload, elsewhere)
            await elsewhere.hears_nothing()

        # What was under way there goes on: its reference was not used up by the stranger who knew it.
        elsewhere.gateway.send(
            {1: "flow_authorized", 2: "authorization_created"}[generation], {"ref": elsewhere.ref}
        )
        assert await elsewhere.laptop.receive_until(CREATED[generation])
        members = world.portal.services.environment.bus.members("gateway", elsewhere.world.account_id)
        assert [one.is_draining for one in members] == [False]
        assert world.portal.services.counters["channel_crashes"] == 0


def _each(events: Sequence[str], payloads: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return dict.fromkeys(events, payloads)


async def _tells_nothing(peer: Peer, event: str, payload: dict[str, Any], elsewhere: Elsewhere) -> None:
    """Compare the answer with that to ids that nobody has."""
    answers = []
    for sent in (payload, _with_ids_of_nobody(payload)):
        peer.send(event, sent)
        told = json.dumps([{**frame, "ref": None} for frame in await peer.news()])
        for secret in (HOSTNAME, elsewhere.world.resource.name, elsewhere.world.site.name):
            assert secret == sent.get("domain") or secret not in told, f"{event} tells {secret}"
        for own, echoed in zip(_values(sent), _values(payload), strict=True):
            told = told.replace(own, echoed)
        answers.append(told)
    assert answers[0] == answers[1], f"{event} tells that there is such a thing elsewhere"


def _with_ids_of_nobody(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the payload with every id replaced; what is no id stays."""
    return {
        name: [str(uuid4()) for _ in value]
        if name.endswith("_ids")
        else str(uuid4())
        if name.endswith("_id") or name == "ref"
        else value
        for name, value in payload.items()
    }


def _values(payload: dict[str, Any]) -> list[str]:
    """Return the ids of a payload, in order."""
    found: list[str] = []
    for name, value in payload.items():
        if name.endswith("_ids"):
            found += value
        elif name.endswith("_id") or name == "ref":
            found.append(value)
    return found
