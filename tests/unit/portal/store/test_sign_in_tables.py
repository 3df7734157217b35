"""Providers, identities and passcodes: what goes with them, what is kept secret, what is refused."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError

from unit.portal.store.whole_account import GOOGLE, LATER, WholeAccount, fill_account
from wardgate.portal.devices.tables import StaticDevicePoolMember
from wardgate.portal.people.tables import Actor, ExternalIdentity
from wardgate.portal.sign_in.tables import (
    PROVIDERS,
    AuthProviderDetails,
    ClientToken,
    EmailOtpAuthProvider,
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
    OneTimePasscode,
    UserpassAuthProvider,
)
from wardgate.portal.store import Conflict, Store, Transaction, Unstorable

pytestmark = pytest.mark.slow

ISSUED = ("client_tokens", "portal_sessions", "pending_identities")


@pytest.fixture
async def whole(store: Store, account_id: UUID) -> WholeAccount:
    async with store.writing() as transaction:
        return await fill_account(transaction, account_id)


async def test_a_providers_parent_comes_and_goes_with_it(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        for details in _providers(whole):
            parent = await tables.auth_providers.load(details.id)
            assert parent is not None
            assert parent.type == details.type
            assert await tables.by_name(details.table).delete(details.id)
            assert await tables.auth_providers.load(details.id) is None
        for table in (*ISSUED, *(provider.name for provider in PROVIDERS)):
            assert await tables.by_name(table).count() == 0, table


async def test_providers_are_deleted_by_condition_with_their_parents(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        assert await tables.google_auth_providers.delete_where() == 1
        google = whole.of(GoogleAuthProvider)
        assert await tables.auth_providers.load(google.id) is None
        await tables.google_auth_providers.insert(replace(google, id=transaction.new_id()))


async def test_disabling_a_provider_ends_what_it_issued_and_nothing_else(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        await _also_issued_by_hand(transaction, whole)
        renamed = await tables.google_auth_providers.save(replace(whole.of(GoogleAuthProvider), name="G"))
        assert await tables.client_tokens.count() == 2
        await tables.google_auth_providers.save(replace(renamed, is_disabled=True))
        assert [token.auth_provider_id for token in await tables.client_tokens.load_all()] == [None]
        assert await tables.portal_sessions.count() == 0
        assert await tables.authorizations.count() == 0


async def test_what_an_identity_goes_with_is_held_by_sign_ins_at_its_issuer(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    """Also by other providers of that issuer; tokens of other issuers, other actors and from admins stay."""
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        await _also_issued_by_hand(transaction, whole)
        oidc = await tables.oidc_auth_providers.save(replace(whole.of(OidcAuthProvider), issuer=GOOGLE))
        entra, token = whole.of(EntraAuthProvider), whole.of(ClientToken)
        service = next(row for row in whole.rows if isinstance(row, Actor) and row.type == "service_account")
        for provider_id, actor_id in (
            (oidc.id, whole.actor.id),
            (entra.id, whole.actor.id),
            (oidc.id, service.id),
        ):
            copy = replace(token, id=transaction.new_id(), auth_provider_id=provider_id, actor_id=actor_id)
            await tables.client_tokens.insert(copy)
        assert await tables.external_identities.delete(whole.of(ExternalIdentity).id)
        left = {(one.auth_provider_id, one.actor_id) for one in await tables.client_tokens.load_all()}
        assert left == {(None, whole.actor.id), (entra.id, whole.actor.id), (oidc.id, service.id)}
        assert await tables.portal_sessions.count() == 0


@pytest.mark.parametrize(
    ("email", "remain"), [("ada@EXAMPLE.org", 1), (" Ada@example.org ", 1), ("ada@example.net", 0)]
)
async def test_only_another_address_costs_an_actor_its_identities(
    store: Store, account_id: UUID, whole: WholeAccount, email: str, remain: int
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        await tables.actors.save(replace(whole.actor, email=email))
        assert await tables.external_identities.count() == remain
        assert await tables.portal_sessions.count() == remain


async def test_a_passcode_takes_what_waits_for_it(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        assert await tables.one_time_passcodes.delete(whole.of(OneTimePasscode).id)
        assert await tables.pending_identities.count() == 0


async def test_an_actor_takes_everything_about_its_sign_in(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        assert await tables.actors.delete(whole.actor.id)
        for table in ("external_identities", "one_time_passcodes", "api_tokens", "sign_in_links", *ISSUED):
            assert await tables.by_name(table).count() == 0, table


async def test_leaving_a_pool_ends_grants_for_it_to_that_client_only(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        (grant,) = await tables.authorizations.load_all()
        member = whole.of(StaticDevicePoolMember)
        granted = replace(
            grant,
            id=transaction.new_id(),
            resource_id=member.resource_id,
            receiving_device_id=member.device_id,
        )
        await tables.authorizations.insert(granted)
        assert await tables.pool_members.delete(member.id)
        assert [row.id for row in await tables.authorizations.load_all()] == [grant.id]


async def test_another_host_name_ends_grants_that_a_client_receives(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.writing() as transaction:
        tables = transaction.of(account_id)
        (grant,) = await tables.authorizations.load_all()
        client = await tables.devices.load(grant.initiating_device_id)
        assert client is not None
        await tables.authorizations.insert(
            replace(grant, id=transaction.new_id(), receiving_device_id=client.id)
        )
        await tables.devices.save(replace(client, hostname="other.example.org"))
        assert [row.id for row in await tables.authorizations.load_all()] == [grant.id]


async def test_a_pool_takes_clients_only(store: Store, account_id: UUID, whole: WholeAccount) -> None:
    (grant,) = await _load(store, account_id, "policy_authorizations")
    member = whole.of(StaticDevicePoolMember)
    for kind in ("client", "gateway"):
        with pytest.raises(Exception, match=r"(?i)foreign|check"):
            async with store.writing() as transaction:
                await transaction.of(account_id).pool_members.insert(
                    replace(
                        member,
                        id=transaction.new_id(),
                        device_id=grant.receiving_device_id,
                        device_type=kind,
                    )
                )


async def test_no_secret_reaches_the_feed(store: Store, account_id: UUID, whole: WholeAccount) -> None:
    secrets = (
        "password_hash",
        "code_hash",
        "client_secret",
        "secret_hash",
        "secret_salt",
        "psk_base",
        "ingest_signing_key",
    )
    async with store.reading() as transaction:
        images = [change.after for change in await transaction.changes_after(account_id, 0, 1000)]
    shown = {name: image[name] for image in images if image for name in secrets if name in image}
    assert set(shown) == set(secrets)
    for image in images:
        assert image is not None
        kept = {image[name] for name in secrets if name in image}
        assert kept <= {"[redacted]"}, image
    assert whole.actor.password_hash is not None
    assert whole.actor.password_hash not in str(images)


async def test_what_admins_read_is_what_the_specification_covers(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    async with store.reading() as transaction:
        changes = await transaction.changes_after(account_id, 0, 1000)
    internal = {change.object for change in changes if change.audience == "internal"}
    assert internal == {
        "auth_providers",
        "pending_identities",
        "policy_authorizations",
        "portal_sessions",
        "second_factor_tries",
        "sign_in_links",
    }
    assert {change.object for change in changes} == {row.table for row in whole.rows} | {"accounts"}


async def test_a_second_provider_of_a_kind_is_refused_as_specified(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    entra, oidc = whole.of(EntraAuthProvider), whole.of(OidcAuthProvider)
    okta = whole.of(OktaAuthProvider)
    cases: list[tuple[AuthProviderDetails, str]] = [
        (whole.of(EmailOtpAuthProvider), "id"),
        (whole.of(UserpassAuthProvider), "id"),
        (whole.of(GoogleAuthProvider), "id"),
        (replace(entra, name="other"), "issuer"),
        (replace(entra, issuer="https://other.example"), "name"),
        (replace(okta, name="other"), "client_id"),
        (replace(okta, client_id="other"), "name"),
        (replace(oidc, name="other"), "client_id"),
        (replace(oidc, client_id="other"), "name"),
    ]
    for second, field in cases:
        with pytest.raises(Conflict) as clash:  # noqa: PT012
            async with store.writing() as transaction:
                row = replace(second, id=transaction.new_id())
                await transaction.of(account_id).by_name(row.table).insert(row)
        assert (clash.value.table, clash.value.fields) == (second.table, (field,))


async def test_a_row_that_contradicts_itself_or_exceeds_a_limit_is_refused(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("email_otp_auth_providers", {"issuer": "other"}),
        ("email_otp_auth_providers", {"context": "everywhere"}),
        ("email_otp_auth_providers", {"portal_session_lifetime_secs": 299}),
        ("google_auth_providers", {"portal_session_lifetime_secs": 86_401}),
        ("oidc_auth_providers", {"client_session_lifetime_secs": 3_599}),
        ("entra_auth_providers", {"client_session_lifetime_secs": 7_776_001}),
        ("okta_auth_providers", {"issuer": "https://other.okta.example"}),
        ("entra_auth_providers", {"email_claim": "phone"}),
        ("oidc_auth_providers", {"email_verification_method": "trust"}),
        ("resources", {"ip_stack": "ipv5_only"}),
        ("resources", {"type": "dynamic_device_pool", "ip_stack": None}),
        ("actors", {"email": None}),
        ("actors", {"type": "root"}),
        ("one_time_passcodes", {"attempts": 4}),
        ("devices", {"type": "gateway"}),
        ("sites", {"health_threshold": 0}),
        ("static_device_pool_members", {"device_type": "gateway"}),
    ]
    for table, changes in cases:
        row = next(row for row in whole.rows if row.table == table)
        with pytest.raises(IntegrityError, match=r"(?i)check constraint"):
            async with store.writing() as transaction:
                await transaction.of(account_id).by_name(table).save(replace(row, **changes))


async def test_what_is_too_short_is_refused(store: Store, account_id: UUID, whole: WholeAccount) -> None:
    cases: list[tuple[str, str, Any]] = [
        ("groups", "name", ""),
        ("resources", "address_description", ""),
        ("devices", "hostname", "a"),
        ("devices", "public_key", "k" * 43),
        ("devices", "psk_base", b"k" * 31),
        ("policies", "description", ""),
        ("external_identities", "idp_id", ""),
    ]
    for table, field, value in cases:
        row = next(row for row in whole.rows if row.table == table)
        with pytest.raises(Unstorable) as refused:
            async with store.writing() as transaction:
                await transaction.of(account_id).by_name(table).save(replace(row, **{field: value}))
        assert refused.value.field == field


async def test_a_gateway_has_one_token_in_force_and_one_rotated_out(
    store: Store, account_id: UUID, whole: WholeAccount
) -> None:
    (rotated,) = [row for row in await _load(store, account_id, "gateway_tokens") if row.rotated_at]
    async with store.writing() as transaction:
        tokens = transaction.of(account_id).gateway_tokens
        await tokens.insert(replace(rotated, id=transaction.new_id(), rotated_at=None))
    for rotated_at in (None, LATER):
        with pytest.raises(Conflict) as clash:
            async with store.writing() as transaction:
                await transaction.of(account_id).gateway_tokens.insert(
                    replace(rotated, id=transaction.new_id(), rotated_at=rotated_at)
                )
        assert clash.value.fields == ("device_id",)


async def _load(store: Store, account_id: UUID, table: str) -> list[Any]:
    async with store.reading() as transaction:
        return await transaction.of(account_id).by_name(table).load_all()


def _providers(whole: WholeAccount) -> list[AuthProviderDetails]:
    return [row for row in whole.rows if isinstance(row, AuthProviderDetails)]


async def _also_issued_by_hand(transaction: Transaction, whole: WholeAccount) -> None:
    """Add a client token that an admin made, without any provider."""
    token = replace(whole.of(ClientToken), id=transaction.new_id(), auth_provider_id=None)
    await transaction.of(token.account_id).client_tokens.insert(token)
