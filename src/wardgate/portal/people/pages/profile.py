"""The page of the person who is signed in: who she is, where she is signed in, her clients and her second factors.

Only administrators have sessions of the portal (identity §9); everybody else sets up a second factor while signing in.
Whoever has one shows it again before any is added, removed or replaced.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, Literal
from uuid import UUID

from starlette.responses import Response

from wardgate.portal.http.origin import origin_of
from wardgate.portal.outcomes import Missing, Refused
from wardgate.portal.people.pages.actors import ROLES, SessionView, load_sessions
from wardgate.portal.people.pages.held import TokenView, load_tokens
from wardgate.portal.sign_in.rules import load_client_token
from wardgate.portal.sign_in.second_factor import rules as second_factors
from wardgate.portal.sign_in.second_factor.freshness import Freshness
from wardgate.portal.sign_in.second_factor.letters import CODES_MADE, added, removed, tell_of_change
from wardgate.portal.sign_in.second_factor.pages import (
    TOO_MANY,
    WRONG_CODE,
    WRONG_PASSKEY,
    make_setup,
    set_up,
    told,
)
from wardgate.portal.sign_in.second_factor.passkeys import MAX_ANSWER_CHARS, RelyingParty
from wardgate.portal.sign_in.second_factor.rules import Answer, Factors
from wardgate.portal.sign_in.start_pages import START_PAGES, start_page_of
from wardgate.portal.sign_in.steps import address_key
from wardgate.portal.store import Transaction
from wardgate.portal.web.page import Live, PageRoute, TemplatePage
from wardgate.portal.web.visit import Visit

PATH: Final = "/profile"
STALE: Final = "This took too long, or was tried too often. Begin again."
_ERRORS: Final = {Answer.ENDED: STALE, Answer.TOO_MANY: TOO_MANY}

Change = Literal["add", "codes", "remove"]


@dataclass(frozen=True, slots=True)
class Profile:
    """Ready to be written down; `knows_passkeys`: browsers know them at this portal's address."""

    role: str
    sessions: Sequence[SessionView]
    tokens: Sequence[TokenView]
    factors: Factors
    is_required: bool
    knows_passkeys: bool
    start_page: str
    start_pages: Sequence[tuple[str, str]]
    portal_url: str


async def load_profile(visit: Visit) -> Profile:
    actor = visit.actor
    async with visit.reading() as tables:
        sessions = await load_sessions(visit, tables, actor)
        tokens = await load_tokens(visit, tables, actor)
        factors = await second_factors.load_factors(tables, actor.id)
    return Profile(
        role=ROLES[actor.type],
        sessions=sessions,
        tokens=tokens,
        factors=factors,
        is_required=second_factors.is_required(visit.account, actor),
        knows_passkeys=_party(visit) is not None,
        start_page=start_page_of(actor),
        start_pages=tuple(START_PAGES.items()),
        portal_url=visit.services.settings.web_url,
    )


# Sessions, clients, the first page


async def _end_session(visit: Visit) -> Response:
    id_ = visit.id("session_id")
    async with visit.writing() as (tables, _):
        session = None if id_ is None else await tables.portal_sessions.load(id_)
        if session is None or session.actor_id != visit.actor.id:
            raise Missing
        await tables.portal_sessions.delete(session.id)
    return visit.go(PATH, toast="The session has ended.")


