"""The REST API as a FastAPI application behind the pipeline."""

import logging
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

import wardgate
from wardgate.portal.access import rest as access
from wardgate.portal.database.refusals import is_contradiction
from wardgate.portal.devices import rest as devices
from wardgate.portal.http.asgi import App, Receive, Scope, Send
from wardgate.portal.installation import rest as installation
from wardgate.portal.logs import rest as logs
from wardgate.portal.logs.ingestion import FlowLogIngestRequest, Ingestion
from wardgate.portal.outcomes import Forbidden, Invalid, Missing, Refused, Unsuitable, WrongState
from wardgate.portal.people import rest as people
from wardgate.portal.rest import documentation
from wardgate.portal.rest.document import document
from wardgate.portal.rest.entrance import Entrance
from wardgate.portal.rest.fields import NARROWING
from wardgate.portal.rest.paths import Paths
from wardgate.portal.rest.pipeline import Pipeline
from wardgate.portal.rest.problems import (
    NOT_FOUND,
    OVERTAKEN,
    PROBLEM_JSON,
    UNAUTHENTICATED,
    UNEXPECTED,
    Problem,
    database_unavailable,
    forbidden,
    invalid,
    not_found,
    unprocessed,
)
from wardgate.portal.services import Services
from wardgate.portal.sign_in import rest as sign_in
from wardgate.portal.sign_in.hashing import RETRY_S, HashingBusy
from wardgate.portal.sites import rest as sites
from wardgate.portal.store import UNAVAILABLE, NotAllowed, StoreError, Unstorable

CONTRADICTION: Final = "these values do not go together"

log = logging.getLogger(__name__)


def build(services: Services) -> App:
    """Build the API over one process's services."""
    api = documentation.Documentation(Pipeline(_by_segment, services, paths()), openapi)
    ingestion = Ingestion(services)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        await (ingestion if scope["path"].startswith("/ingestion") else api)(scope, receive, send)

    return Entrance(dispatch, services)


async def _by_segment(scope: Scope, receive: Receive, send: Send) -> None:
    """Dispatch by the path's first segment: the framework matches routes linearly, so each application holds
    only a few."""
    segment = scope["path"].split("/", 2)[1]
    if segment not in paths().first_segments:
        raise not_found()
    await _api(segment)(scope, receive, send)


