"""What each change of the store means for a connected client and its gateway (portal-domain §8.4 to §8.7), row by row.

The client holds a grant of `net` at the gateway. A row that names no frame says that nobody hears of the
change. Device pools have a table of their own in `test_pool_hooks`.
"""

from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from support.hooks import Hook, Stage, play
from support.portal import World
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.devices.tables import Device
from wardgate.portal.people.tables import Actor, ExternalIdentity
from wardgate.portal.sign_in.tables import ClientToken, OidcAuthProvider, PortalSession, UserpassAuthProvider
from wardgate.portal.sites.tables import Site

SIGNED_OUT = ("disconnect token_expired", "phx_close")
CREATED = ("resource_created_or_updated net",)
DELETED = ("resource_deleted net",)
RESET = (*DELETED, *CREATED)
REJECTED = ("reject_access net",)
VERIFIED = [{"property": "client_verified", "operator": "is", "values": ["true"]}]
ANYWHERE = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["0.0.0.0/0"]}]
NOWHERE = [{"property": "remote_ip", "operator": "is_in_cidr", "values": ["203.0.113.0/24"]}]
MOVES_BY_DELETING = "Ubuntu/22.4.0 headless-client/1.5.4 (x86_64)"


# ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────


async def set_dns(stage: Stage) -> None:
    dns = {"clients_upstream_dns": {"type": "custom", "addresses": [{"address": "192.0.2.53"}]}}
    await stage.account(config=dns)


ACCOUNTS = [
    Hook("account: enabled → disabled", lambda s: s.account(is_disabled=True), SIGNED_OUT, REJECTED),
    Hook("account: config changed", set_dns, ("config_changed",)),
    Hook(
        "account: config changed, nothing that clients are told",
        lambda s: s.account(config={"notifications": {"outdated_gateway": {"enabled": False}}}),
    ),
    Hook("account: slug changed", lambda s: s.account(slug="other"), (), ("init",)),
    Hook("account: name changed", lambda s: s.account(name="Other")),
    Hook("account: delete", lambda s: s.transaction.accounts.delete(s.account_id), SIGNED_OUT, SIGNED_OUT),
]


# ── people and what they hold ────────────────────────────────────────────────────────────────────────────────


def somebody(stage: Stage) -> Actor:
    return Actor(id=stage.new_id(), account_id=stage.account_id, type="service_account", name="somebody else")


async def sign_in_with_password(stage: Stage) -> None:
    """Let Ada's token come from a provider."""
    provider = UserpassAuthProvider(id=stage.new_id(), account_id=stage.account_id)
    stage.kept["provider"] = await stage.tables.userpass_auth_providers.insert(provider)
    await use_provider(stage)


async def sign_in_with_oidc(stage: Stage) -> None:
    provider = OidcAuthProvider(
        id=stage.new_id(),
        account_id=stage.account_id,
        issuer="https://id.example",
        client_id="c",
        client_secret="s",
        discovery_document_uri="https://id.example/.well-known/openid-configuration",
    )
    stage.kept["provider"] = await stage.tables.oidc_auth_providers.insert(provider)
    stage.kept["identity"] = await stage.tables.external_identities.insert(
        ExternalIdentity(
            id=stage.new_id(),
            account_id=stage.account_id,
            actor_id=stage.world.actor.id,
            issuer="https://id.example",
            idp_id="ada",
        )
    )
    await use_provider(stage)


async def use_provider(stage: Stage) -> None:
    tokens = stage.tables.client_tokens
    token = await tokens.load(stage.world.client_token_id)
    assert token is not None
    await tokens.save(replace(token, auth_provider_id=stage.kept["provider"].id))


async def portal_session(stage: Stage) -> None:
    stage.kept["session"] = await stage.tables.portal_sessions.insert(
        PortalSession(
            id=stage.new_id(),
            account_id=stage.account_id,
            actor_id=stage.world.actor.id,
            user_agent="",
            remote_ip="192.0.2.1",
            expires_at=stage.transaction.now + timedelta(hours=1),
        )
    )


