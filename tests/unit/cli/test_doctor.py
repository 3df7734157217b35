"""`wardgate doctor`: each thing that can be wrong is told with its cure, and a bundle holds no secret."""

import json
import socket
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

import wardgate
from support.certificates import write_certificate
from support.fake_nftables import FakeNftables
from unit.cli.test_looking import POOL, STATUS
from wardgate.cli import doctor, findings
from wardgate.cli.doctor import redacted
from wardgate.cli.findings import Finding, State
from wardgate.cli.main import main
from wardgate.peer.status import DnsView, HostSetting

pytestmark = pytest.mark.slow

TOKEN = ".wg_gateway_abcdefghijklmnopqrstuvwxyz234567"


class _Portal(BaseHTTPRequestHandler):
    version = wardgate.__version__
    code = 200
    ahead = timedelta()

    def do_GET(self) -> None:
        self.send_response_only(self.code)
        self.send_header("Date", (datetime.now(UTC) + self.ahead).strftime("%a, %d %b %Y %H:%M:%S GMT"))
        self.end_headers()
        self.wfile.write(json.dumps({"status": "ready", "version": self.version}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def portal() -> Iterator[Callable[..., str]]:
    """Start something that answers as a portal does; returns its URL."""
    servers = list[HTTPServer]()

    def start(certificate: tuple[Path, Path] | None = None, **attributes: object) -> str:
        server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Portal,), attributes))
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return f"{'ws' if certificate is None else 'wss'}://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def of(found: Iterator[Finding]) -> dict[str, State]:
    return {one.what: one.state for one in found}


def test_a_portal_that_is_well_is_found_so(portal: Callable[..., str]) -> None:
    found = of(findings.portal_findings(portal()))
    assert {found["name of the portal"], found["clock"]} == {State.OK}
    assert found["portal"] is State.WARNING, "it is reached without TLS"


@pytest.mark.parametrize(
    ("attributes", "what", "state"),
    [
        ({"ahead": timedelta(minutes=5)}, "clock", State.FAULT),
        ({"ahead": timedelta(minutes=-5)}, "clock", State.FAULT),
        ({"version": "0.0.1"}, "versions", State.WARNING),
        ({"code": 503}, "portal", State.WARNING),
    ],
)
def test_a_portal_that_is_not_is_told(
    portal: Callable[..., str], attributes: dict[str, object], what: str, state: State
) -> None:
    found = [one for one in findings.portal_findings(portal(**attributes)) if one.what == what]
    assert found[0].state is state
    assert found[0].cure


def test_a_clock_that_is_far_off_is_told_in_days(portal: Callable[..., str]) -> None:
    (clock,) = [
        one for one in findings.portal_findings(portal(ahead=timedelta(days=-400))) if one.what == "clock"
    ]
    assert clock.message.startswith("is 400 days, 0:00:0")
    assert clock.message.endswith("ahead of the portal's")


@pytest.mark.parametrize(("made", "reason"), [(-400, "has expired"), (400, "not yet valid")])
def test_a_certificate_out_of_its_time_is_told_with_the_time_here(
    portal: Callable[..., str], tmp_path: Path, made: int, reason: str
) -> None:
    here, certificate, key = datetime.now(UTC), tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, name="localhost", now=here + timedelta(days=made))
    found = list(findings.portal_findings(portal((certificate, key)), ca_file=certificate))
    fault = found[-1]
    assert (fault.what, fault.state) == ("certificate of the portal", State.FAULT)
    assert reason in fault.message
    assert f"it is {here:%Y-%m-%d}" in fault.message, "who reads it sees whether the clock is wrong"


def test_a_portal_that_is_not_there_is_told() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        (_, fault) = findings.portal_findings(f"ws://127.0.0.1:{closed.getsockname()[1]}")
    assert (fault.what, fault.state) == ("portal", State.FAULT)
    (unknown,) = findings.portal_findings("wss://no-such-host.invalid")
    assert (unknown.what, unknown.state) == ("name of the portal", State.FAULT)


def test_a_host_is_looked_at(tmp_path: Path) -> None:
    assert findings.tunnel_device(tmp_path / "tun").state is State.FAULT
    assert findings.tunnel_device(Path("/dev/null")).state is State.OK
    assert findings.tool("no-such-command", package="x", why="y").cure == "apt-get install x"
    assert findings.room(tmp_path / "not" / "yet").state is State.OK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("", 0))
        assert findings.udp_port(held.getsockname()[1]).state is State.OK


@pytest.mark.parametrize(("size", "state"), [(1500, State.OK), (1300, State.WARNING)])
def test_a_narrow_link_is_told(tmp_path: Path, size: int, state: State) -> None:
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0" / "mtu").write_text(f"{size}\n")
    routes = tmp_path / "route"
    routes.write_text(
        "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 00000000 0 3 0 0 0 00000000\n"
    )
    (found,) = findings.mtu(tmp_path, routes)
    assert found.state is state


