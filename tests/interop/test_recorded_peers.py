"""Recorded sessions of published peers, played against the portal: it answers as they were answered.

The peers' frames are sent as recorded; where the recorded portal spoke, ours must say the same event of the
same shape, key by key and type by type, and equal values where nothing random is in them. Device ids,
addresses, resources and sites are those of the recording. What the recorded portal did by itself (revoke,
hide, filter, lose a relay) is done to ours before its frame is awaited.
"""

import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest

from support.portal import Peer, World, make_world, portal_running
from wardgate.portal.access.tables import Policy, PolicyAuthorization, Resource
from wardgate.portal.devices.tables import Device
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import Transaction

VECTORS = Path(__file__).parents[1] / "vectors" / "control-channel"
CLIENT_ID = UUID("54f030c0-880f-5ce0-8c89-799e9df58799")
GATEWAY_ID = UUID("4f5a6799-3735-5d6f-bda5-b22ccc65a27a")
SITE_ID = UUID("a1a1a1a1-0000-4000-8000-000000000001")
NET_ID = UUID("b1b1b1b1-0000-4000-8000-000000000001")
WEB_ID = UUID("b1b1b1b1-0000-4000-8000-000000000002")

# Drawn anew by each portal, or of its own making.
RANDOM = {"ref", "preshared_key", "flow_logs_ingest_token", "expires_at", "username", "password", "api_url"}
OWN = {
    "account_slug",
    "upload_interval_secs",
    "use_iceless",
    "subject",
    "upstream_dns",
    "version",
    "device_os_name",
    "device_os_version",
}


@pytest.fixture
async def scene() -> AsyncIterator["Scene"]:
    settings = PortalSettings(connect_capacity=100.0)
    async with portal_running(settings) as portal:
        world = await make_world(portal, "lab")
        async with portal.services.store.writing() as tx:
            policies = await _lab(tx, world)
        playing = Scene(world, policies)
        yield playing
        await playing.close()


@pytest.mark.parametrize("name", ["v1-direct", "v1-relayed", "v2-direct", "v2-reject", "v2-restart"])
async def test_a_recorded_session_is_answered_as_it_was(scene: "Scene", name: str) -> None:
    lines = [json.loads(line) for line in (VECTORS / f"{name}.jsonl").read_text().splitlines()]
    await scene.prepare(lines)
    for line in lines:
        match line["direction"]:
            case "upgrade":
                await scene.connect(line)
            case "peer-to-portal":
                await scene.send(line["peer"], line["frame"])
            case _:
                await scene.expect(line["peer"], line["frame"])
    assert scene.compared >= 8


