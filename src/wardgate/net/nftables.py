"""nftables through the command `nft`: listings as plain data, changes as one transaction."""

import errno
import json
import os
import socket
import struct
from typing import Any, Final, Protocol

from wardgate.net.host_command import run_host_command

_MISSING: Final = "the command nft is missing; install nftables (Debian: apt-get install nftables)"
_NETLINK_NETFILTER: Final = 12
_NFT_MSG_GETGEN: Final = (10 << 8) | 16  # subsystem nftables; linux/netfilter/nf_tables.h
_NFTA_GEN_ID: Final = 1
_NLM_F_REQUEST: Final = 1
_HEADERS: Final = 16 + 4  # nlmsghdr and nfgenmsg, bytes


class Nftables(Protocol):
    """What the settings ask of nftables; every method may raise HostRefused or OSError."""

    def generation(self) -> int | None:
        """A number that increases with every change of the host's rules; None if unknown."""

    async def apply(self, commands: str) -> None:
        """Carry out all of the commands or none."""

    async def listing(self, *what: str) -> list[dict[str, Any]]:
        """The objects of `nft -j list …`; empty if it does not exist."""


class NftCommand:
    """The real one."""

    def generation(self) -> int | None:
        # Asked of the kernel directly, since it is asked every few seconds: listing large rule sets costs a
        # core's time.
        request = struct.pack("=IHHII BBH", _HEADERS, _NFT_MSG_GETGEN, _NLM_F_REQUEST, 1, 0, 0, 0, 0)
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
                netlink.settimeout(1.0)
                netlink.send(request)
                answer = netlink.recv(4096)
        except OSError:
            return None
        return generation_of(answer)

    async def apply(self, commands: str) -> None:
        await run_host_command("nft", "-f", "-", text=commands, missing=_MISSING)

    async def listing(self, *what: str) -> list[dict[str, Any]]:
        try:
            printed = await run_host_command("nft", "-j", "list", *what, missing=_MISSING)
        except OSError as error:
            if os.strerror(errno.ENOENT) in str(error):
                return []
            raise
        listed = json.loads(printed)["nftables"]
        return [item for item in listed if "metainfo" not in item]


def generation_of(answer: bytes) -> int | None:
    """Read the first attribute of an NFT_MSG_NEWGEN."""
    if len(answer) < _HEADERS + 8:
        return None
    length, kind = struct.unpack_from("=HH", answer, _HEADERS)
    if length != 8 or kind != _NFTA_GEN_ID:
        return None
    [generation] = struct.unpack_from(">I", answer, _HEADERS + 4)
    return int(generation)
