"""`wardgate explain`: what it asks, and how it ends."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from wardgate.cli import explain
from wardgate.cli.main import main
from wardgate.policy.explanation import Explanation, as_json

ID = "b1b1b1b1-0000-4000-8000-000000000001"
DENIED = Explanation(
    at="2026-11-22T09:00:00Z",
    outcome="denied",
    actor_id=ID,
    actor_name="Ada",
    actor_type="account_user",
    resource_id=ID,
    resource_name="wiki",
    resource_type="dns",
    resource_address="wiki.example.com",
    groups=[],
    candidates=[],
    others=[],
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """Record the queries; the answer is a denial."""
    return answering(monkeypatch, DENIED)


def answering(
    monkeypatch: pytest.MonkeyPatch, answer: Explanation, *, flows: Any = None
) -> list[Mapping[str, str]]:
    queries: list[Mapping[str, str]] = []

    async def ask(_profile: Any, _ca: Any, _named: Any, query: Mapping[str, str]) -> Any:
        queries.append(query)
        return {**as_json(answer), "text": "", "decision_log_id": None, "flows": flows}

    monkeypatch.setattr(explain, "_ask", ask)
    monkeypatch.setenv("WARDGATE_URL", "http://portal.example")
    monkeypatch.setenv("WARDGATE_TOKEN", "t")
    return queries


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["explain", "--actor", ID, "--resource", ID, *arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("outcome", "code"), [("granted", 0), ("denied", 6), ("undetermined", 7)])
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_the_exit_code_tells_the_answer(
    monkeypatch: pytest.MonkeyPatch, outcome: Any, code: int, more: tuple[str, ...]
) -> None:
    answering(monkeypatch, msgspec.structs.replace(DENIED, outcome=outcome))
    assert code_of(*more) == code


@pytest.mark.parametrize(
    ("port", "query"),
    [
        ("81/tcp", {"protocol": "tcp", "port": "81"}),
        ("53/UDP", {"protocol": "udp", "port": "53"}),
        ("icmp", {"protocol": "icmp"}),
    ],
)
def test_a_port_becomes_the_packet_that_is_asked_about(
    asked: list[Mapping[str, str]], port: str, query: dict[str, str]
) -> None:
    assert code_of("--port", port) == 6
    assert asked == [query]


@pytest.mark.parametrize(
    "port", ["81", "tcp", "0/tcp", "65536/tcp", "8/icmp", "x/tcp", "80/sctp", "/icmp", "²/tcp"]
)
def test_what_is_no_port_with_its_protocol_is_wrong_usage(
    asked: list[Mapping[str, str]], port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("--port", port) == 2
    assert asked == []
    assert "443/tcp, 53/udp or icmp" in capsys.readouterr().err


def test_no_packet_is_assumed_of_the_past(asked: list[Mapping[str, str]]) -> None:
    assert code_of("--port", "80/tcp", "--at", "24h") == 2
    assert asked == []


@pytest.mark.parametrize(
    ("flows", "told"),
    [
        (None, ""),
        ({"number": 0, "is_exact": True, "last_at": None}, "no flow that passed by it was reported\n"),
        ({"number": 0, "is_exact": False, "last_at": None}, "among the newest that were looked at"),
        ({"number": 7, "is_exact": False, "last_at": "2026-11-22T09:00:00Z"}, "at least 7 reports of flows"),
    ],
)
def test_an_answer_of_the_past_tells_of_flows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flows: Any, told: str
) -> None:
    answering(monkeypatch, msgspec.structs.replace(DENIED, outcome="granted"), flows=flows)
    assert code_of("--at", "5m") == 0
    printed = capsys.readouterr().out
    assert told in printed
    assert ("flow" in printed) == (flows is not None)
