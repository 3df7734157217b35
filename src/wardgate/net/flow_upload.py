"""One upload of flow records over HTTPS, past the tunnel (control-plane-protocol §7.1).

The portal's name is looked up outside the tunnel and the socket carries the firewall mark, as those of the control
channel. Redirects are followed to port 443 by `https` only, five at most: a token must not travel in the clear.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import httpx2

from wardgate.model.addresses import IpAddress
from wardgate.net.socket_mark import SOCKET_MARK, mark_option

TIMEOUT_S: Final = 30.0  # ours: one upload, redirects included
MAX_REDIRECTS: Final = 5  # data-plane §9.4
_CONNECT_S: Final = 5.0
_REDIRECTS: Final = frozenset({301, 302, 307, 308})

LookUp = Callable[[str], Awaitable[Iterable[IpAddress]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """`retry_after_s`: what the server asks for, if it does so in seconds."""

    status: int
    retry_after_s: float | None = None


class FlowUpload:
    """Keeps connections to the portal open between uploads."""

    def __init__(self, look_up: LookUp, *, mark: int | None = SOCKET_MARK) -> None:
        """`look_up` finds addresses outside the tunnel. Certificates are verified as by the control channel."""
        self._options = [] if mark is None else [(socket.SOL_SOCKET, socket.SO_MARK, mark_option(mark))]
        self._look_up = look_up
        self._made: httpx2.AsyncClient | None = None

    @property
    def _client(self) -> httpx2.AsyncClient:
        # Made when it is first needed: that takes half a second of a start on a slow machine.
        if self._made is None:
            self._made = httpx2.AsyncClient(
                transport=httpx2.AsyncHTTPTransport(
                    socket_options=self._options, verify=ssl.create_default_context(), http2=True
                ),
                timeout=httpx2.Timeout(TIMEOUT_S, connect=_CONNECT_S),
                trust_env=False,
            )
        return self._made

    async def post(self, url: str, *, token: str, body: bytes) -> Answer:
        """Send a JSON body with a bearer token.

        Raises:
            OSError: nobody answers, or with something that is no answer.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._follow(httpx2.URL(url), token, body)
        except TimeoutError as error:
            raise OSError("no answer in time") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    async def _follow(self, url: httpx2.URL, token: str, body: bytes) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send(url, token, body)
            if response.status_code not in _REDIRECTS:
                return Answer(response.status_code, _seconds(response.headers.get("retry-after")))
            url = url.join(response.headers.get("location", ""))
            if url.scheme != "https" or url.port not in (None, 443):
                raise OSError(
                    f"a redirect leads to {url.scheme}://{url.netloc.decode('ascii')}, not to https on 443"
                )
        raise OSError(f"more than {MAX_REDIRECTS} redirects")

    async def _send(self, url: httpx2.URL, token: str, body: bytes) -> httpx2.Response:
        failure: Exception = OSError(f"the name {url.host} has no address")
        for address in await self._look_up(url.host):
            request = self._client.build_request(
                "POST",
                url.copy_with(host=str(address)),
                content=body,
                headers={
                    "host": url.netloc.decode("ascii"),
                    "authorization": f"Bearer {token}",
                    "content-type": "application/json",
                },
                extensions={"sni_hostname": url.raw_host.decode("ascii")},
            )
            try:
                response = await self._client.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
                continue
            await response.aclose()  # the status says all
            return response
        raise OSError(str(failure) or type(failure).__name__) from failure


def _seconds(text: str | None) -> float | None:
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, min(float(int(text or "")), 300.0))
    return None