def another_token(stage: Stage) -> Awaitable[object]:
    return stage.tables.client_tokens.insert(
        ClientToken(
            id=stage.new_id(),
            account_id=stage.account_id,
            actor_id=stage.world.actor.id,
            secret_salt="s",
            secret_hash="h",
            expires_at=stage.transaction.now + timedelta(hours=1),
        )
    )


PEOPLE = [
    Hook(
        "actor: enabled → disabled", lambda s: s.save(s.world.actor, is_disabled=True), SIGNED_OUT, REJECTED
    ),
    Hook(
        "actor: enabled admin → user",
        lambda s: s.save(s.world.actor, type="account_user"),
        prepare=lambda s: s.save(s.world.actor, type="account_admin_user"),
    ),
    Hook("actor: renamed", lambda s: s.save(s.world.actor, name="Ada L.")),
    Hook("actor: insert", lambda s: s.tables.actors.insert(somebody(s))),
    Hook("actor: delete", lambda s: s.tables.actors.delete(s.world.actor.id), SIGNED_OUT, REJECTED),
    Hook(
        "auth provider: enabled → disabled",
        lambda s: s.tables.userpass_auth_providers.save(replace(s.kept["provider"], is_disabled=True)),
        SIGNED_OUT,
        REJECTED,
        prepare=sign_in_with_password,
    ),
    Hook(
        "auth provider: renamed",
        lambda s: s.tables.userpass_auth_providers.save(replace(s.kept["provider"], name="Password")),
        prepare=sign_in_with_password,
    ),
    Hook(
        "auth provider: delete",
        lambda s: s.tables.userpass_auth_providers.delete(s.kept["provider"].id),
        SIGNED_OUT,
        REJECTED,
        prepare=sign_in_with_password,
    ),
    Hook(
        "external identity: delete",
        lambda s: s.tables.external_identities.delete(s.kept["identity"].id),
        SIGNED_OUT,
        REJECTED,
        prepare=sign_in_with_oidc,
    ),
    Hook(
        "client token: delete",
        lambda s: s.tables.client_tokens.delete(s.world.client_token_id),
        SIGNED_OUT,
        REJECTED,
    ),
    Hook("client token: insert", another_token),
    Hook(
        "portal session: delete",
        lambda s: s.tables.portal_sessions.delete(s.kept["session"].id),
        prepare=portal_session,
    ),
    Hook(
        "gateway token: delete",
        lambda s: s.tables.gateway_tokens.delete(s.world.gateway_token_id),
        (),
        SIGNED_OUT,
    ),
]


# ── devices ──────────────────────────────────────────────────────────────────────────────────────────────────


async def device_saved(stage: Stage, external_id: str, **changes: Any) -> None:
    await stage.save(await stage.device(external_id), **changes)


async def device_deleted(stage: Stage, external_id: str) -> None:
    await stage.tables.devices.delete((await stage.device(external_id)).id)


async def verify(stage: Stage) -> None:
    await device_saved(stage, "client-1", verified_at=stage.transaction.now)


async def verified_before(stage: Stage) -> None:
    await stage.tables.devices.insert(
        Device(
            id=stage.new_id(),
            account_id=stage.account_id,
            type="client",
            name="laptop",
            psk_base=bytes(32),
            firezone_id="client-1",
            actor_id=stage.world.actor.id,
            verified_at=stage.transaction.now,
        )
    )


def needs_verification(stage: Stage) -> Awaitable[None]:
    return stage.save(stage.world.policy, conditions=VERIFIED)


async def verified_and_needed(stage: Stage) -> None:
    await verified_before(stage)
    await needs_verification(stage)


MOVED = {"ipv4": "100.64.9.9", "ipv6": "fd00:2021:1111::909"}

