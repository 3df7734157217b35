"""One DNS query over HTTPS (RFC 8484) through connections that bypass the tunnel (data-plane §4.5).

The server's own name must not be asked of the host's resolver: on a client that is the sentinel, which would
ask this server. So the connection is made to an address that somebody else found; certificate and `Host` are
those of the name all the same.
"""

import asyncio
import base64
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import httpx2

from wardgate.model.addresses import IpAddress
from wardgate.net.dns_exchange import TIMEOUT_S
from wardgate.net.socket_mark import SOCKET_MARK, mark_option

_TYPE: Final = "application/dns-message"
_CONNECT_S: Final = 2.0  # per address of the server
# Ours: for so long a connection says nothing while something is asked of it, then it is dead and all that wait there
# fail. Less than a query is given, else each would be given up before it found that out.
_READ_S: Final = 3.0
_MAX_ANSWER: Final = 65535  # bytes, of any DNS message

LookUp = Callable[[str], Awaitable[Iterable[IpAddress]]]


class DohClient:
    """Keeps connections to DoH servers open. `look_up` finds a server's addresses outside the tunnel."""

    def __init__(self, look_up: LookUp, *, mark: int | None = SOCKET_MARK) -> None:
        self._options = [] if mark is None else [(socket.SOL_SOCKET, socket.SO_MARK, mark_option(mark))]
        self._look_up = look_up
        self._looking = asyncio.Lock()
        self._made: httpx2.AsyncClient | None = None

    @property
    def _client(self) -> httpx2.AsyncClient:
        # Made when it is first needed, which is seldom: see `FlowUpload`.
        if self._made is None:
            # Its default context wants a file of certificates that not every host has.
            transport = httpx2.AsyncHTTPTransport(
                socket_options=self._options, verify=ssl.create_default_context(), http2=True
            )
            self._made = httpx2.AsyncClient(
                transport=transport,
                timeout=httpx2.Timeout(TIMEOUT_S, connect=_CONNECT_S, read=_READ_S),
                trust_env=False,  # a proxy of the environment's knows nothing of the tunnel
            )
        return self._made

    async def exchange(self, query: bytes, url: str) -> bytes:
        """Send an encoded query and return the encoded answer with the query's id.

        Raises:
            TimeoutError: no answer in time.
            OSError: the server cannot be reached or does not answer with DNS.
        """
        # Id 0 lets HTTP caches share answers (RFC 8484 §4.1).
        encoded = base64.urlsafe_b64encode(b"\0\0" + query[2:]).rstrip(b"=").decode()
        try:
            server = httpx2.URL(url).copy_merge_params({"dns": encoded})
        except (httpx2.InvalidURL, ValueError) as error:
            raise OSError(f"{url!r} is no URL") from error
        async with asyncio.timeout(TIMEOUT_S):
            failure: Exception = OSError(f"the name {server.host} has no address")
            for address in await self._addresses(server.host):
                try:
                    return query[:2] + (await self._fetch(server, address))[2:]
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    failure = error
                except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                    raise OSError(str(error) or type(error).__name__) from error
        raise OSError(str(failure) or type(failure).__name__) from failure

    async def _addresses(self, host: str) -> list[IpAddress]:
        # One at a time: whoever comes second finds the first one's answer cached.
        async with self._looking:
            return sorted(await self._look_up(host), key=lambda address: (address.version, int(address)))

    async def _fetch(self, server: httpx2.URL, address: IpAddress) -> bytes:
        request = self._client.build_request(
            "GET",
            server.copy_with(host=str(address)),
            headers={"host": server.netloc.decode("ascii"), "accept": _TYPE},
            extensions={"sni_hostname": server.raw_host.decode("ascii")},
        )
        response = await self._client.send(request, stream=True)
        try:
            kind = response.headers.get("content-type")
            if response.status_code != 200 or kind != _TYPE:
                raise OSError(f"the server answered HTTP {response.status_code} with {kind or 'no type'}")
            answer = bytearray()
            async for part in response.aiter_bytes():
                answer += part
                if len(answer) > _MAX_ANSWER:
                    raise OSError("the server answered with more than a DNS message")
            return bytes(answer)
        finally:
            await response.aclose()

    async def renew(self) -> None:
        """The network has changed: what is asked from now on goes over new connections; what waits fails."""
        made, self._made = self._made, None
        if made is not None:
            await made.aclose()

    async def close(self) -> None:
        await self.renew()
