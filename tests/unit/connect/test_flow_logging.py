import logging

import msgspec
import pytest
from msgspec import UNSET

from support.flow_records import ONE, UNIX, flow_report, ingest_token
from support.log_records import lines
from support.recording_engine import RecordingEngine
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.flow_logging import FlowAction, FlowLogging, KeepFlows, KeepToken, UploadFlows
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.wire.messages import FlowLogs

CLOCK = ClockOffset(5000.0)
WANTED = FlowLogs("https://portal.example/", 60, 1000)
OFF = FlowLogs("https://portal.example/", 0, 1000)


class Peer:
    def __init__(self, *, prints: bool = False) -> None:
        self.engine = RecordingEngine()
        self.actions: list[FlowAction] = []
        self.flows = FlowLogging(self.engine, self.actions.append, clock=CLOCK, prints=prints)

    @property
    def is_on(self) -> bool:
        return self.engine.last(c.RecordFlows).is_on


@pytest.mark.parametrize(
    ("setting", "prints", "is_on"),
    [
        (WANTED, False, True),
        (OFF, False, False),
        (UNSET, False, False),
        (OFF, True, True),
        (UNSET, True, True),
    ],
)
def test_flows_are_recorded_where_the_portal_or_this_host_wants_them(
    setting: FlowLogs, prints: bool, is_on: bool
) -> None:
    peer = Peer(prints=prints)
    peer.flows.handle_init(setting)
    assert peer.is_on is is_on
    (upload,) = peer.actions
    assert isinstance(upload, UploadFlows)
    assert (upload.interval_s > 0) is (setting is WANTED), "what is only printed is never uploaded"


def test_recording_ends_when_the_portal_wants_no_more() -> None:
    peer = Peer()
    peer.flows.handle_init(WANTED)
    peer.flows.handle_init(OFF)
    assert not peer.is_on


@pytest.mark.parametrize(("told", "meant"), [(0, 1000), (-3, 1000), (7, 7), (20_000, 10_000)])
def test_a_batch_size_beyond_its_bounds_is_brought_within(told: int, meant: int) -> None:
    peer = Peer()
    peer.flows.handle_init(FlowLogs("https://portal.example/", 60, told))
    assert peer.actions == [UploadFlows("https://portal.example/", 60, meant)]


def test_a_set_clock_is_told_to_the_engine() -> None:
    peer = Peer()
    peer.flows.handle_init(WANTED)
    peer.flows.handle_clock_step(ClockOffset(9000.0))
    assert peer.engine.commands == [c.RecordFlows(True, 5000.0), c.RecordFlows(True, 9000.0)]


def test_a_token_is_kept_and_says_what_to_record_under() -> None:
    peer = Peer()
    token = ingest_token(role="initiator")
    assert peer.flows.handle_token(token) == ONE
    assert peer.actions == [KeepToken("initiator", ONE, token, UNIX + 60)]


def test_where_the_policy_wants_no_records_there_are_none() -> None:
    peer = Peer()
    assert peer.flows.handle_token(ingest_token(uploads_enabled=False)) is None
    assert peer.actions == []
    assert Peer(prints=True).flows.handle_token(ingest_token(uploads_enabled=False)) == ONE


@pytest.mark.parametrize("token", [UNSET, "", "a.b", "a.b.c", ingest_token()[:-60].rsplit(".", 1)[0] + "."])
def test_a_token_that_is_none_does_no_harm(token: str) -> None:
    peer = Peer()
    assert peer.flows.handle_token(token) is None
    assert peer.actions == []


def test_a_report_becomes_the_record_that_the_portal_takes() -> None:
    peer = Peer()
    peer.flows.handle_init(WANTED)
    peer.actions.clear()
    reports = (flow_report(domain="app.example"), flow_report(has_ended=True))
    peer.flows.handle_reports(e.FlowsReported(reports, lost=0))
    (kept,) = peer.actions
    assert isinstance(kept, KeepFlows)
    begun, ended = (msgspec.json.decode(msgspec.json.encode(flow.record)) for flow in kept.flows)
    assert begun == {
        "protocol": "tcp",
        "inner_src_ip": "100.64.0.7",
        "inner_src_port": 50122,
        "inner_dst_ip": "10.20.0.4",
        "inner_dst_port": 443,
        "domain": "app.example",
        "outers": [
            {
                "src_ip": "192.0.2.1",
                "src_port": 52625,
                "dst_ip": "198.51.100.1",
                "dst_port": 52625,
                "path_activated_at": "2026-09-21T14:13:19.999990Z",
            },
            {"dst_ip": "2001:db8::1", "dst_port": 3478, "path_activated_at": "2026-09-21T14:13:20.000010Z"},
        ],
        "flow_start": "2026-09-21T14:13:20.000001Z",
    }
    assert ended["flow_start"] == begun["flow_start"]
    assert (ended["flow_end"], ended["last_packet"]) == (
        "2026-09-21T14:13:22.500000Z",
        "2026-09-21T14:13:22Z",
    )
    assert [ended[name] for name in ("tx_packets", "rx_packets", "tx_bytes", "rx_bytes")] == [5, 4, 300, 0]


def test_what_is_only_for_the_log_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(prints=True)
    peer.flows.handle_init(OFF)
    peer.actions.clear()
    with caplog.at_level(logging.INFO):
        peer.flows.handle_reports(e.FlowsReported((flow_report(), flow_report(has_ended=True)), lost=0))
    assert peer.actions == []
    (begun, what), (ended, sizes) = lines(caplog.records)
    assert (begun, ended) == ("flow begun", "flow ended")
    assert what["destination"] == "10.20.0.4 443"
    assert sizes["tx_bytes"] == 300


def test_lost_records_are_said(caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer()
    peer.flows.handle_init(WANTED)
    peer.flows.handle_reports(e.FlowsReported((), lost=3))
    assert lines(caplog.records) == [("flow records were lost: too many at once", {"lost": 3})]
