import base64
import json
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from wardgate.model.ids import (
    AccountId,
    ActorId,
    AuthorizationId,
    DeviceId,
    PolicyId,
    ResourceId,
)
from wardgate.wire.errors import RemoteProtocolError
from wardgate.wire.ingest_tokens import (
    IngestClaims,
    mint_ingest_token,
    parse_ingest_token,
    verify_ingest_token,
)

KEY = b"k" * 32
U = UUID("33333333-3333-4333-8333-333333333333")
CLAIMS = IngestClaims(
    account_id=AccountId(U),
    policy_authorization_id=AuthorizationId(U),
    policy_id=PolicyId(U),
    resource_id=ResourceId(U),
    initiator_device_id=DeviceId(U),
    responder_device_id=DeviceId(U),
    initiator_actor_id=ActorId(U),
    resource_name="GitLab",
    initiator_actor_name="Ada",
    iat=1,
    exp=2,
    authorized_at="2026-11-22T12:00:00Z",
    authorization_expires_at="2026-11-23T12:00:00Z",
    uploads_enabled=False,
    role="initiator",
)


def test_a_token_is_an_hs256_jwt_without_unknown_claims() -> None:
    header, claims, signature = mint_ingest_token(CLAIMS, KEY).split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "HS256"
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert None not in decoded.values()
    assert decoded["uploads_enabled"] is False
    assert len(base64.urlsafe_b64decode(signature + "==")) == 32


def test_a_token_is_read_back_and_its_signature_checked() -> None:
    token = mint_ingest_token(CLAIMS, KEY)
    assert verify_ingest_token(token, KEY) == CLAIMS
    with pytest.raises(RemoteProtocolError):
        verify_ingest_token(token, b"x" * 32)
    longer = mint_ingest_token(msgspec.structs.replace(CLAIMS, uploads_enabled=True), KEY)
    forged = ".".join([*longer.split(".")[:2], token.split(".")[2]])
    with pytest.raises(RemoteProtocolError):
        verify_ingest_token(forged, KEY)


@pytest.mark.parametrize("token", ["", "a.b", "a.b.", "a.b.c", "é.é.é", "e30.e30.e30"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_ingest_token(token)
    with pytest.raises(RemoteProtocolError):
        verify_ingest_token(token, KEY)


def test_a_recorded_v2_token_has_all_claims() -> None:
    path = Path(__file__).parents[2] / "vectors" / "control-channel" / "v2-direct.jsonl"
    frames = [json.loads(line)["frame"] for line in path.read_text().splitlines()]
    tokens = [
        frame["payload"]["flow_logs_ingest_token"]
        for frame in frames
        if frame.get("event") == "create_authorization"
    ]
    assert tokens
    assert all(parse_ingest_token(token).role == "responder" for token in tokens)