def drop_chain(*accepted: str) -> FakeNftables:
    """The rules of a host with a forward chain that drops, and accepts for the directions of `wardgate-gw`."""
    rules = FakeNftables()
    rules.add_chain(
        "ip filter FORWARD",
        *(
            [
                {"match": {"op": "==", "left": {"meta": {"key": one}}, "right": "wardgate-gw"}},
                {"accept": None},
            ]
            for one in accepted
        ),
        policy="drop",
    )
    return rules


@pytest.mark.parametrize(
    ("value", "is_running", "accepted", "states"),
    [
        ("1", True, ("iifname", "oifname"), [State.OK, State.OK]),
        ("0", False, (), [State.OK, State.OK]),
        ("0", True, ("iifname",), [State.FAULT, State.FAULT]),
    ],
)
def test_what_decides_whether_a_host_forwards_is_told(
    tmp_path: Path, value: str, is_running: bool, accepted: tuple[str, ...], states: list[State]
) -> None:
    (tmp_path / "net" / "ipv4").mkdir(parents=True)
    (tmp_path / "net" / "ipv4" / "ip_forward").write_text(f"{value}\n")
    found = list(
        findings.forwarding(
            "wardgate-gw", is_running=is_running, nft=drop_chain(*accepted), proc_sys=tmp_path
        )
    )
    assert [one.state for one in found] == states
    assert "net.ipv4.ip_forward" in found[0].message
    assert "`ip filter FORWARD` drops" in found[1].message


def test_rules_that_cannot_be_listed_are_told(tmp_path: Path) -> None:
    class Refusing(FakeNftables):
        async def listing(self, *_: str) -> list[dict[str, object]]:
            raise OSError("nft -j failed: Operation not permitted")

    (found,) = findings.forwarding("wardgate-gw", is_running=False, nft=Refusing(), proc_sys=tmp_path)
    assert (found.state, found.what) == (State.WARNING, "forward chains")
    assert "not permitted" in found.message


@pytest.mark.parametrize(
    ("text", "method", "state"),
    [
        ("nameserver 192.0.2.53\n", None, State.OK),
        ("nameserver 100.100.111.1\n", "etc-resolv-conf", State.OK),
        ("nameserver 127.0.0.53\n", "systemd-resolved", State.OK),
        ("nameserver 192.0.2.53\n", "etc-resolv-conf", State.FAULT),
        ("# nothing\n", None, State.FAULT),
        (None, None, State.FAULT),
    ],
)
def test_whom_programs_ask_for_names_is_told(
    tmp_path: Path, text: str | None, method: str | None, state: State
) -> None:
    file = tmp_path / "resolv.conf"
    if text is not None:
        file.write_text(text)
    dns = None if method is None else DnsView(method, ("100.100.111.1",), ("192.0.2.53",))
    found = findings.name_servers(dns, file)
    assert found.state is state
    assert bool(found.cure) is (state is not State.OK)


@pytest.mark.parametrize(("unanswered", "is_told"), [(0, False), (20, False), (21, True)])
def test_name_servers_that_leave_questions_unanswered_are_told(unanswered: int, is_told: bool) -> None:
    counts = {"dns_forwarded": 100, "dns_unanswered": unanswered}
    found = [
        one
        for one in findings.running(msgspec.structs.replace(STATUS, counts=counts))
        if one.what == "name servers"
    ]
    assert bool(found) is is_told


def test_what_a_running_process_tells_is_judged() -> None:
    amiss = msgspec.structs.replace(
        STATUS,
        version="0.0.1",
        relays=(),
        counts={"udp_receive_dropped": 3},
        host=(HostSetting("routes", 0, "not permitted"), HostSetting("rules", 2, None)),
        resources=(msgspec.structs.replace(POOL, refusal="forbidden"),),
    )
    found = list(findings.running(amiss))
    assert all(one.cure for one in found if one.state is not State.OK)
    told = "\n".join(one.message for one in found)
    for words in (
        "0.0.1 runs",
        "none is reached",
        "3 datagrams",
        "refuses routes",
        "rules was put back 2 times",
        "device pool 'laptops' was refused: forbidden",
        "1 of 1 are relayed; to gw-1 through our relay",
        "1 of 1 connections lose packets; 5.0 % of those from gw-1",
    ):
        assert words in told, words
    away = list(findings.running(msgspec.structs.replace(STATUS, is_connected=False)))
    assert any(one.state is State.FAULT and "not connected" in one.message for one in away)


@pytest.mark.parametrize(("days", "state"), [(90, State.OK), (3, State.WARNING), (-1, State.FAULT)])
def test_a_certificate_is_judged_by_its_end(tmp_path: Path, days: int, state: State) -> None:
    file = tmp_path / "portal.crt"
    write_certificate(file, tmp_path / "portal.key", name="portal.example.org")
    end = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    assert findings.certificate(file, end - timedelta(days=days)).state is state
    assert findings.certificate(tmp_path / "gone", end).state is State.FAULT


