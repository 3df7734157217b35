"""Scripts, styles and pictures, served from memory under addresses that change with their content."""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

DIRECTORY: Final = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes
    version: str


@cache
def _files() -> Mapping[str, _File]:
    # Pages are not compressed: a form's token beside what an address repeats would tell itself by its length.
    contents = {path.name: path.read_bytes() for path in DIRECTORY.iterdir() if path.is_file()}
    return {
        name: _File(content, gzip.compress(content), hashlib.sha256(content).hexdigest()[:12])
        for name, content in contents.items()
    }


class AssetFiles:
    """The files of `assets`, read once a process."""

    def __init__(self) -> None:
        self._files = _files()

    def path(self, name: str) -> str:
        return f"/assets/{name}?v={self._files[name].version}"

    async def answer(self, request: Request) -> Response:
        name = request.path_params["name"]
        file = self._files.get(name)
        if file is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        is_current = request.query_params.get("v") == file.version
        lifetime = "public, max-age=31536000, immutable" if is_current else "no-cache"
        media_type = mimetypes.guess_type(name)[0] or "text/plain"
        headers = {"cache-control": lifetime, "vary": "accept-encoding"}
        content = file.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["content-encoding"] = file.compressed, "gzip"
        return Response(content, media_type=media_type, headers=headers)
