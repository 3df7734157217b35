"""`wardgate status` and `wardgate why`: ask the processes on this host over their control sockets."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from wardgate.cli import values
from wardgate.cli.commands import looking as asked
from wardgate.cli.errors import NotFound, UserError
from wardgate.cli.parameters import AS_JSON
from wardgate.cli.peer import socket_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import Terminal, echo
from wardgate.connect.connections import ConnectionView
from wardgate.datapath.figures import CheckFigures, ConnectionFigures
from wardgate.model.addresses import PROXY_IPV4, PROXY_IPV6
from wardgate.model.shown_text import shown_text
from wardgate.peer.status import Question, Refused, ResourceView, Status, Why

TIMEOUT_S: Final = 10.0
EVERY_S: Final = 1.0
MAX_ANSWER: Final = 64 * 1024 * 1024  # bytes; a gateway with a thousand clients has some hundred KiB
SHOWN_CHECKS: Final = 6  # of a connection, for people
DENIED: Final = 6
NOT_OURS: Final = 7

_PATHS: Final = {
    "direct": "direct", "local_relay": "relayed", "remote_relay": "relayed", "both_relays": "relayed",
}  # fmt: skip
_STYLES: Final = (
    ("bold", r"(?m)^(client|gateway) .*$|^(resources|connections|grants|this host)$"),
    ("dim", r"(?m)^\s+.*: no answer to \d+$|^Ctrl-C ends$|^and \d+ lines more.*$"),
    ("green", r"(?<=: )connected\b|\bonline\b|(?<=[:,] )direct\b|\bin use\b"),
    ("yellow", r"(?<=[:,] )relayed\b|\bput back\b.*$|(?<=: )no path yet\b|, not yet established\b"),
    ("bold red", r"NOT \w+( to the portal)?|\boffline\b|\brefused: \w+"),
)
"""Of `--watch`: what is well, what is slower or not yet, and what is wrong."""
_Answer = TypeVar("_Answer", Status, Why)


def status(settings: Settings) -> int:
    """Show how what runs here fares; returns 1 if something is not as it should be.

    Raises:
        NotFound: nothing runs.
    """
    sockets = _sockets(settings)
    if settings[asked.WATCH]:
        if settings[AS_JSON]:
            raise settings.wrong_usage("--watch is for people, --json for programs")
        console = Console()
        if not console.is_terminal:
            raise settings.wrong_usage("--watch needs a terminal; programs are given --json")
        return _watch(sockets, console)
    found = _all(sockets)
    if settings[AS_JSON]:
        echo(json.dumps([msgspec.to_builtins(one) for one in found], indent=2))
    else:
        Terminal.of_this_process().show("\n\n".join("\n".join(status_lines(one)) for one in found))
    return 0 if all(one.is_connected and one.is_ready for one in found) else 1


def why(settings: Settings) -> int:
    """Say what becomes of a connection; the exit code says it, too.

    Raises:
        NotFound: no client runs here.
    """
    host, port = values.target(settings[asked.TARGET])
    path = settings[asked.CONTROL_SOCKET] or socket_of("client")
    question = Question(
        ask="why",
        host=host,
        port=port,
        protocol=settings[asked.PROTOCOL],
        may_ask_portal=not settings[asked.NO_ASK],
    )
    addresses = _addresses(host)  # first: which device a name in a pool means is known once it is resolved
    found = ask(path, question, Why)
    route = _route(addresses[0]) if addresses else None
    for address in addresses if found.outcome == "no resource" and addresses != [host] else []:
        # A name that is no resource may lead to an address that belongs to one.
        by_address = ask(path, msgspec.structs.replace(question, host=address), Why)
        if by_address.outcome != "no resource":
            found = by_address
            break
    if settings[AS_JSON]:
        echo(json.dumps({**msgspec.to_builtins(found), "dns": addresses, "route": route}, indent=2))
    else:
        for line in why_lines(settings[asked.TARGET], found, addresses, route):
            echo(shown_text(line))
    match found.outcome:
        case "authorized":
            return (
                1
                if found.is_filtered or found.connection is None or not found.connection.is_established
                else 0
            )
        case "refused":
            return DENIED
        case "no resource":
            return NOT_OURS
        case _:
            return 1


def ask(path: Path, question: Question, kind: type[_Answer]) -> _Answer:
    """Ask one process.

    Raises:
        NotFound: nothing listens there.
        UserError: it may not be asked by this user, or does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(question) + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline(MAX_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotFound(f"nothing runs that could be asked at {path}") from error
    except PermissionError as error:
        raise UserError(f"{path} answers root and members of the group wardgate: use sudo") from error
    except OSError as error:
        raise UserError(f"{path} does not answer: {error.strerror or error}") from error
    if not line:
        raise UserError(f"{path} does not answer this user, or too many ask at once")
    try:
        answer = msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        try:
            refused = msgspec.json.decode(line, type=Refused)
        except msgspec.DecodeError:
            raise UserError(f"{path} is of another version: restart the service after an upgrade") from error
        raise UserError(refused.error) from error
    return answer


def status_lines(one: Status) -> Iterator[str]:
    """Yield the lines in which a person reads how a process fares."""
    state = "connected" if one.is_connected else "NOT connected to the portal"
    yield f"{one.part} {one.version} on {one.interface}: {state}{'' if one.is_ready else ', NOT ready'}"
    if one.portal:
        yield f"  portal     {shown_text(one.portal)}"
    yield f"  addresses  {', '.join(one.addresses) or 'none yet'}"
    if one.dns is not None:
        resolver = ", ".join(one.dns.sentinels) or "no resolver yet"
        yield f"  dns        {one.dns.method}; {resolver} → {', '.join(one.dns.upstreams) or 'nobody'}"
    relays = ", ".join(f"{relay.relay_id} ({relay.rtt_ms:g} ms)" for relay in one.relays)
    yield f"  relays     {relays or 'none reached'}"
    yield f"  traffic    {_size(one.counts.get('bytes_received', 0))} in, {_size(one.counts.get('bytes_sent', 0))} out"
    if one.resources:
        yield "resources"
        width = max(len(shown_text(resource.name)) for resource in one.resources)
        paths = {each.peer_id: f", {_PATHS[each.path]}" for each in one.connections if each.path is not None}
        for resource in one.resources:
            where = f" {resource.address}" if resource.address else ""
            refusal = f", refused: {resource.refusal}" if resource.refusal else ""
            gateway = resource.gateway_id
            served = f" by {gateway}{paths.get(gateway, '')}" if gateway else ""
            what = f"({resource.kind}{shown_text(where)})"
            yield f"  {shown_text(resource.name):{width}}  {resource.state}{served}{refusal} {what}"
    if one.connections:
        yield "connections"
        for connection in one.connections:
            yield from (f"  {line}" for line in _connection_lines(connection))
    if one.grants:
        yield "grants"
        for grant in one.grants:
            until = "without end" if grant.expires_at is None else f"until {_time(grant.expires_at)}"
            who = shown_text(grant.actor or grant.client_id)
            yield f"  {who} → {shown_text(grant.resource)} {shown_text(grant.address)}, {until}"
    amiss = [setting for setting in one.host if setting.refusal is not None or setting.repairs]
    if amiss or one.notes:
        yield "this host"
        for setting in amiss:
            text = (
                setting.refusal or f"put back {setting.repairs} {'time' if setting.repairs == 1 else 'times'}"
            )
            yield f"  {setting.name}: {text}"
        shown = {f"{setting.name}:" for setting in amiss}
        yield from (f"  {note}" for note in one.notes if not any(note.startswith(name) for name in shown))


def why_lines(target: str, found: Why, addresses: list[str], route: str | None) -> Iterator[str]:
    """Yield the lines in which a person reads what becomes of a connection."""
    resource = found.resource
    if resource is None:
        yield f"{target}: no resource that you are offered. It goes where this host's own routes lead."
        if not found.is_portal_connected:
            yield "  portal    not connected: the list of resources may be old"
    else:
        verdict = {
            "authorized": "access is granted",
            "refused": f"access is DENIED ({found.reason})",
        }.get(
            found.outcome,
            "nobody has answered the request for access"
            if found.was_asked
            else "nobody has asked for access yet",
        )
        if found.is_filtered:
            verdict = f"the resource does not admit this port (it admits {', '.join(found.filters)})"
        yield f"{target}: {verdict}"
        what = " ".join(filter(None, (resource.kind, resource.address)))
        where = f", at {', '.join(resource.sites)}" if resource.sites else ""
        yield f"  resource  {resource.name} ({what}){where}"
        if found.name is not None:
            yield f"  stands    for {found.name}, {_made_of(target, found.name)}"
        if found.violated:
            yield f"  because   not met: {', '.join(found.violated)}"
        if found.outcome == "no answer":
            yield f"  because   {_why_no_answer(found, resource)}"
        if found.was_asked and found.outcome == "authorized":
            yield "  asked     just now, as the first packet would have: the authorization stands until it ends"
        if found.others:
            yield f"  also      {', '.join(found.others)} would match, and come after it"
        if found.connection is not None:
            lines = list(_connection_lines(found.connection))
            yield f"  {'device ' if resource.kind == 'device pool' else 'gateway'}   {lines[0]}"
            yield from (f"          {line}" for line in lines[1:])
    is_name = not _is_address(target)
    if is_name:
        yield f"  dns       {', '.join(addresses) or 'no answer'}"
        if (
            resource is not None
            and resource.kind == "dns"
            and addresses
            and not any(map(_is_proxy, addresses))
        ):
            yield "            not from the client's resolver: something else resolves names here"
    if route is not None:
        yield f"  kernel    {route}"


def _made_of(target: str, name: str) -> str:
    """Why a connection to `target` is one to this name."""
    host, _ = values.target(target)
    if _is_address(target):
        return "on this host only"
    return (
        "by the host's search domains" if name.startswith(f"{host.lower()}.") else "by what DNS answers here"
    )


def _why_no_answer(found: Why, resource: ResourceView) -> str:
    if not found.is_portal_connected:
        return "the client is not connected to the portal"
    if not found.was_asked:
        return "no packet went there since the client runs; without --no-ask the portal is asked as one would"
    if resource.kind == "device pool":
        return "the device did not take the request in time, or its name leads nowhere"
    return "no gateway of its site took the request in time"


def _sockets(settings: Settings) -> list[Path]:
    path = settings[asked.CONTROL_SOCKET]
    if path is not None:
        return [path]
    return [socket_of(part) for part in asked.PARTS if settings[asked.PART] in (None, part)]


def _all(sockets: list[Path]) -> list[Status]:
    found = list[Status]()
    for path in sockets:
        try:
            found.append(ask(path, Question(ask="status"), Status))
        except NotFound:
            if len(sockets) == 1:
                raise
    if not found:
        raise NotFound("neither a client nor a gateway runs here")
    return found


def _watch(sockets: list[Path], console: Console) -> int:
    """Show it until Ctrl-C; a process that ends, as in an upgrade, is waited for."""
    shown: list[Status] = _all(sockets)
    former, at = dict[str, Status](), time.monotonic()
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console, auto_refresh=False, screen=True) as live,
    ):
        while True:
            now = time.monotonic()
            live.update(watched(shown, former, now - at, height=console.height), refresh=True)
            former, at = {one.part: one for one in shown}, now
            time.sleep(EVERY_S)
            try:
                shown = _all(sockets)
            except UserError:
                shown = []
    return 0


