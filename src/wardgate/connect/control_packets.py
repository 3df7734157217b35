"""JSON payloads of the p2p control packets (data-plane §4.8); the engine does their framing and transport."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from wardgate.model.ids import ResourceId

ASSIGNED_IPS: Final = 0
DOMAIN_STATUS: Final = 1


class AssignedIps(msgspec.Struct, frozen=True):
    """Client → gateway: these proxy addresses stand for this name."""

    resource: ResourceId
    domain: str
    proxy_ips: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)]


class DomainStatus(msgspec.Struct, frozen=True):
    """Gateway → client: whether it forwards the addresses; an unknown status means `Inactive`."""

    resource: ResourceId
    domain: str
    status: str

    @property
    def is_active(self) -> bool:
        return self.status == "Active"


def encode_assigned_ips(resource_id: ResourceId, domain: str, proxy_ips: Sequence[str]) -> str:
    return _encode(AssignedIps(resource_id, domain, tuple(proxy_ips)))


def encode_domain_status(resource_id: ResourceId, domain: str, status: Literal["Active", "Inactive"]) -> str:
    return _encode(DomainStatus(resource_id, domain, status))


def parse_assigned_ips(payload: str) -> AssignedIps | None:
    """Return None if the payload is not such a message."""
    try:
        return msgspec.json.decode(payload, type=AssignedIps)
    except (msgspec.MsgspecError, RecursionError):
        return None


def parse_domain_status(payload: str) -> DomainStatus | None:
    """Return None if the payload is not such a message."""
    try:
        return msgspec.json.decode(payload, type=DomainStatus)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _encode(message: msgspec.Struct) -> str:
    return msgspec.json.encode(message).decode()