DEVICES = [
    Hook("device: latest session only", lambda s: device_saved(s, "client-1", last_seen_version="9.9.9")),
    Hook("device: own name", lambda s: device_saved(s, "client-1", name="laptop")),
    Hook("device: own addresses", lambda s: device_saved(s, "client-1", **MOVED), ("init",)),
    Hook(
        "device: verified, which a policy asks for",
        verify,
        CREATED,
        prepare=needs_verification,
        has_grant=False,
    ),
    Hook("device: verified, which nothing asks for", verify),
    Hook(
        "device: verified_at set → null, which nothing asks for",
        lambda s: device_saved(s, "client-1", verified_at=None),
        RESET,
        REJECTED,
        prepare=verified_before,
    ),
    Hook(
        "device: verified_at set → null, which a policy asks for",
        lambda s: device_saved(s, "client-1", verified_at=None),
        DELETED,
        REJECTED,
        prepare=verified_and_needed,
    ),
    Hook("device: own delete", lambda s: device_deleted(s, "client-1"), ("phx_close",), REJECTED),
    Hook("device: gateway's name", lambda s: device_saved(s, "gateway-1", name="Berlin 1")),
    Hook("device: gateway's addresses", lambda s: device_saved(s, "gateway-1", **MOVED), (), ("init",)),
    Hook(
        "device: gateway's delete",
        lambda s: device_deleted(s, "gateway-1"),
        RESET,
        (*REJECTED, "phx_close"),
    ),
]


# ── groups, memberships, policies ────────────────────────────────────────────────────────────────────────────


async def second_policy(stage: Stage, **fields: Any) -> None:
    """Ada is in a second group, which is granted the same resource."""
    stage.kept["group"] = group = await stage.group(with_ada=True)
    stage.kept["policy"] = await stage.policy(group, stage.world.resource, **fields)


def later_policy(stage: Stage) -> Awaitable[None]:
    """The same is granted by a second policy, of an id behind all others: the first is what the grant rests on."""
    return second_policy(stage, id=UUID("ffffffff-ffff-4fff-bfff-ffffffffffff"))


async def second_group(stage: Stage) -> None:
    stage.kept["group"] = await stage.group(with_ada=True)


async def outside_policy(stage: Stage) -> None:
    """A group without Ada is granted another resource."""
    stage.kept["group"] = group = await stage.group()
    stage.kept["resource"] = resource = await stage.resource("wiki")
    stage.kept["policy"] = await stage.policy(group, resource)


async def inside_policy_for(stage: Stage) -> None:
    await stage.policy(stage.world.group, await stage.resource("wiki"))


async def orphan(stage: Stage) -> None:
    await second_policy(stage)
    await stage.tables.groups.delete(stage.world.group.id)
    await stage.tables.policies.delete(stage.kept["policy"].id)


async def grant_deleted(stage: Stage) -> None:
    (row,) = await stage.tables.authorizations.load_all()
    await stage.tables.authorizations.delete(row.id)


async def grant_inserted(stage: Stage) -> None:
    """A row for another gateway, as if that had been chosen too."""
    (row,) = await stage.tables.authorizations.load_all()
    older: PolicyAuthorization = replace(row, id=stage.new_id())
    await stage.tables.authorizations.insert(older)


