"""How a peer names itself (control-plane-protocol §2.6): a device id from its sources, an external id for the wire."""

import hashlib
import hmac
import re
from typing import Final
from uuid import UUID

CLIENT_DERIVATION_KEY: Final = b"e1e465ce763e4759945c650ac334501f"  # §2.6: the protocol's, no secret
GATEWAY_DERIVATION_KEY: Final = b"753b38f9f96947ef8083802d5909a372"


def external_id(device_id: str) -> str:
    """Return what is sent: the hex SHA-256 of the id exactly as given if it is a UUID in any form, else the id."""
    return hashlib.sha256(device_id.encode()).hexdigest() if _is_uuid(device_id) else device_id


def derived_device_id(machine_id: bytes, key: bytes) -> str:
    """Derive a device id from the bytes of /etc/machine-id, newline included: 64 hex characters."""
    return hmac.digest(key, machine_id, "sha256").hex()


def random_device_id(uuid: UUID) -> str:
    """Make a device id, to be saved, from a random UUID: 64 hex characters."""
    return hashlib.sha256(str(uuid).encode()).hexdigest()


def _is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


_HYPHENATED: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_UUID: Final = re.compile(
    rf"[0-9a-f]{{32}}|{_HYPHENATED}|\{{{_HYPHENATED}\}}|urn:uuid:{_HYPHENATED}", re.IGNORECASE
)
