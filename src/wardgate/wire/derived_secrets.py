"""Secrets that are computed, not stored (control-plane-protocol §4): ICE credentials, pre-shared keys, TURN
credentials.

ICE and pre-shared key stay the same for a pair of processes (public keys change with each), so that a second
resource over the same gateway re-uses the connection. TURN credentials must match to the byte: the relay computes
them again. Vectors: tests/vectors/derived-secrets.
"""

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from wardgate.model.ids import DeviceId, RelayId

GATEWAY_TURN_EXPIRY_UNIX: Final = 2_145_916_800
"""2038-01-01T00:00:00Z (§4.3): fixed, so that a gateway's reconnect does not change its credentials."""

TURN_REALM: Final = "firezone"  # the protocol's


@dataclass(frozen=True, slots=True)
class IceCredentialPair:
    """Username (4 characters) and password (22) of each end."""

    initiator_username: str
    initiator_password: str = field(repr=False)
    receiver_username: str
    receiver_password: str = field(repr=False)


def derive_ice_credentials(
    *, initiator_id: DeviceId, initiator_key: str, receiver_id: DeviceId, receiver_key: str
) -> IceCredentialPair:
    """Derive the ICE credentials of a pair (§4.1). Directional: swapped roles give others."""
    seed = f"{initiator_id}:{initiator_key}:{receiver_id}:{receiver_key}"
    text = base64.b32encode(hashlib.sha256(seed.encode()).digest()).decode().lower().rstrip("=")
    return IceCredentialPair(text[0:4], text[4:26], text[26:30], text[30:52])


def derive_gateway_psk(
    *,
    client_id: DeviceId,
    client_key: str,
    client_psk_base: bytes,
    gateway_id: DeviceId,
    gateway_key: str,
    gateway_psk_base: bytes,
) -> str:
    """Derive the WireGuard pre-shared key of client and gateway (§4.2): base64 of 32 bytes."""
    salt = f"WG_PSK|C_ID:{client_id}|G_ID:{gateway_id}|C_PK:{client_key}|G_PK:{gateway_key}"
    return _psk(client_psk_base + gateway_psk_base, salt)


def derive_client_psk(
    *,
    initiator_id: DeviceId,
    initiator_key: str,
    initiator_psk_base: bytes,
    target_id: DeviceId,
    target_key: str,
    target_psk_base: bytes,
) -> str:
    """Derive the pre-shared key of two clients (§4.2). Directional: swapped roles give another."""
    salt = f"WG_PSK_CC|CA_ID:{initiator_id}|CB_ID:{target_id}|CA_PK:{initiator_key}|CB_PK:{target_key}"
    return _psk(initiator_psk_base + target_psk_base, salt)


@dataclass(frozen=True, slots=True)
class TurnCredentials:
    username: str
    password: str = field(repr=False)
    expires_at_unix: int


def derive_turn_credentials(stamp_secret: str, public_key: str, expires_at_unix: int) -> TurnCredentials:
    """Derive the long-term credentials that one relay accepts from one peer (§4.3).

    Args:
        stamp_secret: 64 hex characters, drawn by the relay at its start.
        public_key: the peer's current WireGuard key, 44 characters; a restarted peer gets new credentials.
        expires_at_unix: seconds since the epoch; the relay refuses them afterwards.
    """
    salt = _unpadded(hashlib.sha256(public_key.encode()).digest())
    secret = f"{expires_at_unix}:{stamp_secret}:{salt}"
    return TurnCredentials(
        f"{expires_at_unix}:{salt}", _unpadded(hashlib.sha256(secret.encode()).digest()), expires_at_unix
    )


def relay_id(stamp_secret: str) -> RelayId:
    """Compute a relay's id (§3.4): first 16 bytes of SHA-256 of the hex text, as a UUIDv4."""
    return RelayId(UUID(bytes=hashlib.sha256(stamp_secret.encode()).digest()[:16], version=4))


def unix_seconds(instant: datetime) -> int:
    """Return whole seconds since the epoch, rounded down: an expiry is never extended by rounding.

    Raises:
        ValueError: the instant has no zone.
    """
    if instant.tzinfo is None:
        raise ValueError("an instant without a zone")
    return int(instant.timestamp() // 1)


def _psk(password: bytes, salt: str) -> str:
    return base64.b64encode(hashlib.pbkdf2_hmac("sha256", password, salt.encode(), 1, 32)).decode()


def _unpadded(digest: bytes) -> str:
    return base64.b64encode(digest).decode().rstrip("=")
