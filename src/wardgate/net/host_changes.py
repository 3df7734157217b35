"""Reports when the host may have changed: the kernel reports it, or some seconds have passed.

What changed is not read from the reports, which a full buffer loses: who waits here compares the whole state.
"""

import asyncio
import contextlib
import socket
from typing import Final, Self

CHECK_INTERVAL_S: Final = 3.0  # ours: also for what nobody reports, such as sysctls and files
SETTLE_S: Final = 0.5  # data-plane §6.2: changes come in bursts
SETTLE_LIMIT_S: Final = 2.0  # ours: a host that never settles is compared all the same

_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1
_NETLINK_ROUTE: Final = 0
_NETLINK_NETFILTER: Final = 12
# linux/rtnetlink.h: link; IPv4 address, route, rule; IPv6 address, route, rule; IPv4 and IPv6 parameters
_ROUTE_GROUPS: Final = (1, 5, 7, 8, 9, 11, 19, 24, 25)
_NETFILTER_GROUPS: Final = (7,)  # linux/netfilter/nfnetlink.h: nftables
_READ_SIZE: Final = 65536


class HostChanges:
    """Listens to the kernel; a context manager."""

    def __init__(self) -> None:
        self._reported = asyncio.Event()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        for protocol, groups in (
            (_NETLINK_ROUTE, _ROUTE_GROUPS),
            (_NETLINK_NETFILTER, _NETFILTER_GROUPS),
        ):
            # Kernels without one of them, or that refuse it, leave us with the interval.
            with contextlib.suppress(OSError):
                self._listen(protocol, groups)
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self._sockets:
            asyncio.get_running_loop().remove_reader(opened)
            opened.close()
        self._sockets.clear()

    async def next(self) -> None:
        """Return when a reported change has settled, or after the interval."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_INTERVAL_S):
                await self._reported.wait()
        deadline = asyncio.get_running_loop().time() + SETTLE_LIMIT_S
        while self._reported.is_set() and asyncio.get_running_loop().time() < deadline:
            self._reported.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await self._reported.wait()
        self._reported.clear()

    def _listen(self, protocol: int, groups: tuple[int, ...]) -> None:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        try:
            netlink.bind((0, 0))
            for group in groups:
                netlink.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
            asyncio.get_running_loop().add_reader(netlink, self._drain, netlink)
        except OSError:
            netlink.close()
            raise
        self._sockets.append(netlink)

    def _drain(self, netlink: socket.socket) -> None:
        self._reported.set()
        # ENOBUFS, an overflow, is a report like any other.
        with contextlib.suppress(OSError):
            while netlink.recv(_READ_SIZE):
                pass
