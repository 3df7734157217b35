"""Requests and answers of rtnetlink, as bytes, and asked of this machine's kernel what needs no right."""

import errno
import struct

import pytest

from wardgate.net import rtnetlink as r
from wardgate.net.netlink import Netlink

MTU, NAME = 4, 3


def message(kind: int, body: bytes, *, flags: int = 0, sequence: int = 7) -> bytes:
    whole = struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body
    return whole + bytes(-len(whole) % 4)


def link(index: int, *attributes: tuple[int, bytes]) -> bytes:
    encoded = b""
    for name, value in attributes:
        encoded += struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)
    return r.LINK_PART.pack(0, 1, index, 0x41, 0) + encoded


DONE = message(3, struct.pack("=i", 0))


def test_a_request_is_its_header_its_fixed_part_and_aligned_attributes() -> None:
    fixed = r.LINK_PART.pack(0, 0, 5, 1, 1)
    encoded = r.encode(r.NEW_LINK, fixed, {MTU: 1280, NAME: "tun", 9: b"\1\2"}, flags=r.CREATE, sequence=3)
    assert encoded == (
        struct.pack("=IHHII", 16 + 16 + 8 + 8 + 8, 16, 0x601, 3, 0)
        + fixed
        + struct.pack("=HHI", 8, MTU, 1280)
        + struct.pack("=HH", 8, NAME)
        + b"tun\0"
        + struct.pack("=HH", 6, 9)
        + b"\1\2\0\0"
    )


def test_objects_of_the_request_are_read_and_what_belongs_to_others_is_not() -> None:
    answer = r.decode(
        message(r.NEW_LINK, link(2, (NAME, b"eth0\0"), (MTU, struct.pack("=I", 1500))))
        + message(r.NEW_LINK, link(3), sequence=6)
        + message(r.NEW_LINK, link(4))
        + DONE,
        sequence=7,
    )
    assert [found.fixed[2] for found in answer.found] == [2, 4]
    first = answer.found[0].attributes
    assert (first.text(NAME), first.number(MTU), first.number(99)) == ("eth0", 1500, None)
    assert (answer.errno, answer.is_interrupted) == (0, False)


def test_addresses_are_read_by_their_length() -> None:
    attributes = r.Attributes({1: bytes([192, 0, 2, 1]), 2: r.address_bytes("2001:db8::1"), 3: b"\1\2\3"})
    assert [attributes.address(name) for name in (1, 2, 3, 4)] == ["192.0.2.1", "2001:db8::1", None, None]


@pytest.mark.parametrize(("kind", "code"), [(2, errno.ENODEV), (3, errno.ENOENT)])
def test_a_refusal_is_told_with_its_number(kind: int, code: int) -> None:
    assert r.decode(message(kind, struct.pack("=i", -code)), sequence=7).errno == code


def test_a_dump_goes_on_until_it_is_done_and_one_of_two_moments_says_so() -> None:
    part = r.decode(message(r.NEW_LINK, link(2), flags=0x10), sequence=7)
    assert (len(part.found), part.errno, part.is_interrupted) == (1, None, True)


@pytest.mark.parametrize(
    "datagram",
    [
        struct.pack("=IHHII", 17, r.NEW_LINK, 0, 7, 0),  # says more than there is
        struct.pack("=IHHII", 15, r.NEW_LINK, 0, 7, 0),  # less than its own header
        struct.pack("=IHHII", 0, r.NEW_LINK, 0, 7, 0),  # would never end
        message(r.NEW_LINK, bytes(15)),
        message(r.NEW_LINK, link(2) + struct.pack("=HH", 3, MTU)),
        message(r.NEW_LINK, link(2) + struct.pack("=HH", 9, MTU) + bytes(4)),
    ],
)
def test_bytes_that_contradict_themselves_are_an_error(datagram: bytes) -> None:
    with pytest.raises(OSError, match="cut short"):
        r.decode(datagram, sequence=7)


async def test_the_kernel_knows_its_loopback_and_refuses_what_is_not_there() -> None:
    async with Netlink() as kernel:
        found = await kernel.link("lo")
        assert found is not None
        assert await kernel.link("no-such-link") is None
        assert await kernel.on_link_routes(0x5747_1234, 4) == frozenset()
        with pytest.raises(OSError):  # noqa: PT011 - without rights it is another one
            await kernel.set_link(0x7FFF_FFFF, mtu=1280)
