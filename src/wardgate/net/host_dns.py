"""Control over the host's DNS settings (data-plane §6.3), as a setting of the reconciler.

| method | how | undone by |
|---|---|---|
| `etc-resolv-conf` | write resolv.conf, keep the original beside it | `undo`, also at the next start after a crash |
| `systemd-resolved` | `resolvectl` on the tunnel's link | the link's end |
| `disabled` | nothing | nothing |

What becomes of resolv.conf while we run:

| found | taken for | reaction |
|---|---|---|
| our first line, our content | as wanted | none |
| our first line, other content | damaged | written again |
| no first line of ours, but a sentinel | edited by a user, who deleted the line to keep it | left alone from now on |
| anything else, or a symbolic link | the new original: DHCP, NetworkManager | set aside, written again |
| no file | the new original | written again |
"""

import logging
import os
import shutil
import socket
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, assert_never

from wardgate.model.addresses import IpAddress
from wardgate.net.errors import HostRefused
from wardgate.net.host_command import run_host_command
from wardgate.net.host_text import read_host_text, write_host_text
from wardgate.net.reconciler import Setting
from wardgate.net.resolv_conf import (
    FOREIGN_MAGIC,
    MAGIC,
    is_sentinel,
    name_servers,
    names_a_sentinel,
    parsed,
    rewritten,
)

RESOLV_CONF: Final = Path("/etc/resolv.conf")
RESOLVED: Final = Path("/run/systemd/resolve/io.systemd.Resolve")
_BACKUP_SUFFIX: Final = ".before-wardgate"
_FOREIGN_BACKUP_SUFFIX: Final = ".before-firezone"  # left by a published client that crashed

log = logging.getLogger(__name__)


class Method(StrEnum):
    RESOLV_CONF = "etc-resolv-conf"
    SYSTEMD_RESOLVED = "systemd-resolved"
    DISABLED = "disabled"


def usual_method(resolved: Path = RESOLVED) -> Method:
    """Choose for a host whose operator has not: systemd-resolved where it runs, resolv.conf elsewhere.

    Its socket is asked for a connection, since the files of a service that was stopped may stay. `resolvectl`
    instead would start a service that is installed but not in use.
    """
    if shutil.which("resolvectl") is None:
        return Method.RESOLV_CONF
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(resolved))
    except OSError:
        return Method.RESOLV_CONF
    return Method.SYSTEMD_RESOLVED


