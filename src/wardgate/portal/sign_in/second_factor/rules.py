"""Who needs a second factor, what somebody has, and how one is set up, asked for and removed.

Every change narrows itself to one actor. A try is counted in the transaction that looks at it, and writing transactions
of an account take turns, so that of many tries at once none gets through that would not one after the other.

A sign-in that is under way sets up a factor only for who has none: otherwise the first factor alone would be enough to
make a second.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Final, Literal
from uuid import UUID

from wardgate.portal.account_config import AccountConfig
from wardgate.portal.edits import BLANK
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.outcomes import Forbidden, Invalid, Missing
from wardgate.portal.people.tables import Actor
from wardgate.portal.sealing import SealBroken, seal, unseal
from wardgate.portal.sign_in.second_factor import recovery, totp
from wardgate.portal.sign_in.second_factor.passkeys import CHALLENGE_BYTES, BadAnswer, RelyingParty
from wardgate.portal.sign_in.second_factor.tries import count_try, forget_tries
from wardgate.portal.sign_in.tables import (
    AuthProviderDetails,
    Passkey,
    RecoveryCodes,
    SecondFactorAttempt,
    TotpAuthenticator,
)
from wardgate.portal.store import AccountTables

WITHOUT_PROVIDER: Final = ("email_otp", "userpass")
"""The kinds of provider that are no identity provider."""

LIFETIME: Final = timedelta(minutes=10)
MAX_TRIES: Final = 5
MAX_FACTORS: Final = 10
MAX_AT_ONCE: Final = 5
MAX_NAME_CHARS: Final = 64

Purpose = Literal["sign_in", "confirm", "enrol"]
Factor = TotpAuthenticator | Passkey


class Answer(Enum):
    """What came of an answer to an attempt."""

    RIGHT = "right"
    WRONG = "wrong"
    ENDED = "ended"  # there is no such attempt, it is over, or it has had all its tries
    TOO_MANY = "too many"  # the actor's codes were tried too often; nothing was looked at


@dataclass(frozen=True, slots=True)
class Factors:
    """What an actor has."""

    authenticators: Sequence[TotpAuthenticator]
    passkeys: Sequence[Passkey]
    recovery_codes: RecoveryCodes | None

    @property
    def all(self) -> list[Factor]:
        """Those that are a second factor by themselves, in the order in which they were set up."""
        return sorted([*self.authenticators, *self.passkeys], key=lambda one: (one.inserted_at, one.id))

    @property
    def codes_left(self) -> int:
        return 0 if self.recovery_codes is None else self.recovery_codes.remaining


async def load_factors(tables: AccountTables, actor_id: UUID) -> Factors:
    authenticators, passkeys, codes = tables.totp_authenticators, tables.passkeys, tables.recovery_codes
    return Factors(
        await authenticators.load_all(authenticators.c.actor_id == actor_id),
        await passkeys.load_all(passkeys.c.actor_id == actor_id),
        await codes.find(codes.c.actor_id == actor_id),
    )


def is_required(account: Account, actor: Actor) -> bool:
    """Tell whether the account wants this actor to have a second factor."""
    wanted = AccountConfig.parse(account.config).second_factor_for
    return wanted == "everybody" or (wanted == "admins" and actor.type == "account_admin_user")


async def is_asked(
    tables: AccountTables, account: Account, actor: Actor, provider: AuthProviderDetails
) -> bool:
    """Tell whether a sign-in with this provider goes on with a second factor."""
    if provider.type not in WITHOUT_PROVIDER:
        return False
    return is_required(account, actor) or bool((await load_factors(tables, actor.id)).all)


# Attempts


async def begin_attempt(
    tables: AccountTables,
    actor: Actor,
    purpose: Purpose,
    *,
    keys: Keys,
    provider: AuthProviderDetails | None = None,
) -> SecondFactorAttempt:
    """Store a new attempt. Of those that an actor has not finished, the oldest go."""
    attempts = tables.second_factor_attempts
    c = attempts.c
    open_ones = await attempts.load_all(
        c.actor_id == actor.id, c.purpose == purpose, order_by=[c.inserted_at.desc(), c.id]
    )
    for former in open_ones[MAX_AT_ONCE - 1 :]:
        await attempts.delete(former.id)
    id_ = tables.new_id()
    secret = tables.random_bytes(totp.SECRET_BYTES)
    challenge = base64.urlsafe_b64encode(tables.random_bytes(CHALLENGE_BYTES)).rstrip(b"=").decode()
    return await attempts.insert(
        SecondFactorAttempt(
            id=id_,
            account_id=tables.account_id,
            actor_id=actor.id,
            auth_provider_id=None if provider is None else provider.id,
            purpose=purpose,
            challenge=challenge,
            sealed_secret=_sealed(tables, keys, id_, secret),
            expires_at=tables.now + LIFETIME,
        )
    )


async def load_attempt(
    tables: AccountTables, id_: UUID | None, purpose: Purpose, *, actor_id: UUID | None = None
) -> SecondFactorAttempt | None:
    """Return an attempt that is not over; of this actor, if one is named."""
    attempt = None if id_ is None else await tables.second_factor_attempts.load(id_)
    if attempt is None or attempt.purpose != purpose or attempt.expires_at <= tables.now:
        return None
    return attempt if actor_id in (None, attempt.actor_id) else None


def secret_of(attempt: SecondFactorAttempt, *, keys: Keys) -> bytes | None:
    """Return the secret of the authenticator app that the attempt may set up; None if it was sealed under another
    master secret.
    """
    try:
        return unseal(keys.second_factors, attempt.sealed_secret, owner=str(attempt.id))
    except SealBroken:
        return None


async def check_code(
    tables: AccountTables, attempt: SecondFactorAttempt, typed: str, *, keys: Keys
) -> Answer:
    """Look at a code that an authenticator app shows, or a recovery code; the right one ends the attempt."""
    now = await _taken_up(tables, attempt)
    if now is None:
        return Answer.ENDED
    if not await count_try(tables, attempt.actor_id):
        return Answer.TOO_MANY
    code = recovery.normalized(typed)
    factors = await load_factors(tables, attempt.actor_id)
    if await _is_of_an_app(tables, factors, code, keys) or await _is_for_recovery(
        tables, factors, code, keys
    ):
        await forget_tries(tables, attempt.actor_id)
        await tables.second_factor_attempts.delete(now.id)
        return Answer.RIGHT
    return await _count_wrong(tables, now)


async def check_passkey(
    tables: AccountTables,
    attempt: SecondFactorAttempt,
    answer: str,
    *,
    party: RelyingParty | None,
) -> Answer:
    """Look at a browser's answer to the attempt's challenge, which is worth nothing a second time."""
    now = await _taken_up(tables, attempt)
    if now is None or party is None:
        return Answer.ENDED
    factors = await load_factors(tables, attempt.actor_id)
    try:
        passkey, count = party.authenticated(answer, factors.passkeys, challenge=now.challenge)
    except BadAnswer:
        return await _count_wrong(tables, now)
    await tables.passkeys.save(replace(passkey, sign_count=count, last_used_at=tables.now))
    await tables.second_factor_attempts.delete(now.id)
    return Answer.RIGHT


async def mark_proved(tables: AccountTables, attempt: SecondFactorAttempt) -> None:
    """Let a sign-in go on that has set up the factor it needed."""
    await tables.second_factor_attempts.save(replace(attempt, is_proved=True))


# Setting up


async def set_up_authenticator(
    tables: AccountTables,
    attempt: SecondFactorAttempt,
    typed: str,
    name: str,
    *,
    keys: Keys,
) -> Answer:
    """Keep the attempt's authenticator app, if it shows the right code; the attempt stays.

    Raises:
        Invalid: the name.
        Forbidden: the actor has as many factors as one may have.
    """
    name = _checked_name(name)
    now = await _taken_up_for_setup(tables, attempt)
    secret = None if now is None else secret_of(now, keys=keys)
    if now is None or secret is None:
        return Answer.ENDED
    step = totp.matching_step(secret, recovery.normalized(typed), now=tables.now, after=-1)
    if step is None:
        return await _count_wrong(tables, now)
    id_ = tables.new_id()
    await tables.totp_authenticators.insert(
        TotpAuthenticator(
            id=id_,
            account_id=tables.account_id,
            actor_id=attempt.actor_id,
            name=name,
            sealed_secret=_sealed(tables, keys, id_, secret),
            last_step=step,
            last_used_at=tables.now,
        )
    )
    return Answer.RIGHT


async def set_up_passkey(
    tables: AccountTables,
    attempt: SecondFactorAttempt,
    answer: str,
    name: str,
    *,
    party: RelyingParty | None,
) -> Answer:
    """Keep the passkey that a browser has made for the attempt's challenge; the attempt stays.

    Raises:
        Invalid: the name.
        Forbidden: the actor has as many factors as one may have.
    """
    name = _checked_name(name)
    now = await _taken_up_for_setup(tables, attempt)
    if now is None or party is None:
        return Answer.ENDED
    try:
        made = party.registered(answer, challenge=now.challenge)
    except BadAnswer:
        return await _count_wrong(tables, now)
    passkeys = tables.passkeys
    if await passkeys.find(passkeys.c.credential_id == made.credential_id) is not None:
        return await _count_wrong(tables, now)
    await passkeys.insert(
        Passkey(
            id=tables.new_id(),
            account_id=tables.account_id,
            actor_id=attempt.actor_id,
            name=name,
            credential_id=made.credential_id,
            public_key=made.public_key,
            sign_count=made.sign_count,
        )
    )
    return Answer.RIGHT


async def renew_recovery_codes(tables: AccountTables, actor_id: UUID, *, keys: Keys) -> list[str]:
    """Replace an actor's recovery codes; returns the new ones, which are told this once."""
    codes = recovery.draw_codes(tables.random_bytes)
    hashes = [recovery.hash_code(keys.second_factors, actor_id, code) for code in codes]
    repository = tables.recovery_codes
    former = await repository.find(repository.c.actor_id == actor_id)
    if former is not None:
        await repository.save(replace(former, hashes=hashes, remaining=len(hashes)))
        return codes
    await repository.insert(
        RecoveryCodes(
            id=tables.new_id(),
            account_id=tables.account_id,
            actor_id=actor_id,
            hashes=hashes,
            remaining=len(hashes),
        )
    )
    return codes


