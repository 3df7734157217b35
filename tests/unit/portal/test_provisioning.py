"""What an account is born with (portal-domain §16)."""

import pytest

from wardgate.portal.environment import Environment
from wardgate.portal.provisioning import check_email, check_search_domain, check_slug, provision
from wardgate.portal.store import Conflict, Store


async def test_an_account_is_born_with_everything_that_a_first_admin_needs() -> None:
    store = await Store.open(None, Environment.of_this_process())
    async with store.writing() as transaction:
        made = await provision(
            transaction, name="Acme", legal_name="Acme Ltd", slug="acme", admin_email="ada@example.org"
        )
    async with store.reading() as transaction:
        tables = transaction.of(made.account.id)
        groups, sites = await tables.groups.load_all(), await tables.sites.load_all()
        (resource,), (provider,) = (
            await tables.resources.load_all(),
            await tables.email_otp_auth_providers.load_all(),
        )
        (admin,) = await tables.actors.load_all()
        assert await tables.memberships.count() == 0
    assert (made.account.name, made.account.legal_name) == ("Acme", "Acme Ltd")
    assert len(made.account.key) == 6
    assert [(group.name, group.type, group.idp_id) for group in groups] == [("Everyone", "managed", None)]
    assert {(site.name, site.managed_by) for site in sites} == {
        ("Internet", "system"),
        ("Default Site", "account"),
    }
    assert resource.type == "internet"
    assert {site.id for site in sites if site.managed_by == "system"} == {resource.site_id}
    assert (provider.issuer, provider.context, provider.is_disabled) == (
        "firezone",
        "clients_and_portal",
        False,
    )
    assert (admin.type, admin.email) == ("account_admin_user", "ada@example.org")
    # Without this the first admin could use no way in that an account has from birth.
    assert admin.allow_email_otp_sign_in
    await store.close()


async def test_a_taken_slug_leaves_nothing_behind() -> None:
    store = await Store.open(None, Environment.of_this_process())
    async with store.writing() as transaction:
        await provision(transaction, name="Acme", slug="acme", admin_email="ada@example.org")
    with pytest.raises(Conflict) as clash:
        async with store.writing() as transaction:
            await provision(transaction, name="Acme", slug="ACME", admin_email="ada@example.org")
    assert clash.value.fields == ("slug",)
    async with store.reading() as transaction:
        assert await transaction.accounts.count() == 1
    await store.close()


@pytest.mark.parametrize("slug", ["ab", "x" * 101, "-acme", "acme!", "sites"])
def test_a_slug_that_cannot_be_is_refused(slug: str) -> None:
    with pytest.raises(ValueError, match=r"slug|reserved"):
        check_slug(slug, frozenset({"sites"}))


@pytest.mark.parametrize(
    ("given", "kept"),
    [("Ada@EXAMPLE.org", "Ada@example.org"), (" a@bücher.example ", "a@xn--bcher-kva.example")],
)
def test_an_address_keeps_its_local_part_and_has_its_domain_in_ascii(given: str, kept: str) -> None:
    assert check_email(given) == kept


@pytest.mark.parametrize("email", ["ada", "ada@localhost", "@example.org", "a" * 150 + "@example.org"])
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(ValueError, match="e-mail address"):
        check_email(email)


@pytest.mark.parametrize("domain", ["corp.example", "bücher.example", "xn--bcher-kva.xn--zckzah"])
def test_a_search_domain_is_kept_as_typed(domain: str) -> None:
    assert check_search_domain(domain.upper()) == domain


@pytest.mark.parametrize("domain", ["", ".example.org", "a..b", "x" * 64 + ".org", "example.1", "org"])
def test_what_is_no_search_domain_is_refused(domain: str) -> None:
    with pytest.raises(ValueError, match="search domain"):
        check_search_domain(domain)
