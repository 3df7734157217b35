"""How presence and messages cross from node to node: MessagePack, one tagged union of all of them.

The law is `decode(encode(value)) == value`. Nodes of one cluster trust each other: undecodable bytes are a
bug, not an attack.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import msgspec

from wardgate.portal.bus.messages import DirectedMessage
from wardgate.portal.bus.presence import Presence

Encodable = Presence | DirectedMessage


def encode(value: Encodable) -> bytes:
    return _ENCODER.encode(value)


def decode(data: bytes) -> Encodable:
    """Return what was encoded.

    Raises:
        msgspec.MsgspecError: `encode` did not write these bytes.
    """
    return _DECODER.decode(data)


def _encode_address(value: Any) -> str:
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    raise NotImplementedError(f"{type(value)} does not cross the bus")


def _decode_address(type_: type, text: str) -> Any:
    """Return an address of the field's type; where a field takes both, the text decides."""
    return type_(text) if type_ in (IPv4Address, IPv6Address) else ip_address(text)


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_encode_address)
_DECODER: Final[msgspec.msgpack.Decoder[Encodable]] = msgspec.msgpack.Decoder(
    Encodable, dec_hook=_decode_address
)
