"""Requests to rtnetlink and its answers, to the byte (linux/netlink.h, linux/rtnetlink.h; rtnetlink(7)).

A message is a header, a fixed part that depends on its type, and attributes; all of it in the byte order of the host.

```
 0      4     6       8          12         16                                 4-byte aligned
 | length | type | flags | sequence | port id | fixed part | length, type, value | length, type, value | …
```

Of our own, because the library for it loads hundreds of modules for what no peer asks: 8 MB in each client and gateway.
Deliberately absent: multicast reports, of which only the fact counts (`host_changes`), and nested attributes.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Value: TypeAlias = int | str | bytes
"""Of an attribute: a 32-bit number, a name, or bytes such as those of an address."""

NEW_LINK: Final = 16
GET_LINK: Final = 18
NEW_ADDRESS: Final = 20
DELETE_ADDRESS: Final = 21
GET_ADDRESS: Final = 22
NEW_ROUTE: Final = 24
DELETE_ROUTE: Final = 25
GET_ROUTE: Final = 26
NEW_RULE: Final = 32
DELETE_RULE: Final = 33
GET_RULE: Final = 34

REPLACE: Final = 0x100 | 0x400  # NLM_F_REPLACE and NLM_F_CREATE
CREATE: Final = 0x200 | 0x400  # NLM_F_EXCL and NLM_F_CREATE

LINK_PART: Final = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, changed flags
ADDRESS_PART: Final = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
# rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags
ROUTE_PART: Final = struct.Struct("=BBBBBBBBI")
# fib_rule_hdr: family, lengths of destination and source, TOS, table, two reserved, action, flags
RULE_PART: Final = struct.Struct("=BBBBBBBBI")

_PARTS: Final = {NEW_LINK: LINK_PART, NEW_ADDRESS: ADDRESS_PART, NEW_ROUTE: ROUTE_PART, NEW_RULE: RULE_PART}
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=I")
_ERROR: Final = 2
_DONE: Final = 3
_F_REQUEST: Final = 0x1
_F_ACK: Final = 0x4
_F_DUMP: Final = 0x300
_F_DUMP_INTERRUPTED: Final = 0x10
_TYPE_BITS: Final = 0x3FFF  # the two bits above say that a value is nested, or in network byte order
_SOL_NETLINK: Final = 270
_STRICT_CHECK: Final = 12  # NETLINK_GET_STRICT_CHK: dumps are narrowed to what the request names (Linux 4.20)
_READ_SIZE: Final = 65_536  # bytes; the kernel fills at most 32 KiB of a dump
_TRIES: Final = 3  # of a dump during which the kernel's tables have changed


class Attributes(dict[int, bytes]):
    """The attributes of one object, by number."""

    def number(self, name: int) -> int | None:
        value = self.get(name)
        return None if value is None or len(value) != _NUMBER.size else int(_NUMBER.unpack(value)[0])

    def text(self, name: int) -> str | None:
        value = self.get(name)
        return None if value is None else value.rstrip(b"\0").decode(errors="replace")

    def address(self, name: int) -> str | None:
        """IPv4 or IPv6, by its length."""
        match self.get(name):
            case bytes() as value if len(value) == 4:
                return socket.inet_ntop(socket.AF_INET, value)
            case bytes() as value if len(value) == 16:
                return socket.inet_ntop(socket.AF_INET6, value)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Found:
    """One object: the numbers of its fixed part, in the order of the `struct`, and its attributes."""

    fixed: tuple[int, ...]
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Answer:
    """What one datagram adds to the answer to a request.

    Attributes:
        errno: of a refusal; 0: done; None: more follows.
        is_interrupted: what was listed is of two moments.
    """

    found: tuple[Found, ...] = ()
    errno: int | None = None
    is_interrupted: bool = False


def address_bytes(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def encode(
    kind: int, fixed: bytes, attributes: Mapping[int, Value] | None = None, *, flags: int, sequence: int
) -> bytes:
    """Encode a request of type `kind`; the kernel is to answer it with an acknowledgement, unless it is a dump."""
    body = fixed + b"".join(_attribute(name, value) for name, value in (attributes or {}).items())
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, kind, flags | _F_REQUEST, sequence, 0) + body


def decode(datagram: bytes, *, sequence: int) -> Answer:
    """Read what belongs to the request with this number; what does not is left out.

    Raises:
        OSError: the kernel's bytes are not understood.
    """
    found: list[Found] = []
    is_interrupted = False
    for kind, flags, number, body in _messages(datagram):
        if number != sequence:
            continue
        is_interrupted = is_interrupted or bool(flags & _F_DUMP_INTERRUPTED)
        if kind in (_ERROR, _DONE):
            code = -int(struct.unpack_from("=i", body)[0]) if len(body) >= 4 else 0
            return Answer(tuple(found), code, is_interrupted)
        part = _PARTS.get(kind)
        if part is not None:
            found.append(_found(part, body))
    return Answer(tuple(found), None, is_interrupted)


class RouteSocket:
    """Asks the kernel one question at a time; `close` it."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
        except OSError:
            self._socket.close()
            raise
        self._sequence = 0
        self._turn = asyncio.Lock()

    def close(self) -> None:
        self._socket.close()

    async def ask(
        self, kind: int, fixed: bytes, attributes: Mapping[int, Value] | None = None, *, flags: int = 0
    ) -> tuple[Found, ...]:
        """Carry out one request. Raises OSError."""
        async with self._turn:
            return (await self._ask(kind, fixed, attributes, flags | _F_ACK)).found

    async def dump(
        self, kind: int, fixed: bytes, attributes: Mapping[int, Value] | None = None
    ) -> tuple[Found, ...]:
        """List objects. Raises OSError."""
        async with self._turn:
            for _ in range(_TRIES):
                answer = await self._ask(kind, fixed, attributes, _F_DUMP)
                if not answer.is_interrupted:
                    break
            return answer.found

    async def _ask(
        self, kind: int, fixed: bytes, attributes: Mapping[int, Value] | None, flags: int
    ) -> Answer:
        self._sequence = self._sequence % 0xFFFF_FFFF + 1
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(
            self._socket, encode(kind, fixed, attributes, flags=flags, sequence=self._sequence)
        )
        found: list[Found] = []
        is_interrupted = False
        while True:
            answer = decode(await loop.sock_recv(self._socket, _READ_SIZE), sequence=self._sequence)
            found += answer.found
            is_interrupted = is_interrupted or answer.is_interrupted
            if answer.errno is not None:
                if answer.errno:
                    raise OSError(answer.errno, os.strerror(answer.errno))
                return Answer(tuple(found), 0, is_interrupted)


def _attribute(name: int, value: Value) -> bytes:
    match value:
        case int():
            data = _NUMBER.pack(value)
        case str():
            data = value.encode() + b"\0"
        case bytes():
            data = value
    return _aligned(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), name) + data)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _messages(datagram: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield type, flags, sequence number and what follows the header."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(datagram, at)
        if not _HEADER.size <= length <= len(datagram) - at:
            raise OSError(errno.EPROTO, "a message of rtnetlink is cut short")
        yield kind, flags, sequence, datagram[at + _HEADER.size : at + length]
        at += length + -length % 4


def _found(part: struct.Struct, body: bytes) -> Found:
    if len(body) < part.size:
        raise OSError(errno.EPROTO, "a message of rtnetlink is cut short")
    attributes = Attributes()
    at = part.size
    while at + _ATTRIBUTE.size <= len(body):
        length, name = _ATTRIBUTE.unpack_from(body, at)
        if not _ATTRIBUTE.size <= length <= len(body) - at:
            raise OSError(errno.EPROTO, "an attribute of rtnetlink is cut short")
        attributes[name & _TYPE_BITS] = body[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4
    return Found(part.unpack_from(body), attributes)
