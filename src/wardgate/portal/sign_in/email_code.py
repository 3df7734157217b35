"""Signing in by a code that is sent by e-mail (identity §3).

    POST /{slug}/sign_in/email_otp/{provider}          an address; a code is sent if somebody has it
    GET  /{slug}/sign_in/email_otp/{provider}/verify   the code, please
    POST /{slug}/sign_in/email_otp/{provider}/verify

Nothing tells a stranger whether an address belongs to somebody: pages are the same, answers take equally long, and
the cookie names a code that does not exist.

The letter's link opens the page with the code filled in, in the browser that asked; it signs nobody in by itself,
because mail is opened by scanners too.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from starlette.responses import Response
from starlette.routing import BaseRoute

from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.mail.letters import SignInCode, masked
from wardgate.portal.mail.queue import post
from wardgate.portal.people.tables import ACTORS, Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.admission import is_usable
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.lookup import as_id, find_provider_of_kind, find_user
from wardgate.portal.sign_in.outcome import SignIns
from wardgate.portal.sign_in.padding import padded
from wardgate.portal.sign_in.passcodes import DrawnCode, draw_code, store_code, use_code
from wardgate.portal.sign_in.steps import Step, Steps
from wardgate.portal.sign_in.tables import EmailOtpAuthProvider
from wardgate.portal.sign_in.throttle import Throttle
from wardgate.portal.store import AccountTables, Transaction

log = logging.getLogger(__name__)

MAILS: Final = 3  # identity §17
MAILS_WINDOW_S: Final = 300.0
COOKIE_LIFETIME: Final = timedelta(minutes=15)
MAX_EMAIL_CHARS: Final = 160
_PATH: Final = "/sign_in/email_otp/{provider_id}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the cookie of a browser says that asked for a code."""

    provider_id: UUID
    actor_id: UUID
    code_id: UUID
    email: str


