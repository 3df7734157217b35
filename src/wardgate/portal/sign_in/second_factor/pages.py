"""The second step of a sign-in by e-mail or password, between "who" and "signed in" (`SignIns.finish`), for the portal
and for clients alike.

    GET, POST /{slug}/sign_in/second_factor             a code, a passkey or a recovery code; who has none sets one up
    POST      /{slug}/sign_in/second_factor/continue    on, when the recovery codes of a new factor have been read

The attempt is a row, its id in a signed cookie of the browser that gave the first factor. An answer ends it, so that
neither a code nor a passkey's signature can be sent again; five wrong ones end it too.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from markupsafe import Markup
from starlette.responses import Response
from starlette.routing import BaseRoute

from wardgate.portal.http.origin import origin_of
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.outcomes import Invalid, Refused
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.lookup import find_provider
from wardgate.portal.sign_in.outcome import SignIns
from wardgate.portal.sign_in.second_factor import rules, totp
from wardgate.portal.sign_in.second_factor.cookie import PATH, AttemptCookie
from wardgate.portal.sign_in.second_factor.letters import CODES_MADE, added, tell_of_change
from wardgate.portal.sign_in.second_factor.passkeys import MAX_ANSWER_CHARS, RelyingParty
from wardgate.portal.sign_in.second_factor.rules import Answer, Factors
from wardgate.portal.sign_in.steps import Step, Steps, address_key
from wardgate.portal.sign_in.tables import AuthProviderDetails, SecondFactorAttempt
from wardgate.portal.store import AccountTables
from wardgate.portal.subjects import subject_of

log = logging.getLogger(__name__)

WRONG_CODE: Final = "This code is wrong, or was used already. Codes of an app change every 30 seconds."
WRONG_PASSKEY: Final = "This passkey was not accepted. Try again, or use another way."
TOO_MANY: Final = "There were too many attempts. Wait a while, then try again."


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A sign-in that waits for its second factor, with what stood in the store."""

    attempt: SecondFactorAttempt
    actor: Actor
    provider: AuthProviderDetails
    factors: Factors


@dataclass(frozen=True, slots=True)
class Setup:
    """What a page shows that sets up a factor. `passkey`: options as JSON; None where browsers know no passkeys."""

    secret: str
    qr: Markup
    passkey: str | None


