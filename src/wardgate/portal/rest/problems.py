"""Errors of the REST API as RFC 9457 problem documents (rest-api §4), including those that the framework
raises."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from pydantic import BaseModel, Field, WithJsonSchema

PROBLEM_JSON: Final = "application/problem+json"

NOT_FOUND: Final = "The requested resource could not be found."
UNPROCESSED: Final = "The request could not be processed."
INVALID: Final = "The request body failed validation."
UNAUTHENTICATED: Final = "Authentication credentials were missing or invalid."
BAD_PATH_ID: Final = "One or more path parameters are not valid identifiers."
RATE_LIMITED: Final = "Rate limit exceeded. Retry after the time indicated in the Retry-After header."
OVERTAKEN: Final = "Another change came first. Read again and repeat."
UNEXPECTED: Final = "An unexpected error occurred."

_NEWER_PHRASES: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Content Too Large",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Unprocessable Content",
}
"""Of the statuses that the API answers, those that RFC 9110 has renamed."""

Errors = dict[str, Any]
"""Field → list of messages, or nested structures of the same."""


DATABASE_RETRY_S: Final = 5


class ProblemDocument(BaseModel):
    """The body of every error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    validation_errors: Annotated[
        dict[str, Any] | None,
        Field(description="field → messages, or per element of a list its fields' messages"),
        WithJsonSchema(
            {
                "type": "object",
                "additionalProperties": {"type": "array", "items": {"type": ["string", "object"]}},
            }
        ),
    ] = None


class Problem(Exception):
    """Answer the request with this problem document."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        validation_errors: Errors | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.validation_errors = validation_errors
        self.headers = dict(headers or {})

    def document(self) -> bytes:
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": title_of(self.status),
            "status": int(self.status),
            "detail": self.detail,
        }
        if self.validation_errors is not None:
            body["validation_errors"] = self.validation_errors
        return msgspec.json.encode(body)


def title_of(status: HTTPStatus) -> str:
    """Return the reason phrase of RFC 9110, which Python has in full from 3.13 on."""
    return _NEWER_PHRASES.get(status, status.phrase)


def not_found() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, NOT_FOUND)


def unprocessed() -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, UNPROCESSED)


def forbidden(detail: str) -> Problem:
    return Problem(HTTPStatus.FORBIDDEN, detail)


def invalid(errors: Errors) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, INVALID, validation_errors=errors)


def database_unavailable() -> Problem:
    """Ask the client to retry later: the database's disk is full, or it is damaged or unreachable."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database does not answer at the moment.",
        headers={"retry-after": str(DATABASE_RETRY_S)},
    )
