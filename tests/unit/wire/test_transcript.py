"""What is written of a control channel, and what a reader says of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardgate.wire.transcript import MAX_FINDINGS, REDACTED, check, redacted_frame, redacted_upgrade

VECTORS = Path(__file__).parents[2] / "vectors" / "control-channel"
UPGRADE = {
    "path": "/client/v2/websocket?external_id=c&public_key=" + "A" * 43 + "%3D",
    "headers": {"User-Agent": "Debian/12.0.0 headless-client/1.5.12 (x86_64)"},
}
TOKEN = "wg_client_abcdefgh"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJhY2NvdW50X2lkIjoiMSJ9.c2lnbmF0dXJl"


def line(direction: str, frame: Any, peer: str = "client") -> str:
    return json.dumps({"at_s": 0.1, "peer": peer, "generation": "v2", "direction": direction, "frame": frame})


def said(event: str, payload: Any = None, ref: int | None = None, topic: str = "client") -> Any:
    return {"topic": topic, "event": event, "payload": payload, "ref": ref}


JOINED = [
    line("upgrade", UPGRADE),
    line("peer-to-portal", said("phx_join", None, 0)),
    line("portal-to-peer", said("phx_reply", {"status": "ok", "response": {}}, 0)),
]


def found(*lines: str) -> list[tuple[int, str, str]]:
    return [(one.line, one.severity, one.event) for one in check(lines).findings]


@pytest.mark.parametrize("file", sorted(VECTORS.glob("*.jsonl")), ids=lambda file: file.stem)
def test_what_released_peers_said_is_without_errors(file: Path) -> None:
    report = check(file.read_text().splitlines())
    assert report.errors == 0, report.findings
    assert sum(report.events.values()) > 20


def test_secrets_are_taken_out_wherever_they_stand() -> None:
    payload = {
        "preshared_key": "q8Vg5uTVUXn/Twe2E0aVaXAOjAh9dKuPDDTFvBSVjjE=",
        "gateway_ice_credentials": {"username": "kwe6", "password": "mzkrj52x5h5ebrfdsh5iyq"},
        "flow_logs_ingest_token": JWT,
        "relays": [{"password": "zVr/PcAgmLgJU", "username": "1800000000:kF8o"}],
        "later_secret": 12,
        "note": f"Bearer {TOKEN}",
        "gateway_public_key": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",
        "authorizations": [{"client_id": "c"}],
    }
    text = json.dumps(redacted_frame(json.dumps(said("authorization_created", payload))))
    for secret in ("q8Vg5", "mzkrj", JWT, "zVr/", TOKEN, "12"):
        assert secret not in text
    for kept in ("kwe6", "ICEiIyQlJic", "client_id", "authorization_created"):
        assert kept in text


def test_stand_ins_have_the_form_of_what_they_stand_for() -> None:
    frame = redacted_frame(json.dumps(said("phx_join", {"stamp_secret": "ab" * 32}, 0, topic="relay")))
    assert frame["payload"] == {"stamp_secret": "0" * 64}
    upgrade = {"path": "/relay/websocket?ipv4=192.0.2.1&port=3478", "headers": UPGRADE["headers"]}
    assert check([line("upgrade", upgrade, "relay"), line("peer-to-portal", frame, "relay")]).errors == 0


def test_an_upgrade_is_written_without_its_token() -> None:
    told = redacted_upgrade(
        "/client/websocket",
        f"external_id=c&token={TOKEN}&name={TOKEN}",
        {
            "x-authorization": f"Bearer {TOKEN}",
            "cookie": "a=b",
            "user-agent": "x",
            "x-forwarded-for": "192.0.2.1",
        },
    )
    assert TOKEN not in json.dumps(told)
    assert told["headers"] == {"user-agent": "x", "x-forwarded-for": "192.0.2.1"}
    assert told["path"].startswith("/client/websocket?external_id=c&token=")


@pytest.mark.parametrize("text", ["", "{", "wg_client_secret", "[" * 100_000, "\ud800"])
def test_of_what_is_no_json_only_the_length_is_written(text: str) -> None:
    assert redacted_frame(text) == {"unreadable_bytes": len(text.encode(errors="replace"))}


def test_a_sound_life_has_no_findings() -> None:
    init = {
        "interface": {"ipv4": "100.64.0.1", "ipv6": "fd00:2021:1111::1"},
        "flow_logs": {"api_url": "https://x/", "upload_interval_secs": 0, "upload_batch_size": 1},
    }
    assert (
        found(
            *JOINED,
            line("portal-to-peer", said("init", init)),
            line("peer-to-portal", said("heartbeat", {}, 1, topic="phoenix")),
            line("portal-to-peer", said("phx_reply", {"status": "ok", "response": {}}, 1, topic="phoenix")),
            line("peer-to-portal", said("set_snownet_capabilities", {"iceless": True}, 2)),
            line("portal-to-peer", said("resource_deleted", "5f2c0000-0000-4000-8000-000000000000")),
            line("close", {"code": 1012, "by": "portal"}),
        )
        == []
    )


@pytest.mark.parametrize(
    ("direction", "frame", "severity"),
    [
        ("peer-to-portal", said("teleport", {}, 1), "note"),
        ("peer-to-portal", said("request_authorization", {}, 1), "error"),
        ("peer-to-portal", said("no_relays", {}, 1, topic="gateway"), "error"),
        ("peer-to-portal", {"unreadable_bytes": 3}, "error"),
        ("peer-to-portal", {"topic": 1}, "error"),
        ("peer-to-portal", said("set_snownet_capabilities", {"iceless": True, "new": 1}, 1), "note"),
        ("portal-to-peer", said("teleport", {}), "note"),
        ("portal-to-peer", said("resource_deleted", {"id": "x"}), "error"),
        ("portal-to-peer", said("phx_reply", {"status": "fine"}, 1), "error"),
        ("portal-to-peer", said("phx_reply", {"status": "error", "response": {"reason": "x"}}, 1), "note"),
        ("sideways", {}, "error"),
    ],
)
def test_what_is_remarkable_is_told_with_its_line(direction: str, frame: Any, severity: str) -> None:
    (one,) = check([*JOINED, line(direction, frame)]).findings
    assert (one.line, one.severity, one.peer) == (4, severity, "client")


def test_what_is_said_before_the_join_is_answered_is_an_error() -> None:
    assert found(*JOINED[:2], line("peer-to-portal", said("no_relays", {}, 1))) == [(3, "error", "no_relays")]


def test_a_response_to_a_join_that_no_released_peer_takes_is_an_error() -> None:
    reply = line("portal-to-peer", said("phx_reply", {"status": "ok", "response": {"x": 1}}, 0))
    assert found(*JOINED[:2], reply) == [(3, "error", "phx_reply")]


@pytest.mark.parametrize(
    "upgrade",
    [
        {},
        {"path": "/client/v9/websocket", "headers": {}},
        {"path": "/client/websocket?external_id=&public_key=x", "headers": UPGRADE["headers"]},
        {"path": UPGRADE["path"], "headers": {"User-Agent": "curl"}},
        {"path": f"{UPGRADE['path']}&vsn=9", "headers": UPGRADE["headers"]},
        {"path": "//[", "headers": {}},
    ],
)
def test_an_upgrade_that_would_be_refused_is_an_error(upgrade: Any) -> None:
    assert [severity for _line, severity, _event in found(line("upgrade", upgrade))] == ["error"]


def test_a_base_url_with_a_path_is_sound() -> None:
    path = f"/access{UPGRADE['path']}"
    assert found(line("upgrade", {"path": path, "headers": UPGRADE["headers"]})) == []


def test_findings_are_bounded() -> None:
    assert len(check(["no json"] * (2 * MAX_FINDINGS)).findings) == MAX_FINDINGS


def test_a_cut_transcript_says_so() -> None:
    assert check([*JOINED, line("cut", None)]).is_cut


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(["upgrade", "peer-to-portal", "portal-to-peer", "close", "cut"]),
    st.sampled_from(["client", "gateway", "relay", "x"]),
    st.one_of(
        JSON, st.builds(said, st.sampled_from(["init", "phx_reply", "phx_join", "ice_candidates"]), JSON)
    ),
)
def test_nothing_in_a_transcript_makes_the_reader_fail(direction: str, peer: str, frame: Any) -> None:
    check([*JOINED, line(direction, frame, peer), json.dumps(frame)])
    assert REDACTED not in json.dumps(redacted_frame(json.dumps({"name": 1})))