async def _end_other_sessions(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        c = tables.portal_sessions.c
        count = await tables.portal_sessions.delete_where(
            c.actor_id == visit.actor.id, c.id != visit.signed_in.session_id
        )
    return visit.go(PATH, toast=f"{count} other {'session has' if count == 1 else 'sessions have'} ended.")


async def _revoke_token(visit: Visit) -> Response:
    async with visit.writing() as (tables, _):
        token = await load_client_token(tables, visit.actor.id, visit.id("token_id"))
        await tables.client_tokens.delete(token.id)
    return visit.go(PATH, toast="The client is signed out.")


async def _choose_start_page(visit: Visit) -> Response:
    chosen = visit.form.get("start_page")
    if chosen not in START_PAGES:
        raise Missing
    async with visit.writing() as (tables, _):
        actor = await tables.actors.load(visit.actor.id)
        if actor is None:
            raise Missing
        preferences = {**actor.preferences, "start_page": chosen}
        await tables.actors.save(replace(actor, preferences=preferences))
    return visit.go(PATH, toast=f"After signing in you see “{START_PAGES[str(chosen)]}” first.")


# Second factors


def _changes(change: Change) -> Callable[[Visit], Awaitable[Response]]:
    async def handle(visit: Visit) -> Response:
        async with visit.reading() as tables:
            factors = await second_factors.load_factors(tables, visit.actor.id)
        if factors.all and not _is_fresh(visit):
            return await _show_confirm(visit, change, visit.id("id") if change == "remove" else None)
        return await _carry_out(visit, change, visit.id("id") if change == "remove" else None)

    return handle


async def _confirm(visit: Visit) -> Response:
    """Look at the second factor that was shown, and go on with what it was asked for."""
    change, factor_id = _wanted(visit)
    actor, services = visit.actor, visit.services
    passkey = _text(visit, "credential")[: MAX_ANSWER_CHARS + 1]
    place = address_key(origin_of(visit.request.scope).remote_ip)
    now = services.environment.clock.monotonic()
    if not passkey and not services.second_factor_places.take(actor.id, place, now=now):
        return await _show_confirm(visit, change, factor_id, error=TOO_MANY)
    async with visit.writing() as (tables, _):
        id_ = _id(_text(visit, "attempt"))
        attempt = await second_factors.load_attempt(tables, id_, "confirm", actor_id=actor.id)
        if attempt is None:
            answer = Answer.ENDED
        elif passkey:
            answer = await second_factors.check_passkey(tables, attempt, passkey, party=_party(visit))
        else:
            code = _text(visit, "code")
            answer = await second_factors.check_code(tables, attempt, code, keys=services.keys)
    if answer is not Answer.RIGHT:
        error = _ERRORS.get(answer, WRONG_PASSKEY if passkey else WRONG_CODE)
        return await _show_confirm(visit, change, factor_id, error=error)
    services.second_factor_places.reset(actor.id, place)
    response = await _carry_out(visit, change, factor_id)
    Freshness(services).set(
        response,
        visit.signed_in.session_id,
        account_id=visit.account.id,
        now=services.environment.clock.now(),
    )
    return response


async def _carry_out(visit: Visit, change: Change, factor_id: UUID | None) -> Response:
    keys, actor = visit.services.keys, visit.actor
    async with visit.writing() as (tables, transaction):
        if change == "add":
            attempt = await second_factors.begin_attempt(tables, actor, "enrol", keys=keys)
            return visit.go(f"{PATH}/second_factors/setup/{attempt.id}")
        if change == "remove":
            factor = await second_factors.remove_factor(tables, actor.id, factor_id)
            await _tell(visit, transaction, removed(factor.name))
            return visit.go(PATH, toast=f"“{factor.name}” is no second factor of yours any more.")
        factors = await second_factors.load_factors(tables, actor.id)
        if not factors.all:
            raise Missing
        codes = await second_factors.renew_recovery_codes(tables, actor.id, keys=keys)
        await _tell(visit, transaction, CODES_MADE)
    return await visit.show("people/recovery_codes.html", codes=codes)


async def _tell(visit: Visit, transaction: Transaction, *changes: str) -> None:
    await tell_of_change(
        transaction,
        visit.services.settings,
        visit.account,
        visit.actor,
        changes,
        origin=origin_of(visit.request.scope),
    )


async def _show_setup(visit: Visit, *, error: str | None = None) -> Response:
    async with visit.reading() as tables:
        attempt = await second_factors.load_attempt(tables, visit.id(), "enrol", actor_id=visit.actor.id)
        factors = await second_factors.load_factors(tables, visit.actor.id)
    setup = (
        None
        if attempt is None
        else make_setup(visit.services, _party(visit), visit.account, visit.actor, factors, attempt)
    )
    if setup is None:
        return visit.go(PATH, toast=STALE, tone="bad")
    return await visit.show(
        "people/second_factor_setup.html",
        status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
        setup=setup,
        error=error,
        typed_name=_text(visit, "name")[: second_factors.MAX_NAME_CHARS],
        path=f"{PATH}/second_factors/setup/{visit.id()}",
    )


async def _set_up(visit: Visit) -> Response:
    keys, actor = visit.services.keys, visit.actor
    codes: list[str] = []
    try:
        async with visit.writing() as (tables, transaction):
            attempt = await second_factors.load_attempt(tables, visit.id(), "enrol", actor_id=actor.id)
            if attempt is None:
                answer = Answer.ENDED
            else:
                answer = await set_up(
                    tables, attempt, visit.form, _text(visit, "name"), keys=keys, party=_party(visit)
                )
            if attempt is not None and answer is Answer.RIGHT:
                await tables.second_factor_attempts.delete(attempt.id)
                if (await second_factors.load_factors(tables, actor.id)).recovery_codes is None:
                    codes = await second_factors.renew_recovery_codes(tables, actor.id, keys=keys)
                told_of = [added(_text(visit, "name")), *([CODES_MADE] if codes else [])]
                await _tell(visit, transaction, *told_of)
    except Refused as refused:
        return await _show_setup(visit, error=told(refused))
    if answer is Answer.ENDED:
        return visit.go(PATH, toast=STALE, tone="bad")
    if answer is Answer.WRONG:
        return await _show_setup(visit, error=WRONG_PASSKEY if _text(visit, "credential") else WRONG_CODE)
    if codes:
        return await visit.show("people/recovery_codes.html", codes=codes)
    return visit.go(PATH, toast="Your second factor is set up.")


async def _show_confirm(
    visit: Visit, change: Change, factor_id: UUID | None, *, error: str | None = None
) -> Response:
    async with visit.writing() as (tables, _):
        factors = await second_factors.load_factors(tables, visit.actor.id)
        attempt = await second_factors.begin_attempt(tables, visit.actor, "confirm", keys=visit.services.keys)
    party, passkey = _party(visit), None
    if party is not None and factors.passkeys:
        passkey = party.to_authenticate(factors.passkeys, challenge=attempt.challenge)
    return await visit.show(
        "people/confirm_second_factor.html",
        status=HTTPStatus.OK if error is None else HTTPStatus.UNPROCESSABLE_ENTITY,
        factors=factors,
        passkey=passkey,
        error=error,
        hidden={
            "attempt": str(attempt.id),
            "change": change,
            "factor_id": "" if factor_id is None else str(factor_id),
        },
    )


def _wanted(visit: Visit) -> tuple[Change, UUID | None]:
    factor_id = _id(_text(visit, "factor_id"))
    match _text(visit, "change"):
        case "add":
            return "add", None
        case "codes":
            return "codes", None
        case "remove" if factor_id is not None:
            return "remove", factor_id
    raise Missing


def _is_fresh(visit: Visit) -> bool:
    return Freshness(visit.services).is_fresh(
        visit.request,
        visit.signed_in.session_id,
        account_id=visit.account.id,
        now=visit.services.environment.clock.now(),
    )


def _party(visit: Visit) -> RelyingParty | None:
    return RelyingParty.of(visit.services.settings.web_url)


def _text(visit: Visit, name: str) -> str:
    value = visit.form.get(name)
    return value if isinstance(value, str) else ""


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


PAGE: Final = TemplatePage(
    name="Your profile",
    path=PATH,
    icon="user",
    section=None,
    template="people/profile.html",
    load=load_profile,
    live=Live(
        tables=frozenset(
            {
                "actors",
                "portal_sessions",
                "client_tokens",
                "devices",
                "totp_authenticators",
                "passkeys",
                "recovery_codes",
            }
        ),
        presence=frozenset({"client"}),
    ),
    more=(
        PageRoute("/sessions/{session_id}/revoke", _end_session, "POST"),
        PageRoute("/sessions/end_others", _end_other_sessions, "POST"),
        PageRoute("/tokens/{token_id}/revoke", _revoke_token, "POST"),
        PageRoute("/start_page", _choose_start_page, "POST"),
        PageRoute("/second_factors", _changes("add"), "POST"),
        PageRoute("/second_factors/recovery_codes", _changes("codes"), "POST"),
        PageRoute("/second_factors/confirm", _confirm, "POST"),
        PageRoute("/second_factors/{id}/remove", _changes("remove"), "POST"),
        PageRoute("/second_factors/setup/{id}", _show_setup),
        PageRoute("/second_factors/setup/{id}", _set_up, "POST"),
    ),
)
