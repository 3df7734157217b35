"""Connections of either end, with a message that both directions can be told apart by."""

from uuid import UUID

import pytest

from support.log_records import lines
from support.recording_engine import RecordingEngine
from wardgate.connect.connections import Connections, Signalling
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.wire import messages as m

PEER, OTHER = UUID(int=1), UUID(int=2)

Fixture = tuple[Connections[UUID], RecordingEngine, list[m.Message]]


@pytest.fixture
def connections() -> Fixture:
    engine, sent = RecordingEngine(), list[m.Message]()
    signalling: Signalling[UUID] = Signalling(
        added=lambda peer, candidates: m.Disconnect(f"{peer.int} + {' '.join(candidates)}"),
        removed=lambda peer, candidates: m.Disconnect(f"{peer.int} - {' '.join(candidates)}"),
        id_field="peer_id",
    )
    return Connections(engine, send=sent.append, signalling=signalling), engine, sent


def added(peer: UUID, *candidates: str) -> tuple[UUID, e.LocalCandidatesAdded]:
    return peer, e.LocalCandidatesAdded(str(peer), candidates)


def removed(peer: UUID, *candidates: str) -> tuple[UUID, e.LocalCandidatesRemoved]:
    return peer, e.LocalCandidatesRemoved(str(peer), candidates)


def test_candidates_are_signalled_at_once_while_the_portal_is_reached(connections: Fixture) -> None:
    ours, _, sent = connections
    ours.handle_joined()
    ours.handle_peer_event(*added(PEER, "a", "b"))
    ours.handle_peer_event(*removed(PEER, "a"))

    assert sent == [m.SetSnownetCapabilities(iceless=False), m.Disconnect("1 + a b"), m.Disconnect("1 - a")]


def test_candidates_wait_for_the_portal_by_peer_and_cancel_out(connections: Fixture) -> None:
    ours, _, sent = connections
    ours.handle_joined()
    ours.handle_portal_lost()
    sent.clear()
    ours.handle_peer_event(*added(PEER, "a", "b"))
    ours.handle_peer_event(*added(OTHER, "c"))
    ours.handle_peer_event(*removed(PEER, "a"))
    assert sent == []
    ours.handle_joined()

    assert sent == [m.SetSnownetCapabilities(iceless=False), m.Disconnect("1 + b"), m.Disconnect("2 + c")]


@pytest.mark.parametrize(
    "end",
    [e.PeerFailed(str(PEER), "ice_timeout"), e.PeerClosed(str(PEER), "remote")],
    ids=lambda event: type(event).__name__,
)
def test_nothing_is_signalled_for_a_connection_that_has_ended(
    connections: Fixture, end: e.PeerFailed | e.PeerClosed
) -> None:
    ours, _, sent = connections
    ours.handle_peer_event(*added(PEER, "a"))
    ours.handle_peer_event(PEER, end)
    ours.handle_joined()

    assert sent == [m.SetSnownetCapabilities(iceless=False)]


def test_a_path_is_explained_by_the_candidates_of_its_own_connection(
    connections: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ours, engine, _ = connections
    mapped = [f"candidate:1 1 udp 1 192.0.2.9 {port} typ srflx" for port in (4000, 4001)]
    relayed = e.PathSelected(str(PEER), "remote_relay", "", "192.0.2.1:1", None)
    ours.open(PEER, {"actor": "Ada"})
    ours.handle_remote_candidates(PEER, tuple(mapped))
    ours.handle_peer_event(PEER, relayed)
    ours.forget(PEER)
    ours.open(PEER, {})
    ours.handle_peer_event(PEER, relayed)

    assert engine.of(c.AddRemoteCandidates) == [c.AddRemoteCandidates(str(PEER), tuple(mapped))]
    paths = [found["path"] for _, found in lines(caplog.records)]
    assert "the peer's NAT uses a new port for each destination" in str(paths[0])
    assert "the peer has signalled no direct candidate yet" in str(paths[1])


def test_a_connection_goes_by_its_names_until_it_ends(
    connections: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ours, _, _ = connections
    ours.open(PEER, {"actor": "Ada"})
    ours.open(PEER, {"actor": "Ada L."})
    ours.handle_peer_event(PEER, e.PeerClosed(str(PEER), "remote"))
    ours.handle_peer_event(PEER, e.PeerClosed(str(PEER), "local"))

    assert lines(caplog.records) == [
        ("connection closed", {"peer_id": str(PEER), "actor": "Ada L.", "by": "remote"}),
        ("connection closed", {"peer_id": str(PEER), "by": "local"}),
    ]
