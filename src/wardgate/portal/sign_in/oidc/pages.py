"""The browser's part of signing in with an identity provider (identity §5, §7.2, §11).

    GET       /{slug}/sign_in/{kind}/{provider}                   off to the provider
    GET       /auth/oidc/trial/{name}                             off to it for a trial
    GET       /auth/oidc/callback                                 back from it, from a sign-in or a trial
    GET, POST /{slug}/sign_in/oidc/{provider}/verify_identity     the code that proves an address

A sign-in on its way is kept in a signed cookie of its browser, for five minutes, and each state is answered once: a
callback that is sent again, or to another browser, finds nothing.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from wardgate.portal.http.signed_cookie import SignedCookie
from wardgate.portal.installation.tables import Account
from wardgate.portal.outcomes import Refused
from wardgate.portal.people.tables import Actor
from wardgate.portal.services import Services
from wardgate.portal.settings import OIDC_CALLBACK_PATH
from wardgate.portal.sign_in import provider_rules
from wardgate.portal.sign_in.admission import NotAdmitted, admit, is_usable
from wardgate.portal.sign_in.failures import Failure
from wardgate.portal.sign_in.flow import Flow, MalformedFlow
from wardgate.portal.sign_in.lookup import as_id, find_provider
from wardgate.portal.sign_in.oidc import groups
from wardgate.portal.sign_in.oidc.authorization import Attempt
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure
from wardgate.portal.sign_in.oidc.identities import Known, ProofNeeded, Unknown, match
from wardgate.portal.sign_in.oidc.profile import Profile
from wardgate.portal.sign_in.oidc.proof import Proofs, TooManyMails, Waiting
from wardgate.portal.sign_in.oidc.relying_party import AnyProvider, EmailTrust, RelyingParty
from wardgate.portal.sign_in.oidc.trials import Trial
from wardgate.portal.sign_in.oidc.verification import TRIAL_PATH, begin_trial, complete_trial
from wardgate.portal.sign_in.outcome import Render, SignIns
from wardgate.portal.sign_in.steps import Step, Steps
from wardgate.portal.sign_in.tables import IdentityProviderDetails

log = logging.getLogger(__name__)

COOKIE_LIFETIME: Final = timedelta(minutes=5)
MAX_USED: Final = 10_000
PROOF_PATH: Final = "/sign_in/oidc/{provider_id}/verify_identity"
WRONG_CODE: Final = "This code is wrong, or has ended. After three attempts, or fifteen minutes, begin again."


@dataclass(frozen=True, slots=True)
class Begun:
    """What the cookie of a browser says that is on its way."""

    account_id: UUID
    provider_id: UUID
    attempt: Attempt
    flow: Flow


class UsedStates:
    """The states that were answered lately, so that none is answered twice. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, float] = OrderedDict()

    def use(self, state: str, *, now: float) -> bool:
        """Tell whether a state is used for the first time; afterwards it is used."""
        while self._used and (len(self._used) > MAX_USED or next(iter(self._used.values())) <= now):
            self._used.popitem(last=False)
        if state in self._used:
            return False
        self._used[state] = now + COOKIE_LIFETIME.total_seconds()
        return True


