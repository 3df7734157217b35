"""`wardgate doctor`: look at a part, say what is wrong and the cure, and bundle it for somebody who helps."""

import asyncio
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

import wardgate
from wardgate.cli import findings as look
from wardgate.cli.client_token_file import read_token
from wardgate.cli.commands import client as client_options
from wardgate.cli.commands import doctor as asked
from wardgate.cli.commands import gateway as gateway_options
from wardgate.cli.commands import relay as relay_options
from wardgate.cli.errors import NotFound, UserError
from wardgate.cli.findings import Finding, State
from wardgate.cli.looking import ask
from wardgate.cli.parameters import AS_JSON
from wardgate.cli.peer import checked_token, socket_of
from wardgate.cli.profile import data_dir_of
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.model.shown_text import shown_text
from wardgate.peer.status import Question, Status
from wardgate.wire.dialect import PeerKind

SETTINGS_DIRECTORY: Final = Path("/etc/wardgate")
LOG_LINES: Final = 2000
_SECRET_NAME: Final = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|_URL", re.IGNORECASE)
_SECRET: Final = re.compile(
    r"\.?wg_[a-z]+_[a-z0-9]{16,}"  # our tokens and links
    r"|\S*SFMyNTY\.\S+"  # those of the published portal
    r"|(?<=://)[^\s/@]+(?=@)"  # user and password in a URL
    r"|(?i:(?<=bearer )\S+)"
)
_MARKS: Final = {State.OK: "ok", State.WARNING: "WARNING", State.FAULT: "FAULT"}
_COMMANDS: Final = {
    "addresses.txt": ("ip", "address"),
    "links.txt": ("ip", "-s", "link"),
    "routes.txt": ("ip", "route", "show", "table", "all"),
    "rules.txt": ("ip", "rule"),
    "nftables.txt": ("nft", "list", "ruleset"),
    "sockets.txt": ("ss", "-tulpn"),
    "resolved.txt": ("resolvectl", "status"),
}
Examine = Callable[[Settings], Iterable[Finding]]
FindToken = Callable[[], str | None]
_UNITS: Final = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))

_FILES: Final = ("/etc/os-release", "/etc/resolv.conf", "/proc/version", "/proc/loadavg", "/proc/meminfo")


def everything(settings: Settings) -> int:
    """Look at each part that is on this host.

    Raises:
        NotFound: none is.
    """
    parts = [part for part in _EXAMINE if _is_here(part, settings)]
    if not parts:
        raise NotFound("no part is installed, set up or running here: name one, as `wardgate doctor client`")
    found = {}
    for part in parts:
        own = Settings.load(part, settings.environment, settings.given, f"{settings.command} {part}")
        found[part] = _look(own, part)
        if not settings[AS_JSON]:
            echo(f"{part}:")
            _show(found[part])
    if settings[AS_JSON]:
        echo(json.dumps({part: [asdict(one) for one in ones] for part, ones in found.items()}, indent=2))
    _bundle(settings, found)
    return max(map(_code, found.values()))


def client(settings: Settings) -> int:
    return _examine(settings, "client")


def gateway(settings: Settings) -> int:
    return _examine(settings, "gateway")


def relay(settings: Settings) -> int:
    return _examine(settings, "relay")


def portal(settings: Settings) -> int:
    return _examine(settings, "portal")


def redacted(text: str) -> str:
    """Return text without tokens and passwords; lines of an environment lose the values of what is secret."""
    lines = []
    for line in text.splitlines():
        name, equals, _ = line.partition("=")
        is_assignment = equals and re.fullmatch(r"[A-Z][A-Z0-9_]*", name)
        if (
            is_assignment
            and _SECRET_NAME.search(name)
            and not name.endswith(("_API_URL", "_EXTERNAL_URL", "_FILE"))
        ):
            lines.append(f"{name}=(left out)")
        else:
            lines.append(_SECRET.sub("(left out)", line))
    return "".join(f"{line}\n" for line in lines)


def _examine(settings: Settings, part: str) -> int:
    found = _look(settings, part)
    if settings[AS_JSON]:
        echo(json.dumps([asdict(one) for one in found], indent=2))
    else:
        _show(found)
    _bundle(settings, {part: found})
    return _code(found)


