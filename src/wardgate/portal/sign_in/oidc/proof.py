"""Proving an e-mail address that a provider names (identity §7.2): a code goes to the actor's own address, and the
identity is written when it has come back.

What waits is a row that dies with its code, after fifteen minutes or three attempts; the browser that began has its ids
in a signed cookie.
"""

import logging
from dataclasses import dataclass, fields
from typing import Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.installation.tables import Account
from wardgate.portal.mail.letters import SignInCode, masked
from wardgate.portal.mail.queue import post
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.email_code import MAILS, MAILS_WINDOW_S
from wardgate.portal.sign_in.lookup import as_id
from wardgate.portal.sign_in.oidc.identities import Known, link
from wardgate.portal.sign_in.oidc.profile import Profile
from wardgate.portal.sign_in.padding import padded
from wardgate.portal.sign_in.passcodes import LIFETIME, DrawnCode, draw_code, store_code, use_code
from wardgate.portal.sign_in.tables import IdentityProviderDetails, PendingIdentity
from wardgate.portal.sign_in.throttle import Throttle
from wardgate.portal.store import AccountTables, Transaction

log = logging.getLogger(__name__)

COOKIE_LIFETIME: Final = LIFETIME

_KEPT: Final = frozenset(one.name for one in fields(Profile)) & frozenset(
    one.name for one in fields(PendingIdentity)
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the cookie of a browser says that waits for a code."""

    provider_id: UUID
    pending_id: UUID
    actor_id: UUID
    code_id: UUID
    email: str


class TooManyMails(Exception):
    """So many codes were sent to this address lately."""


class Proofs:
    """Begins and completes proofs of one portal."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._clock = services.environment.clock
        self._cookie = SignedCookie(
            services.keys.cookies, "pending_identity", is_secure=services.settings.is_secure
        )
        self._mails = Throttle(most=MAILS, window_s=MAILS_WINDOW_S)

    async def begin(
        self,
        request: Request,
        account: Account,
        provider: IdentityProviderDetails,
        actor: Actor,
        profile: Profile,
    ) -> Waiting:
        """Send a code to the actor.

        Raises:
            TooManyMails: to the same address.
        """
        if self._mails.take((account.id, profile.email.lower()), now=self._clock.monotonic()) > 0:
            raise TooManyMails
        code = await draw_code(self._services)
        async with self._services.store.writing() as transaction:
            tables = transaction.of(account.id)
            stored = await store_code(tables, actor.id, code)
            pending = await tables.pending_identities.insert(
                PendingIdentity(
                    id=tables.new_id(),
                    account_id=account.id,
                    actor_id=actor.id,
                    auth_provider_id=provider.id,
                    one_time_passcode_id=stored.id,
                    idp_id=profile.subject,
                    **{name: getattr(profile, name) for name in _KEPT},
                )
            )
            await self._send(request, transaction, tables, account, actor, code)
        return Waiting(provider.id, pending.id, actor.id, stored.id, profile.email)

    async def complete(self, account: Account, waiting: Waiting, typed: str) -> Actor | None:
        """Return who has typed the right code, their identity written; None otherwise. Takes equally long."""
        return await padded(self._clock, self._complete(account, waiting, typed))

    def remember(self, response: Response, account: Account, waiting: Waiting) -> None:
        ids = (waiting.provider_id, waiting.pending_id, waiting.actor_id, waiting.code_id)
        value = [*(one.hex for one in ids), waiting.email]
        self._cookie.set(response, value, lifetime=COOKIE_LIFETIME, now=self._clock.now(), of=account.id)

    def waiting(self, request: Request, account: Account, provider_id: UUID | None) -> Waiting | None:
        """Return what this browser waits for at this provider."""
        value: Any = self._cookie.read(request, now=self._clock.now(), of=account.id)
        match value:
            case [str(provider), str(pending), str(actor), str(code), str(email)]:
                at, pending_id, actor_id, code_id = map(as_id, (provider, pending, actor, code))
                if at is None or pending_id is None or actor_id is None or code_id is None:
                    return None
                return Waiting(at, pending_id, actor_id, code_id, email) if at == provider_id else None
        return None

    def forget(self, response: Response, account: Account) -> None:
        self._cookie.clear(response, of=account.id)

    async def _complete(self, account: Account, waiting: Waiting, typed: str) -> Actor | None:
        async with self._services.store.reading() as transaction:
            # The row goes with its code, so it is read before.
            pending = await transaction.of(account.id).pending_identities.load(waiting.pending_id)
        is_right = await use_code(self._services, account.id, waiting.code_id, waiting.actor_id, typed)
        if pending is None or not is_right:
            return None
        profile = Profile(subject=pending.idp_id, **{name: getattr(pending, name) for name in _KEPT})
        async with self._services.store.writing() as transaction:
            tables = transaction.of(account.id)
            actor = await tables.actors.load(waiting.actor_id)
            found = None if actor is None else await link(tables, actor, profile)
            await _forget_others(tables, pending)
        return found.actor if isinstance(found, Known) else None

    async def _send(
        self,
        request: Request,
        transaction: Transaction,
        tables: AccountTables,
        account: Account,
        actor: Actor,
        code: DrawnCode,
    ) -> None:
        services, origin = self._services, origin_of(request.scope)
        if services.environment.mailer is None or actor.email is None:
            # Whoever reads the log of the portal's host could make a sign-in link as well.
            log.warning(
                "no mail server is set up: a code that proves an address is told here",
                extra={"code": code.text, "actor_id": str(actor.id)},
            )
            return
        letter = SignInCode(
            account_name=account.name,
            portal_url=services.settings.web_url,
            code=code.text,
            requested_at=tables.now,
            user_agent=origin.user_agent[:200],
            masked_ip=masked(origin.remote_ip),
            link=None,
        )
        await post(
            transaction,
            services.settings,
            letter,
            [actor.email],
            account_id=account.id,
            key=services.keys.letters,
        )


async def _forget_others(tables: AccountTables, proved: PendingIdentity) -> None:
    """Delete what else waits for the same proof, with the codes."""
    pending = tables.pending_identities
    same = await pending.load_all(
        pending.c.actor_id == proved.actor_id,
        pending.c.issuer == proved.issuer,
        pending.c.idp_id == proved.idp_id,
    )
    for one in same:
        await tables.one_time_passcodes.delete(one.one_time_passcode_id)