@pytest.mark.parametrize(
    "line",
    [
        f"token {TOKEN} was refused",
        f"WARDGATE_TOKEN={TOKEN}",
        "WARDGATE_DATABASE_URL=postgresql://ada:abcdefgh@db/w",
        "connecting to postgresql://ada:abcdefgh@db/w",
        "Authorization: Bearer abcdefgh",
        "FIREZONE_TOKEN=.SFMyNTY.abcdefgh",
        "the token nonce.SFMyNTY.abcdefgh",
        "WARDGATE_SMTP_URL=smtp://u:abcdefgh@mail",
    ],
)
def test_secrets_are_left_out(line: str) -> None:
    assert "abcdefgh" not in redacted(line)


def test_what_helps_is_kept() -> None:
    text = "WARDGATE_API_URL=wss://portal.example.org\nWARDGATE_TOKEN_FILE=/etc/x\nERROR cannot reach 192.0.2.1\n"
    assert redacted(text) == text


def test_a_bundle_is_private_whole_and_without_secrets(
    tmp_path: Path,
    portal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "SETTINGS_DIRECTORY", tmp_path)
    (tmp_path / "gateway.env").write_text(f"WARDGATE_API_URL={portal()}\nWARDGATE_TOKEN={TOKEN}\n")
    bundle = tmp_path / "bundle.tar.gz"
    assert code_of("doctor", "gateway", "--json", f"--bundle={bundle}") in (0, 1)
    told = {one["what"]: one["state"] for one in json.loads(capsys.readouterr().out)}
    assert told["name of the portal"] == "ok", "the service's own settings are read"
    assert bundle.stat().st_mode & 0o777 == 0o600
    with tarfile.open(bundle) as archive:
        names = archive.getnames()
        content = b"".join(file.read() for one in archive if (file := archive.extractfile(one)) is not None)
    assert "wardgate-gateway/doctor.json" in names
    assert "wardgate-gateway/host/routes.txt" in names
    assert TOKEN.encode() not in content
    assert code_of("doctor", "gateway", f"--bundle={bundle}") == 1
    assert "exists: name another file" in capsys.readouterr().err


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host without any part: returns where settings would stand."""
    for name in ("SETTINGS_DIRECTORY", "_UNITS"):
        monkeypatch.setattr(doctor, name, tmp_path if name == "SETTINGS_DIRECTORY" else ())
    monkeypatch.setattr(doctor, "socket_of", lambda part: tmp_path / f"{part}.sock")
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


def test_without_a_part_all_that_are_here_are_looked_at(
    bare: Path, portal: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of("doctor") == 3
    assert "no part is installed, set up or running here" in capsys.readouterr().err
    (bare / "relay.env").write_text(f"WARDGATE_API_URL={portal()}\n")
    (bare / "data").mkdir()
    (bare / "data" / "secret.key").write_bytes(bytes(32))
    assert code_of("doctor") == 1
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.endswith(":")] == ["relay:", "portal:"]
    assert "name of the portal: 127.0.0.1" in told
    assert code_of("doctor", "--json") == 1
    assert set(json.loads(capsys.readouterr().out)) == {"relay", "portal"}
    code_of("doctor", "--bundle", str(bare / "all.tar.gz"))
    with tarfile.open(bare / "all.tar.gz") as archive:
        assert {"wardgate-relay/doctor.json", "wardgate-portal/doctor.json"} <= set(archive.getnames())


@pytest.mark.parametrize("is_connected", [True, False])
def test_what_a_running_process_was_started_with_is_no_fault(
    bare: Path,
    portal: Callable[..., str],
    is_connected: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A container or a shell sets it for the process, and not for who looks at it."""
    running = msgspec.structs.replace(STATUS, is_connected=is_connected, portal=portal())
    monkeypatch.setattr(doctor, "ask", lambda *_: running)
    code_of("doctor", "client", "--token-path", str(bare / "none"), "--json")
    told = {one["what"]: one["state"] for one in json.loads(capsys.readouterr().out)}
    assert told["name of the portal"] == "ok"
    assert (told["token"], told["running client"]) == ("ok", "ok" if is_connected else "fault")


def test_a_portals_installation_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of("doctor", "portal", "--data-dir", str(tmp_path)) == 1
    assert "there is no installation" in capsys.readouterr().out


def test_a_portal_without_a_name_is_asked_at_its_own_address(
    tmp_path: Path,
    portal: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WARDGATE_DATA_DIR", str(tmp_path / "data"))
    account = ("--account-name", "Acme", "--account-slug", "acme", "--admin-email", "ada@acme.example")
    assert code_of("init", *account) == 0
    monkeypatch.setenv("WARDGATE_LISTEN", portal().removeprefix("ws://"))
    capsys.readouterr()
    assert code_of("doctor", "portal", "--json") == 0
    told = {(one["what"], one["state"]) for one in json.loads(capsys.readouterr().out)}
    assert {("external URL", "warning"), ("clock", "ok")} <= told, "it answers"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WARDGATE_LISTEN", f"127.0.0.1:{closed.getsockname()[1]}")
        assert code_of("doctor", "portal", "--json") == 1
    monkeypatch.setenv("WARDGATE_SMTP_URL", "smtp://mail.example.org")
    capsys.readouterr()
    assert code_of("doctor", "portal") == 1
    assert "FAULT    settings: WARDGATE_SMTP_URL needs WARDGATE_MAIL_FROM" in capsys.readouterr().out


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code
