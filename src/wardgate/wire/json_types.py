"""How addresses cross JSON: as text, parsed into the standard library's types and refused when malformed."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import msgspec


def decode_address(type_: type, value: Any) -> Any:
    """Hook of every decoder of the wire (`dec_hook`): a bare address, no prefix length, no zone."""
    if type_ in (IPv4Address, IPv6Address):
        if not isinstance(value, str) or "%" in value:
            raise ValueError("expected an address as text")
        return type_(value)
    raise NotImplementedError(f"{type_} has no JSON form")


def encode_address(value: Any) -> Any:
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    raise NotImplementedError(f"{type(value)} has no JSON form")


ENCODER: Final = msgspec.json.Encoder(enc_hook=encode_address)
