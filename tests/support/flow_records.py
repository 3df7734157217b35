"""Flow records, their tokens and what an engine reports, as tests need them."""

from uuid import UUID

from wardgate.connect.flow_logging import KeepToken, KeptFlow, Role
from wardgate.datapath import events as e
from wardgate.model.ids import (
    AccountId,
    ActorId,
    AuthorizationId,
    DeviceId,
    PolicyId,
    ResourceId,
)
from wardgate.wire.flow_records import FlowRecord
from wardgate.wire.ingest_tokens import IngestClaims, mint_ingest_token

UNIX: int = 1_790_000_000
UNIX_US: int = UNIX * 1_000_000
ONE = str(UUID(int=1))
OTHER = str(UUID(int=2))


def ingest_token(
    authorization_id: str = ONE,
    *,
    role: Role = "responder",
    uploads_enabled: bool = True,
    expires_at: int = UNIX + 60,
) -> str:
    """A token of this authorization, as a portal signs them."""
    some = UUID(int=7)
    claims = IngestClaims(
        account_id=AccountId(some),
        policy_authorization_id=AuthorizationId(UUID(authorization_id)),
        policy_id=PolicyId(some),
        resource_id=ResourceId(some),
        initiator_device_id=DeviceId(some),
        responder_device_id=DeviceId(some),
        initiator_actor_id=ActorId(some),
        resource_name="net",
        initiator_actor_name="Ada",
        iat=UNIX,
        exp=expires_at,
        authorized_at="2026-11-22T12:00:00Z",
        authorization_expires_at="2026-11-23T12:00:00Z",
        uploads_enabled=uploads_enabled,
        role=role,
    )
    return mint_ingest_token(claims, b"k" * 32)


def kept_token(authorization_id: str = ONE, *, role: Role = "responder") -> KeepToken:
    return KeepToken(role, authorization_id, ingest_token(authorization_id, role=role), UNIX + 60)


def kept_flow(number: int = 1, authorization_id: str = ONE, *, role: Role = "responder") -> KeptFlow:
    """A flow that has begun; `number` is its source port."""
    record = FlowRecord(
        protocol="tcp",
        inner_src_ip="100.64.0.7",
        inner_src_port=number,
        inner_dst_ip="10.20.0.4",
        inner_dst_port=443,
        flow_start="2026-11-22T12:00:00.000001Z",
    )
    return KeptFlow(role, authorization_id, record)


def flow_report(
    *, has_ended: bool = False, domain: str | None = None, unix_us: int = UNIX_US
) -> e.FlowReport:
    """What a gateway's engine reports of a flow of 2.5 s that began at an instant; `authorization_id` is `ONE`."""
    end = e.FlowEnd(
        ended_at_us=unix_us + 2_500_000,
        last_packet_at_us=unix_us + 2_000_000,
        tx_packets=5,
        rx_packets=4,
        tx_bytes=300,
        rx_bytes=0,
    )
    return e.FlowReport(
        authorization_id=ONE,
        role="responder",
        protocol="tcp",
        initiator=("100.64.0.7", 50122),
        responder=("10.20.0.4", 443),
        domain=domain,
        paths=(
            e.FlowPath("192.0.2.1:52625", "198.51.100.1:52625", unix_us - 10),
            e.FlowPath(None, "[2001:db8::1]:3478", unix_us + 10),
        ),
        started_at_us=unix_us + 1,
        end=end if has_ended else None,
    )