@cache
def _api(segment: str | None = None) -> FastAPI:
    """Build the routes, once: handlers know their services from the caller that the pipeline hands them.

    Args:
        segment: leave out the nouns that have no path beginning with it.
    """
    api = FastAPI(
        title="Wardgate API",
        version=wardgate.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for routes in ROUTES:
        if segment is None or segment in routes.first_segments:
            api.include_router(routes.router)
    api.add_exception_handler(Problem, _problem)
    api.add_exception_handler(RequestValidationError, _invalid_request)
    api.add_exception_handler(HTTPException, _framework_error)
    api.add_exception_handler(Refused, _refused_by_a_rule)
    api.add_exception_handler(StoreError, _refused_by_the_store)
    api.add_exception_handler(IntegrityError, _refused_by_the_database)
    api.add_exception_handler(HashingBusy, _hashing_busy)
    for unavailable in UNAVAILABLE:
        api.add_exception_handler(unavailable, _database_unavailable)
    api.add_exception_handler(Exception, _unexpected)
    return api


ROUTES: Final = (
    *installation.ROUTES,
    *people.ROUTES,
    *sites.ROUTES,
    *devices.ROUTES,
    *access.ROUTES,
    *sign_in.ROUTES,
    *logs.ROUTES,
)


@cache
def paths() -> Paths:
    """Return the paths of the API."""
    return Paths(route for routes in ROUTES for route in routes)


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the API."""
    contracts = (FlowLogIngestRequest,)
    return document(_api(), [route for routes in ROUTES for route in routes], contracts)


def _answer(problem: Problem) -> Response:
    return Response(problem.document(), int(problem.status), media_type=PROBLEM_JSON, headers=problem.headers)


def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _answer(error)


def _refused_by_a_rule(_request: Request, error: Exception) -> Response:
    match error:
        case Invalid(errors=errors):
            return _answer(invalid(errors))
        case Missing():
            return _answer(not_found())
        case Forbidden():
            return _answer(forbidden(str(error)))
        case Unsuitable():
            return _answer(Problem(HTTPStatus.BAD_REQUEST, str(error)))
        case _:
            assert isinstance(error, WrongState)
            return _answer(Problem(HTTPStatus.CONFLICT, str(error)))


def _refused_by_the_store(_request: Request, error: Exception) -> Response:
    """Answer when a row had been deleted or a unique value taken by the time a handler wrote, or a value
    cannot be stored."""
    if isinstance(error, Unstorable):
        return _answer(unprocessed())
    if isinstance(error, NotAllowed):
        # Not 403, which is for the account's rules: a credential without the right is treated like an invalid
        # one (rest-api §2).
        return _answer(Problem(HTTPStatus.UNAUTHORIZED, UNAUTHENTICATED))
    return _answer(Problem(HTTPStatus.CONFLICT, OVERTAKEN))


def _refused_by_the_database(_request: Request, error: Exception) -> Response:
    """Answer when the values contradict each other and only a constraint of the table noticed."""
    assert isinstance(error, IntegrityError)
    if is_contradiction(error):
        log.warning("a table's constraint caught what no rule did", exc_info=error)
        return _answer(invalid({"base": [CONTRADICTION]}))
    raise error


def _database_unavailable(_request: Request, _error: Exception) -> Response:
    return _answer(database_unavailable())


def _hashing_busy(_request: Request, _error: Exception) -> Response:
    text, headers = "Too many passwords are set or checked at the moment.", {"retry-after": str(RETRY_S)}
    return _answer(Problem(HTTPStatus.SERVICE_UNAVAILABLE, text, headers=headers))


def _unexpected(_request: Request, _error: Exception) -> Response:
    return _answer(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED))


def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = {"allow": ", ".join(paths().methods_at(request.url.path))}
        return _answer(Problem(status, "The method is not allowed here.", headers=allowed))
    if status == HTTPStatus.BAD_REQUEST:
        return _answer(unprocessed())
    return _answer(
        Problem(
            status, NOT_FOUND if status == HTTPStatus.NOT_FOUND else str(error.detail), headers=error.headers
        )
    )


def _invalid_request(_request: Request, error: Exception) -> Response:
    """Distinguish a body without its wrapper (400) from fields that are invalid (422)."""
    assert isinstance(error, RequestValidationError)
    errors: dict[str, Any] = {}
    for one in error.errors():
        place = [part for part in one["loc"] if part != "body"]
        if one["loc"][0] != "body" or len(place) < 2 or one["type"] == "json_invalid":
            return _answer(unprocessed())
        _note(errors, place[1:], _message(one))
    return _answer(invalid(errors))


def _note(errors: dict[str, Any], place: list[str | int], message: str) -> None:
    """Add a message to its field. In a list of objects, earlier elements are empty objects; in other lists
    the message names the entry."""
    field, rest = str(place[0]), place[1:]
    is_list = bool(rest) and isinstance(rest[0], int)
    inner = [part for part in rest if is_list and isinstance(part, str)]
    entries = [part for part in rest if isinstance(part, int)]
    messages = errors.setdefault(field, [])
    if entries and inner:
        index = entries.pop(0)
        messages += [{} for _ in range(index + 1 - len(messages))]
        messages = messages[index].setdefault(inner[0], [])
    if entries:
        message = f"entry {entries[0]}: {message}"
    if message not in messages:
        messages.append(message)


def _message(error: dict[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "can't be blank"
        case "narrowing" | "extra_forbidden":
            *_, within, name = error["loc"]
            return NARROWING if isinstance(within, int) or len(error["loc"]) <= 3 else f"{name} {NARROWING}"
        case _:
            return "is invalid"
