"""Each way to start a peer wrongly ends in one line that names the cure, and exit code 1 (2 for usage)."""

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from wardgate.cli import client
from wardgate.cli.errors import UserError
from wardgate.cli.main import main
from wardgate.cli.peer import checked_token, run_peer
from wardgate.cli.values import host_and_port
from wardgate.connect.portal_session import SessionEnded
from wardgate.model.ids import TokenId
from wardgate.net.host_dns import Method
from wardgate.wire.control_channel import LostReason
from wardgate.wire.dialect import PeerKind
from wardgate.wire.tokens import TokenKind, mint_fragment

PORTAL = ("--api-url", "ws://portal.example:8080")


def token(kind: TokenKind) -> str:
    return mint_fragment(
        kind, account_id=None, token_id=TokenId(UUID(int=7)), secret=b"s" * 32, key=b"k" * 32
    )


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("wardgate")
    before = root.handlers[:], root.level, ours.level
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers[:], root.level, ours.level = before


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "WARDGATE_TOKEN",
        "FIREZONE_TOKEN",
        "WARDGATE_API_URL",
        "FIREZONE_API_URL",
        "WARDGATE_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str, exit_code: int = 1) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    printed = capsys.readouterr()
    assert ended.value.code == exit_code
    assert "Traceback" not in printed.err
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize("command", ["gateway", "client"])
def test_a_missing_portal_url_names_flag_and_variable(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = complaint(capsys, command)

    assert "--api-url" in printed
    assert "WARDGATE_API_URL" in printed


@pytest.mark.parametrize("url", ["portal.example", "ftp://portal.example", "ws://"])
def test_what_is_no_portal_url_is_refused_with_an_example(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "wss://portal.example.org" in complaint(capsys, "gateway", "--api-url", url, exit_code=2)


@pytest.mark.parametrize("command", ["gateway", "client"])
def test_a_missing_token_names_the_variable(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "WARDGATE_TOKEN" in complaint(capsys, command, *PORTAL)


def test_a_token_of_another_kind_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREZONE_TOKEN", token(TokenKind.CLIENT))

    assert "this is a client token, a gateway token is needed" in complaint(capsys, "gateway", *PORTAL)


def test_a_malformed_token_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert "malformed" in complaint(capsys, "gateway", *PORTAL, "hello")


def test_denying_private_peers_is_a_yes_or_a_no(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDGATE_DENY_PRIVATE", "perhaps")
    flags = ("--public-ip4-addr", "203.0.113.7")
    assert "WARDGATE_DENY_PRIVATE" in complaint(capsys, "relay", *PORTAL, token(TokenKind.RELAY), *flags)


def test_a_relay_needs_a_public_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--public-ip4-addr" in complaint(capsys, "relay", *PORTAL, token(TokenKind.RELAY))


@pytest.mark.parametrize(
    ("flags", "word", "exit_code"),
    [
        (("--public-ip4-addr", "x"), "not an IP address", 2),
        (("--public-ip4-addr", "2001:db8::1"), "not an IPv4 address", 2),
        (("--public-ip4-addr", "192.0.2.1", "--lowest-port", "10", "--highest-port", "9"), "ports", 1),
        (("--public-ip4-addr", "192.0.2.1", "--listen-port", "0"), "between 1 and 65535", 2),
        (("--public-ip4-addr", "192.0.2.1", "--health-check-addr", "nowhere"), "127.0.0.1:8081", 2),
        (("--public-ip4-addr", "192.0.2.1", "--bind-ip4-addr", "10.0.0.1"), "at all addresses", 2),
        (("--public-ip4-addr", "192.0.2.1", "--bind-ip6-addr", "fd00::1"), "at all addresses", 2),
    ],
)
def test_bad_relay_settings_say_what_is_wrong(
    flags: tuple[str, ...], word: str, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("relay", *PORTAL, token(TokenKind.RELAY), *flags)
    assert word in complaint(capsys, *arguments, exit_code=exit_code)


def test_an_unknown_dns_control_lists_the_choices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDGATE_TOKEN", token(TokenKind.CLIENT))

    assert "etc-resolv-conf" in complaint(capsys, "client", *PORTAL, "--dns-control", "magic", exit_code=2)


@pytest.mark.parametrize("usual", Method)
@pytest.mark.parametrize("told", [None, *Method])
def test_dns_control_is_chosen_only_where_nobody_has(
    usual: Method, told: Method | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Method] = []

    def host_dns(method: Method, _interface: str) -> None:
        taken.append(method)
        raise UserError("far enough")

    monkeypatch.setattr(client, "usual_method", lambda: usual)
    monkeypatch.setattr(client, "host_dns", host_dns)
    monkeypatch.setattr(client, "require", lambda *_: None)
    monkeypatch.setenv("WARDGATE_TOKEN", token(TokenKind.CLIENT))
    chosen = [] if told is None else ["--dns-control", told.value]
    with pytest.raises(SystemExit):
        main(["client", *PORTAL, "--id", "test", *chosen])
    assert taken == [usual if told is None else told]


def test_a_token_file_that_others_can_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    path.write_text(token(TokenKind.CLIENT))
    path.chmod(0o644)

    assert "chmod 600" in complaint(capsys, "client", *PORTAL, "--token-path", str(path))


def test_settings_can_be_checked_without_starting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "token"
    path.write_text(token(TokenKind.CLIENT))
    path.chmod(0o600)
    main_arguments = ["client", *PORTAL, "--token-path", str(path), "--id", "test", "--check"]
    with pytest.raises(SystemExit) as ended:
        main(main_arguments)

    assert ended.value.code == 0
    assert "in order" in capsys.readouterr().out


def test_an_unknown_flag_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--nonsense" in complaint(capsys, "gateway", "--nonsense", exit_code=2)


def test_tokens_of_the_published_portal_are_left_to_it() -> None:
    foreign = ".SFMyNTY.g2gDaANtAAAA.aggaGaAG53c"

    assert checked_token(foreign, PeerKind.GATEWAY) == foreign


@pytest.mark.parametrize("text", ["8081", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_listen_addresses_need_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:8081"):
        host_and_port(text)


def test_an_ipv6_listen_address_is_written_in_brackets() -> None:
    assert host_and_port("[::1]:8081") == ("::1", 8081)


@pytest.mark.parametrize("has_identity", [True, False])
def test_two_processes_of_one_device_are_told_of_both_causes(has_identity: bool) -> None:
    async def ended() -> None:
        raise SessionEnded(LostReason.TOKEN_EXPIRED, "")

    with pytest.raises(UserError) as complained:
        run_peer(PeerKind.CLIENT, ended(), has_identity=has_identity)

    message = str(complained.value)
    assert "make a new token" in message
    for cause in ("started twice on this machine", "cloned image with the same /etc/machine-id", "--id"):
        assert (cause in message) is has_identity


def test_another_end_of_the_session_is_not_blamed_on_a_second_process() -> None:
    async def ended() -> None:
        raise SessionEnded(LostReason.JOIN_REFUSED, "disabled")

    with pytest.raises(UserError, match=r"refused the join: disabled; make a new token in the portal$"):
        run_peer(PeerKind.CLIENT, ended(), has_identity=True)


@pytest.mark.parametrize(
    "words",
    [
        (
            "client",
            "--no-telemetry",
            "--metrics",
            "otel-collector",
            "--otlp-grpc-endpoint",
            "otel:4317",
            "--flow-logs",
        ),
        ("gateway", "--no-telemetry", "--validate-checksums", "--flow-logs", "-n", "gw"),
        ("relay", "--telemetry", "--num-worker-threads", "4", "--ebpf-offloading", "eth0", "--rng-seed", "7"),
        ("relay", "--bind-ip4-addr", "0.0.0.0", "--bind-ip6-addr", "::", "--rng-seed", "7"),
    ],
)
def test_the_published_programs_options_are_taken(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIREZONE_TOKEN", token(TokenKind[words[0].upper()]))
    monkeypatch.setenv("PUBLIC_IP4_ADDR", "192.0.2.7")
    with pytest.raises(SystemExit) as ended:
        main((*words, *PORTAL, "--check"))
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (0, "the settings are in order\n")
    assert ("an option has no effect here" in told.err) == any(
        "--metrics" in one or "-checksums" in one or "--rng" in one for one in words
    )


def test_a_token_may_be_the_path_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(token(TokenKind.GATEWAY) + "\n")
    monkeypatch.setenv("FIREZONE_TOKEN", str(tmp_path / "token"))
    with pytest.raises(SystemExit) as ended:
        main(("gateway", *PORTAL, "--check"))
    assert ended.value.code == 0


def test_log_lines_are_kept_in_a_directory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARDGATE_TOKEN", token(TokenKind.CLIENT))
    with pytest.raises(SystemExit):
        main(("client", *PORTAL, "--check", "--metrics=x", "--log-dir", str(tmp_path / "logs")))
    assert "an option has no effect here" in (tmp_path / "logs" / "wardgate.log").read_text()
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(("client", *PORTAL, "--check", "--log-dir", str(tmp_path / "file")))
    assert ended.value.code == 1
