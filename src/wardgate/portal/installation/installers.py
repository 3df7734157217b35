"""What other machines install themselves with: `/install/gateway.sh` and its like, and the program that they fetch.

    GET /install/{part}.sh      a script for /bin/sh with this portal's addresses and the checksums of its builds in it
    GET /install/SHA256SUMS     checksums of all that is served here
    GET /install/wardgate-….tar.gz   a build (`make packages`)

Nothing of it is secret, and nobody needs to be signed in. No other host is asked, so that it works where there is no
internet. Builds lie in `builds` of the data directory, or where the Debian package of the portal puts one.
"""

import hashlib
import re
import shlex
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

import wardgate
from wardgate.portal.environment import Environment
from wardgate.portal.settings import PortalSettings

PARTS: Final = ("client", "gateway", "relay")
PACKAGED_BUILDS: Final = Path("/usr/share/wardgate/builds")
MAX_DOWNLOADS: Final = 32
"""At once. Each holds a connection and a slice of a file; who comes later is asked to try again."""
RETRY_AFTER_S: Final = 30
SLICE_BYTES: Final = 256 * 1024

_RELAY_VARIABLES: Final = "WARDGATE_PUBLIC_IP4_ADDR=203.0.113.7 "
"""An address of RFC 5737, to be replaced by the relay's own."""

_Result = TypeVar("_Result")

_BUILD: Final = re.compile(rf"wardgate-{re.escape(wardgate.__version__)}-(\w+)\.tar\.gz")


@dataclass(frozen=True, slots=True)
class Build:
    """One file for one kind of machine, as `uname -m` names it."""

    path: Path
    machine: str
    checksum: str


@dataclass(frozen=True, slots=True)
class InstallerView:
    """A script as pages show it; `checksum` is its SHA-256 in hexadecimal, `variables` what it needs to be given."""

    url: str
    checksum: str
    has_builds: bool
    directory: str
    variables: str = ""

    @property
    def line(self) -> str:
        """What a person runs; the token is asked for, so that it stands in no list of processes."""
        return f"curl -fsSL {self.url} | sudo {self.variables}sh"


class Installers:
    """The scripts and builds of one portal."""

    def __init__(
        self,
        settings: PortalSettings,
        environment: Environment,
        *,
        packaged: Path = PACKAGED_BUILDS,
    ) -> None:
        own = () if settings.data_dir is None else (settings.data_dir / "builds",)
        self._directories: Final = (*own, packaged)
        self._settings = settings
        self._environment = environment
        self._downloads = 0

    async def script(self, part: str) -> str:
        """Return the script that installs a part, the same text for everybody.

        Args:
            part: one of `PARTS`.
        """
        settings = self._settings
        builds = "\n".join(f"{one.machine} {one.checksum} {one.path.name}" for one in await self._builds())
        values = {
            "part": part,
            "version": wardgate.__version__,
            "portal": settings.web_url,
            "api_url": settings.socket_url,
            "builds_directory": str(self._directories[0]),
            "builds": builds,
        }
        head = f"#!/bin/sh\n# Installs the Wardgate {part} from {settings.web_url}.\nset -eu\n"
        assignments = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        return head + assignments + _body().replace("@PART@", part)

    async def show(self, part: str) -> "InstallerView":
        """Return what a page says of the script that installs a part."""
        script = await self.script(part)
        return InstallerView(
            url=f"{self._settings.web_url}/install/{part}.sh",
            checksum=hashlib.sha256(script.encode()).hexdigest(),
            has_builds=bool(await self._builds()),
            directory=str(self._directories[0]),
            variables=_RELAY_VARIABLES if part == "relay" else "",
        )

    async def answer(self, request: Request) -> Response:
        """Answer one of the addresses of the module's head."""
        name = request.path_params["name"]
        if name == "SHA256SUMS":
            return PlainTextResponse(await self._sums())
        part = name.removesuffix(".sh")
        if part in PARTS and name != part:
            return PlainTextResponse(
                await self.script(part),
                media_type="text/x-shellscript",
                headers={"cache-control": "no-cache"},
            )
        build = next((one for one in await self._builds() if one.path.name == name), None)
        if build is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return await self._send(request, build)

    async def _sums(self) -> str:
        lines = [f"{(await self.show(part)).checksum}  {part}.sh\n" for part in PARTS]
        lines += [f"{build.checksum}  {build.path.name}\n" for build in await self._builds()]
        return "".join(lines)

    async def _builds(self) -> list[Build]:
        return await self._away(lambda: find_builds(self._directories))

    async def _away(self, function: Callable[[], _Result]) -> _Result:
        return await self._environment.executor.run(function)

    async def _send(self, request: Request, build: Build) -> Response:
        size = build.path.stat().st_size
        headers = {"content-length": str(size), "etag": f'"{build.checksum}"'}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="application/gzip")
        if self._downloads >= MAX_DOWNLOADS:
            return PlainTextResponse(
                "Many machines install themselves just now: try again.\n",
                HTTPStatus.SERVICE_UNAVAILABLE,
                {"retry-after": str(RETRY_AFTER_S)},
            )
        return StreamingResponse(self._slices(build), headers=headers, media_type="application/gzip")

    async def _slices(self, build: Build) -> AsyncIterator[bytes]:
        self._downloads += 1
        try:
            with build.path.open("rb") as file:
                while piece := await self._away(lambda: file.read(SLICE_BYTES)):
                    yield piece
        finally:
            self._downloads -= 1


def find_builds(directories: Iterable[Path]) -> list[Build]:
    """Return one build of this release for each kind of machine; the first directory that has one counts."""
    found = dict[str, Build]()
    for directory in directories:
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            named = _BUILD.fullmatch(path.name)
            if named is not None and path.is_file() and named[1] not in found:
                state = path.stat()
                checksum = _checksum(path, state.st_size, state.st_mtime_ns)
                found[named[1]] = Build(path, named[1], checksum)
    return list(found.values())


@lru_cache(maxsize=16)
def _checksum(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _body() -> str:
    return (Path(__file__).parent / "install.sh").read_text(encoding="utf-8")
