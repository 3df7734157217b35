"""Whatever a peer sends: its session does not crash and says nothing that the protocol does not know, and another
account neither hears of it nor is told of by it.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from string import Template
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.pools import device_of
from support.portal import Peer, World, make_world, portal_running
from wardgate.portal.settings import PortalSettings
from wardgate.wire import dialect
from wardgate.wire.dialect import Generation, PeerKind
from wardgate.wire.frames import INVALID_REF, UNKNOWN_MESSAGE, UNMATCHED_TOPIC, VERSION_MISMATCH, Framing

KNOWN = sorted(
    {event for kind in PeerKind for spoken in Generation for event in dialect._TABLES[kind, spoken].from_peer}
)
TOPICS = st.sampled_from(["client", "gateway", "relay", "phoenix", "", "nowhere"])
EVENTS = st.sampled_from([*KNOWN, "phx_leave", "phx_reply", "phx_close", "heartbeat", ""])
IDS = st.sampled_from(
    [f"${whose}_{what}" for whose in ("own", "other") for what in ("resource", "site", "gateway", "client")]
)
"""Stand for ids that there are, in the account of whoever sends the frame and in another."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | IDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
CANDIDATES = st.lists(st.just("candidate:1 1 udp 2130706431 192.0.2.1 9 typ host") | JSON, max_size=3)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "resource_id": IDS | JSON,
        "gateway_id": IDS | JSON,
        "client_id": IDS | JSON,
        "gateway_ids": st.lists(IDS, max_size=4) | JSON,
        "client_ids": st.lists(IDS, max_size=4) | JSON,
        "connected_gateway_ids": st.lists(IDS, max_size=4) | JSON,
        "candidates": CANDIDATES | JSON,
        "ipv4": st.sampled_from(["$other_ipv4", "100.64.0.1"]) | JSON,
        "ref": JSON,
        "iceless": JSON,
        "domain": JSON,
    },
)
REFS = st.none() | st.integers(0, 9) | st.text(max_size=3) | JSON
OBJECTS = st.builds(
    lambda topic, event, payload, ref: json.dumps(
        {"topic": topic, "event": event, "payload": payload, "ref": ref}
    ),
    TOPICS,
    EVENTS,
    PAYLOADS | JSON,
    REFS,
)
ARRAYS = st.tuples(REFS, REFS, TOPICS, EVENTS, PAYLOADS | JSON).map(json.dumps)
SOUND = st.tuples(
    st.integers(0, 99),
    st.fixed_dictionaries(
        {
            **dict.fromkeys(("resource_id", "gateway_id", "client_id"), IDS),
            **dict.fromkeys(
                ("gateway_ids", "client_ids", "connected_gateway_ids"), st.lists(IDS, max_size=4)
            ),
            "candidates": st.just(["candidate:1 1 udp 2130706431 192.0.2.1 9 typ host"]),
            "ref": st.text(max_size=3),
            "domain": st.text(max_size=20),
        },
        optional={"ipv4": st.just("$other_ipv4")},
    ),
)
"""Messages of the sender's own kind, by number, that can be decoded."""
TEXTS = SOUND | OBJECTS | ARRAYS | st.text(max_size=200) | JSON.map(json.dumps) | st.binary(max_size=50)
REASONS = {UNMATCHED_TOPIC, UNKNOWN_MESSAGE, INVALID_REF, VERSION_MISMATCH}


class Stage:
    """A portal that outlives the examples, with an account that sends and one that must not notice."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._open = AsyncExitStack()

    async def begin(self) -> None:
        enter = self._open.enter_async_context
        self.portal = await enter(portal_running(PortalSettings(connect_capacity=1e9)))
        self.own, other = await make_world(self.portal), await make_world(self.portal, "other")
        self.names: dict[str, str] = {"other_ipv4": "100.64.0.2"}
        self.secrets: set[str] = {"bystander"}
        for whose, world in (("own", self.own), ("other", other)):
            query = {"name": "bystander" if world is other else "fuzz"}
            client = await enter(world.client(external_id="laptop", query=query))
            gateway = await enter(world.gateway(external_id="gw", query=query))
            await client.join()
            await gateway.join()
            devices = [await device_of(world, name) for name in ("laptop", "gw")]
            self.names |= {
                f"{whose}_resource": str(world.resource.id),
                f"{whose}_site": str(world.site.id),
                f"{whose}_client": str(devices[0].id),
                f"{whose}_gateway": str(devices[1].id),
            }
            self.bystanders = (client, gateway)
        self.names["other_ipv4"] = devices[0].ipv4
        self.secrets |= {one.public_key for one in self.bystanders}
        self.secrets |= {base64.b64encode(one.psk_base).decode() for one in devices}

    def run(self, kind: str, generation: int, framing: Framing, sent: list[Any], *, is_joined: bool) -> None:
        self._runner.run(self._survive(kind, generation, framing, sent, is_joined))

    async def _survive(
        self, kind: str, generation: int, framing: Framing, sent: list[Any], is_joined: bool
    ) -> None:
        table = dialect._TABLES[PeerKind(kind), Generation(generation)]
        events = sorted(table.from_peer.keys() - {"phx_join"}) or ["heartbeat"]
        async with _peer(self.own, kind, generation, framing) as peer:
            if is_joined:
                await peer.join({"stamp_secret": "ab" * 32} if kind == "relay" else None)
            for one in sent:
                match one:
                    case bytes():
                        peer.send_binary(one)
                    case str():
                        peer.send_text(Template(one).safe_substitute(self.names))
                    case number, payload:
                        filled = json.loads(Template(json.dumps(payload)).safe_substitute(self.names))
                        peer.send(events[number % len(events)], filled)
            said = await peer.news()
        assert peer.close_code is None
        for frame in said:
            if frame["event"] == "phx_reply":
                payload = frame["payload"]
                assert payload == {"status": "ok", "response": {}} or payload["response"]["reason"] in REASONS
        text = json.dumps(said)
        assert not [secret for secret in self.secrets if secret in text]
        assert self.portal.services.counters["channel_crashes"] == 0
        for bystander in self.bystanders:
            heard = [one for one in await bystander.news() if one["event"] != "relays_presence"]
            assert heard == []

    async def end(self) -> None:
        await self._open.aclose()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with asyncio.Runner() as runner:
        made = Stage(runner)
        runner.run(made.begin())
        yield made
        runner.run(made.end())


@pytest.mark.parametrize(
    ("kind", "generation"), [("client", 1), ("client", 2), ("gateway", 1), ("gateway", 2), ("relay", 1)]
)
@given(framing=st.sampled_from(Framing), sent=st.lists(TEXTS, max_size=20), is_joined=st.booleans())
@settings(max_examples=50, deadline=None)
def test_any_sequence_of_frames_is_survived(
    stage: Stage, kind: str, generation: int, framing: Framing, sent: list[Any], is_joined: bool
) -> None:
    stage.run(kind, generation, framing, sent, is_joined=is_joined)


def _peer(world: World, kind: str, generation: int, framing: Framing) -> Peer:
    made = {
        "client": lambda: world.client(external_id="fuzzing", generation=generation, framing=framing),
        "gateway": lambda: world.gateway(external_id="fuzzing", generation=generation, framing=framing),
        "relay": lambda: world.relay(framing=framing),
    }[kind]()
    made._ref = 1_000_000  # beyond every ref that the frames use
    return made