def watched(found: list[Status], former: Mapping[str, Status], elapsed_s: float, *, height: int) -> Text:
    """Return what `--watch` shows of these processes, in colours, cut to so many lines.

    Args:
        former: the same by part, `elapsed_s` ago.
    """
    lines = []
    for one in found:
        lines += [*status_lines(one), *_rates(one, former.get(one.part), elapsed_s), ""]
    if not found:
        lines = ["nothing runs here now; it is waited for", ""]
    if len(lines) >= height:
        left = len(lines) - height + 2
        lines = [*lines[: height - 2], f"and {left} lines more: `wardgate status`"]
    text = Text("\n".join([*lines, "Ctrl-C ends"]), no_wrap=True, overflow="ellipsis")
    for style, pattern in _STYLES:
        text.highlight_regex(pattern, style)
    return text


def _rates(one: Status, former: Status | None, elapsed_s: float) -> Iterator[str]:
    if former is None or elapsed_s <= 0:
        return
    came, went = (
        max(one.counts.get(name, 0) - former.counts.get(name, 0), 0) / elapsed_s
        for name in ("bytes_received", "bytes_sent")
    )
    yield f"now        {_size(came)}/s in, {_size(went)}/s out"


def _connection_lines(one: ConnectionView) -> Iterator[str]:
    who = " ".join(f"{shown_text(value)}" for value in one.names.values())
    state = "" if one.is_established else ", not yet established"
    age = "" if one.connected_s is None else f", for {_duration(one.connected_s)}"
    path = _PATHS.get(one.path or "", "no path yet")
    yield f"{one.peer_id}{f' ({who})' if who else ''}: {path}{state}{age}"
    if one.path is not None:
        yield f"  {one.why}"
        yield f"  {one.local} → {one.remote}"
    if one.figures is None:
        return
    yield f"  {', '.join(_carried(one.figures))}"
    checks = sorted(one.figures.checks, key=lambda pair: (not pair.is_used, not pair.answered, -pair.sent))
    if checks:
        yield "  tried"
        yield from (f"    {_checked(pair)}" for pair in checks[:SHOWN_CHECKS])
    if len(checks) > SHOWN_CHECKS:
        yield f"    and {len(checks) - SHOWN_CHECKS} more: --json"


