"""Transcripts of control channels: what a portal records when asked to, and how a recording is checked.

A transcript is JSON lines, in order. Each is one thing that happened on one connection:

    {"at_s": 0.46, "peer": "gateway", "generation": "v2", "direction": "peer-to-portal", "frame": {…}}

    upgrade          frame: {"path": path with query, "headers": {…}}
    peer-to-portal   frame: the frame as JSON; {"unreadable_bytes": n} if it was none
    portal-to-peer   the same
    close            frame: {"code": 1012, "by": "portal"}
    cut              the file had reached its bound; what followed is missing

Secrets are taken out before anything is written: the value of every field whose name suggests a secret, and whatever
looks like a token, wherever it stands. Names, addresses and public keys stay: a transcript is for those who administer
the portal.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from wardgate.wire import frames, upgrade
from wardgate.wire import messages as m
from wardgate.wire.dialect import Dialect, Generation, Malformed, PeerKind, Unknown
from wardgate.wire.errors import InvalidConnectParameters, MalformedFrame
from wardgate.wire.frames import Frame, Framing
from wardgate.wire.tokens import TokenKind
from wardgate.wire.user_agent import announced_version

MAX_LINE_BYTES: Final = 2 * 1024 * 1024
"""Of a transcript that is read: the largest frame of a peer is an eighth of it."""

MAX_FINDINGS: Final = 1000

REDACTED: Final = "(redacted)"
_ZERO_KEY: Final = "A" * 43 + "="
_STAND_INS: Final[Mapping[str, str]] = {"preshared_key": _ZERO_KEY, "stamp_secret": "0" * 64}
"""Where a reader looks at the form of a secret, something of that form stands in its place."""

_SECRET_NAMES: Final = re.compile(
    r"secret|token|password|passwd|preshared|private|authorization$|fragment|cookie", re.I
)
_NO_SECRETS: Final = frozenset(("token_expired",))
_TOKENS: Final = re.compile(
    r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}|" + "|".join(kind.value for kind in TokenKind)
)


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────


def redacted_frame(text: str) -> Any:
    """Return a text frame as JSON without its secrets; of what is no JSON, only how long it was."""
    try:
        return _redacted(json.loads(text))
    except (ValueError, RecursionError):
        return {"unreadable_bytes": len(text.encode(errors="replace"))}


def redacted_upgrade(path: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return an upgrade request without the token that it shows.

    Args:
        headers: by lower-case name; those that a proxy or peer may have added are kept, credentials are not.
    """
    pairs = [
        (name, REDACTED if _SECRET_NAMES.search(name) else _without_tokens(value))
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    kept = {name: _without_tokens(value) for name, value in headers.items() if not _SECRET_NAMES.search(name)}
    return {"path": f"{path}?{urlencode(pairs)}" if pairs else path, "headers": kept}


def _redacted(value: Any) -> Any:
    match value:
        case dict():
            return {
                _without_tokens(name): _STAND_INS.get(name, REDACTED)
                if _is_secret(name, one)
                else _redacted(one)
                for name, one in value.items()
            }
        case list():
            return [_redacted(one) for one in value]
        case str():
            return _without_tokens(value)
        case _:
            return value


def _is_secret(name: str, value: Any) -> bool:
    # An object under such a name is looked into: `authorizations` and their like hold no secret by themselves.
    return (
        _SECRET_NAMES.search(name) is not None and isinstance(value, str | int) and value not in _NO_SECRETS
    )


def _without_tokens(text: str) -> str:
    return REDACTED if _TOKENS.search(text) else text


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Finding:
    """What is remarkable about a line, counted from 1.

    Attributes:
        severity: an error is against the protocol; a note is tolerated by the receiver.
    """

    line: int
    severity: Literal["error", "note"]
    peer: str
    event: str
    text: str


@dataclass(slots=True)
class Report:
    """What was read: how many frames of which event in which direction, and what was found."""

    findings: list[Finding] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    is_cut: bool = False

    @property
    def errors(self) -> int:
        return sum(one.severity == "error" for one in self.findings)


def check(lines: Iterable[str]) -> Report:
    """Compare a transcript with the types of this program, line by line. Never raises for what is in it."""
    report = Report()
    connections: dict[str, _Connection] = {}
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        for severity, peer, event, message in _check_line(text, connections, report):
            if len(report.findings) >= MAX_FINDINGS:
                return report
            report.findings.append(Finding(number, severity, peer, event, message))
    return report


_Found = Iterator[tuple[Literal["error", "note"], str, str, str]]


@dataclass(slots=True)
class _Connection:
    dialect: Dialect
    framing: Framing = Framing.OBJECT
    is_joined: bool = False
    join_ref: frames.Ref = None


class _Line(msgspec.Struct):
    peer: str
    direction: str
    frame: Any = None
    generation: str = ""


def _check_line(text: str, connections: dict[str, _Connection], report: Report) -> _Found:
    try:
        if len(text) > MAX_LINE_BYTES:
            raise ValueError("it is too long")
        line = msgspec.convert(json.loads(text), _Line)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        yield "error", "", "", f"no line of a transcript: {error}"
        return
    frame = line.frame
    event = frame.get("event", "") if isinstance(frame, dict) else ""
    shown = event if isinstance(event, str) else ""
    name = f"{line.peer} {line.direction} {shown or '-'}"
    report.events[name] = report.events.get(name, 0) + 1
    match line.direction:
        case "upgrade":
            yield from _check_upgrade(line, connections)
        case "peer-to-portal" | "portal-to-peer":
            connection = connections.get(line.peer) or _connection_of(line)
            if connection is None:
                yield (
                    "error",
                    line.peer,
                    shown,
                    "it is not known what this peer is: no upgrade comes before it",
                )
                return
            connections[line.peer] = connection
            yield from _check_frame(line, connection)
        case "close":
            connections.pop(line.peer, None)
        case "cut":
            report.is_cut = True
        case _:
            yield "error", line.peer, "", f"no such direction: {line.direction[:64]}"


def _connection_of(line: _Line) -> _Connection | None:
    generations = {"": Generation.V2, "v1": Generation.V1, "v2": Generation.V2}
    if line.peer not in {kind.value for kind in PeerKind} or line.generation not in generations:
        return None
    return _Connection(Dialect(PeerKind(line.peer), generations[line.generation]), is_joined=True)


def _check_upgrade(line: _Line, connections: dict[str, _Connection]) -> _Found:
    frame = line.frame if isinstance(line.frame, dict) else {}
    path, headers = frame.get("path"), frame.get("headers")
    if not isinstance(path, str) or not isinstance(headers, dict):
        yield "error", line.peer, "", "an upgrade has a path and headers"
        return
    try:
        parts = urlsplit(path)
    except ValueError as error:
        yield "error", line.peer, "", f"its path is no path: {error}"
        return
    found = upgrade.channel_of(parts.path)
    if found is None:
        yield "error", line.peer, "", f"no control channel is at {parts.path[:200]}"
        return
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    framing = Framing.negotiate(query.get("vsn"))
    if framing is None:
        yield "error", line.peer, "", f"vsn {query['vsn'][:32]} is not supported: 403"
    connections[line.peer] = _Connection(Dialect(*found), framing or Framing.OBJECT)
    agent = next((value for name, value in headers.items() if name.lower() == "user-agent"), "")
    version = announced_version(agent) if isinstance(agent, str) else None
    try:
        match found[0]:
            case PeerKind.CLIENT:
                upgrade.parse_client_parameters(query)
            case PeerKind.GATEWAY:
                upgrade.parse_gateway_parameters(query)
            case PeerKind.RELAY:
                upgrade.parse_relay_parameters(query)
    except InvalidConnectParameters as error:
        yield "error", line.peer, "", f"its query is answered with 400: {error}"
    if version is None:
        severity: Literal["error", "note"] = "error" if found[0] is PeerKind.CLIENT else "note"
        yield severity, line.peer, "", "its user agent names no version"


def _check_frame(line: _Line, connection: _Connection) -> _Found:
    if isinstance(line.frame, dict) and "unreadable_bytes" in line.frame:
        yield "error", line.peer, "", "it was no JSON"
        return
    try:
        frame = connection.framing.parse(json.dumps(line.frame))
    except MalformedFrame as error:
        yield "error", line.peer, "", f"no frame: {error}"
        return
    found = (
        _from_peer(frame, connection)
        if line.direction == "peer-to-portal"
        else _from_portal(frame, connection)
    )
    for severity, message in found:
        yield severity, line.peer, frame.event, message


def _from_peer(frame: Frame, connection: _Connection) -> Iterator[tuple[Literal["error", "note"], str]]:
    if frame.topic == frames.PHOENIX and frame.event == frames.HEARTBEAT:
        return
    if frame.topic != connection.dialect.topic:
        yield "error", f"topic {frame.topic[:64]} is not this connection's"
    elif frame.event == frames.LEAVE:
        connection.is_joined = False
    elif frame.event == frames.JOIN:
        connection.join_ref = frame.ref
        connection.is_joined = False
        if frame.ref is None:
            yield "error", "a join without a ref cannot be answered"
        yield from _decoded(connection.dialect.decode_from_peer(frame.event, frame.payload), frame)
    else:
        if not connection.is_joined:
            yield "error", "said before the join was answered"
        message = connection.dialect.decode_from_peer(frame.event, frame.payload)
        yield from _decoded(message, frame, unknown="answered with unknown_message")


def _from_portal(frame: Frame, connection: _Connection) -> Iterator[tuple[Literal["error", "note"], str]]:
    match frame.event:
        case frames.REPLY:
            reply = frames.parse_reply(frame.payload)
            if reply is None:
                yield "error", "no peer understands this reply"
            elif frame.topic == connection.dialect.topic and frame.ref == connection.join_ref:
                connection.is_joined = reply.status == "ok"
                if reply.status == "ok" and reply.response:
                    yield (
                        "error",
                        "the response to a join must be {}: released peers do not take it otherwise",
                    )
                elif reply.status == "error":
                    yield "note", f"the join was refused, which ends the peer: {reply.reason}"
            elif reply.status == "error":
                yield "note", f"the portal did not accept a message: {reply.reason}"
        case frames.CLOSE | frames.ERROR:
            connection.is_joined = False
        case _:
            # Nothing is pushed before the join, whether or not its answer was recorded.
            connection.is_joined = True
            message = connection.dialect.decode_from_portal(frame.event, frame.payload)
            yield from _decoded(message, frame, unknown="the peer ignores it")


def _decoded(
    message: m.Message | Unknown | Malformed, frame: Frame, *, unknown: str = ""
) -> Iterator[tuple[Literal["error", "note"], str]]:
    match message:
        case Unknown():
            yield "note", f"no such event here: {unknown}"
        case Malformed(reason=reason):
            yield "error", f"its payload does not decode: {reason}"
        case _:
            payload = json.loads(frame.payload)
            names = {one.encode_name for one in msgspec.structs.fields(message)}
            if isinstance(payload, dict) and names and not _is_bare(message):
                for name in sorted(payload.keys() - names):
                    yield "note", f"a member that this program does not know: {name[:64]}"


def _is_bare(message: m.Message) -> bool:
    return isinstance(message, m.ResourceCreatedOrUpdated | m.ResourceDeleted | m.ResourceUpdated)
