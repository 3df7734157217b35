"""Flow records as peers upload them (control-plane-protocol §7.1).

One record when a flow begins, one when it has ended. Everything about persons and resources comes from the token that
they are uploaded with.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

UPLOAD_PATH: Final = "/ingestion/flow_logs"
MAX_RECORDS: Final = 10_000
DEFAULT_RECORDS: Final = 1_000


class Outer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An outer path, from the initiator's side; no source where the initiator sends over its relay."""

    src_ip: str | None = None
    src_port: int | None = None
    dst_ip: str
    dst_port: int
    path_activated_at: str


class FlowRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From initiator to responder, which is what tx means, whichever end reports; times are RFC 3339."""

    protocol: Literal["tcp", "udp"]
    inner_src_ip: str
    inner_src_port: int
    inner_dst_ip: str
    inner_dst_port: int
    domain: str | None = None
    outers: tuple[Outer, ...] = ()
    flow_start: str
    flow_end: str | None = None
    last_packet: str | None = None
    rx_packets: int | None = None
    tx_packets: int | None = None
    rx_bytes: int | None = None
    tx_bytes: int | None = None


def encode_upload(records: Iterable[msgspec.Raw]) -> bytes:
    """Write encoded records as the body of one upload; at most 10,000 are taken."""
    return msgspec.json.encode({"flow_logs": list(records)})


def records_at_a_time(batch_size: int) -> int:
    """How many records one upload holds, given the portal's setting."""
    return min(batch_size, MAX_RECORDS) if batch_size > 0 else DEFAULT_RECORDS
