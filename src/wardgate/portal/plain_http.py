"""What plain HTTP is answered with beside HTTPS: proofs for an ACME server (RFC 8555 §8.3), else the way to HTTPS."""

from collections.abc import Mapping
from typing import Final

from wardgate.portal.http.asgi import App, Receive, Scope, Send

CHALLENGES: Final = "/.well-known/acme-challenge/"
_MAX_TARGET_BYTES: Final = 8192


def build(external_url: str, proofs: Mapping[str, str]) -> App:
    """Build the application.

    Args:
        external_url: where everybody is sent, whatever host they asked for.
        proofs: key authorizations by token; looked at for each request.
    """

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path.startswith(CHALLENGES):
            proof = proofs.get(path.removeprefix(CHALLENGES))
            if proof is None:
                await _answer(send, 404, b"text/plain", b"")
            else:
                await _answer(send, 200, b"application/octet-stream", proof.encode())
            return
        await _answer(send, 308, b"text/plain", b"", (b"location", _target(external_url, scope)))

    return app


def _target(external_url: str, scope: Scope) -> bytes:
    """Return where the request belongs: the same path and query, as they were sent, at the external URL."""
    path, query = scope["raw_path"], scope["query_string"]
    if not path.startswith(b"/") or len(path) + len(query) > _MAX_TARGET_BYTES:
        path, query = b"/", b""
    # httptools admits no control characters in a target, but that is somebody else's promise.
    target: bytes = path + (b"?" + query if query else b"")
    return external_url.encode() + bytes(byte for byte in target if 0x20 < byte < 0x7F)


async def _answer(
    send: Send, status: int, media_type: bytes, body: bytes, *headers: tuple[bytes, bytes]
) -> None:
    fields = [(b"content-type", media_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
