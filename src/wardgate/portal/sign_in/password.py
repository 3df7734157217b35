"""Signing in by name and password (identity §4), and the page on which people choose one.

    POST      /{slug}/sign_in/userpass/{provider}    address and password
    GET, POST /{slug}/sign_in/password/{secret}      a new password, by a link that an administrator had sent

Whatever is wrong, the answer is one sentence, and comes as late as for an address that nobody has. Tries are counted
by address and where they come from, and by address alone with a wider limit, so that a stranger can keep somebody
out from elsewhere only with many machines. What kind of actor somebody is, is looked at after the password.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, TypeVar

from starlette.responses import Response
from starlette.routing import BaseRoute

from wardgate.portal.http.origin import origin_of
from wardgate.portal.outcomes import Invalid, Unsuitable
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.sign_in.admission import is_usable
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.hashing import SALT_BYTES, hash_text, is_text_of
from wardgate.portal.sign_in.lookup import find_provider_of_kind, find_user
from wardgate.portal.sign_in.outcome import SignIns
from wardgate.portal.sign_in.padding import pad
from wardgate.portal.sign_in.password_rules import (
    MOST_CHARS,
    check_password,
    is_current,
    normalized_password,
    read_link,
    set_password,
)
from wardgate.portal.sign_in.steps import Step, Steps, address_key
from wardgate.portal.sign_in.tables import UserpassAuthProvider
from wardgate.portal.sign_in.throttle import Throttle
from wardgate.portal.sign_in.typed_address import MAX_CHARS, TypedAddress
from wardgate.portal.subjects import subject_of

TRIES_FROM_ONE_PLACE: Final = 5
PLACE_WINDOW_S: Final = 300.0
TRIES: Final = 50
WINDOW_S: Final = 900.0
_PATH: Final = "/sign_in/userpass/{provider_id}"
_CHOOSE: Final = "/sign_in/password/{secret}"

_Result = TypeVar("_Result")


class Password:
    """The method."""

    def __init__(self, services: Services, steps: Steps, sign_ins: SignIns) -> None:
        self._services = services
        self._steps = steps
        self._sign_ins = sign_ins
        self._clock = services.environment.clock
        self._from_place = Throttle(most=TRIES_FROM_ONE_PLACE, window_s=PLACE_WINDOW_S)
        self._from_anywhere = Throttle(most=TRIES, window_s=WINDOW_S)
        self._typed = TypedAddress(services)

    def routes(self) -> Sequence[BaseRoute]:
        steps = self._steps
        return (
            steps.post(_PATH, self._check),
            steps.get(_CHOOSE, self._ask_for_new),
            steps.post(_CHOOSE, self._set_new),
        )

    async def _check(self, step: Step) -> Response:
        began_at = self._clock.monotonic()
        async with self._services.store.reading() as transaction:
            tables = transaction.of(step.account.id)
            provider = await find_provider_of_kind(tables, UserpassAuthProvider, step.provider_id)
            actor = await find_user(tables, step.form.get("userpass[idp_id]", "")[:MAX_CHARS])
        if provider is None or not is_usable(provider, step.flow.context):
            return self._sign_ins.fail(step.flow, step.account, Failure.METHOD_UNAVAILABLE)
        if self._is_throttled(step):
            return self._fail(step, Failure.TOO_MANY_ATTEMPTS)
        stored = None if actor is None or actor.is_disabled else actor.password_hash
        typed = normalized_password(step.form.get("userpass[secret]", "")[:MOST_CHARS])
        is_right = await self._hashed(lambda: is_text_of(stored, typed))
        if not is_right or actor is None:
            await pad(self._clock, since=began_at)
            return self._fail(step, Failure.INVALID_CREDENTIALS)
        place, anywhere = _keys(step)
        self._from_place.reset(place)
        self._from_anywhere.reset(anywhere)
        return await self._sign_ins.finish(step.request, step.flow, step.account, actor, provider)

    def _fail(self, step: Step, failure: Failure) -> Response:
        """Say why, and keep what was typed but the password."""
        response = self._sign_ins.fail(step.flow, step.account, failure)
        self._typed.keep(response, step.account.id, step.form.get("userpass[idp_id]", ""))
        return response

    async def _ask_for_new(self, step: Step) -> Response:
        actor = await self._actor_of_link(step)
        return self._gone(step) if actor is None else self._show(step, actor)

    async def _set_new(self, step: Step) -> Response:
        actor = await self._actor_of_link(step)
        if actor is None:
            return self._gone(step)
        try:
            password = check_password(actor, step.form.get("password", ""))
        except Invalid as invalid:
            return self._show(step, actor, error=", ".join(invalid.errors["password"]))
        except Unsuitable:
            return self._gone(step)
        salt = self._services.environment.rng.randbytes(SALT_BYTES)
        password_hash = await self._hashed(lambda: hash_text(password, salt=salt))
        subject = subject_of(actor, origin_of(step.request.scope))
        async with self._services.store.writing(subject) as transaction:
            tables = transaction.of(step.account.id)
            now = await tables.actors.load(actor.id)
            if now is None or now.password_hash != actor.password_hash:
                return self._gone(step)  # somebody else used the link in the meantime
            await set_password(tables, now, password_hash)
        return self._steps.show_step(step, "sign_in/password_set.html")

    async def _actor_of_link(self, step: Step) -> Actor | None:
        secret = step.request.path_params["secret"]
        link = read_link(secret, now=self._clock.now(), keys=self._services.keys)
        if link is None or link.account_id != step.account.id:
            return None
        async with self._services.store.reading() as transaction:
            actor = await transaction.of(step.account.id).actors.load(link.actor_id)
        return actor if actor is not None and is_current(link, actor, keys=self._services.keys) else None

    def _show(self, step: Step, actor: Actor, *, error: str | None = None) -> Response:
        return self._steps.show_step(
            step,
            "sign_in/password_new.html",
            status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
            actor=actor,
            error=error,
        )

    def _gone(self, step: Step) -> Response:
        return self._steps.show_step(step, "sign_in/password_link_used.html", status=HTTPStatus.GONE)

    async def _hashed(self, function: Callable[[], _Result]) -> _Result:
        return await self._services.hashing.run(self._services.environment.executor, function)

    def _is_throttled(self, step: Step) -> bool:
        now, (place, anywhere) = self._clock.monotonic(), _keys(step)
        return self._from_place.take(place, now=now) > 0 or self._from_anywhere.take(anywhere, now=now) > 0


def _keys(step: Step) -> tuple[tuple[object, ...], tuple[object, ...]]:
    email = step.form.get("userpass[idp_id]", "").strip().lower()[:MAX_CHARS]
    return (step.account.id, email, address_key(origin_of(step.request.scope).remote_ip)), (
        step.account.id,
        email,
    )