POLICIES = [
    Hook("group: insert", lambda s: s.group()),
    Hook("group: renamed", lambda s: s.save(s.world.group, name="Engineers")),
    Hook(
        "group: delete, its policy is orphaned",
        lambda s: s.tables.groups.delete(s.world.group.id),
        DELETED,
        REJECTED,
    ),
    Hook(
        "membership: insert, own",
        lambda s: s.join(s.kept["group"]),
        ("resource_created_or_updated wiki",),
        prepare=outside_policy,
    ),
    Hook(
        "membership: delete, own",
        lambda s: s.tables.memberships.delete(s.world.membership.id),
        DELETED,
        REJECTED,
    ),
    Hook(
        "membership: delete, own, another group grants it too",
        lambda s: s.tables.memberships.delete(s.world.membership.id),
        RESET,
        REJECTED,
        prepare=later_policy,
    ),
    Hook("policy: insert, for a group of ours", inside_policy_for, ("resource_created_or_updated wiki",)),
    Hook("policy: insert, for another group", outside_policy),
    Hook("policy: delete", lambda s: s.tables.policies.delete(s.world.policy.id), DELETED, REJECTED),
    Hook(
        "policy: delete, another one without grant stays",
        lambda s: s.tables.policies.delete(s.world.policy.id),
        prepare=second_policy,
        has_grant=False,
    ),
    Hook("policy: enabled → disabled", lambda s: s.save(s.world.policy, is_disabled=True), DELETED, REJECTED),
    Hook(
        "policy: disabled → enabled",
        lambda s: s.save(s.world.policy, is_disabled=False),
        CREATED,
        prepare=lambda s: s.save(s.world.policy, is_disabled=True),
        has_grant=False,
    ),
    Hook(
        "policy: group null → set",
        lambda s: s.save(s.world.policy, group_id=s.kept["group"].id),
        CREATED,
        prepare=orphan,
        has_grant=False,
    ),
    Hook(
        "policy: conditions changed, they hold",
        lambda s: s.save(s.world.policy, conditions=ANYWHERE),
        RESET,
        REJECTED,
    ),
    Hook(
        "policy: conditions changed, they hold, nothing was asked for",
        lambda s: s.save(s.world.policy, conditions=ANYWHERE),
        RESET,
        has_grant=False,
    ),
    Hook(
        "policy: conditions changed, another policy grants it too",
        lambda s: s.save(s.world.policy, conditions=ANYWHERE),
        prepare=second_policy,
        has_grant=False,
    ),
    Hook(
        "policy: conditions changed, they fail",
        lambda s: s.save(s.world.policy, conditions=NOWHERE),
        DELETED,
        REJECTED,
    ),
    Hook(
        "policy: conditions changed while disabled",
        lambda s: s.save(s.world.policy, conditions=ANYWHERE),
        prepare=lambda s: s.save(s.world.policy, is_disabled=True),
        has_grant=False,
    ),
    Hook(
        "policy: group changed to another of ours",
        lambda s: s.save(s.world.policy, group_id=s.kept["group"].id),
        RESET,
        REJECTED,
        prepare=second_group,
    ),
    Hook(
        "policy: group changed to one of others",
        lambda s: s.save(s.world.policy, group_id=s.kept["group"].id),
        DELETED,
        REJECTED,
        prepare=outside_policy,
    ),
    Hook(
        "policy: resource changed",
        lambda s: s.save(s.world.policy, resource_id=s.kept["resource"].id),
        ("resource_deleted net", "resource_created_or_updated wiki"),
        REJECTED,
        prepare=outside_policy,
    ),
    Hook(
        "policy: flow-log flag changed",
        lambda s: s.save(s.world.policy, flow_log_uploads_enabled=False),
        RESET,
        REJECTED,
    ),
    Hook("policy: description changed", lambda s: s.save(s.world.policy, description="for all")),
    Hook("policy authorization: delete", grant_deleted, RESET, REJECTED),
    Hook("policy authorization: insert", grant_inserted),
]


# ── resources and sites ──────────────────────────────────────────────────────────────────────────────────────


async def second_site(stage: Stage) -> None:
    site = Site(id=stage.new_id(), account_id=stage.account_id, name="Graz")
    stage.kept["site"] = await stage.tables.sites.insert(site)


def make_dns(stage: Stage) -> Awaitable[None]:
    return stage.save(stage.world.resource, type="dns", address="app.example", ip_stack="dual")


def net(**changes: Any) -> Any:
    return lambda stage: stage.save(stage.world.resource, **changes)


WEB = [{"protocol": "tcp", "ports": ["443"]}]

