"""Every frame that real peers and a portal exchanged is understood and written again as it was."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from wardgate.wire import messages as m
from wardgate.wire.dialect import Dialect, Generation, PeerKind
from wardgate.wire.frames import HEARTBEAT, PHOENIX, Framing
from wardgate.wire.relay_entries import merge_relay_entries
from wardgate.wire.upgrade import (
    PATHS,
    build_upgrade_request,
    parse_client_parameters,
    parse_gateway_parameters,
    parse_relay_parameters,
)
from wardgate.wire.user_agent import announced_version

VECTORS = Path(__file__).parents[2] / "vectors" / "control-channel"
LINES = [
    json.loads(line) for path in sorted(VECTORS.glob("*.jsonl")) for line in path.read_text().splitlines()
]
FRAMES = [line for line in LINES if line["direction"] != "upgrade"]
UPGRADES = [line for line in LINES if line["direction"] == "upgrade"]


def test_the_vectors_hold_both_generations_and_all_kinds_of_peers() -> None:
    seen = {(line["peer"], line["generation"]) for line in FRAMES}
    assert len(FRAMES) > 150
    assert seen == {(kind.value, generation) for kind in PeerKind for generation in ("v1", "v2")}


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("line", FRAMES, ids=lambda line: line["id"])
def test_a_recorded_frame_decodes_and_is_written_again_as_it_was(
    line: dict[str, Any], framing: Framing
) -> None:
    recorded = line["frame"]
    frame = Framing.OBJECT.parse(json.dumps(recorded))
    dialect = dialect_of(line)

    if frame.topic == PHOENIX:
        assert (frame.event, json.loads(frame.payload)) == (HEARTBEAT, {})
        event, payload = frame.event, json.loads(frame.payload)
    else:
        decode, encode = (
            (dialect.decode_from_portal, dialect.encode_to_peer)
            if line["direction"] == "portal-to-peer"
            else (dialect.decode_from_peer, dialect.encode_to_portal)
        )
        message = decode(frame.event, frame.payload)
        assert isinstance(message, m.Message), message
        event, payload = encode(message)

    written = framing.encode(frame.topic, event, payload, ref=frame.ref)
    if framing is Framing.OBJECT:
        assert json.loads(written) == recorded
    else:
        assert json.loads(written) == [None, *(recorded[key] for key in ("ref", "topic", "event", "payload"))]


@pytest.mark.parametrize("line", UPGRADES, ids=lambda line: line["id"])
def test_a_recorded_upgrade_parses_and_is_built_again_as_it_was(line: dict[str, Any]) -> None:
    recorded = line["frame"]
    parts = urlsplit(recorded["path"])
    kind, generation = dialect_of(line).kind, dialect_of(line).generation
    parse = {
        PeerKind.CLIENT: parse_client_parameters,
        PeerKind.GATEWAY: parse_gateway_parameters,
        PeerKind.RELAY: parse_relay_parameters,
    }[kind]

    assert parts.path == PATHS[kind, Generation.V1 if kind is PeerKind.RELAY else generation]
    request = build_upgrade_request(
        base_url="ws://203.0.113.10:8081/",
        parameters=parse(dict(parse_qsl(parts.query))),
        token=recorded["headers"]["x-authorization"].removeprefix("Bearer "),
        user_agent=recorded["headers"]["User-Agent"],
        generation=generation,
    )

    assert request.url == f"ws://203.0.113.10:8081{recorded['path']}"
    assert dict(request.headers) == {
        "User-Agent": recorded["headers"]["User-Agent"],
        "X-Authorization": recorded["headers"]["x-authorization"],
    }
    assert announced_version(recorded["headers"]["User-Agent"]) in {
        "1.5.3",
        "1.5.9",
        "1.6.0",
        "1.5.11",
        "0.1.0",
    }


def test_the_relays_of_a_recorded_init_merge_to_one_server() -> None:
    line = next(
        line for line in FRAMES if line["frame"]["event"] == "init" and line["frame"]["payload"].get("relays")
    )
    frame = Framing.OBJECT.parse(json.dumps(line["frame"]))
    init = dialect_of(line).decode_from_portal(frame.event, frame.payload)
    assert isinstance(init, m.ClientInit | m.GatewayInit)
    (relay,) = merge_relay_entries(init.relays)
    assert relay.socket_addresses == ("203.0.113.11:3478",)


def dialect_of(line: dict[str, Any]) -> Dialect:
    return Dialect(PeerKind(line["peer"]), Generation.V1 if line["generation"] == "v1" else Generation.V2)