# Removing


async def remove_factor(tables: AccountTables, actor_id: UUID, factor_id: UUID | None) -> Factor:
    """Remove one factor of an actor; with the last one the recovery codes go. Raises Missing."""
    factors = await load_factors(tables, actor_id)
    removed = next((one for one in factors.all if one.id == factor_id), None)
    if removed is None:
        raise Missing
    await tables.by_name(removed.table).delete(removed.id)
    if len(factors.all) == 1:
        await _remove_codes(tables, factors)
    return removed


async def reset(tables: AccountTables, actor_id: UUID) -> int:
    """Remove all factors of an actor, and what is under way with them; returns how many factors there were."""
    factors = await load_factors(tables, actor_id)
    for one in factors.all:
        await tables.by_name(one.table).delete(one.id)
    await _remove_codes(tables, factors)
    attempts = tables.second_factor_attempts
    await attempts.delete_where(attempts.c.actor_id == actor_id)
    await forget_tries(tables, actor_id)
    return len(factors.all)


async def _remove_codes(tables: AccountTables, factors: Factors) -> None:
    if factors.recovery_codes is not None:
        await tables.recovery_codes.delete(factors.recovery_codes.id)


async def _taken_up(tables: AccountTables, attempt: SecondFactorAttempt) -> SecondFactorAttempt | None:
    """Return an attempt as it stands now that it is this transaction's turn; None if it takes no more answers."""
    now = await tables.second_factor_attempts.load(attempt.id)
    if now is None or now.expires_at <= tables.now or now.tries >= MAX_TRIES or now.is_proved:
        return None
    return now