RESOURCES = [
    Hook("resource: name changed", net(name="lan"), ("resource_created_or_updated lan",)),
    Hook("resource: description changed", net(address_description="the net"), CREATED),
    Hook("resource: filters changed", net(filters=WEB), CREATED, ("resource_updated net",)),
    Hook(
        "resource: filters changed, nobody uses it",
        net(filters=WEB),
        CREATED,
        ("resource_updated net",),
        has_grant=False,
    ),
    Hook("resource: address changed", net(address="10.21.0.0/16"), RESET, REJECTED),
    Hook("resource: address changed, nobody uses it", net(address="10.21.0.0/16"), CREATED, has_grant=False),
    Hook("resource: type changed", net(type="ip", address="10.20.0.1"), RESET, REJECTED),
    Hook("resource: ip_stack changed", net(ip_stack="ipv4_only"), RESET, REJECTED, prepare=make_dns),
    Hook(
        "resource: site changed",
        lambda s: s.save(s.world.resource, site_id=s.kept["site"].id),
        RESET,
        REJECTED,
        prepare=second_site,
    ),
    Hook(
        "resource: site changed, nobody uses it",
        lambda s: s.save(s.world.resource, site_id=s.kept["site"].id),
        CREATED,
        prepare=second_site,
        has_grant=False,
    ),
    Hook(
        "resource: site changed, at an old client",
        lambda s: s.save(s.world.resource, site_id=s.kept["site"].id),
        RESET,
        prepare=second_site,
        has_grant=False,
        client_agent=MOVES_BY_DELETING,
    ),
    Hook("resource: site removed", net(site_id=None), DELETED, REJECTED),
    Hook("resource: insert", lambda s: s.resource("wiki")),
    Hook("resource: delete", lambda s: s.tables.resources.delete(s.world.resource.id), DELETED, REJECTED),
    Hook("site: insert", second_site),
    Hook("site: renamed", lambda s: s.save(s.world.site, name="Bern"), CREATED),
    Hook(
        "site: renamed, at an old client",
        lambda s: s.save(s.world.site, name="Bern"),
        RESET,
        client_agent=MOVES_BY_DELETING,
        has_grant=False,
    ),
    Hook("site: threshold changed", lambda s: s.save(s.world.site, health_threshold=2)),
    Hook(
        "site: delete",
        lambda s: s.tables.sites.delete(s.world.site.id),
        DELETED,
        (*REJECTED, *SIGNED_OUT),
    ),
]


@pytest.mark.parametrize(
    "hook", [*ACCOUNTS, *PEOPLE, *DEVICES, *POLICIES, *RESOURCES], ids=lambda hook: hook.row
)
async def test_a_change_reaches_whom_it_concerns(hook: Hook, world: World) -> None:
    assert await play(hook, world) == (hook.client, hook.gateway)


async def test_a_deleted_relay_token_ends_the_sockets_that_used_it(world: World) -> None:
    async with world.relay() as relay, world.client() as client:
        await relay.join({"stamp_secret": "ab" * 32})
        await client.join()
        async with world.portal.services.store.writing() as tx:
            (token,) = await tx.relay_tokens.load_all()
            await tx.relay_tokens.delete(token.id)
        assert await relay.receive_close() == 1001
        assert "disconnect" not in [frame["event"] for frame in relay.frames]


async def test_a_revoked_grant_of_the_internet_resource_is_renewed_at_its_gateway(world: World) -> None:
    """Deleting and creating the resource would switch it off for the user (protocol §3.2.1, §3.6.10)."""
    async with world.portal.services.store.writing() as tx:
        stage = Stage(world, tx)
        resources, sites = stage.tables.resources, stage.tables.sites
        internet = await resources.find(resources.c.type == "internet")
        system = await sites.find(sites.c.managed_by == "system")
        assert internet is not None
        assert system is not None
        policy = await stage.policy(world.group, internet)
        tokens = stage.tables.gateway_tokens
        await stage.save(await tokens.load(world.gateway_token_id), site_id=system.id)
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        client.send("request_authorization", {"resource_id": str(internet.id)})
        first = (await gateway.receive("create_authorization"))["payload"]
        gateway.send("authorization_created", {"ref": first["ref"]})
        await gateway.receive("phx_reply")
        await client.receive("authorization_created")
        async with world.portal.services.store.writing() as tx:
            await Stage(world, tx).save(policy, flow_log_uploads_enabled=False)
        again = (await gateway.receive_until("create_authorization"))["payload"]
        assert "resource_deleted" not in [frame["event"] for frame in client.frames]
        same = ("client", "client_ice_credentials", "gateway_ice_credentials", "resource")
        assert [again[name] for name in same] == [first[name] for name in same]
        gateway.send("authorization_created", {"ref": again["ref"]})
        await gateway.receive_until("phx_reply")
        await client.receive("authorization_created")


async def test_no_resource_is_granted_anew_once_its_policy_is_gone(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        async with world.portal.services.store.writing() as tx:
            await tx.of(world.account_id).policies.delete(world.policy.id)
        await client.receive("resource_deleted")
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        failed = await client.receive("authorization_creation_failed")
        assert failed["payload"]["reason"] == "not_found"
        assert await gateway.is_quiet()