class HostDns(Protocol):
    """The host's resolver settings."""

    @property
    def method(self) -> Method:
        """How the host's resolver is configured."""

    @property
    def settings(self) -> tuple[Setting[str], ...]:
        """What a reconciler keeps."""

    def want(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:
        """Make the host ask the sentinels, from the next pass of the reconciler on."""

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        """The name servers that the host uses without us."""


def host_dns(method: Method, interface: str, *, resolv_conf: Path = RESOLV_CONF) -> HostDns:
    match method:
        case Method.RESOLV_CONF:
            return ResolvConf(resolv_conf)
        case Method.SYSTEMD_RESOLVED:
            return SystemdResolved(interface, resolv_conf)
        case Method.DISABLED:
            return UnmanagedDns(resolv_conf)
        case _:
            assert_never(method)


class ResolvConf:
    """Keeps resolv.conf.

    A regular file is rewritten in place, since containers mount it as one that cannot be renamed.
    """

    name = "resolv.conf"
    method = Method.RESOLV_CONF
    is_necessary = False

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path
        self._originals = Originals(path)
        self._backup = self._originals.backup
        self._sentinels: tuple[str, ...] = ()
        self._search_domain: str | None = None
        self._is_written = False
        self._is_users = False

    @property
    def settings(self) -> tuple[Setting[str], ...]:
        return (self,)

    def want(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:
        self._sentinels, self._search_domain = sentinels, search_domain

    async def read(self) -> str:
        """The file's content; empty when there is none, and for a link, whose content is somebody else's."""
        if self._path.is_symlink():
            return ""
        try:
            return read_host_text(self._path)
        except FileNotFoundError:
            return ""

    def differs(self, found: str) -> tuple[str, ...]:
        if self._is_users:
            return ()
        if not self._sentinels:
            return ("left by a run that crashed",) if _is_taken(found) else ()
        if _is_taken(found):
            return () if found == self._wanted() else ("damaged",)
        if self._is_written and names_a_sentinel(found):
            return ("taken back by a user",)
        return ("rewritten",)

    async def repair(self, found: str) -> None:
        try:
            if not self._sentinels:
                self._put_back(found)
            elif self._is_written and not _is_taken(found) and names_a_sentinel(found):
                self._is_users = True
                log.info("resolv.conf was edited by hand and stays as it is", extra={"path": str(self._path)})
            else:
                if not _is_taken(found):
                    self._set_aside(found)
                elif not self._is_written:
                    self._put_back(found)
                    self._set_aside(await self.read())
                write_host_text(self._path, self._wanted())
                self._is_written = True
        except OSError as error:
            raise HostRefused(
                f"cannot rewrite {self._path}: {os.strerror(error.errno or 0)}; run as root, or use "
                "--dns-control disabled"
            ) from error

    async def undo(self) -> None:
        self._sentinels = ()
        found = await self.read()
        if _is_taken(found):
            self._put_back(found)
        elif self._is_written:
            # Somebody else's file by now: what we had set aside is older than it.
            self._backup.unlink(missing_ok=True)
        self._is_written = self._is_users = False

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        return self._originals.name_servers()

    def _wanted(self) -> str:
        return rewritten(
            self._originals.text_of(self._backup) if _exists(self._backup) else "",
            self._sentinels,
            self._search_domain,
        )

    def _set_aside(self, found: str) -> None:
        """Keep what is there as the original: a link itself, a file's content, or the fact that there is none."""
        if self._path.is_symlink():
            os.replace(self._path, self._backup)  # noqa: PTH105
        elif self._path.exists():
            _write_atomically(self._backup, found)
        else:
            self._backup.unlink(missing_ok=True)

    def _put_back(self, found: str) -> None:
        backup = self._backup
        if found.startswith(FOREIGN_MAGIC):
            backup = self._originals.foreign_backup
            if not _exists(backup):
                return  # nothing to put back, and nothing of ours
        if not _exists(backup):
            self._path.unlink(missing_ok=True)  # there was none
        elif backup.is_symlink():
            os.replace(backup, self._path)  # noqa: PTH105
        else:
            write_host_text(self._path, read_host_text(backup))
            backup.unlink()


class SystemdResolved:
    """Per-link DNS; it vanishes with the link, so there is nothing to undo."""

    name = "systemd-resolved"
    method = Method.SYSTEMD_RESOLVED
    is_necessary = False

    def __init__(self, interface: str, resolv_conf: Path = RESOLV_CONF) -> None:
        self._interface = interface
        self._originals = Originals(resolv_conf)
        self._sentinels: tuple[str, ...] = ()
        self._search_domain: str | None = None
        self._applied: tuple[tuple[str, ...], str | None] | None = None

    @property
    def settings(self) -> tuple[Setting[str], ...]:
        return (self,)

    def want(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:
        self._sentinels, self._search_domain = sentinels, search_domain

    async def read(self) -> str:
        """The line of our link in `resolvectl dns`."""
        if not self._sentinels:
            return ""
        printed = await _resolvectl("dns")
        return next((line for line in printed.splitlines() if f"({self._interface})" in line), "")

    def differs(self, found: str) -> tuple[str, ...]:
        if not self._sentinels:
            return ()
        if self._applied != (self._sentinels, self._search_domain):
            return ("outdated",)
        return () if set(self._sentinels) <= set(found.split()) else ("forgotten",)

    async def repair(self, found: str) -> None:  # noqa: ARG002 - all of it is set again
        await _resolvectl("dns", self._interface, *self._sentinels)
        await _resolvectl("domain", self._interface, self._search_domain or "~.")
        await _resolvectl("llmnr", self._interface, "true")
        self._applied = (self._sentinels, self._search_domain)
        await _resolvectl("flush-caches")

    async def undo(self) -> None:
        self._sentinels = ()

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        try:
            words = (await _resolvectl("dns")).split()
        except OSError as error:
            log.debug("systemd-resolved names no servers", extra={"reason": str(error)})
            return self._originals.name_servers()
        addresses = dict.fromkeys(parsed(word) for word in words)
        return tuple(address for address in addresses if address is not None and not is_sentinel(address))


class UnmanagedDns:
    """The operator arranges that queries reach the sentinels, or does without names."""

    settings: tuple[Setting[str], ...] = ()

    method = Method.DISABLED

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._originals = Originals(path)

    def want(self, sentinels: tuple[str, ...], search_domain: str | None) -> None:
        """Nothing is wanted of the host."""

    async def system_resolvers(self) -> tuple[IpAddress, ...]:
        return self._originals.name_servers()


class Originals:
    """The host's own configuration, also while a client has taken the file over: this one, another, or a
    published one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.backup: Final = path.with_name(path.name + _BACKUP_SUFFIX)
        self.foreign_backup: Final = path.with_name(path.name + _FOREIGN_BACKUP_SUFFIX)
        self._is_warned = False

    def name_servers(self) -> tuple[IpAddress, ...]:
        current = self.text_of(self._path)
        if current.startswith(MAGIC):
            current = self.text_of(self.backup)
        elif current.startswith(FOREIGN_MAGIC):
            current = self.text_of(self.foreign_backup)
        return tuple(server for server in name_servers(current) if not is_sentinel(server))

    def text_of(self, path: Path) -> str:
        """Its content; empty, with one warning, when it cannot be read."""
        try:
            text = read_host_text(path)
        except OSError as error:
            if not self._is_warned:
                self._is_warned = True
                log.warning(
                    "no readable resolver configuration; foreign names cannot be resolved",
                    extra={"path": str(path), "reason": error.strerror},
                )
            return ""
        self._is_warned = False
        return text


def _is_taken(content: str) -> bool:
    return content.startswith((MAGIC, FOREIGN_MAGIC))


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _write_atomically(path: Path, content: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    write_host_text(draft, content)
    draft.chmod(0o644)
    os.replace(draft, path)  # noqa: PTH105


async def _resolvectl(*arguments: str) -> str:
    try:
        return await run_host_command("resolvectl", *arguments)
    except OSError as error:
        raise OSError(
            f"{error}; use --dns-control etc-resolv-conf or --dns-control disabled on hosts without systemd-resolved"
        ) from error
