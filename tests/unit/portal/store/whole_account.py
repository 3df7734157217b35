"""An account with a row in every table that accounts have, every column of it filled by at least one row."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from wardgate.portal.access.tables import Policy, PolicyAuthorization, Resource
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember
from wardgate.portal.people.tables import Actor, ExternalIdentity, Group, Membership
from wardgate.portal.schema.row import TenantRow
from wardgate.portal.sign_in.tables import (
    ApiToken,
    ClientToken,
    EmailOtpAuthProvider,
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
    OneTimePasscode,
    Passkey,
    PendingIdentity,
    PortalSession,
    RecoveryCodes,
    SecondFactorAttempt,
    SecondFactorTries,
    SignInLink,
    TotpAuthenticator,
    UserpassAuthProvider,
)
from wardgate.portal.sites.tables import GatewayToken, Site
from wardgate.portal.store import Transaction

LATER = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
GOOGLE = "https://accounts.google.com"

_RowT = TypeVar("_RowT", bound=TenantRow)


@dataclass(frozen=True, slots=True)
class WholeAccount:
    """What was stored, in the order in which it was; the parents of providers, which came with their details, first.

    Attributes:
        rows: at least one of each tenant table.
    """

    rows: list[TenantRow]

    @property
    def actor(self) -> Actor:
        return self.of(Actor)

    def of(self, row_class: type[_RowT]) -> _RowT:
        """Return the first row of a class."""
        return next(row for row in self.rows if isinstance(row, row_class))


async def fill_account(transaction: Transaction, account_id: UUID) -> WholeAccount:
    """Store a row of everything in an account that has nothing yet."""
    whole, tables = WholeAccount([]), transaction.of(account_id)

    async def add(row_class: type[_RowT], **values: Any) -> _RowT:
        row = row_class(id=transaction.new_id(), account_id=account_id, **values)
        row = await tables.by_name(row.table).insert(row)
        whole.rows.append(row)
        return row

    actor = await add(
        Actor,
        type="account_admin_user",
        name="Ada",
        email="ada@example.org",
        password_hash="$argon2id$secret",
        allow_email_otp_sign_in=True,
        preferences={"start_page": "groups"},
        is_disabled=False,
    )
    await add(Actor, type="service_account", name="Backup")
    issued = await _add_sign_in(add, transaction, actor)
    group = await add(
        Group, name="Engineering", entity_type="org_unit", idp_id="g-1", email="eng@example.org"
    )
    membership = await add(Membership, actor_id=actor.id, group_id=group.id)
    site = await add(Site, name="Berlin", health_threshold=2)
    resource = await add(
        Resource,
        type="dns",
        name="wiki",
        address="wiki.example.org",
        address_description="the wiki",
        ip_stack="dual",
        filters=[{"protocol": "tcp", "ports": ["80", "8000 - 8010"]}],
        site_id=site.id,
    )
    pool = await add(Resource, type="static_device_pool", name="laptops", membership_mode="listed")
    policy = await add(
        Policy,
        group_id=group.id,
        group_idp_id="g-1",
        resource_id=resource.id,
        description="why",
        conditions=[{"property": "remote_ip", "operator": "is_in_cidr", "values": ["10.0.0.0/8"]}],
        flow_log_uploads_enabled=False,
    )
    multi = await add(GatewayToken, secret_salt="s" * 22, secret_hash="h" * 64, site_id=site.id)
    client = await add(
        Device,
        type="client",
        name="laptop",
        actor_id=actor.id,
        hostname="Laptop.example.org",
        verified_at=LATER,
        client_token_id=issued.id,
        **_session("client-1", transaction),
    )
    gateway = await add(
        Device,
        type="gateway",
        name="gw",
        site_id=site.id,
        draining_since=LATER,
        gateway_token_id=multi.id,
        **_session("gateway-1", transaction),
    )
    await add(
        GatewayToken, secret_salt="s" * 22, secret_hash="h" * 64, device_id=gateway.id, rotated_at=LATER
    )
    await add(StaticDevicePoolMember, resource_id=pool.id, device_id=client.id)
    await add(
        PolicyAuthorization,
        policy_id=policy.id,
        resource_id=resource.id,
        initiating_device_id=client.id,
        receiving_device_id=gateway.id,
        token_id=issued.id,
        membership_id=membership.id,
        initiator_remote_ip="192.0.2.1",
        initiator_user_agent="test",
        receiver_remote_ip="2001:db8::1",
        expires_at=LATER,
    )
    return WholeAccount([*await tables.auth_providers.load_all(), *whole.rows])


async def _add_sign_in(add: Any, transaction: Transaction, actor: Actor) -> ClientToken:
    lifetimes = {"portal_session_lifetime_secs": 300, "client_session_lifetime_secs": 7_776_000}
    await add(EmailOtpAuthProvider, context="portal_only", **lifetimes)
    await add(UserpassAuthProvider, context="clients_only", is_disabled=True, **lifetimes)
    verified = {"is_verified": True, "fills_groups": True, **lifetimes}
    google = await add(
        GoogleAuthProvider,
        issuer=GOOGLE,
        is_default=True,
        client_id="google-client",
        client_secret="google-secret",
        **verified,
    )
    await add(
        EntraAuthProvider,
        issuer="https://login.example/t/v2.0",
        email_claim="email",
        client_id="entra-client",
        client_secret="entra-secret",
        **verified,
    )
    await add(
        OktaAuthProvider,
        issuer="https://acme.okta.example",
        okta_domain="acme.okta.example",
        client_id="okta-client",
        client_secret="okta-secret",
        **lifetimes,
    )
    await add(
        OidcAuthProvider,
        issuer="https://id.example.org",
        client_id="oidc-client",
        client_secret="oidc-secret",
        discovery_document_uri="https://id.example.org/.well-known/openid-configuration",
        email_verification_method="proof",
        is_legacy=True,
        **lifetimes,
    )
    profile = {
        "email": "Ada@example.org",
        "name": "Ada Lovelace",
        "given_name": "Ada",
        "family_name": "Lovelace",
        "middle_name": "King",
        "nickname": "ada",
        "preferred_username": "ada",
        "profile": "https://id.example.org/ada",
        "picture": "https://id.example.org/ada.png",
    }
    await add(
        ExternalIdentity,
        actor_id=actor.id,
        issuer=GOOGLE,
        idp_id="1",
        firezone_avatar_url="https://portal.example/a.png",
        **profile,
    )
    passcode = await add(
        OneTimePasscode, actor_id=actor.id, code_hash="$argon2id$code", expires_at=LATER, attempts=1
    )
    await add(
        PendingIdentity,
        actor_id=actor.id,
        auth_provider_id=google.id,
        one_time_passcode_id=passcode.id,
        issuer=GOOGLE,
        idp_id="2",
        **profile,
    )
    token: ClientToken = await add(
        ClientToken,
        actor_id=actor.id,
        auth_provider_id=google.id,
        secret_salt="s" * 22,
        secret_hash="h" * 64,
        expires_at=LATER,
    )
    await add(
        ApiToken,
        actor_id=actor.id,
        name="ci",
        secret_salt="s" * 22,
        secret_hash="h" * 64,
        expires_at=LATER,
        last_seen_user_agent="curl",
        last_seen_remote_ip="192.0.2.7",
        last_seen_at=LATER,
        **_place("last_seen_remote_ip"),
    )
    await add(
        PortalSession,
        actor_id=actor.id,
        auth_provider_id=google.id,
        user_agent="Firefox",
        remote_ip="192.0.2.8",
        expires_at=LATER,
        **_place("remote_ip"),
    )
    await add(SignInLink, actor_id=actor.id, secret_hash="h" * 64, expires_at=LATER)
    await add(
        TotpAuthenticator,
        actor_id=actor.id,
        name="Phone",
        sealed_secret="sealed",
        last_step=2**33,
        last_used_at=LATER,
    )
    await add(
        Passkey,
        actor_id=actor.id,
        name="Key",
        credential_id="aWQ",
        public_key="cGs",
        sign_count=2**32 - 1,
        last_used_at=LATER,
    )
    await add(RecoveryCodes, actor_id=actor.id, hashes=["h" * 64], remaining=1)
    await add(
        SecondFactorAttempt,
        actor_id=actor.id,
        auth_provider_id=google.id,
        purpose="sign_in",
        challenge="Y2hhbGxlbmdl",
        sealed_secret="sealed",
        expires_at=LATER,
        tries=1,
        is_proved=True,
    )
    await add(SecondFactorTries, actor_id=actor.id, tried=3, expires_at=LATER)
    return token


def _session(external_id: str, transaction: Transaction) -> dict[str, Any]:
    return {
        "psk_base": transaction.random_bytes(32),
        "firezone_id": external_id,
        "device_serial": "serial",
        "device_uuid": "uuid",
        "identifier_for_vendor": "vendor",
        "firebase_installation_id": "firebase",
        "public_key": "k" * 44,
        "last_seen_user_agent": "test/1",
        "last_seen_remote_ip": "192.0.2.9",
        "last_seen_version": "1.5.0",
        "last_seen_at": LATER,
        **_place("last_seen_remote_ip"),
    }


def _place(prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}_location_region": "DE",
        f"{prefix}_location_city": "Köln",
        f"{prefix}_location_lat": 50.9375,
        f"{prefix}_location_lon": -6.9603,
    }
