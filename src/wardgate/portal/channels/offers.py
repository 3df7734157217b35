"""The messages that announce a grant to both ends: keys, addresses, credentials, expiry and the token for
flow reports.

They are built from the client's connection and the other end's presence; nothing here decides or sends.
"""

from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from wardgate.model.addresses import IpAddress
from wardgate.model.ids import (
    AccountId,
    ActorId,
    AuthorizationId,
    AuthProviderId,
    ClientId,
    DeviceId,
    GatewayId,
    PolicyId,
    ResourceId,
)
from wardgate.model.resources import InternetResource, StaticDevicePool
from wardgate.model.versions import uses_site_names
from wardgate.policy.engine import Granted
from wardgate.policy.snapshot import site_of
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.bus import ClientPresence, GatewayPresence
from wardgate.portal.channels.client_context import ClientContext, PairSecrets
from wardgate.portal.channels.views import ice_credentials
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import (
    derive_client_psk,
    derive_gateway_psk,
    derive_ice_credentials,
    unix_seconds,
)
from wardgate.wire.ingest_tokens import GRACE_S, IngestClaims, mint_ingest_token
from wardgate.wire.resource_views import client_view

USE_ICELESS: Final = False  # optional on the wire; never offered


def authorization_row(
    context: ClientContext, grant: Granted, receiver_id: DeviceId, receiver_ip: IpAddress
) -> PolicyAuthorization:
    """Return the row of a grant (portal-domain §3.12); `receiver_ip`: where its receiver is connected from."""
    return PolicyAuthorization(
        id=context.environment.new_id(),
        account_id=context.device.account_id,
        policy_id=grant.policy.id,
        resource_id=grant.resource.id,
        initiating_device_id=context.device.id,
        receiving_device_id=receiver_id,
        token_id=context.token.id,
        membership_id=grant.membership_id,
        initiator_remote_ip=str(context.origin.remote_ip),
        initiator_user_agent=context.origin.user_agent[:255],
        receiver_remote_ip=str(receiver_ip),
        expires_at=grant.expires_at,
    )


def offer_to_gateway(
    context: ClientContext,
    grant: Granted,
    row: PolicyAuthorization,
    gateway: GatewayPresence,
    *,
    now: datetime,
) -> tuple[wire.CreateAuthorization | None, wire.AuthorizationCreated]:
    """Return the messages to the gateway and to the client; the former is None if this gateway cannot express
    the resource.
    """
    gateway_id = GatewayId(DeviceId(row.receiving_device_id))
    secrets = _secrets_with(context, gateway)
    tokens = ingest_tokens(context, grant, row, now=now)
    site_id = site_of(grant.resource)
    assert site_id is not None  # the engine grants no gateway-backed resource without one
    created = wire.AuthorizationCreated(
        resource_id=grant.resource.id,
        gateway_id=gateway_id,
        gateway_public_key=gateway.public_key,
        gateway_ipv4=gateway.ipv4,
        gateway_ipv6=gateway.ipv6,
        **({"site_id": site_id} if uses_site_names(context.software) else {"gateway_group_id": site_id}),
        preshared_key=secrets.psk,
        client_ice_credentials=secrets.client_ice,
        gateway_ice_credentials=secrets.gateway_ice,
        use_iceless=USE_ICELESS,
        flow_logs_ingest_token=tokens.initiator,
    )
    resource = context.view.gateway_views.of(grant.resource, gateway.version)
    if resource is None:
        return None, created
    create = wire.CreateAuthorization(
        ref=str(row.id),
        resource=resource,
        client=secrets.client,
        client_ice_credentials=secrets.client_ice,
        gateway_ice_credentials=secrets.gateway_ice,
        expires_at=unix_seconds(row.expires_at),
        use_iceless=USE_ICELESS,
        subject=context.subject,
        flow_logs_ingest_token=tokens.responder,
    )
    return create, created


def _secrets_with(context: ClientContext, gateway: GatewayPresence) -> PairSecrets:
    """Return what client and gateway share; it stays the same for a pair of processes, whatever is granted."""
    known = context.secrets_with.get(gateway.connection_id)
    if known is not None:
        return known
    client_ice, gateway_ice = ice_credentials(
        derive_ice_credentials(
            initiator_id=context.client_id,
            initiator_key=context.public_key,
            receiver_id=gateway.gateway_id,
            receiver_key=gateway.public_key,
        )
    )
    psk = derive_gateway_psk(
        client_id=context.client_id,
        client_key=context.public_key,
        client_psk_base=context.device.psk_base,
        gateway_id=gateway.gateway_id,
        gateway_key=gateway.public_key,
        gateway_psk_base=gateway.psk_base,
    )
    client = wire.AuthorizedClient(
        id=context.client_id,
        public_key=context.public_key,
        preshared_key=psk,
        ipv4=IPv4Address(context.device.ipv4),
        ipv6=IPv6Address(context.device.ipv6),
        version=context.announced_version,
        device_os_name=context.os.name,
        device_os_version=context.os.version,
        device_serial=context.device.device_serial,
        device_uuid=context.device.device_uuid,
        identifier_for_vendor=context.device.identifier_for_vendor,
        firebase_installation_id=context.device.firebase_installation_id,
    )
    return context.remember_secrets(gateway.connection_id, PairSecrets(client_ice, gateway_ice, psk, client))