class Scene:
    """One recording in play: the connected peers and what stands for the recorded portal's own doings."""

    def __init__(self, world: World, policies: dict[UUID, Policy]) -> None:
        self.compared = 0
        self._world = world
        self._policies = policies
        self._peers: dict[str, Peer] = {}
        self._ref: dict[str, str] = {}  # recorded → ours

    async def prepare(self, lines: list[dict[str, Any]]) -> None:
        """Store the grants that the gateway's first `init` lists: they are older than the scene."""
        init = next(
            line["frame"]["payload"]
            for line in lines
            if (line["peer"], line["frame"].get("event")) == ("gateway", "init")
        )
        async with self._world.portal.services.store.writing() as tx:
            for one in init["authorizations"]:
                await tx.of(self._world.account_id).authorizations.insert(
                    PolicyAuthorization(
                        id=tx.new_id(),
                        account_id=self._world.account_id,
                        policy_id=self._policies[UUID(one["resource_id"])].id,
                        resource_id=UUID(one["resource_id"]),
                        initiating_device_id=UUID(one["client_id"]),
                        receiving_device_id=GATEWAY_ID,
                        token_id=self._world.client_token_id,
                        membership_id=self._world.membership.id,
                        initiator_remote_ip="203.0.113.31",
                        initiator_user_agent="recorded",
                        receiver_remote_ip=None,
                        expires_at=datetime(2035, 1, 1, tzinfo=UTC),
                    )
                )

    async def close(self) -> None:
        for kind in list(self._peers):
            await self._disconnect(kind)

    async def connect(self, line: dict[str, Any]) -> None:
        kind, frame = line["peer"], line["frame"]
        await self._disconnect(kind)
        parts = urlsplit(frame["path"])
        tokens = {
            "client": self._world.client_token,
            "gateway": self._world.gateway_token,
            "relay": self._world.relay_token,
        }
        headers = {name.lower(): value for name, value in frame["headers"].items()}
        peer = Peer(
            self._world.portal,
            kind,
            None,
            headers["user-agent"],
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={**headers, "x-authorization": f"Bearer {tokens[kind]}"},
        )
        await peer.__aenter__()
        self._peers[kind] = peer

    async def send(self, kind: str, frame: dict[str, Any]) -> None:
        payload = frame["payload"]
        if isinstance(payload, dict) and "ref" in payload:
            payload = {**payload, "ref": self._ref[payload["ref"]]}
        peer = self._peers[kind]
        ref = peer.send(frame["event"], payload, topic=frame["topic"])
        if frame["event"] in {"phx_join", "heartbeat", "flow_authorized"} or (
            kind == "gateway" and frame["event"] == "authorization_created"
        ):
            reply = await peer.receive("phx_reply")
            assert reply["ref"] == ref
            assert reply["topic"] == frame["topic"]
            assert reply["payload"] == {"status": "ok", "response": {}}

    async def expect(self, kind: str, recorded: dict[str, Any]) -> None:
        act = self._doings().get((kind, recorded["event"]))
        if act is not None:
            await act(recorded)
        ours = await self._peers[kind].receive(recorded["event"])
        assert ours["topic"] == recorded["topic"]
        assert ours["ref"] is None
        _compare(_without_repeats(recorded["payload"]), ours["payload"], recorded["event"])
        if isinstance(ours["payload"], dict) and "ref" in ours["payload"]:
            self._ref[recorded["payload"]["ref"]] = ours["payload"]["ref"]
        if (kind, recorded["event"]) == ("gateway", "reject_access"):
            # Ours also makes the client forget what was revoked, so that it asks again (protocol §3.6.10).
            await self._peers["client"].receive("resource_deleted")
            await self._peers["client"].receive("resource_created_or_updated")
        if (kind, recorded["event"]) == ("gateway", "init"):
            # Ours also tells the filters of what is granted: they may have been narrowed while the gateway was away.
            for _ in {one["resource_id"] for one in ours["payload"]["authorizations"]}:
                await self._peers["gateway"].receive("resource_updated")
        if (kind, recorded["event"]) == ("gateway", "resource_updated"):
            # Next in the recording the gateway ended, which shows in no frame; the filter was told to it but
            # never stored.
            await self._disconnect("gateway")
            await self._store_filters([])
        self.compared += 1

    def _doings(self) -> dict[tuple[str, str], Callable[[dict[str, Any]], Coroutine[Any, Any, None]]]:
        return {
            ("gateway", "reject_access"): self._revoke,
            ("client", "resource_deleted"): self._hide,
            ("client", "resource_created_or_updated"): self._show,
            ("gateway", "resource_updated"): self._filter,
            ("client", "relays_presence"): self._lose_relay,
            ("gateway", "relays_presence"): self._lose_relay,
        }

    async def _revoke(self, _recorded: dict[str, Any]) -> None:
        async with self._world.portal.services.store.writing() as tx:
            await tx.of(self._world.account_id).authorizations.delete_where()

    async def _hide(self, _recorded: dict[str, Any]) -> None:
        async with self._world.portal.services.store.writing() as tx:
            policies = tx.of(self._world.account_id).policies
            await policies.save(replace(self._policies[NET_ID], is_disabled=True))
        await self._peers["gateway"].receive("reject_access")

    async def _show(self, _recorded: dict[str, Any]) -> None:
        async with self._world.portal.services.store.writing() as tx:
            await tx.of(self._world.account_id).policies.save(self._policies[NET_ID])

    async def _filter(self, recorded: dict[str, Any]) -> None:
        stored = [
            {"protocol": one["protocol"], "ports": [f"{one['port_range_start']} - {one['port_range_end']}"]}
            for one in recorded["payload"]["filters"]
        ]
        await self._store_filters(stored)

    async def _store_filters(self, stored: list[dict[str, Any]]) -> None:
        async with self._world.portal.services.store.writing() as tx:
            resources = tx.of(self._world.account_id).resources
            resource = await resources.load(NET_ID)
            assert resource is not None
            await resources.save(replace(resource, filters=stored))
        # The recorded portal did not tell the client; ours does, as the protocol says.
        await self._peers["client"].receive("resource_created_or_updated")

    async def _lose_relay(self, recorded: dict[str, Any]) -> None:
        if recorded["payload"]["disconnected_ids"]:
            await self._disconnect("relay")

    async def _disconnect(self, kind: str) -> None:
        peer = self._peers.pop(kind, None)
        if peer is not None:
            await peer.__aexit__()