class EmailCode:
    """The method."""

    def __init__(self, services: Services, steps: Steps, sign_ins: SignIns) -> None:
        self._services = services
        self._steps = steps
        self._sign_ins = sign_ins
        self._clock = services.environment.clock
        self._cookie = SignedCookie(services.keys.cookies, "email_otp", is_secure=services.settings.is_secure)
        self._mails = Throttle(most=MAILS, window_s=MAILS_WINDOW_S)

    def routes(self) -> Sequence[BaseRoute]:
        steps = self._steps
        return (
            steps.post(_PATH, self._send_code),
            steps.get(f"{_PATH}/verify", self._ask_for_code),
            steps.post(f"{_PATH}/verify", self._check_code),
        )

    async def _send_code(self, step: Step) -> Response:
        provider = await self._usable_provider(step)
        if provider is None:
            return self._sign_ins.fail(step.flow, step.account, Failure.METHOD_UNAVAILABLE)
        email = step.form.get("email[email]", "").strip()[:MAX_EMAIL_CHARS]
        if self._mails.take(_throttled(step, email), now=self._clock.monotonic()) > 0:
            return self._sign_ins.fail(step.flow, step.account, Failure.TOO_MANY_ATTEMPTS)
        asked = await padded(self._clock, self._make_code(step, provider, email))
        response = step.go(f"/sign_in/email_otp/{provider.id}/verify")
        value = [asked.provider_id.hex, asked.actor_id.hex, asked.code_id.hex, asked.email]
        self._cookie.set(response, value, lifetime=COOKIE_LIFETIME, now=self._clock.now(), of=step.account.id)
        return response

    async def _make_code(self, step: Step, provider: EmailOtpAuthProvider, email: str) -> Asked:
        code, new_id = await draw_code(self._services), self._services.environment.new_id
        async with self._services.store.writing() as transaction:
            tables = transaction.of(step.account.id)
            actor = await find_user(tables, email)
            if actor is None or actor.is_disabled or not actor.allow_email_otp_sign_in:
                return Asked(provider.id, new_id(), new_id(), email)
            codes = tables.one_time_passcodes
            await codes.delete_where(codes.c.actor_id == actor.id)
            stored = await store_code(tables, actor.id, code)
            await self._send(step, transaction, tables, provider, actor, code)
        return Asked(provider.id, actor.id, stored.id, email)

    async def _send(
        self,
        step: Step,
        transaction: Transaction,
        tables: AccountTables,
        provider: EmailOtpAuthProvider,
        actor: Actor,
        code: DrawnCode,
    ) -> None:
        assert actor.email is not None
        services, origin = self._services, origin_of(step.request.scope)
        if services.environment.mailer is None:
            # Whoever reads the log of the portal's host could make a sign-in link as well.
            log.warning(
                "no mail server is set up: a sign-in code is told here",
                extra={"code": code.text, "actor_id": str(actor.id)},
            )
            return
        path = step.url(f"/sign_in/email_otp/{provider.id}/verify", secret=code.text)
        letter = SignInCode(
            account_name=step.account.name,
            portal_url=services.settings.web_url,
            code=code.text,
            requested_at=tables.now,
            user_agent=origin.user_agent[:200],
            masked_ip=masked(origin.remote_ip),
            # Opened in another browser it would not complete a client's sign-in.
            link=None if step.flow.context.is_client else f"{services.settings.web_url}{path}",
        )
        await post(
            transaction,
            services.settings,
            letter,
            [actor.email],
            account_id=step.account.id,
            key=services.keys.letters,
        )

    async def _ask_for_code(self, step: Step) -> Response:
        asked = self._asked(step)
        if asked is None:
            return self._sign_ins.fail(step.flow, step.account, Failure.TIMED_OUT)
        return self._show(step, asked, typed=step.request.query_params.get("secret", "")[:64])

    async def _check_code(self, step: Step) -> Response:
        asked = self._asked(step)
        if asked is None:
            return self._sign_ins.fail(step.flow, step.account, Failure.TIMED_OUT)
        provider = await self._usable_provider(step)
        if provider is None:
            return self._sign_ins.fail(step.flow, step.account, Failure.METHOD_UNAVAILABLE)
        actor = await padded(self._clock, self._actor_of_code(step, asked))
        if actor is None:
            error = "This code is wrong, or has ended. After three attempts, or fifteen minutes, you need another one."
            return self._show(step, asked, error=error)
        self._mails.reset(_throttled(step, asked.email))
        response = await self._sign_ins.finish(step.request, step.flow, step.account, actor, provider)
        self._cookie.clear(response, of=step.account.id)
        return response

    async def _actor_of_code(self, step: Step, asked: Asked) -> Actor | None:
        """Return who has typed the right code; None otherwise."""
        is_right = await use_code(
            self._services,
            step.account.id,
            asked.code_id,
            asked.actor_id,
            step.form.get("secret", ""),
            ACTORS.c.allow_email_otp_sign_in.is_(True),
        )
        if not is_right:
            return None
        async with self._services.store.reading() as transaction:
            return await transaction.of(step.account.id).actors.load(asked.actor_id)

    def _show(self, step: Step, asked: Asked, *, typed: str = "", error: str | None = None) -> Response:
        return self._steps.show_step(
            step,
            "sign_in/email_code.html",
            status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
            provider_id=asked.provider_id,
            email=asked.email,
            typed=typed,
            error=error,
        )

    def _asked(self, step: Step) -> Asked | None:
        value: Any = self._cookie.read(step.request, now=self._clock.now(), of=step.account.id)
        match value:
            case [str(provider), str(actor), str(code), str(email)]:
                provider_id, actor_id, code_id = as_id(provider), as_id(actor), as_id(code)
                if provider_id is None or actor_id is None or code_id is None:
                    return None
                return (
                    Asked(provider_id, actor_id, code_id, email) if provider_id == step.provider_id else None
                )
        return None

    async def _usable_provider(self, step: Step) -> EmailOtpAuthProvider | None:
        async with self._services.store.reading() as transaction:
            tables = transaction.of(step.account.id)
            provider = await find_provider_of_kind(tables, EmailOtpAuthProvider, step.provider_id)
        return provider if provider is not None and is_usable(provider, step.flow.context) else None


def _throttled(step: Step, email: str) -> tuple[UUID, str]:
    return step.account.id, email.lower()
