"""Identities and providers: read, and identities deleted."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from support.portal import World
from wardgate.portal.people.tables import ExternalIdentity
from wardgate.portal.sign_in.tables import (
    ClientToken,
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
    PortalSession,
)

ISSUER = "https://idp.example.org"
COMMON = {
    "id",
    "account_id",
    "name",
    "issuer",
    "context",
    "client_session_lifetime_secs",
    "portal_session_lifetime_secs",
    "is_disabled",
    "inserted_at",
    "updated_at",
}


async def signed_in(world: World, **more: Any) -> ExternalIdentity:
    """Give the world's actor an identity, with a token and a session that it got by signing in."""
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        provider = await tables.oidc_auth_providers.insert(oidc(world, name=str(uuid4())))
        identity = await tables.external_identities.insert(
            ExternalIdentity(
                id=uuid4(),
                account_id=world.account_id,
                actor_id=world.actor.id,
                **{"issuer": ISSUER, "idp_id": "user:42", **more},
            )
        )
        held: dict[str, Any] = {
            "account_id": world.account_id,
            "actor_id": world.actor.id,
            "auth_provider_id": provider.id,
            "expires_at": transaction.now + timedelta(days=1),
        }
        await tables.client_tokens.insert(
            ClientToken(id=uuid4(), secret_salt="s", secret_hash=uuid4().hex, **held)
        )
        await tables.portal_sessions.insert(
            PortalSession(id=uuid4(), user_agent="x", remote_ip="192.0.2.1", **held)
        )
    return identity


def oidc(world: World, *, name: str = "Keycloak") -> OidcAuthProvider:
    return OidcAuthProvider(
        id=uuid4(),
        account_id=world.account_id,
        name=name,
        issuer=ISSUER,
        client_id=f"client of {name}",
        client_secret="s3cret",
        discovery_document_uri=f"{ISSUER}/.well-known/openid-configuration",
    )


async def held_by(world: World) -> tuple[int, int, int]:
    """Count the identities of the actor, and the tokens and sessions that came from a sign-in."""
    async with world.portal.services.store.reading() as transaction:
        tables = transaction.of(world.account_id)
        tokens, sessions = tables.client_tokens, tables.portal_sessions
        return (
            await tables.external_identities.count(),
            await tokens.count(tokens.c.auth_provider_id.is_not(None)),
            await sessions.count(sessions.c.auth_provider_id.is_not(None)),
        )


async def test_identities_are_listed_newest_first_and_shown(api: httpx2.AsyncClient, world: World) -> None:
    first = await signed_in(world)
    second = await signed_in(world, issuer="https://other.example", idp_id="7", email="Ada@Example.org")
    path = f"/actors/{world.actor.id}/external_identities"
    listed = (await api.get(path)).json()
    assert [one["id"] for one in listed["data"]] == [str(second.id), str(first.id)]
    shown = (await api.get(f"{path}/{first.id}")).json()["data"]
    assert shown == listed["data"][1]
    assert (shown["idp_id"], shown["email"], shown["synced_at"]) == ("42", "user:42", None)
    assert (listed["data"][0]["idp_id"], listed["data"][0]["email"]) == ("7", "Ada@Example.org")


async def test_a_deleted_identity_takes_what_was_got_by_it_along(
    api: httpx2.AsyncClient, world: World
) -> None:
    identity = await signed_in(world)
    path = f"/actors/{world.actor.id}/external_identities/{identity.id}"
    stale = await api.delete(path, headers={"if-match": '"other"'})
    assert (stale.status_code, await held_by(world)) == (412, (1, 1, 1))
    tag = (await api.get(path)).headers["etag"]
    gone = await api.delete(path, headers={"if-match": tag})
    assert gone.json()["data"]["id"] == str(identity.id)
    assert await held_by(world) == (0, 0, 0)
    assert (await api.get(path)).status_code == 404


