"""Which actor a profile belongs to (identity §7). Rules, without HTTP.

Nobody is made an actor by signing in. Somebody known is found by issuer and subject; somebody new is linked to the
actor with the same e-mail address, as far as the address can be trusted:

    none, claim   as the provider says (`claim`: only if it says that the address is verified)
    proof         once a code that was sent to the address has come back

All is read and written in one transaction, which is the only writer of the account meanwhile: two first sign-ins of one
person at once find each other's work.
"""

from dataclasses import dataclass, replace
from typing import Final, TypeGuard

from sqlalchemy import func

from wardgate.portal.people.tables import Actor, ExternalIdentity
from wardgate.portal.sign_in.oidc.profile import Profile
from wardgate.portal.sign_in.oidc.relying_party import EmailTrust
from wardgate.portal.store import AccountTables

_OVERWRITTEN: Final = (
    "email", "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile",
    "picture",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """The profile is this actor's; its identity has been written."""

    actor: Actor


@dataclass(frozen=True, slots=True)
class ProofNeeded:
    """The profile may be this actor's: a code that is sent to the actor's address must come back."""

    actor: Actor


@dataclass(frozen=True, slots=True)
class Unknown:
    """No enabled actor of the account has this subject or address."""


async def match(tables: AccountTables, profile: Profile, trust: EmailTrust) -> Known | ProofNeeded | Unknown:
    """Find the actor of a profile, and write the identity of somebody who needs to prove nothing more."""
    identity = await _identity_of(tables, profile)
    if identity is not None:
        actor = await tables.actors.load(identity.actor_id)
        # Whose actor is disabled does not become somebody else by an address.
        return await _known(tables, actor, identity, profile) if _may_sign_in(actor) else Unknown()
    actor = await _actor_with(tables, profile.email)
    if not _may_sign_in(actor):
        return Unknown()
    if trust is EmailTrust.PROOF:
        return ProofNeeded(actor)
    return await _known(tables, actor, await _identity_at(tables, actor, profile.issuer), profile)


async def link(tables: AccountTables, actor: Actor, profile: Profile) -> Known | Unknown:
    """Write the identity of an actor who has proved to own the address (identity §7.2); a subject that has
    meanwhile become another actor's is not taken away from that one.
    """
    current = await tables.actors.load(actor.id)
    identity = await _identity_of(tables, profile)
    if not _may_sign_in(current) or (identity is not None and identity.actor_id != current.id):
        return Unknown()
    if identity is None:
        identity = await _identity_at(tables, current, profile.issuer)
    return await _known(tables, current, identity, profile)


async def _known(
    tables: AccountTables, actor: Actor, identity: ExternalIdentity | None, profile: Profile
) -> Known:
    """Store what the provider says now; an actor has one identity at an issuer, so a new subject takes over the row."""
    values = {name: getattr(profile, name) for name in _OVERWRITTEN}
    if identity is None:
        await tables.external_identities.insert(
            ExternalIdentity(
                id=tables.new_id(),
                account_id=tables.account_id,
                actor_id=actor.id,
                issuer=profile.issuer,
                idp_id=profile.subject,
                **values,
            )
        )
    else:
        await tables.external_identities.save(replace(identity, idp_id=profile.subject, **values))
    return Known(actor)


def _may_sign_in(actor: Actor | None) -> TypeGuard[Actor]:
    return actor is not None and not actor.is_disabled


async def _identity_of(tables: AccountTables, profile: Profile) -> ExternalIdentity | None:
    identities = tables.external_identities
    return await identities.find(
        identities.c.issuer == profile.issuer, identities.c.idp_id == profile.subject
    )


async def _identity_at(tables: AccountTables, actor: Actor, issuer: str) -> ExternalIdentity | None:
    identities = tables.external_identities
    return await identities.find(identities.c.issuer == issuer, identities.c.actor_id == actor.id)


async def _actor_with(tables: AccountTables, email: str) -> Actor | None:
    actors = tables.actors
    return await actors.find(func.lower(actors.c.email) == email.lower())
