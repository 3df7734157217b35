"""Who a profile is (identity §7): the whole matrix, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from support.migrated_file import migrated_file
from support.postgres import postgres_database
from wardgate.portal.environment import Environment
from wardgate.portal.people.tables import Actor, ExternalIdentity
from wardgate.portal.provisioning import provision
from wardgate.portal.sign_in.oidc.identities import Known, ProofNeeded, Unknown, link, match
from wardgate.portal.sign_in.oidc.profile import Profile
from wardgate.portal.sign_in.oidc.relying_party import EmailTrust
from wardgate.portal.store import AccountTables, Database, PostgresServer, Store

ISSUER = "https://idp.test"
PROFILE = Profile(issuer=ISSUER, subject="subject-1", email="Ada@Example.org", name="Ada")
TRUSTED = (EmailTrust.NONE, EmailTrust.CLAIM)


class Office:
    """An account with three people."""

    def __init__(self, store: Store, account_id: UUID, people: dict[str, Actor]) -> None:
        self.store = store
        self.account_id = account_id
        self.ada, self.bob, self.gone = people["ada"], people["bob"], people["gone"]

    async def matched(
        self, profile: Profile = PROFILE, trust: EmailTrust = EmailTrust.CLAIM
    ) -> Known | ProofNeeded | Unknown:
        async with self.store.writing() as transaction:
            return await match(transaction.of(self.account_id), profile, trust)

    async def linked(self, actor: Actor, profile: Profile = PROFILE) -> Known | Unknown:
        async with self.store.writing() as transaction:
            return await link(transaction.of(self.account_id), actor, profile)

    async def identities(self) -> dict[tuple[str, str], UUID]:
        async with self.store.reading() as transaction:
            rows = await transaction.of(self.account_id).external_identities.load_all()
        return {(row.issuer, row.idp_id): row.actor_id for row in rows}

    async def add_identity(self, actor: Actor, subject: str, *, issuer: str = ISSUER) -> ExternalIdentity:
        async with self.store.writing() as transaction:
            tables = transaction.of(self.account_id)
            row = ExternalIdentity(
                id=tables.new_id(),
                account_id=tables.account_id,
                actor_id=actor.id,
                issuer=issuer,
                idp_id=subject,
            )
            return await tables.external_identities.insert(row)


@pytest.fixture(params=["file", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "file":
        yield migrated_file(tmp_path / "wardgate.db")
    else:
        async with postgres_database() as url:
            yield PostgresServer(url)


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    store = await Store.open(database, Environment.of_this_process())
    async with store.writing() as transaction:
        made = await provision(transaction, name="Acme", slug="acme", admin_email="boss@example.org")
        tables = transaction.of(made.account.id)
        people = {
            name: await _add(tables, name, is_disabled=name == "gone") for name in ("ada", "bob", "gone")
        }
    yield Office(store, made.account.id, people)
    await store.close()


async def _add(tables: AccountTables, name: str, *, is_disabled: bool) -> Actor:
    return await tables.actors.insert(
        Actor(
            id=tables.new_id(),
            account_id=tables.account_id,
            type="account_user",
            name=name,
            email=f"{name}@example.org",
            is_disabled=is_disabled,
        )
    )


@pytest.mark.parametrize("trust", TRUSTED)
async def test_a_first_sign_in_links_by_address_in_any_case(office: Office, trust: EmailTrust) -> None:
    assert await office.matched(trust=trust) == Known(office.ada)
    assert await office.identities() == {(ISSUER, "subject-1"): office.ada.id}


async def test_a_second_sign_in_finds_the_subject_whatever_the_address(office: Office) -> None:
    await office.matched()
    renamed = replace(PROFILE, email="ada@elsewhere.example", name="Ada L.", nickname="al")
    assert await office.matched(renamed) == Known(office.ada)
    async with office.store.reading() as transaction:
        (row,) = await transaction.of(office.account_id).external_identities.load_all()
    assert (row.email, row.name, row.nickname) == ("ada@elsewhere.example", "Ada L.", "al")


async def test_the_subject_wins_over_the_address(office: Office) -> None:
    await office.add_identity(office.bob, "subject-1")
    await office.add_identity(office.ada, "subject-2")
    assert await office.matched() == Known(office.bob)
    assert await office.identities() == {
        (ISSUER, "subject-1"): office.bob.id,
        (ISSUER, "subject-2"): office.ada.id,
    }


@pytest.mark.parametrize("trust", TRUSTED)
async def test_somebody_made_anew_at_the_provider_takes_over_the_identity(
    office: Office, trust: EmailTrust
) -> None:
    await office.add_identity(office.ada, "before")
    assert await office.matched(trust=trust) == Known(office.ada)
    assert await office.identities() == {(ISSUER, "subject-1"): office.ada.id}


async def test_the_same_subject_of_another_issuer_is_somebody_else(office: Office) -> None:
    await office.add_identity(office.bob, "subject-1", issuer="https://evil.test")
    assert await office.matched() == Known(office.ada)
    assert (await office.identities())[("https://evil.test", "subject-1")] == office.bob.id


@pytest.mark.parametrize("trust", EmailTrust)
async def test_nobody_is_made_by_signing_in(office: Office, trust: EmailTrust) -> None:
    assert await office.matched(replace(PROFILE, email="eve@example.org"), trust) == Unknown()
    assert await office.identities() == {}


@pytest.mark.parametrize("trust", EmailTrust)
async def test_a_disabled_actor_is_nobody(office: Office, trust: EmailTrust) -> None:
    assert await office.matched(replace(PROFILE, email="gone@example.org"), trust) == Unknown()


@pytest.mark.parametrize("trust", EmailTrust)
async def test_the_subject_of_a_disabled_actor_does_not_become_somebody_else(
    office: Office, trust: EmailTrust
) -> None:
    await office.add_identity(office.gone, "subject-1")
    assert await office.matched(trust=trust) == Unknown()
    assert await office.identities() == {(ISSUER, "subject-1"): office.gone.id}


async def test_a_recycled_subject_signs_in_who_had_it(office: Office) -> None:
    """The provider gave Bob's subject to somebody with Ada's address: subjects are never to be given twice."""
    await office.add_identity(office.bob, "subject-1")
    assert await office.matched() == Known(office.bob)


async def test_another_account_has_people_of_its_own(office: Office) -> None:
    async with office.store.writing() as transaction:
        other = await provision(transaction, name="Other", slug="other", admin_email="ada@example.org")
        found = await match(transaction.of(other.account.id), PROFILE, EmailTrust.CLAIM)
    assert isinstance(found, Known)
    assert found.actor.account_id == other.account.id
    assert await office.identities() == {}


@pytest.mark.parametrize("trust", TRUSTED)
async def test_two_first_sign_ins_at_once_make_one_identity(office: Office, trust: EmailTrust) -> None:
    found = await asyncio.gather(*(office.matched(trust=trust) for _ in range(4)))
    assert found == [Known(office.ada)] * 4
    assert await office.identities() == {(ISSUER, "subject-1"): office.ada.id}


async def test_two_subjects_with_one_address_at_once_leave_one_identity(office: Office) -> None:
    profiles = [replace(PROFILE, subject=f"subject-{n}") for n in range(3)]
    assert await asyncio.gather(*map(office.matched, profiles)) == [Known(office.ada)] * 3
    assert len(await office.identities()) == 1


async def test_proof_is_asked_of_somebody_new_and_nothing_is_written(office: Office) -> None:
    assert await office.matched(trust=EmailTrust.PROOF) == ProofNeeded(office.ada)
    assert await office.identities() == {}


async def test_proof_is_asked_of_a_new_subject_with_a_known_address(office: Office) -> None:
    await office.add_identity(office.ada, "before")
    assert await office.matched(trust=EmailTrust.PROOF) == ProofNeeded(office.ada)
    assert await office.identities() == {(ISSUER, "before"): office.ada.id}


async def test_who_has_proved_the_address_is_not_asked_again(office: Office) -> None:
    assert await office.linked(office.ada) == Known(office.ada)
    assert await office.matched(trust=EmailTrust.PROOF) == Known(office.ada)
    renamed = replace(PROFILE, email="bob@example.org")
    assert await office.matched(renamed, EmailTrust.PROOF) == Known(office.ada)


async def test_a_proven_address_takes_over_the_identity_at_this_issuer(office: Office) -> None:
    await office.add_identity(office.ada, "before")
    await office.add_identity(office.ada, "before", issuer="https://other.test")
    assert await office.linked(office.ada) == Known(office.ada)
    assert await office.identities() == {
        (ISSUER, "subject-1"): office.ada.id,
        ("https://other.test", "before"): office.ada.id,
    }


async def test_a_proof_steals_no_subject(office: Office) -> None:
    await office.add_identity(office.bob, "subject-1")
    assert await office.linked(office.ada) == Unknown()
    assert await office.identities() == {(ISSUER, "subject-1"): office.bob.id}


async def test_a_proof_for_somebody_disabled_meanwhile_is_worth_nothing(office: Office) -> None:
    assert await office.linked(replace(office.gone, is_disabled=False)) == Unknown()
    assert await office.identities() == {}