class SecondFactorPages:
    """The steps."""

    def __init__(self, services: Services, steps: Steps, sign_ins: SignIns) -> None:
        self._services = services
        self._steps = steps
        self._sign_ins = sign_ins
        self._clock = services.environment.clock
        self._cookie = AttemptCookie(services)
        self._party = RelyingParty.of(services.settings.web_url)

    def routes(self) -> Sequence[BaseRoute]:
        steps = self._steps
        return (
            steps.get(PATH, self._ask),
            steps.post(PATH, self._check),
            steps.post(f"{PATH}/continue", self._continue),
        )

    async def _ask(self, step: Step) -> Response:
        under_way = await self._under_way(step)
        if under_way is None or under_way.attempt.is_proved:
            return self._lost(step)
        return self._show(step, under_way)

    async def _check(self, step: Step) -> Response:
        under_way = await self._under_way(step)
        if under_way is None:
            return self._lost(step)
        if not self._may_try(step, under_way.actor):
            return self._put_off(step, under_way)
        if not under_way.factors.all:
            return await self._set_up(step, under_way)
        answer = await self._answered(step, under_way)
        if answer is Answer.RIGHT:
            self._services.second_factor_places.reset(under_way.actor.id, _place(step))
            return await self._sign_in(step, under_way)
        return self._refuse(step, under_way, answer)

    async def _continue(self, step: Step) -> Response:
        """Complete a sign-in that has set up its factor; once."""
        under_way = await self._under_way(step)
        if under_way is None or not under_way.attempt.is_proved:
            return self._lost(step)
        async with self._services.store.writing(self._subject(step, under_way.actor)) as transaction:
            attempts = transaction.of(step.account.id).second_factor_attempts
            was_there = await attempts.delete(under_way.attempt.id)
        return await self._sign_in(step, under_way) if was_there else self._lost(step)

    async def _answered(self, step: Step, under_way: UnderWay) -> Answer:
        passkey = step.form.get("credential", "")[: MAX_ANSWER_CHARS + 1]
        async with self._services.store.writing(self._subject(step, under_way.actor)) as transaction:
            tables = transaction.of(step.account.id)
            if passkey:
                return await rules.check_passkey(tables, under_way.attempt, passkey, party=self._party)
            typed = step.form.get("code", "")
            return await rules.check_code(tables, under_way.attempt, typed, keys=self._services.keys)

    async def _set_up(self, step: Step, under_way: UnderWay) -> Response:
        keys, attempt, name = self._services.keys, under_way.attempt, step.form.get("name", "")
        try:
            async with self._services.store.writing(self._subject(step, under_way.actor)) as transaction:
                tables = transaction.of(step.account.id)
                answer = await set_up(tables, attempt, step.form, name, keys=keys, party=self._party)
                if answer is not Answer.RIGHT:
                    codes = []
                else:
                    await rules.mark_proved(tables, attempt)
                    codes = await rules.renew_recovery_codes(tables, under_way.actor.id, keys=keys)
                    await tell_of_change(
                        transaction,
                        self._services.settings,
                        step.account,
                        under_way.actor,
                        [added(name), CODES_MADE],
                        origin=origin_of(step.request.scope),
                    )
        except Refused as refused:
            return self._show(step, under_way, error=told(refused), status=HTTPStatus.UNPROCESSABLE_ENTITY)
        if answer is not Answer.RIGHT:
            return self._refuse(step, under_way, answer)
        self._services.second_factor_places.reset(under_way.actor.id, _place(step))
        return self._steps.show_step(step, "sign_in/recovery_codes.html", codes=codes)

    async def _sign_in(self, step: Step, under_way: UnderWay) -> Response:
        response = await self._sign_ins.complete(
            step.request, step.flow, step.account, under_way.actor, under_way.provider
        )
        self._cookie.clear(response, step.account.id)
        return response

    def _put_off(self, step: Step, under_way: UnderWay) -> Response:
        log.info("second factors are tried too often", extra={"actor_id": str(under_way.actor.id)})
        return self._show(step, under_way, error=TOO_MANY, status=HTTPStatus.TOO_MANY_REQUESTS)

    def _refuse(self, step: Step, under_way: UnderWay, answer: Answer) -> Response:
        if answer is Answer.TOO_MANY:
            return self._put_off(step, under_way)
        log.info("a second factor was refused", extra={"actor_id": str(under_way.actor.id)})
        if answer is Answer.ENDED or under_way.attempt.tries + 1 >= rules.MAX_TRIES:
            return self._lost(step)
        error = WRONG_PASSKEY if step.form.get("credential") else WRONG_CODE
        return self._show(step, under_way, error=error, status=HTTPStatus.UNPROCESSABLE_ENTITY)

    def _show(
        self, step: Step, under_way: UnderWay, *, error: str | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> Response:
        attempt, factors = under_way.attempt, under_way.factors
        if not factors.all:
            setup = make_setup(self._services, self._party, step.account, under_way.actor, factors, attempt)
            if setup is None:
                return self._lost(step)
            return self._steps.show_step(
                step,
                "sign_in/second_factor_setup.html",
                status=status,
                setup=setup,
                error=error,
                typed_name=step.form.get("name", "")[: rules.MAX_NAME_CHARS],
                path=PATH,
            )
        passkey = None
        if self._party is not None and factors.passkeys:
            passkey = self._party.to_authenticate(factors.passkeys, challenge=attempt.challenge)
        return self._steps.show_step(
            step,
            "sign_in/second_factor.html",
            status=status,
            factors=factors,
            passkey=passkey,
            error=error,
            path=PATH,
        )

    async def _under_way(self, step: Step) -> UnderWay | None:
        id_ = self._cookie.read(step.request, step.account.id, now=self._clock.now())
        async with self._services.store.reading() as transaction:
            tables = transaction.of(step.account.id)
            attempt = await rules.load_attempt(tables, id_, "sign_in")
            if attempt is None or attempt.tries >= rules.MAX_TRIES:
                return None
            actor = await tables.actors.load(attempt.actor_id)
            provider = await find_provider(tables, attempt.auth_provider_id)
            if actor is None or provider is None:
                return None
            return UnderWay(attempt, actor, provider, await rules.load_factors(tables, actor.id))

    def _lost(self, step: Step) -> Response:
        response = self._sign_ins.fail(step.flow, step.account, Failure.SECOND_FACTOR)
        self._cookie.clear(response, step.account.id)
        return response

    def _may_try(self, step: Step, actor: Actor) -> bool:
        # A passkey cannot be guessed: only what is typed is counted.
        return bool(step.form.get("credential")) or self._services.second_factor_places.take(
            actor.id, _place(step), now=self._clock.monotonic()
        )

    def _subject(self, step: Step, actor: Actor) -> dict[str, Any]:
        return subject_of(actor, origin_of(step.request.scope))


async def set_up(
    tables: AccountTables,
    attempt: SecondFactorAttempt,
    form: Mapping[str, Any],
    name: str,
    *,
    keys: Keys,
    party: RelyingParty | None,
) -> Answer:
    """Set up what the form of a page brings: a passkey, or an authenticator app. Raises Refused."""
    passkey, typed = form.get("credential"), form.get("code")
    if isinstance(passkey, str) and passkey:
        answer = passkey[: MAX_ANSWER_CHARS + 1]
        return await rules.set_up_passkey(tables, attempt, answer, name, party=party)
    code = typed if isinstance(typed, str) else ""
    return await rules.set_up_authenticator(tables, attempt, code, name, keys=keys)


def make_setup(
    services: Services,
    party: RelyingParty | None,
    account: Account,
    actor: Actor,
    factors: Factors,
    attempt: SecondFactorAttempt,
) -> Setup | None:
    """Return what the page shows that sets up a factor by this attempt; None if it cannot any more."""
    secret = rules.secret_of(attempt, keys=services.keys)
    if secret is None:
        return None
    uri = totp.setup_uri(secret, person=actor.email or actor.name, account=account.name)
    passkey = None
    if party is not None:
        passkey = party.to_register(account, actor, factors.passkeys, challenge=attempt.challenge)
    return Setup(totp.secret_text(secret), Markup(totp.qr_svg(uri)), passkey)  # noqa: S704 - a picture of our own


def told(refused: Refused) -> str:
    """Return a refusal as a sentence for the page."""
    if isinstance(refused, Invalid) and "name" in refused.errors:
        return f"The name {', '.join(refused.errors['name'])}."
    return str(refused)


def _place(step: Step) -> str:
    return address_key(origin_of(step.request.scope).remote_ip)
