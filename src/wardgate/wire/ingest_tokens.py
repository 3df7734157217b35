"""Flow-log ingest tokens (control-plane-protocol §7.2): an HS256 JWT per authorization and role.

Peers parse it and pass it on; they do not check the signature. A grant needs one even where nobody uploads.
"""

import base64
import hmac
from typing import Annotated, Final, Literal

import msgspec

from wardgate.model.ids import (
    AccountId,
    ActorId,
    AuthorizationId,
    AuthProviderId,
    DeviceId,
    PolicyId,
    ResourceId,
)
from wardgate.wire.errors import RemoteProtocolError

GRACE_S: Final = 2_592_000  # 30 days after the end of the authorization


class IngestClaims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a flow-log record is attributed to; optional claims are left out when unknown."""

    account_id: AccountId
    policy_authorization_id: AuthorizationId
    policy_id: PolicyId
    resource_id: ResourceId
    initiator_device_id: DeviceId
    responder_device_id: DeviceId
    initiator_actor_id: ActorId
    resource_name: str
    initiator_actor_name: str
    iat: int
    exp: int
    authorized_at: str
    authorization_expires_at: str
    uploads_enabled: bool
    role: Literal["initiator", "responder"]
    resource_address: str | None = None
    initiator_actor_email: str | None = None
    initiator_auth_provider_id: AuthProviderId | None = None
    initiator_client_version: str | None = None
    initiator_device_os_name: str | None = None
    initiator_device_os_version: str | None = None
    initiator_device_serial: str | None = None
    initiator_device_uuid: str | None = None
    initiator_device_identifier_for_vendor: str | None = None
    initiator_device_firebase_installation_id: str | None = None


def mint_ingest_token(claims: IngestClaims, key: bytes) -> str:
    """Sign the claims with the account's ingest key (32 bytes)."""
    signed = f"{_HEADER}.{_segment(msgspec.json.encode(claims))}"
    return f"{signed}.{_segment(_signature(signed, key))}"


def parse_ingest_token(token: str) -> IngestClaims:
    """Read the claims, as a peer does: the signature must be there and is not checked.

    Raises:
        RemoteProtocolError: not three segments, another algorithm, or a mandatory claim is missing.
    """
    segments = token.split(".")
    if len(segments) != 3 or not segments[2]:
        raise RemoteProtocolError("an ingest token has three segments")
    try:
        msgspec.json.decode(_unsegment(segments[0]), type=_Header)
        return msgspec.json.decode(_unsegment(segments[1]), type=IngestClaims)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"ingest token: {error}") from None


def verify_ingest_token(token: str, key: bytes) -> IngestClaims:
    """Read the claims and check the signature; expiry is the caller's.

    Raises:
        RemoteProtocolError: as `parse_ingest_token`, or a wrong signature.
    """
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(
        _segment(_signature(signed, key)).encode(), signature.encode(errors="replace")
    ):
        raise RemoteProtocolError("ingest token: wrong signature")
    return parse_ingest_token(token)


class _Header(msgspec.Struct):
    alg: Annotated[str, msgspec.Meta(pattern="^HS256$")]


def _signature(signed: str, key: bytes) -> bytes:
    return hmac.digest(key, signed.encode(errors="replace"), "sha256")  # by name: half the time


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unsegment(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_HEADER: Final = _segment(b'{"alg":"HS256","typ":"JWT"}')
