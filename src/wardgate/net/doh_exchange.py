"""One DNS query over HTTPS (RFC 8484) through connections that bypass the tunnel (data-plane §4.5)."""

import base64
import socket
from typing import Final

import httpx2

from wardgate.net.dns_exchange import TIMEOUT_S
from wardgate.net.socket_mark import SOCKET_MARK, mark_option

_TYPE: Final = "application/dns-message"


class DohClient:
    """Keeps connections to DoH servers open."""

    def __init__(self, *, mark: int | None = SOCKET_MARK) -> None:
        options = [] if mark is None else [(socket.SOL_SOCKET, socket.SO_MARK, mark_option(mark))]
        transport = httpx2.AsyncHTTPTransport(socket_options=options)
        self._client = httpx2.AsyncClient(transport=transport, timeout=TIMEOUT_S)

    async def exchange(self, query: bytes, url: str) -> bytes:
        """Send an encoded query and return the encoded answer with the query's id.

        Raises:
            OSError: the server cannot be reached or does not answer with DNS.
        """
        # Id 0 lets HTTP caches share answers (RFC 8484 §4.1).
        encoded = base64.urlsafe_b64encode(b"\0\0" + query[2:]).rstrip(b"=").decode()
        try:
            response = await self._client.get(url, params={"dns": encoded}, headers={"accept": _TYPE})
        except httpx2.HTTPError as error:
            raise OSError(str(error) or type(error).__name__) from error
        if response.status_code != 200 or response.headers.get("content-type") != _TYPE:
            raise OSError(f"the server answered HTTP {response.status_code}")
        return query[:2] + response.content[2:]

    async def close(self) -> None:
        await self._client.aclose()
