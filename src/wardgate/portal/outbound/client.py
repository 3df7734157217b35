"""The guarded client: every name is resolved just before it is connected to, all its addresses are judged, and
the connection goes to one that was judged, under the name that was asked for (`Host`, SNI, certificate). A name
that resolves to something else a moment later gains nothing, and a redirect goes through the same gate.

No connection is kept: two names may share an address, and what a certificate has proven for one of them is
nothing to the other. Proxies of the environment are not used, for they would resolve the name themselves.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import wardgate
from wardgate.model.addresses import IpAddress
from wardgate.portal.outbound.addresses import ReachableAddresses
from wardgate.portal.outbound.messages import Answer, Failure, OutboundFailed, Question

TOTAL_S: Final = 10.0  # of one question, with its redirects
MAX_REDIRECTS: Final = 3
MAX_ADDRESSES: Final = 4  # of a name, tried one after another

_PORTS: Final = {"https": 443, "http": 80}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Resolve = Callable[[str, int], Awaitable[Sequence[IpAddress]]]


class GuardedClient:
    """Asks hosts that a user named; see `Outbound`.

    Args:
        addresses: which may be reached.
        ca_file: certificate authorities that are trusted besides those of the system.
        resolve: returns the addresses of a name or raises OSError; None for the system's resolver.
        total_s: how long one question may take.

    Raises:
        OSError: the file cannot be read, or (as ssl.SSLError) holds no certificates.
    """

    def __init__(
        self,
        addresses: ReachableAddresses,
        *,
        ca_file: Path | None = None,
        resolve: Resolve | None = None,
        total_s: float = TOTAL_S,
    ) -> None:
        self._addresses = addresses
        self._ca_file = ca_file
        self._resolve = resolve or _ask_system
        self._total_s = total_s
        # A file that is of no use is reported at the start; the system's authorities can wait.
        self._context = None if ca_file is None else self._load_authorities()

    async def ask(self, question: Question) -> Answer:
        """See `Outbound`."""
        try:
            async with asyncio.timeout(self._total_s):
                return await self._follow(question)
        except TimeoutError as error:
            raise OutboundFailed(Failure.TIMED_OUT) from error

    async def _follow(self, question: Question) -> Answer:
        url = question.url
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._ask_once(question, url)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            if not question.follows_redirects:
                break
            url = urljoin(url, location)
        raise OutboundFailed(Failure.REDIRECTED)

    async def _ask_once(self, question: Question, url: str) -> Answer:
        # Imported by the first question: a portal that asks nobody starts sooner without.
        from wardgate.portal.outbound.exchange import NotConnected, exchange

        target = _target(url)
        if self._context is None:
            self._context = self._load_authorities()
        failed: OutboundFailed | None = None
        for address in (await self._checked_addresses(target))[:MAX_ADDRESSES]:
            try:
                return await exchange(question, target, address, self._context, agent=_AGENT)
            except NotConnected as error:
                failed = error
        raise failed or OutboundFailed(Failure.NAME_UNKNOWN)

    async def _checked_addresses(self, target: SplitResult) -> Sequence[IpAddress]:
        """Return the addresses of the target's host, all of which may be reached."""
        host = target.hostname or ""
        try:
            addresses: Sequence[IpAddress] = [ip_address(host)]
        except ValueError:
            try:
                addresses = await self._resolve(host, target.port or _PORTS[target.scheme])
            except (OSError, UnicodeError) as error:
                raise OutboundFailed(Failure.NAME_UNKNOWN, host) from error
        # One that is refused condemns all: who mixes them hopes that another will be taken.
        if not all(address in self._addresses for address in addresses):
            raise OutboundFailed(Failure.ADDRESS_REFUSED, host)
        if target.scheme == "http" and not all(map(self._addresses.is_allowed, addresses)):
            raise OutboundFailed(Failure.SCHEME_REFUSED, host)
        return addresses

    def _load_authorities(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca_file is not None:
            context.load_verify_locations(cafile=self._ca_file)
        return context


_AGENT: Final = f"Wardgate/{wardgate.__version__}"


def _target(url: str) -> SplitResult:
    try:
        target = urlsplit(url)
        _ = target.port
    except ValueError as error:
        raise OutboundFailed(Failure.INVALID_URL) from error
    if target.scheme not in _PORTS:
        raise OutboundFailed(Failure.SCHEME_REFUSED)
    if not target.hostname or target.username is not None or not url.isascii() or not url.isprintable():
        raise OutboundFailed(Failure.INVALID_URL)
    return target._replace(fragment="")


async def _ask_system(host: str, port: int) -> Sequence[IpAddress]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # A scope (fe80::1%eth0) says which link; no such address may be reached anyway.
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
