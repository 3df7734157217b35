"""`wardgate status` and `wardgate why`: what a person reads, and what scripts go by."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from wardgate.cli import values
from wardgate.cli.looking import status_lines, watched, why_lines
from wardgate.cli.main import main
from wardgate.connect.connections import ConnectionView, RelayView
from wardgate.datapath.figures import CheckFigures, ConnectionFigures
from wardgate.peer.control_socket import control_socket
from wardgate.peer.status import (
    DnsView,
    GrantView,
    HostSetting,
    Question,
    Refused,
    ResourceView,
    Status,
    Why,
)

FIGURES = ConnectionFigures(
    peer_id="gw-1",
    sent_packets=7,
    sent_bytes=700,
    received_packets=3,
    received_bytes=2_500_000,
    arrived_messages=950,
    missing_messages=50,
    handshake_age_s=61.4,
    is_idle=False,
    checks=(
        CheckFigures(
            local="10.0.0.2:52625",
            local_kind="host",
            remote="192.168.1.7:52625",
            remote_kind="host",
            sent=12,
            answered=0,
            round_trip_ms=None,
            is_used=False,
        ),
        CheckFigures(
            local="203.0.113.1:50000",
            local_kind="relay",
            remote="198.51.100.7:52625",
            remote_kind="srflx",
            sent=41,
            answered=40,
            round_trip_ms=12.34,
            is_used=True,
        ),
    ),
)
RELAYED = ConnectionView(
    peer_id="gw-1",
    names={"site": "Berlin\x1b[2J"},
    is_established=True,
    path="local_relay",
    why="through our relay: no direct check came through in time",
    local="192.0.2.1:52625",
    remote="198.51.100.7:52625",
    local_candidates=("candidate:1 1 UDP 1 192.0.2.1 52625 typ host".replace("typ ", ""),),
    remote_candidates=(),
    connected_s=3725.0,
    figures=FIGURES,
)
RESOURCE = ResourceView(
    id="r",
    name="wiki",
    kind="dns",
    address="*.corp.example",
    sites=("Berlin",),
    state="online",
    gateway_id="gw-1",
)
POOL = ResourceView(id="p", name="laptops", kind="device pool", address="", sites=(), state="unknown")
STATUS = Status(
    part="client",
    version="1",
    interface="wardgate",
    is_connected=True,
    is_ready=True,
    addresses=("100.64.0.9", "fd00::9"),
    connections=(RELAYED,),
    relays=(RelayView("relay-1", 12.5),),
    host=(HostSetting("routes", 2, None), HostSetting("resolv.conf", 0, "read-only")),
    counts={"bytes_received": 1_234_567, "bytes_sent": 10},
    notes=("routes: put back 2 times", "the I/O thread is stuck for 4 s"),
    resources=(RESOURCE,),
    dns=DnsView("systemd-resolved", ("100.100.111.1",), ("192.0.2.53",)),
)
GRANT = GrantView(client_id="c", actor="Ada", resource="wiki", address="*.corp.example", expires_at=0)


def test_a_person_reads_what_is_connected_over_which_path_and_what_was_put_back() -> None:
    text = "\n".join(status_lines(STATUS))
    for told in (
        "client 1 on wardgate: connected",
        "systemd-resolved; 100.100.111.1 → 192.0.2.53",
        "relay-1 (12.5 ms)",
        "1.2 MB in, 10 B out",
        "online by gw-1, relayed (dns *.corp.example)",
        "relayed, for 1 h 2 min",
        "no direct check came through in time",
        "round trip 12.3 ms, 5.0 % lost on the way here, 2.5 MB in, 700 B out, handshake 1 min 1 s ago",
        "203.0.113.1:50000 (relay) → 198.51.100.7:52625 (srflx): 40 of 41 answered in 12.3 ms, in use",
        "10.0.0.2:52625 (host) → 192.168.1.7:52625 (host): no answer to 12",
        "routes: put back 2 times",
        "resolv.conf: read-only",
        "the I/O thread is stuck for 4 s",
    ):
        assert told in text, told
    assert "\x1b" not in text, "a name commands no terminal"
    assert text.count("put back") == 1


def test_who_watches_sees_rates_colours_and_no_more_than_fits() -> None:
    later = msgspec.structs.replace(STATUS, counts={"bytes_received": 3_234_567, "bytes_sent": 10})
    text = watched([later], {"client": STATUS}, 2.0, height=60)
    assert "now        1.0 MB/s in, 0 B/s out" in text.plain
    colours = {text.plain[span.start : span.end]: span.style for span in text.spans}
    assert (colours["connected"], colours["online"], colours["relayed"]) == ("green", "green", "yellow")
    few = watched([later], {}, 2.0, height=8).plain.splitlines()
    assert (len(few), few[-1]) == (8, "Ctrl-C ends")
    assert "lines more: `wardgate status`" in few[-2]
    assert "it is waited for" in watched([], {}, 1.0, height=8).plain


def test_of_many_pairs_those_that_answer_are_shown_and_the_rest_is_counted() -> None:
    unused = [
        msgspec.structs.replace(FIGURES.checks[0], remote=f"192.168.1.7:{port}") for port in range(1, 30)
    ]
    figures = msgspec.structs.replace(FIGURES, checks=(*unused, FIGURES.checks[1]))
    one = msgspec.structs.replace(STATUS, connections=(msgspec.structs.replace(RELAYED, figures=figures),))
    text = "\n".join(status_lines(one))
    assert "in use" in text
    assert (text.count("no answer to"), "and 24 more" in text) == (5, True)


def test_a_gateways_grants_are_told_with_their_end() -> None:
    one = Status(**{name: getattr(STATUS, name) for name in STATUS.__struct_fields__} | {"grants": (GRANT,)})
    assert "Ada → wiki *.corp.example, until 1970-01-01 00:00:00 UTC" in "\n".join(status_lines(one))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Why(outcome="no resource"), "no resource that you are offered"),
        (Why(outcome="no resource", is_portal_connected=False), "the list of resources may be old"),
        (Why(outcome="authorized", resource=RESOURCE, connection=RELAYED), "access is granted"),
        (
            Why(outcome="refused", resource=RESOURCE, reason="forbidden", violated=("remote_ip",)),
            "not met: remote_ip",
        ),
        (
            Why(outcome="no answer", resource=RESOURCE, was_asked=True),
            "no gateway of its site took the request",
        ),
        (Why(outcome="no answer", resource=RESOURCE), "nobody has asked for access yet"),
        (Why(outcome="no answer", resource=POOL, was_asked=True), "the device did not take the request"),
        (Why(outcome="authorized", resource=POOL, connection=RELAYED), "device    gw-1"),
        (
            Why(outcome="authorized", resource=RESOURCE, was_asked=True),
            "the authorization stands until it ends",
        ),
        (
            Why(outcome="no answer", resource=RESOURCE, is_portal_connected=False),
            "not connected to the portal",
        ),
        (
            Why(outcome="authorized", resource=RESOURCE, is_filtered=True, filters=("22/tcp",)),
            "does not admit this port (it admits 22/tcp)",
        ),
        (Why(outcome="authorized", resource=RESOURCE, others=("all",)), "all would match, and come after it"),
    ],
)
def test_why_is_said_in_words(found: Why, told: str) -> None:
    assert told in "\n".join(why_lines("wiki.corp.example:443", found, ["100.96.0.1"], "dev wardgate"))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("wiki:443", "stands    for wiki.corp.example, by the host's search domains"),
        ("100.96.0.1", "stands    for wiki.corp.example, on this host only"),
        ("alias.example", "stands    for wiki.corp.example, by what DNS answers here"),
    ],
)
def test_what_stands_for_a_name_is_told(target: str, told: str) -> None:
    found = Why(outcome="authorized", resource=RESOURCE, name="wiki.corp.example")
    assert told in "\n".join(why_lines(target, found, ["100.96.0.1"], None))


def test_a_name_that_something_else_resolves_is_told() -> None:
    found = Why(outcome="authorized", resource=RESOURCE)
    assert "something else resolves" in "\n".join(
        why_lines("wiki.corp.example", found, ["203.0.113.1"], None)
    )
    assert "something else resolves" not in "\n".join(
        why_lines("wiki.corp.example", found, ["100.96.0.1"], None)
    )


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("wiki.corp.example", ("wiki.corp.example", None)),
        ("wiki:443", ("wiki", 443)),
        ("10.0.3.7", ("10.0.3.7", None)),
        ("10.0.3.7:22", ("10.0.3.7", 22)),
        ("fd00::7", ("fd00::7", None)),
        ("[fd00::7]:22", ("fd00::7", 22)),
    ],
)
def test_a_target_is_a_host_with_or_without_a_port(text: str, target: tuple[str, int | None]) -> None:
    assert values.target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "wiki:https",
        "wiki:0",
        "wiki:65536",
        "",
        "a b",
        "10.20.0.0/24",
        "http://wiki.corp.example/",
        "[wiki]:1",
    ],
)
def test_a_target_that_is_none_is_a_fault_of_the_command_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["why", text])
    assert ended.value.code == 2
    assert f"{text!r} is neither a host nor HOST:PORT" in capsys.readouterr().err


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Path]:
    """A process that answers at a socket."""

    async def answer(question: Question) -> Status | Why | Refused:
        if not question.may_ask_portal:
            return Why(outcome="no answer", resource=RESOURCE)
        if question.host == "refused.example":
            return Why(outcome="refused", resource=RESOURCE, reason="forbidden")
        if question.host:
            return Why(outcome="authorized", resource=RESOURCE, connection=RELAYED)
        return STATUS

    async with control_socket(tmp_path / "control.sock", answer):
        yield tmp_path / "control.sock"


async def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(main, words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


async def test_scripts_go_by_exit_codes_and_json(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    socket = f"--control-socket={running}"
    assert await code_of("status", "--json", socket) == 0
    assert json.loads(capsys.readouterr().out)[0]["resources"][0]["name"] == "wiki"
    assert await code_of("why", "127.0.0.1:22", "--json", socket) == 0
    assert json.loads(capsys.readouterr().out)["dns"] == ["127.0.0.1"]
    assert await code_of("status", "--watch", socket) == 2
    assert "needs a terminal" in capsys.readouterr().err
    assert await code_of("why", "refused.example", socket) == 6
    assert "DENIED (forbidden)" in capsys.readouterr().out
    assert await code_of("why", "refused.example", "--no-ask", socket) == 1
    assert "nobody has asked for access yet" in capsys.readouterr().out


async def test_where_nothing_runs_that_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await code_of("status", f"--control-socket={tmp_path / 'gone'}") == 3
    assert "nothing runs that could be asked" in capsys.readouterr().err