def _carried(figures: ConnectionFigures) -> Iterator[str]:
    used = next((pair.round_trip_ms for pair in figures.checks if pair.is_used), None)
    yield "no round trip yet" if used is None else f"round trip {used:.1f} ms"
    if figures.loss is not None:
        yield f"{100 * figures.loss:.1f} % lost on the way here"
    yield f"{_size(figures.received_bytes)} in, {_size(figures.sent_bytes)} out"
    age = figures.handshake_age_s
    yield "no session" if age is None else f"handshake {_duration(age)} ago"


def _checked(pair: CheckFigures) -> str:
    way = f"{pair.local} ({pair.local_kind}) → {pair.remote} ({pair.remote_kind})"
    if not pair.answered:
        return f"{way}: no answer to {pair.sent}"
    took = "" if pair.round_trip_ms is None else f" in {pair.round_trip_ms:.1f} ms"
    return f"{way}: {pair.answered} of {pair.sent} answered{took}{', in use' if pair.is_used else ''}"


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _route(address: str) -> str | None:
    if shutil.which("ip") is None:
        return None
    done = subprocess.run(["ip", "route", "get", address], capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).splitlines()
    return lines[0].strip() if lines else None


def _is_address(target: str) -> bool:
    host, _ = values.target(target)
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_proxy(address: str) -> bool:
    parsed: Any = ip_address(address)
    return parsed in (PROXY_IPV4 if parsed.version == 4 else PROXY_IPV6)


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _time(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
