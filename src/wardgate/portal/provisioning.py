"""Making an account (portal-domain §16): Everyone, the Internet site and resource, a default site, sign-in by
e-mail, an admin.
"""

import re
from dataclasses import dataclass
from typing import Final

from wardgate.model.host_name import ascii_name
from wardgate.portal.access.tables import Resource
from wardgate.portal.account_config import AccountConfig
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor, Group
from wardgate.portal.sign_in.tables import EmailOtpAuthProvider
from wardgate.portal.sites.tables import Site
from wardgate.portal.snapshot.entities import EVERYONE
from wardgate.portal.store import Transaction

_KEY_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{1,98}[a-z0-9]")
_LABEL: Final = re.compile(r"[a-z0-9-]{1,63}")
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@([A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,}"
)


@dataclass(frozen=True, slots=True)
class Provisioned:
    account: Account
    everyone: Group
    site: Site
    admin: Actor


def check_slug(slug: str, reserved: frozenset[str]) -> str:
    """Return the slug in lower case.

    Raises:
        ValueError: not 3 to 100 of `a-z 0-9 - _`, or the first segment of one of the portal's own paths.
    """
    lowered = slug.strip().lower()
    if not _SLUG.fullmatch(lowered):
        raise ValueError(
            f"{slug!r} is no slug: 3 to 100 of a-z, 0-9, - and _, beginning and ending with a letter or digit"
        )
    if lowered in reserved:
        raise ValueError(f"{lowered!r} is reserved for the portal's own paths")
    return lowered


def check_email(email: str) -> str:
    """Return the address with its domain in lower case and in ASCII.

    Raises:
        ValueError: not an e-mail address with a dotted domain, or longer than 160 characters.
    """
    local, at, domain = email.strip().rpartition("@")
    try:
        domain = domain.lower().encode("idna").decode()
    except UnicodeError:
        domain = ""
    address = f"{local}{at}{domain}"
    if len(address) > 160 or not _EMAIL.fullmatch(address):
        raise ValueError(f"{email!r} is no e-mail address")
    return address


def check_search_domain(domain: str) -> str:
    """Return the domain in lower case (portal-domain §3.1); peers are told its ASCII form.

    Raises:
        ValueError: not a domain of letters, digits, `-` and dots, with a last label of two letters or more.
    """
    lowered = domain.strip().lower()
    try:
        labels = ascii_name(lowered).split(".")
    except ValueError:
        labels = []
    if (
        len(lowered) > 255
        or lowered.endswith(".")
        or not all(_LABEL.fullmatch(label) for label in labels)
        or not (len(labels) > 1 and len(labels[-1]) >= 2)
        or not (labels[-1].isalpha() or labels[-1].startswith("xn--"))
    ):
        raise ValueError(f"{domain!r} is no search domain such as corp.example.com")
    return lowered


async def provision(
    transaction: Transaction,
    *,
    name: str,
    slug: str,
    admin_email: str,
    admin_name: str | None = None,
    legal_name: str | None = None,
    search_domain: str | None = None,
) -> Provisioned:
    """Make the account with everything it is born with; `slug` and `admin_email` have been checked.

    Raises:
        Conflict: the slug is taken.
    """
    account = await transaction.accounts.insert(
        Account(
            id=transaction.new_id(),
            name=name,
            legal_name=legal_name or name,
            slug=slug,
            key="".join(_KEY_ALPHABET[byte % 36] for byte in _unbiased_bytes(transaction, 6)),
            ingest_signing_key=transaction.random_bytes(32),
            features={"policy_conditions": True, "internet_resource": True},
            config=AccountConfig(search_domain=search_domain).within({}),
        )
    )
    tables, new_id = transaction.of(account.id), transaction.new_id
    everyone = await tables.groups.insert(
        Group(id=new_id(), account_id=account.id, name=EVERYONE, type="managed")
    )
    internet = await tables.sites.insert(
        Site(id=new_id(), account_id=account.id, name="Internet", managed_by="system")
    )
    await tables.resources.insert(
        Resource(id=new_id(), account_id=account.id, type="internet", name="Internet", site_id=internet.id)
    )
    site = await tables.sites.insert(Site(id=new_id(), account_id=account.id, name="Default Site"))
    await tables.email_otp_auth_providers.insert(EmailOtpAuthProvider(id=new_id(), account_id=account.id))
    admin = await tables.actors.insert(
        Actor(
            id=new_id(),
            account_id=account.id,
            type="account_admin_user",
            name=admin_name or admin_email.partition("@")[0],
            email=admin_email,
            allow_email_otp_sign_in=True,
        )
    )
    return Provisioned(account, everyone, site, admin)


def _unbiased_bytes(transaction: Transaction, count: int) -> list[int]:
    """Draw bytes below 252, the largest multiple of 36: no character is likelier than another."""
    drawn: list[int] = []
    while len(drawn) < count:
        drawn += [byte for byte in transaction.random_bytes(16) if byte < 252]
    return drawn[:count]
