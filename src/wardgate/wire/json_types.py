"""How addresses cross JSON: as text, parsed into the standard library's types and refused when malformed."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import msgspec

_KEPT: Final = 16_384
"""Addresses of each family whose text is kept: the same peers are told of again and again."""


def decode_address(type_: type, value: Any) -> Any:
    """Hook of every decoder of the wire (`dec_hook`): a bare address, no prefix length, no zone."""
    if type_ in (IPv4Address, IPv6Address):
        if not isinstance(value, str) or "%" in value:
            raise ValueError("expected an address as text")
        return type_(value)
    raise NotImplementedError(f"{type_} has no JSON form")


def encode_address(value: Any) -> Any:
    if isinstance(value, IPv4Address):
        return _ipv4_text(int(value))
    if isinstance(value, IPv6Address):
        # A zone (`fe80::1%eth0`) is no part of the number.
        return str(value) if value.scope_id else _ipv6_text(int(value))
    raise NotImplementedError(f"{type(value)} has no JSON form")


@lru_cache(_KEPT)
def _ipv4_text(number: int) -> str:
    return str(IPv4Address(number))


@lru_cache(_KEPT)
def _ipv6_text(number: int) -> str:
    return str(IPv6Address(number))


ENCODER: Final = msgspec.json.Encoder(enc_hook=encode_address)
