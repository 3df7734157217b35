"""Scripts, styles and pictures, served from memory under addresses that change with their content."""

import gzip
import hashlib
import mimetypes
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

DIRECTORY: Final = Path(__file__).parent / "assets"


class AssetFiles:
    """The files of `assets`."""

    def __init__(self) -> None:
        self._contents = {path.name: path.read_bytes() for path in DIRECTORY.iterdir() if path.is_file()}
        # Pages are not compressed: a form's token beside what an address repeats would tell itself by its length.
        self._compressed = {name: gzip.compress(content) for name, content in self._contents.items()}
        self._versions = {
            name: hashlib.sha256(content).hexdigest()[:12] for name, content in self._contents.items()
        }

    def path(self, name: str) -> str:
        return f"/assets/{name}?v={self._versions[name]}"

    async def answer(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._contents.get(name)
        if content is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        is_current = request.query_params.get("v") == self._versions[name]
        lifetime = "public, max-age=31536000, immutable" if is_current else "no-cache"
        media_type = mimetypes.guess_type(name)[0] or "text/plain"
        headers = {"cache-control": lifetime, "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["content-encoding"] = self._compressed[name], "gzip"
        return Response(content, media_type=media_type, headers=headers)
