"""What may be a password, and what setting one ends; links by which people choose their own.

A link is signed and says what the password was when it was made: setting a password, by the link or otherwise, ends
every link of the actor. Nothing is stored for it.
"""

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from itsdangerous import BadSignature, URLSafeSerializer

from wardgate.portal.keys import Keys
from wardgate.portal.limits import USERS
from wardgate.portal.outcomes import Invalid, Unsuitable
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.lookup import as_id
from wardgate.portal.store import AccountTables

LEAST_CHARS: Final = 12
MOST_CHARS: Final = 256  # hashing time grows with length, and nobody types more
LINK_LIFETIME: Final = timedelta(hours=24)

_NO_PASSWORD: Final = "!"  # noqa: S105 - begins what no hash begins with
_SIGNER: Final = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}


@dataclass(frozen=True, slots=True)
class PasswordLink:
    """What a link says."""

    account_id: UUID
    actor_id: UUID
    fingerprint: str


def normalized_password(typed: str) -> str:
    """Return a password as it is hashed: the same letters typed on different systems are the same password."""
    return unicodedata.normalize("NFC", typed)


def check_password(actor: Actor, typed: str) -> str:
    """Return the password that somebody chose for an actor, as it is hashed.

    Raises:
        Invalid: it is too short, too long, or the actor's name or address.
        Unsuitable: such an actor has no password.
    """
    check_person(actor)
    password = normalized_password(typed)
    if len(password) < LEAST_CHARS:
        raise _wrong(f"should be at least {LEAST_CHARS} characters")
    if len(password) > MOST_CHARS:
        raise _wrong(f"should be at most {MOST_CHARS} characters")
    if "\x00" in password:
        raise _wrong("is invalid")
    bare = _bare(password)
    if len(set(bare)) < 4:
        raise _wrong("should not repeat the same few characters")
    email = actor.email or ""
    if bare in {_bare(actor.name), _bare(email), _bare(email.partition("@")[0])}:
        raise _wrong("should not be the name or the address")
    return password


def check_person(actor: Actor) -> None:
    """Raises Unsuitable: such an actor has no password."""
    if actor.type not in USERS:
        raise Unsuitable("Only people have passwords")


def has_password(actor: Actor) -> bool:
    return actor.password_hash is not None and not actor.password_hash.startswith(_NO_PASSWORD)


async def set_password(tables: AccountTables, actor: Actor, password_hash: str) -> Actor:
    """Store a password. Sessions of the actor end (the table says so), and client tokens that a password gave."""
    changed = await tables.actors.save(replace(actor, password_hash=password_hash))
    providers, tokens = tables.userpass_auth_providers, tables.client_tokens
    ids = await providers.load_column(providers.c.id)
    await tokens.delete_where(tokens.c.actor_id == actor.id, tokens.c.auth_provider_id.in_(ids))
    return changed


async def remove_password(tables: AccountTables, actor: Actor) -> Actor:
    """Leave an actor without a password; links made before end too."""
    return await set_password(tables, actor, f"{_NO_PASSWORD}{tables.random_bytes(16).hex()}")


def make_link(actor: Actor, *, now: datetime, keys: Keys) -> str:
    """Return the secret of a link by which the actor chooses a password."""
    ends_at = int((now + LINK_LIFETIME).timestamp())
    return _signer(keys).dumps([actor.account_id.hex, actor.id.hex, _fingerprint(actor, keys), ends_at])


def read_link(secret: str, *, now: datetime, keys: Keys) -> PasswordLink | None:
    """Return what a link says; None if we did not make it, or it has ended."""
    try:
        match _signer(keys).loads(secret):
            case [str(account), str(actor), str(fingerprint), int(ends_at)] if now.timestamp() < ends_at:
                account_id, actor_id = as_id(account), as_id(actor)
                if account_id is not None and actor_id is not None:
                    return PasswordLink(account_id, actor_id, fingerprint)
    except (BadSignature, ValueError, TypeError):
        pass
    return None


def is_current(link: PasswordLink, actor: Actor, *, keys: Keys) -> bool:
    """Tell whether the actor's password is still that of the time when the link was made."""
    return not actor.is_disabled and hmac.compare_digest(link.fingerprint, _fingerprint(actor, keys))


def _fingerprint(actor: Actor, keys: Keys) -> str:
    """Tell passwords apart without telling them; an address that changed ends links as well."""
    said = f"{actor.password_hash or ''} {actor.email or ''}".encode()
    return hmac.digest(keys.links, said, "sha256").hex()[:32]


def _signer(keys: Keys) -> URLSafeSerializer:
    return URLSafeSerializer(keys.links, salt="password link", signer_kwargs=_SIGNER)


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def _wrong(message: str) -> Invalid:
    return Invalid({"password": [message]})
