"""Whatever a peer sends, its session neither crashes nor says anything that the protocol does not know."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.portal import Peer, World, make_world, portal_running

TOPICS = st.sampled_from(["client", "gateway", "relay", "phoenix", "", "nowhere"])
EVENTS = st.sampled_from(
    [
        "phx_join", "phx_leave", "phx_reply", "phx_close", "heartbeat", "request_authorization", "create_flow",
        "authorization_created", "flow_authorized", "no_relays", "set_snownet_capabilities",
        "new_gateway_ice_candidates",
        "broadcast_ice_candidates", "broadcast_invalidated_ice_candidates", "resolve_device_pool_domain",
        "new_client_ice_candidates", "invalidate_client_ice_candidates", "prepare_connection", "",
    ]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resource_id",
                    "gateway_id",
                    "client_ids",
                    "candidates",
                    "ref",
                    "iceless",
                    "domain",
                    "connected_gateway_ids",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
FRAMES = st.builds(
    lambda topic, event, payload, ref: json.dumps(
        {"topic": topic, "event": event, "payload": payload, "ref": ref}
    ),
    TOPICS,
    EVENTS,
    JSON | st.just({"resource_id": "b1b1b1b1-0000-4000-8000-000000000001"}),
    st.none() | st.integers(0, 9) | st.text(max_size=3) | JSON,
)
TEXTS = FRAMES | st.text(max_size=200) | JSON.map(json.dumps)
REASONS = {"unmatched topic", "unknown_message", "invalid_ref"}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.mark.parametrize("kind", ["client", "gateway"])
@pytest.mark.parametrize("generation", [1, 2])
@given(sent=st.lists(TEXTS | st.binary(max_size=50), max_size=20), is_joined=st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_sequence_of_frames_is_survived(
    loop: asyncio.AbstractEventLoop, kind: str, generation: int, sent: list[str | bytes], is_joined: bool
) -> None:
    loop.run_until_complete(_survive(kind, generation, sent, is_joined))


async def _survive(kind: str, generation: int, sent: list[str | bytes], is_joined: bool) -> None:
    async with portal_running() as portal:
        world = await make_world(portal)
        peer = _peer(world, kind, generation)
        async with peer:
            if is_joined:
                await peer.join()
            for one in sent:
                peer.send_binary(one) if isinstance(one, bytes) else peer.send_text(one)
            ref = peer.send("heartbeat", {}, topic="phoenix")
            while True:
                frame = await peer.receive()
                _check(frame)
                if frame["topic"] == "phoenix" and frame["ref"] == ref:
                    break
        assert portal.services.counters["channel_crashes"] == 0


def _peer(world: World, kind: str, generation: int) -> Peer:
    made = world.client(generation=generation) if kind == "client" else world.gateway(generation=generation)
    made._ref = 1_000_000  # beyond every ref that the frames use
    return made


def _check(frame: dict[str, Any]) -> None:
    if frame["event"] == "phx_reply":
        payload = frame["payload"]
        assert payload == {"status": "ok", "response": {}} or payload["response"]["reason"] in REASONS