def _without_repeats(payload: Any) -> Any:
    """Keep the last grant of each (client, resource) pair: the recorded portal listed repeats, ours does not."""
    if not isinstance(payload, dict) or "authorizations" not in payload:
        return payload
    pairs = {(one["client_id"], one["resource_id"]): one for one in payload["authorizations"]}
    return {**payload, "authorizations": list(pairs.values())}


def _compare(recorded: Any, ours: Any, place: str) -> None:
    """Every recorded key is there, of the same type, and of the same value unless it is random or a portal's own."""
    if isinstance(recorded, dict):
        assert isinstance(ours, dict), place
        missing = recorded.keys() - ours.keys() - OWN
        assert not missing, f"{place}: {missing} missing"
        for key in recorded.keys() & ours.keys():
            if key in RANDOM:
                assert type(ours[key]) is type(recorded[key]), f"{place}.{key}"
            elif key not in OWN:
                _compare(recorded[key], ours[key], f"{place}.{key}")
    elif isinstance(recorded, list):
        assert isinstance(ours, list), place
        assert len(ours) == len(recorded), f"{place}: {ours}"
        for index, (one, other) in enumerate(zip(recorded, ours, strict=True)):
            _compare(one, other, f"{place}[{index}]")
    else:
        assert ours == recorded, place


async def _lab(tx: Transaction, world: World) -> dict[UUID, Policy]:
    """Make the account what the recorded one was: its site, its two resources, its two devices."""
    account_id, tables = world.account_id, tx.of(world.account_id)
    account = await tables.account()
    assert account is not None
    dns = {"type": "custom", "addresses": [{"address": "198.18.9.9"}]}
    await tx.accounts.save(replace(account, config={"clients_upstream_dns": dns}))
    await tables.resources.delete(world.resource.id)
    await tables.sites.insert(Site(id=SITE_ID, account_id=account_id, name="Lab"))
    policies = {}
    for id_, kind, name, address, stack in (
        (NET_ID, "cidr", "net", "10.20.0.0/16", None),
        (WEB_ID, "dns", "web", "**.lab.test", "dual"),
    ):
        await tables.resources.insert(
            Resource(
                id=id_,
                account_id=account_id,
                type=kind,
                name=name,
                address=address,
                ip_stack=stack,
                site_id=SITE_ID,
            )
        )
        policies[id_] = await tables.policies.insert(
            Policy(id=tx.new_id(), account_id=account_id, group_id=world.group.id, resource_id=id_)
        )
    token = await tables.gateway_tokens.load(world.gateway_token_id)
    assert token is not None
    await tables.gateway_tokens.save(replace(token, site_id=SITE_ID))
    for id_, kind, external_id, number in (
        (CLIENT_ID, "client", "cl1", 10),
        (GATEWAY_ID, "gateway", "gw1", 20),
    ):
        await tables.devices.insert(
            Device(
                id=id_,
                account_id=account_id,
                type=kind,
                name=external_id,
                psk_base=tx.random_bytes(32),
                firezone_id=external_id,
                actor_id=world.actor.id if kind == "client" else None,
                site_id=SITE_ID if kind == "gateway" else None,
                ipv4=f"100.64.0.{number}",
                ipv6=f"fd00:2021:1111::{number:x}",
            )
        )
    return policies