async def test_an_identity_is_found_under_its_own_actor_only(
    api: httpx2.AsyncClient, world: World, foreign: World
) -> None:
    theirs, own = await signed_in(foreign), await signed_in(world)
    robot = {"actor": {"name": "robot", "type": "service_account"}}
    other = (await api.post("/actors", json=robot)).json()["data"]["id"]
    for actor_id, identity in ((foreign.actor.id, theirs), (world.actor.id, theirs), (other, own)):
        path = f"/actors/{actor_id}/external_identities/{identity.id}"
        assert (await api.get(path)).status_code == (await api.delete(path)).status_code == 404
    for nobody in (foreign.actor.id, other, uuid4()):
        empty = await api.get(f"/actors/{nobody}/external_identities")
        assert (empty.status_code, empty.json()["data"]) == (200, [])
    assert await held_by(foreign) == await held_by(world) == (1, 1, 1)


@pytest.mark.parametrize(
    ("email", "left"),
    [
        ("lovelace@example.org", (0, 0, 0)),
        ("ADA@example.org ", (1, 1, 1)),
        ("ada@EXAMPLE.org", (1, 1, 1)),
    ],
)
async def test_another_address_ends_all_that_the_old_one_signed_in_to(
    api: httpx2.AsyncClient, world: World, email: str, left: tuple[int, int, int]
) -> None:
    await signed_in(world)
    answer = await api.patch(f"/actors/{world.actor.id}", json={"actor": {"email": email}})
    assert answer.status_code == 200
    assert await held_by(world) == left


async def test_providers_are_listed_by_name_and_shown_without_their_secrets(
    api: httpx2.AsyncClient, world: World, foreign: World
) -> None:
    def own(row_class: type[Any], **more: Any) -> Any:
        return row_class(id=uuid4(), account_id=world.account_id, **more)

    secrets = {"client_id": "the client", "client_secret": "s3cret"}
    made: dict[str, tuple[Any, set[str]]] = {
        "google": (own(GoogleAuthProvider, issuer="https://accounts.google.com"), {"is_default"}),
        "entra": (
            own(EntraAuthProvider, issuer="https://login.example/t/v2.0"),
            {"is_default", "email_claim"},
        ),
        "okta": (
            own(OktaAuthProvider, issuer="https://o.example.org", okta_domain="o.example.org", **secrets),
            {"is_default", "client_id", "okta_domain"},
        ),
        "oidc": (
            oidc(world),
            {"is_default", "client_id", "discovery_document_uri", "email_verification_method"},
        ),
    }
    async with world.portal.services.store.writing() as transaction:
        tables = transaction.of(world.account_id)
        for kind, (row, _) in made.items():
            await getattr(tables, f"{kind}_auth_providers").insert(row)
    async with world.portal.services.store.writing() as transaction:
        theirs = await transaction.of(foreign.account_id).oidc_auth_providers.insert(oidc(foreign))
    for kind, (row, more) in made.items():
        path = f"/{kind}_auth_providers"
        listed = await api.get(path, params={"name": row.name})
        (one,) = listed.json()["data"]
        assert set(one) == COMMON | more, kind
        shown = await api.get(f"{path}/{row.id}")
        assert shown.json()["data"] == one
        assert "etag" in shown.headers
        assert "s3cret" not in shown.text + listed.text
        assert (await api.get(path, params={"name": "x"})).json()["data"] == []
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await api.request(method, f"{path}/{row.id}")).status_code == 405
    assert (await api.get(f"/oidc_auth_providers/{theirs.id}")).status_code == 404
    assert (await api.get(f"/google_auth_providers/{made['oidc'][0].id}")).status_code == 404


async def test_an_account_signs_in_by_e_mail_from_the_start(api: httpx2.AsyncClient, world: World) -> None:
    (provider,) = (await api.get("/email_otp_auth_providers")).json()["data"]
    assert (provider["issuer"], provider["context"], provider["is_disabled"]) == (
        "firezone",
        "clients_and_portal",
        False,
    )
    assert set(provider) == COMMON
    assert UUID(provider["account_id"]) == world.account_id