def _bundle(settings: Settings, found: Mapping[str, list[Finding]]) -> None:
    """Write what was found of each part, and what helps to understand it, where that was asked for."""
    path = settings[asked.BUNDLE]
    if path is None:
        return
    _write_bundle(path, found)
    if not settings[AS_JSON]:
        echo(
            f"Written to {path}. Look through it before you pass it on: it names hosts, people and addresses."
        )


def _look(settings: Settings, part: str) -> list[Finding]:
    environment = {**_service_environment(part), **settings.environment}
    return list(_EXAMINE[part](replace(settings, environment=environment)))


def _show(found: Iterable[Finding]) -> None:
    for one in found:
        echo(shown_text(f"{_MARKS[one.state]:7}  {one.what}: {one.message}"))
        if one.cure:
            echo(shown_text(f"         → {one.cure}"))


def _code(found: Iterable[Finding]) -> int:
    return 1 if any(one.state is State.FAULT for one in found) else 0


def _is_here(part: str, settings: Settings) -> bool:
    """Whether a part is installed, set up or running on this host."""
    if part == "portal" and (data_dir_of(settings) / "secret.key").exists():
        return True
    return any(
        place.exists()
        for place in (
            *(folder / f"wardgate-{part}.service" for folder in _UNITS),
            *(SETTINGS_DIRECTORY / f"{part}{suffix}" for suffix in (".env", "-token")),
            socket_of(part),
        )
    )


def _client(settings: Settings) -> Iterator[Finding]:
    status, running = _running("client")
    yield _token(
        "client",
        lambda: settings[client_options.TOKEN] or read_token(settings[client_options.TOKEN_PATH]),
        status,
    )
    yield from _way(settings[client_options.API_URL], status)
    yield look.tunnel_device()
    yield from look.mtu()
    yield look.room(Path("/var/lib"))
    yield from running
    yield look.name_servers(None if status is None else status.dns)


def _gateway(settings: Settings) -> Iterator[Finding]:
    status, running = _running("gateway")
    yield _token("gateway", lambda: settings[gateway_options.TOKEN], status)
    yield from _way(settings[gateway_options.API_URL], status)
    yield look.tunnel_device()
    yield look.tool("nft", package="nftables", why="it masquerades what comes from clients")
    yield from look.mtu()
    yield look.room(Path("/var/lib"))
    yield from running
    yield from look.forwarding(settings[gateway_options.INTERFACE], is_running=status is not None)
    yield look.name_servers(None)


def _relay(settings: Settings) -> Iterator[Finding]:
    yield _token("relay", lambda: settings[relay_options.TOKEN], None)
    yield from _way(settings[relay_options.API_URL], None)
    yield look.udp_port(settings[relay_options.LISTEN_PORT])


def _portal(settings: Settings) -> Iterator[Finding]:
    from wardgate.cli.commands import portal as options
    from wardgate.cli.portal_settings import portal_settings
    from wardgate.portal import backups, data_directory
    from wardgate.portal.database.migrations import HEAD
    from wardgate.portal.installation.installers import PACKAGED_BUILDS, find_builds
    from wardgate.portal.store import SqliteFile, Unusable

    directory = data_dir_of(settings)
    try:
        data_directory.load_keys(directory)
        yield Finding.ok("data directory", f"{directory} holds an installation")
    except data_directory.DataDirectoryUnusable as error:
        yield Finding.fault("data directory", str(error), "name it with --data-dir, or run `wardgate init`")
        return
    database = settings[options.DATABASE_URL] or SqliteFile(directory / "wardgate.db")
    try:
        schema = asyncio.run(backups.schema_of(database))
        if schema > HEAD:
            yield Finding.fault(
                "database", f"has schema {schema}, this release knows {HEAD}", "run the newer release"
            )
        else:
            yield Finding.ok("database", f"{database} answers, schema {schema}")
    except Unusable as error:
        yield Finding.fault("database", str(error), "see that it runs and that this user may use it")
    yield look.room(directory)
    certificate = settings[options.TLS_CERTIFICATE]
    if certificate is not None:
        yield look.certificate(certificate, datetime.now(UTC))
    is_named = settings[options.EXTERNAL_URL] is not None or bool(settings[options.ACME_DOMAIN])
    if not is_named:
        yield Finding.warning(
            "external URL", "is not set", "set WARDGATE_EXTERNAL_URL to how others reach the portal"
        )
    try:
        url = portal_settings(settings, data_dir=directory, listen=options.LISTEN).external_url
    except UserError as error:
        yield Finding.fault("settings", str(error), f"correct them in {SETTINGS_DIRECTORY}/portal.env")
    else:
        if is_named or certificate is None:  # which names the listener's address hardly ever
            yield from look.portal_findings(url)
    if not find_builds((directory / "builds", PACKAGED_BUILDS)):
        yield Finding.warning(
            "installers",
            "there is no build for other machines to fetch",
            f"`make packages`; copy it to {directory}/builds",
        )


