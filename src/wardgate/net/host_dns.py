"""Control over the host's DNS settings (data-plane §6.3).

| method | how | undone by |
|---|---|---|
| `etc-resolv-conf` | rewrite the file, keep the original beside it | `restore`, also at the next start after a crash |
| `systemd-resolved` | `resolvectl` on the tunnel's link | the link's end |
| `disabled` | nothing | nothing |
"""

import asyncio
import contextlib
import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, assert_never

from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.net.errors import HostRefused

RESOLV_CONF: Final = Path("/etc/resolv.conf")
MAGIC: Final = (
    "# BEGIN Firezone DNS configuration"  # the published client's, so that either undoes the other's crash
)
_COMMENTS: Final = (
    "# Written by the Wardgate client while it runs; the original is beside this file,",
    "# in resolv.conf.before-firezone, and is put back when the client ends.",
    "# Delete the first line to keep edits that you make here.",
)

log = logging.getLogger(__name__)


class Method(StrEnum):
    RESOLV_CONF = "etc-resolv-conf"
    SYSTEMD_RESOLVED = "systemd-resolved"
    DISABLED = "disabled"


class HostDns(Protocol):
    """The host's resolver settings."""

    async def apply(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:
        """Make the host ask the sentinels.

        Raises:
            HostRefused: the settings cannot be changed.
        """

    async def restore(self) -> None:
        """Undo what this or a crashed earlier run applied."""

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        """The name servers that the host uses without us."""


def host_dns(method: Method, interface: str, *, resolv_conf: Path = RESOLV_CONF) -> HostDns:
    match method:
        case Method.RESOLV_CONF:
            return ResolvConf(resolv_conf)
        case Method.SYSTEMD_RESOLVED:
            return SystemdResolved(interface)
        case Method.DISABLED:
            return Untouched(resolv_conf)
        case _:
            assert_never(method)


class ResolvConf:
    """Rewrites resolv.conf in place, since containers mount it as a file that cannot be renamed."""

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path
        self._backup = path.with_name(f"{path.name}.before-firezone")
        self._written: str | None = None

    async def apply(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:
        if not sentinels:
            return
        try:
            current = self._path.read_text(encoding="utf-8")
            if not current.startswith(MAGIC):
                if self._written is not None:
                    return  # the user took the file back
                _write_atomically(self._backup, current)
            original = self._backup.read_text(encoding="utf-8")
            self._written = rewritten(original, sentinels, search_domain)
            self._path.write_text(self._written, encoding="utf-8")
        except OSError as error:
            raise HostRefused(
                f"cannot rewrite {self._path}: {error.strerror}; run as root, or use --dns-control disabled"
            ) from error

    async def restore(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.read_text(encoding="utf-8").startswith(MAGIC):
                self._path.write_text(self._backup.read_text(encoding="utf-8"), encoding="utf-8")
        self._written = None

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        current = _text_of(self._path)
        return name_servers(_text_of(self._backup) if current.startswith(MAGIC) else current)


class SystemdResolved:
    """Per-link DNS; it vanishes with the link, so there is nothing to restore."""

    def __init__(self, interface: str) -> None:
        self._interface = interface

    async def apply(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:
        await _resolvectl("dns", self._interface, *sentinels)
        await _resolvectl("domain", self._interface, search_domain or "~.")
        await _resolvectl("llmnr", self._interface, "true")
        await _resolvectl("flush-caches")

    async def restore(self) -> None:
        return

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        words = (await _resolvectl("dns")).split()
        return tuple(dict.fromkeys(address for word in words if (address := _parsed(word)) is not None))


class Untouched:
    """The operator arranges that queries reach the sentinels, or does without names."""

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path

    async def apply(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:  # noqa: ARG002
        return

    async def restore(self) -> None:
        return

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        return name_servers(_text_of(self._path))


def rewritten(original: str, sentinels: tuple[str, ...], search_domain: str | None) -> str:
    """The new content: our name servers and search domain, `ndots:1`, other options of the original."""
    options = [
        option
        for line in original.splitlines()
        if line.split()[:1] == ["options"]
        for option in line.split()[1:]
        if not option.startswith("ndots:")
    ]
    lines = [MAGIC, *_COMMENTS, *(f"nameserver {sentinel}" for sentinel in sentinels)]
    if search_domain is not None:
        lines.append(f"search {search_domain}")
    lines.append(" ".join(["options", "ndots:1", *options]))
    return "\n".join(lines) + "\n"


def name_servers(resolv_conf: str) -> tuple[IpAddress, ...]:
    """The `nameserver` lines that hold a plain address."""
    words = (line.split() for line in resolv_conf.splitlines())
    addresses = (_parsed(line[1]) for line in words if len(line) >= 2 and line[0] == "nameserver")
    return tuple(dict.fromkeys(address for address in addresses if address is not None))


def _parsed(text: str) -> IpAddress | None:
    try:
        return parse_ip(text)
    except ValueError:
        return None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        log.warning(
            "no readable resolver configuration; foreign names cannot be resolved", extra={"path": str(path)}
        )
        return ""


def _write_atomically(path: Path, content: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(content, encoding="utf-8")
    draft.chmod(0o644)
    os.replace(draft, path)  # noqa: PTH105


async def _resolvectl(*arguments: str) -> str:
    cure = "use --dns-control etc-resolv-conf or --dns-control disabled on hosts without systemd-resolved"
    try:
        process = await asyncio.create_subprocess_exec(
            "resolvectl", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise HostRefused(f"the command resolvectl is missing; {cure}") from error
    output, complaint = await process.communicate()
    if process.returncode != 0:
        reason = complaint.decode(errors="replace").strip().partition("\n")[0]
        raise HostRefused(f"resolvectl {arguments[0]} failed: {reason}; {cure}")
    return output.decode(errors="replace")