async def _count_wrong(tables: AccountTables, attempt: SecondFactorAttempt) -> Answer:
    await tables.second_factor_attempts.save(replace(attempt, tries=attempt.tries + 1))
    return Answer.WRONG


async def _is_of_an_app(tables: AccountTables, factors: Factors, code: str, keys: Keys) -> bool:
    for one in factors.authenticators:
        try:
            secret = unseal(keys.second_factors, one.sealed_secret, owner=str(one.id))
        except SealBroken:
            continue  # the master secret is another one: recovery codes fail as well, an administrator resets
        step = totp.matching_step(secret, code, now=tables.now, after=one.last_step)
        if step is not None:
            await tables.totp_authenticators.save(replace(one, last_step=step, last_used_at=tables.now))
            return True
    return False


async def _is_for_recovery(tables: AccountTables, factors: Factors, code: str, keys: Keys) -> bool:
    codes = factors.recovery_codes
    if codes is None:
        return False
    left = recovery.without(codes.hashes, recovery.hash_code(keys.second_factors, codes.actor_id, code))
    if left is None:
        return False
    await tables.recovery_codes.save(replace(codes, hashes=left, remaining=len(left)))
    return True


async def _taken_up_for_setup(
    tables: AccountTables, attempt: SecondFactorAttempt
) -> SecondFactorAttempt | None:
    """Return an attempt that may set up a factor now; None if it may not. Raises Forbidden."""
    now = await _taken_up(tables, attempt)
    has = len((await load_factors(tables, attempt.actor_id)).all)
    if now is None or (now.purpose == "sign_in" and has):
        return None
    if has >= MAX_FACTORS:
        raise Forbidden(f"Nobody has more than {MAX_FACTORS} second factors; remove one first.")
    return now


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise Invalid({"name": [BLANK]})
    if len(name) > MAX_NAME_CHARS:
        raise Invalid({"name": [f"should be at most {MAX_NAME_CHARS} character(s)"]})
    if not name.isprintable():
        raise Invalid({"name": ["is invalid"]})
    return name


def _sealed(tables: AccountTables, keys: Keys, owner: UUID, secret: bytes) -> str:
    return seal(keys.second_factors, secret, owner=str(owner), random_bytes=tables.random_bytes)