def offer_to_client(
    context: ClientContext,
    grant: Granted,
    row: PolicyAuthorization,
    target: ClientPresence,
    *,
    is_controlling: bool,
    now: datetime,
) -> tuple[wire.DeviceAccessAuthorized, wire.DeviceAccessAuthorized]:
    """Return the messages to the target and to the initiator of a grant through a device pool (protocol
    §3.2.1).

    Args:
        is_controlling: whether the connection is the one that this client initiates; else that of a grant in the
            other direction is used.
    """
    target_id = ClientId(DeviceId(row.receiving_device_id))
    own = _End(context.client_id, context.public_key, context.device.psk_base)
    other = _End(target_id, target.public_key, target.psk_base)
    first, second = (own, other) if is_controlling else (other, own)
    halves = ice_credentials(
        derive_ice_credentials(
            initiator_id=first.device_id,
            initiator_key=first.public_key,
            receiver_id=second.device_id,
            receiver_key=second.public_key,
        )
    )
    ours, theirs = halves if is_controlling else reversed(halves)
    psk = derive_client_psk(
        initiator_id=first.device_id,
        initiator_key=first.public_key,
        initiator_psk_base=first.psk_base,
        target_id=second.device_id,
        target_key=second.public_key,
        target_psk_base=second.psk_base,
    )
    tokens = ingest_tokens(context, grant, row, now=now)
    expires_at = unix_seconds(row.expires_at)
    pool = client_view(grant.resource, site=None, software=context.software)
    assert pool is not None  # every client that sees a device of a pool sees the pool
    to_target = wire.DeviceAccessAuthorized(
        client_id=context.client_id,
        client_name=context.device.name,
        client_public_key=context.public_key,
        client_ipv4=IPv4Address(context.device.ipv4),
        client_ipv6=IPv6Address(context.device.ipv6),
        preshared_key=psk,
        local_ice_credentials=theirs,
        remote_ice_credentials=ours,
        ice_role="controlled" if is_controlling else "controlling",
        use_iceless=USE_ICELESS,
        flow_logs_ingest_token=tokens.responder,
        resource=pool,
        subject=context.subject,
        expires_at=expires_at,
        authorization_expires_at=expires_at,
    )
    to_initiator = wire.DeviceAccessAuthorized(
        client_id=target_id,
        client_name=target.name,
        client_public_key=target.public_key,
        client_ipv4=target.ipv4,
        client_ipv6=target.ipv6,
        preshared_key=psk,
        local_ice_credentials=ours,
        remote_ice_credentials=theirs,
        ice_role="controlling" if is_controlling else "controlled",
        use_iceless=USE_ICELESS,
        flow_logs_ingest_token=tokens.initiator,
    )
    return to_target, to_initiator


@dataclass(frozen=True, slots=True)
class _End:
    """What secrets are derived from: a client's process and its device."""

    device_id: DeviceId
    public_key: str
    psk_base: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class IngestTokens:
    """The tokens with which the two sides report flows."""

    initiator: str = field(repr=False)
    responder: str = field(repr=False)


def ingest_tokens(
    context: ClientContext, grant: Granted, row: PolicyAuthorization, *, now: datetime
) -> IngestTokens:
    """Mint both sides' tokens (protocol §7.2). The granting policy decides, once, whether they may report."""
    os, provider_id = context.os, context.token.auth_provider_id
    resource, device = grant.resource, context.device
    address = None if isinstance(resource, InternetResource | StaticDevicePool) else str(resource.address)
    claims = IngestClaims(
        account_id=AccountId(row.account_id),
        policy_authorization_id=AuthorizationId(row.id),
        policy_id=PolicyId(row.policy_id),
        resource_id=ResourceId(row.resource_id),
        initiator_device_id=DeviceId(row.initiating_device_id),
        responder_device_id=DeviceId(row.receiving_device_id),
        initiator_actor_id=ActorId(context.actor.id),
        resource_name=resource.name,
        initiator_actor_name=context.actor.name,
        iat=unix_seconds(now),
        exp=unix_seconds(row.expires_at) + GRACE_S,
        authorized_at=now.isoformat(),
        authorization_expires_at=row.expires_at.isoformat(),
        uploads_enabled=grant.policy.flow_log_uploads_enabled,
        role="initiator",
        resource_address=address,
        initiator_actor_email=context.actor.email,
        initiator_auth_provider_id=None if provider_id is None else AuthProviderId(provider_id),
        initiator_client_version=os.client_version,
        initiator_device_os_name=os.name,
        initiator_device_os_version=os.version,
        initiator_device_serial=device.device_serial,
        initiator_device_uuid=device.device_uuid,
        initiator_device_identifier_for_vendor=device.identifier_for_vendor,
        initiator_device_firebase_installation_id=device.firebase_installation_id,
    )
    key = context.view.facts.ingest_signing_key
    responders = msgspec.structs.replace(claims, role="responder")
    return IngestTokens(mint_ingest_token(claims, key), mint_ingest_token(responders, key))