class OidcPages:
    """The method, for all kinds of identity provider."""

    def __init__(self, services: Services, steps: Steps, sign_ins: SignIns, render: Render) -> None:
        self._services = services
        self._steps = steps
        self._sign_ins = sign_ins
        self._render = render
        self._clock = services.environment.clock
        self._cookie = SignedCookie(services.keys.cookies, "oidc", is_secure=services.settings.is_secure)
        self._used = UsedStates()
        self._proofs = Proofs(services)

    def routes(self) -> Sequence[BaseRoute]:
        kinds = [kind.name for kind in provider_rules.IDENTITY_PROVIDERS]
        return (
            *(self._steps.get(f"/sign_in/{kind}/{{provider_id}}", self._begin) for kind in kinds),
            self._steps.get(PROOF_PATH, self._ask_for_code),
            self._steps.post(PROOF_PATH, self._check_code),
            Route(OIDC_CALLBACK_PATH, self._callback, methods=["GET"]),
            Route(f"{TRIAL_PATH}/{{name}}", self._begin_trial, methods=["GET"]),
        )

    async def _begin(self, step: Step) -> Response:
        async with self._services.store.reading() as transaction:
            provider = await find_provider(transaction.of(step.account.id), step.provider_id)
        if not isinstance(provider, IdentityProviderDetails) or not is_usable(provider, step.flow.context):
            return self._sign_ins.fail(step.flow, step.account, Failure.METHOD_UNAVAILABLE)
        self._steps.take_turn(step.request)
        try:
            attempt, url = await self._services.conversation.begin(_party_of(provider))
        except OidcFailed as failed:
            return self._fail(step.account, step.flow, failed)
        response = RedirectResponse(url, HTTPStatus.SEE_OTHER)
        value = [
            step.account.id.hex,
            provider.id.hex,
            attempt.state,
            attempt.verifier,
            step.flow.parameters,
        ]
        self._cookie.set(response, value, lifetime=COOKIE_LIFETIME, now=self._clock.now())
        return response

    async def _callback(self, request: Request) -> Response:
        if request.method != "GET":
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)
        self._steps.take_turn(request)
        callback = request.query_params
        if len(callback) != len(callback.multi_items()):
            return self._lost(request)  # RFC 6749 §3.1: no parameter comes twice
        state = callback.get("state", "")
        trial = self._services.trials.take(state, now=self._clock.monotonic())
        if trial is not None:
            return await self._end_trial(request, trial, callback)
        begun = _begun_of(self._cookie.read(request, now=self._clock.now()))
        if begun is None or not begun.attempt.is_state(state):
            return self._lost(request)
        response = self._lost(request)
        if self._used.use(state, now=self._clock.monotonic()):
            response = await self._come_back(request, begun, callback)
        self._cookie.clear(response)
        return response

    async def _come_back(self, request: Request, begun: Begun, callback: Mapping[str, str]) -> Response:
        async with self._services.store.reading() as transaction:
            tables = transaction.of(begun.account_id)
            account = await transaction.accounts.load(begun.account_id)
            provider = await find_provider(tables, begun.provider_id)
        if account is None:
            return self._lost(request)
        if not isinstance(provider, IdentityProviderDetails) or not is_usable(provider, begun.flow.context):
            return self._sign_ins.fail(begun.flow, account, Failure.METHOD_UNAVAILABLE)
        try:
            party = _party_of(provider)
            profile = await self._services.conversation.complete(party, begun.attempt, callback)
            if party.email_trust is EmailTrust.CLAIM and not profile.is_email_verified:
                raise OidcFailed(OidcFailure.EMAIL_UNVERIFIED)
        except OidcFailed as failed:
            return self._fail(account, begun.flow, failed)
        match await self._matched(account, provider, party, profile):
            case Known(actor):
                return await self._sign_ins.finish(request, begun.flow, account, actor, provider)
            case ProofNeeded(actor):
                return await self._begin_proof(request, begun.flow, account, provider, actor, profile)
            case Unknown():
                return self._sign_ins.fail(begun.flow, account, Failure.UNKNOWN_USER)

    async def _matched(
        self, account: Account, provider: IdentityProviderDetails, party: RelyingParty, profile: Profile
    ) -> Known | ProofNeeded | Unknown:
        async with self._services.store.writing() as transaction:
            tables = transaction.of(account.id)
            found = await match(tables, profile, party.email_trust)
            if isinstance(found, Known) and provider.fills_groups:
                await groups.fill(tables, provider.id, found.actor, profile.groups)
            return found

    async def _begin_proof(
        self,
        request: Request,
        flow: Flow,
        account: Account,
        provider: IdentityProviderDetails,
        actor: Actor,
        profile: Profile,
    ) -> Response:
        async with self._services.store.reading() as transaction:
            decision = await admit(transaction.of(account.id), flow.context, actor, provider)
        if isinstance(decision, NotAdmitted):
            return self._sign_ins.fail(flow, account, decision.failure)
        try:
            waiting = await self._proofs.begin(request, account, provider, actor, profile)
        except TooManyMails:
            return self._sign_ins.fail(flow, account, Failure.TOO_MANY_ATTEMPTS)
        path = f"/{account.slug}/sign_in/oidc/{provider.id}/verify_identity"
        response = RedirectResponse(flow.url(path), HTTPStatus.SEE_OTHER)
        self._proofs.remember(response, account, waiting)
        return response

    async def _ask_for_code(self, step: Step) -> Response:
        waiting = self._proofs.waiting(step.request, step.account, step.provider_id)
        if waiting is None:
            return self._sign_ins.fail(step.flow, step.account, Failure.TIMED_OUT)
        return self._show_proof(step, waiting)

    async def _check_code(self, step: Step) -> Response:
        waiting = self._proofs.waiting(step.request, step.account, step.provider_id)
        if waiting is None:
            return self._sign_ins.fail(step.flow, step.account, Failure.TIMED_OUT)
        async with self._services.store.reading() as transaction:
            provider = await find_provider(transaction.of(step.account.id), waiting.provider_id)
        if not isinstance(provider, IdentityProviderDetails) or not is_usable(provider, step.flow.context):
            return self._sign_ins.fail(step.flow, step.account, Failure.METHOD_UNAVAILABLE)
        actor = await self._proofs.complete(step.account, waiting, step.form.get("secret", ""))
        if actor is None:
            return self._show_proof(step, waiting, error=WRONG_CODE)
        response = await self._sign_ins.finish(step.request, step.flow, step.account, actor, provider)
        self._proofs.forget(response, step.account)
        return response

    def _show_proof(self, step: Step, waiting: Waiting, *, error: str | None = None) -> Response:
        return self._steps.show_step(
            step,
            "sign_in/verify_identity.html",
            status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
            provider_id=waiting.provider_id,
            email=waiting.email,
            error=error,
        )

    async def _begin_trial(self, request: Request) -> Response:
        if request.method != "GET" or "prefetch" in request.headers.get("sec-purpose", ""):
            raise HTTPException(HTTPStatus.NO_CONTENT)
        self._steps.take_turn(request)
        trial = self._services.trials.take(request.path_params["name"], now=self._clock.monotonic())
        if trial is None:
            return self._lost(request)
        try:
            return RedirectResponse(await begin_trial(self._services, trial), HTTPStatus.SEE_OTHER)
        except OidcFailed as failed:
            return self._trial_failed(request, failed)

    async def _end_trial(self, request: Request, trial: Trial, callback: Mapping[str, str]) -> Response:
        try:
            provider = await complete_trial(self._services, trial, callback)
        except (OidcFailed, Refused) as refused:
            return self._trial_failed(request, refused)
        return self._render(request, "sign_in/trial_succeeded.html", provider=provider)

    def _trial_failed(self, request: Request, refused: OidcFailed | Refused) -> Response:
        log.info("a provider's trial failed", extra={"error": str(refused)})
        told = refused.failure.told if isinstance(refused, OidcFailed) else str(refused)
        return self._render(
            request, "sign_in/trial_failed.html", status=HTTPStatus.UNPROCESSABLE_ENTITY, told=told
        )

    def _lost(self, request: Request) -> Response:
        """Answer a callback of which this browser knows nothing; not even whose it was."""
        return self._render(
            request,
            "sign_in/failed.html",
            status=HTTPStatus.BAD_REQUEST,
            failure=Failure.TIMED_OUT,
            retry=None,
        )

    def _fail(self, account: Account, flow: Flow, failed: OidcFailed) -> Response:
        log.info("a sign-in with a provider failed", extra={"error": str(failed)})
        return self._sign_ins.fail(flow, account, failed.failure)


def _party_of(provider: IdentityProviderDetails) -> RelyingParty:
    found: AnyProvider = provider  # type: ignore[assignment] # there are these four
    try:
        return RelyingParty.of(found)
    except ValueError as error:
        raise OidcFailed(OidcFailure.CREDENTIALS_REFUSED, str(error)) from error


def _begun_of(value: Any) -> Begun | None:
    match value:
        case [str(account), str(provider), str(state), str(verifier), dict(parameters)]:
            account_id, provider_id = as_id(account), as_id(provider)
            if account_id is None or provider_id is None:
                return None
            try:
                flow = Flow.parse(parameters)
            except MalformedFlow:
                return None
            return Begun(account_id, provider_id, Attempt(state, verifier), flow)
    return None