def _token(part: str, find: FindToken, status: Status | None) -> Finding:
    """Look for the token; `status`: of the process that runs, which may have one that nobody else is shown."""
    kind = PeerKind(part)
    try:
        token = find() or read_token(SETTINGS_DIRECTORY / f"{part}-token")
        checked_token(token, kind)
    except UserError as error:
        if status is not None:  # it ends by itself where the portal refuses its token
            return Finding.ok("token", f"the {part} that runs has one that this command is not shown")
        return Finding.fault(
            "token", str(error), f"make one in the portal, and put it into {SETTINGS_DIRECTORY}/{part}-token"
        )
    return Finding.ok("token", f"is a {part}'s; only the portal knows whether it is valid still")


def _way(url: str | None, status: Status | None) -> Iterator[Finding]:
    url = url or (None if status is None else status.portal)
    if not url:
        yield Finding.fault("portal", "nobody says where it is", "set WARDGATE_API_URL, or give --api-url")
        return
    yield from look.portal_findings(url)


def _running(part: str) -> tuple[Status | None, list[Finding]]:
    """What a process that runs here says of itself, and what to think of it."""
    try:
        status = ask(socket_of(part), Question(ask="status"), Status)
    except UserError as error:
        return None, [Finding.warning(f"running {part}", str(error), f"systemctl start wardgate-{part}")]
    return status, list(look.running(status))


def _service_environment(part: str) -> Mapping[str, str]:
    try:
        lines = (SETTINGS_DIRECTORY / f"{part}.env").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    assignments = (line.partition("=") for line in lines if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, equals, value in assignments if equals}


def _write_bundle(path: Path, found: Mapping[str, list[Finding]]) -> None:
    """Write an archive that only its owner can read.

    Raises:
        UserError: it cannot be written, or exists.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for part, findings in found.items():
                for name, text in _contents(part, findings):
                    content = redacted(text).encode()
                    entry = tarfile.TarInfo(f"wardgate-{part}/{name}")
                    entry.size, entry.mode = len(content), 0o600
                    archive.addfile(entry, io.BytesIO(content))
    except FileExistsError as error:
        raise UserError(f"{path} exists: name another file") from error
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _contents(part: str, found: Iterable[Finding]) -> Iterator[tuple[str, str]]:
    yield "doctor.json", json.dumps([asdict(one) for one in found], indent=1)
    yield "version.txt", f"{wardgate.__version__}\n"
    for file in (*_FILES, str(SETTINGS_DIRECTORY / f"{part}.env")):
        try:
            yield f"files/{Path(file).name}", Path(file).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            yield f"files/{Path(file).name}", f"{error.strerror}\n"
    for name, command in (
        *_COMMANDS.items(),
        ("log.txt", ("journalctl", "--unit", f"wardgate-{part}", "--lines", str(LOG_LINES), "--no-pager")),
    ):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=20, check=False
            )
            yield f"host/{name}", done.stdout + done.stderr
        except (OSError, subprocess.TimeoutExpired) as error:
            yield f"host/{name}", f"{error}\n"
    if part in ("client", "gateway"):
        try:
            status = ask(socket_of(part), Question(ask="status"), Status)
            yield "status.json", json.dumps(msgspec.to_builtins(status), indent=1)
        except UserError as error:
            yield "status.json", f"{error}\n"


_EXAMINE: Final[Mapping[str, Examine]] = {
    "client": _client, "gateway": _gateway, "relay": _relay, "portal": _portal,
}  # fmt: skip
