"""Every operation of the REST API's document, with a call to each that would be accepted: what tests of bad
input spoil one thing of.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from support.portal import World
from wardgate.portal.access.tables import Resource
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember
from wardgate.portal.installation.tables import Banner
from wardgate.portal.people.tables import ExternalIdentity
from wardgate.portal.provisioning import provision
from wardgate.portal.rest.application import openapi, paths
from wardgate.portal.sign_in.tables import (
    ApiToken,
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
    UserpassAuthProvider,
)
from wardgate.portal.sites.tables import GatewayToken
from wardgate.portal.store import Transaction

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Operation:
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def described(self) -> Schema:
        found: Schema = openapi()["paths"][self.path][self.method]
        return found

    @property
    def is_operators(self) -> bool:
        return paths().is_operators(self.path)

    @property
    def takes_if_match(self) -> bool:
        return any(one["name"] == "If-Match" for one in self.described.get("parameters", []))

    @property
    def body(self) -> Schema | None:
        """The schema of the body; none: it takes none."""
        request = self.described.get("requestBody")
        return None if request is None else resolved(request["content"]["application/json"]["schema"])

    @property
    def wrapper(self) -> str:
        body = self.body
        assert body is not None
        (name,) = body["properties"]
        return str(name)

    def fields(self) -> dict[str, Schema]:
        """Return the fields within the wrapper; none where it holds a list."""
        body = self.body
        assert body is not None
        fields: dict[str, Schema] = resolved(body["properties"][self.wrapper]).get("properties", {})
        return {name: resolved(schema) for name, schema in fields.items()}


def operations() -> Iterator[Operation]:
    for path, methods in openapi()["paths"].items():
        for method in methods:
            yield Operation(method, path)


def resolved(schema: Schema) -> Schema:
    """Return what a schema stands for, null aside."""
    plain = next((one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"), schema)
    if "$ref" in plain:
        found: Schema = openapi()["components"]["schemas"][plain["$ref"].rsplit("/", 1)[1]]
        return found
    return {**schema, **plain}


@dataclass(frozen=True, slots=True)
class Furnished:
    """A world with one object of every kind, so that a call fails for what a test spoils and for nothing else."""

    world: World
    slug: str
    ids: dict[str, UUID] = field(repr=False)

    def path(self, operation: Operation) -> str:
        """Fill in the ids."""
        segments, owners = operation.path.split("/"), dict(self.ids)
        if (
            segments[-1] in ("google_auth_providers", "userpass_auth_providers")
            and operation.method == "post"
        ):
            owners["accounts"] = owners["accounts without Google"]
        if "pool_members" in segments:
            owners["resources"] = owners["pools"]
        if segments[-1] == "token":
            owners["gateways"] = owners["bare gateways"]
        if (operation.method, segments[-1]) == ("post", "client_tokens"):
            owners["actors"] = owners["robots"]
        return "/".join(
            str(owners.get(segments[index - 1], "c" * 24)) if segment.startswith("{") else segment
            for index, segment in enumerate(segments)
        )

    def good(self, operation: Operation) -> dict[str, Any] | None:
        """Return a body that is accepted; none: the operation takes none."""
        if operation.body is None:
            return None
        values = self._values(operation)
        return {operation.wrapper: values}

    def _values(self, operation: Operation) -> Any:
        actor, device = str(self.ids["robots"]), str(self.ids["clients"])
        if operation.method == "put" and operation.wrapper == "memberships":
            return [{"actor_id": actor}]
        if operation.method == "put" and operation.wrapper == "pool_members":
            return [{"device_id": device}]
        if operation.path.endswith("/hostname"):
            return {"hostname": "nas.lab.example"}
        name = f"new {uuid4()}"
        values: dict[str, Any] = {
            "memberships": {"add": [actor], "remove": [actor]},
            "pool_members": {"add": [device], "remove": [device]},
            "actor": {"name": name, "type": "account_user", "email": f"{uuid4()}@example.org"},
            "client_token": {"expires_at": "2099-01-01T00:00:00Z", "actor_id": str(self.ids["actors"])},
            "resource": {
                "name": name,
                "type": "dns",
                "address": "*.example.com",
                "address_description": "an example",
                "ip_stack": "ipv4_only",
                "site_id": str(self.ids["sites"]),
                "filters": [{"protocol": "tcp", "ports": ["80"]}],
            },
            "policy": {
                "group_id": str(self.ids["free groups"]),
                "resource_id": str(self.ids["resources"]),
                "description": "as it should be",
                "conditions": [{"property": "client_verified", "operator": "is", "values": ["true"]}],
            },
            "account_settings": {"name": "Acme", "search_domain": "corp.example.com"},
            "account": {"name": "New account", "slug": f"new-{uuid4()}", "admin_email": "root@example.org"},
            "deletion": {"slug": self.slug},
            "api_client": {"name": name},
            "api_token": {"name": name, "expires_at": "2099-01-01T00:00:00Z"},
            "device_pool": {
                "name": name,
                "type": "dynamic_device_pool",
                "address": "*.lab.example",
                "address_description": "an example",
                "filters": [{"protocol": "tcp", "ports": ["80"]}],
            },
            "google_auth_provider": {"name": name, "client_id": "known to them", "client_secret": "s3cret"},
            "password": {"secret": "correct horse battery"},
            "entra_auth_provider": {
                "name": name,
                "issuer": f"https://login.example.org/{uuid4()}/v2.0",
                "email_claim": "upn",
                "client_id": "known to them",
                "client_secret": "s3cret",
            },
            "okta_auth_provider": {
                "name": name,
                "okta_domain": "example.okta.com",
                "client_id": f"{uuid4()}",
                "client_secret": "s3cret",
            },
            "oidc_auth_provider": {
                "name": name,
                "client_id": f"{uuid4()}",
                "client_secret": "s3cret",
                "discovery_document_uri": "https://sso.example.org/.well-known/openid-configuration",
                "issuer": "https://sso.example.org",
                "email_verification_method": "proof",
            },
            "banner": {"message": "Maintenance", "color": "info"},
        }
        found: dict[str, Any] = values.get(operation.wrapper, {"name": name[:36]})
        if operation.wrapper == "device_pool" and operation.method != "post":
            # The one that is there is static: what has an address are dynamic ones.
            return {name: value for name, value in found.items() if name not in ("type", "address")}
        return found


async def make_providers(transaction: Transaction, account_id: UUID) -> dict[str, UUID]:
    """Make a provider of each kind that is configured, and an account that has none."""
    tables, new_id = transaction.of(account_id), transaction.new_id
    common: dict[str, Any] = {"account_id": account_id, "is_disabled": True}
    secret: dict[str, Any] = {"client_id": "known to them", "client_secret": "s3cret"}
    place = "https://idp.example.org"
    for row in (
        UserpassAuthProvider(id=new_id(), **common),
        GoogleAuthProvider(id=new_id(), issuer="https://accounts.google.com", **common, **secret),
        EntraAuthProvider(id=new_id(), issuer=place, **common, **secret),
        OktaAuthProvider(
            id=new_id(), issuer="https://x.okta.com", okta_domain="x.okta.com", **common, **secret
        ),
        OidcAuthProvider(
            id=new_id(),
            issuer=place,
            discovery_document_uri=f"{place}/.well-known/openid-configuration",
            **common,
            **secret,
        ),
    ):
        await tables.by_name(row.table).insert(row)
    slug = f"bare-{new_id()}"
    bare = await provision(transaction, name="Bare", slug=slug, admin_email=f"a@{slug}.example")
    names = ("userpass", "google", "entra", "okta", "oidc")
    return {
        **{
            f"{name}_auth_providers": (await getattr(tables, f"{name}_auth_providers").load_all())[0].id
            for name in names
        },
        "accounts without Google": bare.account.id,
    }


async def furnish(world: World, slug: str) -> Furnished:
    """Add what `make_world` leaves out."""
    account_id = world.account_id
    async with world.portal.services.store.writing() as transaction:
        tables, new_id = transaction.of(account_id), transaction.new_id

        async def device(type_: str, **more: Any) -> Device:
            row = Device(
                id=new_id(), account_id=account_id, type=type_, name=type_, psk_base=b"p" * 32, **more
            )
            return await tables.devices.insert(row)

        client = await device("client", actor_id=world.actor.id)
        gateway = await device("gateway", site_id=world.site.id)
        bare = await device("gateway", site_id=world.site.id)
        pool = await tables.resources.insert(
            Resource(id=new_id(), account_id=account_id, type="static_device_pool", name="laptops")
        )
        await tables.pool_members.insert(
            StaticDevicePoolMember(
                id=new_id(), account_id=account_id, resource_id=pool.id, device_id=client.id
            )
        )
        token = await tables.gateway_tokens.insert(
            GatewayToken(
                id=new_id(),
                account_id=account_id,
                secret_salt="s",
                secret_hash=new_id().hex,
                device_id=gateway.id,
            )
        )
        identity = await tables.external_identities.insert(
            ExternalIdentity(
                id=new_id(),
                account_id=account_id,
                actor_id=world.actor.id,
                issuer="https://idp.example.org",
                idp_id="42",
            )
        )
        free_group = await tables.groups.insert(
            type(world.group)(id=new_id(), account_id=account_id, name="Free")
        )
        robot = await tables.actors.insert(
            type(world.actor)(id=new_id(), account_id=account_id, type="service_account", name="robot 1")
        )
        client_actor = await tables.actors.insert(
            type(world.actor)(id=new_id(), account_id=account_id, type="api_client", name="caller")
        )
        api_token = await tables.api_tokens.insert(
            ApiToken(
                id=new_id(),
                account_id=account_id,
                actor_id=client_actor.id,
                name="first",
                secret_salt="s",
                secret_hash=new_id().hex,
                expires_at=datetime(2099, 1, 1, tzinfo=UTC),
            )
        )
        providers = await make_providers(transaction, account_id)
        provider = (await tables.email_otp_auth_providers.load_all())[0]
        banner = await transaction.banners.insert(Banner(id=new_id(), message="Hello", color="info"))
        relay_token = (await transaction.relay_tokens.load_all())[-1]
    ids = {
        "actors": world.actor.id,
        "robots": robot.id,
        "groups": world.group.id,
        "free groups": free_group.id,
        "sites": world.site.id,
        "resources": world.resource.id,
        "pools": pool.id,
        "policies": world.policy.id,
        "clients": client.id,
        "gateways": gateway.id,
        "bare gateways": bare.id,
        "client_tokens": world.client_token_id,
        "gateway_tokens": token.id,
        "external_identities": identity.id,
        "email_otp_auth_providers": provider.id,
        "relay_tokens": relay_token.id,
        "banners": banner.id,
        "device_pools": pool.id,
        "api_clients": client_actor.id,
        "tokens": api_token.id,
        **providers,
        "accounts": account_id,
    }
    return Furnished(world, slug, ids)
