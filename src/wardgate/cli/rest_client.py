"""The commands' way to the REST API: one HTTP client, and how its refusals read.

A call that the portal puts off (429, 503) is repeated after the time that it asks for. A POST carries an
`Idempotency-Key`, the same in every attempt, so that a repetition cannot do the thing twice.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx2

import wardgate
from wardgate.cli.errors import Invalid, NotFound, Refused, UserError
from wardgate.cli.profile import Profile

TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10.0
MAX_ATTEMPTS: Final = 6
MAX_WAIT_S: Final = 120  # a longer Retry-After is the user's to wait for
PAGE_SIZE: Final = 100  # the API's largest

_PUT_OFF: Final = frozenset({429, 503})
_ERRORS: Final[Mapping[int, type[UserError]]] = {
    400: Invalid,
    401: Refused,
    403: Refused,
    404: NotFound,
    409: Invalid,
    412: Invalid,
    413: Invalid,
    422: Invalid,
    428: Invalid,
}

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of a list, and how many it has altogether: at least so many, if that is not exact."""

    objects: list[dict[str, Any]]
    count: int
    is_exact: bool


class RestClient:
    """Calls of one command, one after the other.

    Args:
        transport: how to reach the portal; the network by default.
        ca_file: PEM file of the authorities to trust in place of the system's.
        notify: told, in one line, whenever a call has to wait.
        sleep: waits; seconds.
        new_key: draws the idempotency key of a POST.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        ca_file: Path | None = None,
        notify: Callable[[str], None] = lambda _line: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        new_key: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        self._url = profile.url
        self._notify = notify
        self._sleep = sleep
        self._new_key = new_key
        self._client = httpx2.AsyncClient(
            transport=transport,
            verify=_trust(ca_file),
            timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            headers={
                "Authorization": f"Bearer {_header_value(profile.token, 'the token')}",
                "Accept": "application/json",
                "User-Agent": f"wardgate-cli/{wardgate.__version__}",
            },
        )

    async def __aenter__(self) -> "RestClient":
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        if_match: str | None = None,
    ) -> dict[str, Any]:
        """Make one call and return the answer, whose member `data` is an object or a list of objects.

        Args:
            if_match: carry it out only on this version, an entity tag.

        Raises:
            UserError: the portal cannot be reached or refuses; subclasses tell how.
        """
        headers = {} if if_match is None else {"If-Match": _header_value(if_match, "the version")}
        if method == "POST":
            headers["Idempotency-Key"] = self._new_key()
        return self._data(await self._done(method, path, query or {}, body, headers))

    async def version(self, path: str) -> str:
        """Return the entity tag of what a path shows.

        Raises:
            UserError: as `call`.
        """
        response = await self._done("GET", path, {"limit": "1"}, None, {})
        tag = response.headers.get("etag")
        if tag is None:
            raise self._no_portal()
        return str(tag)

    async def pages(self, path: str, *, query: Query | None = None, limit: int | None = None) -> Listing:
        """Return up to `limit` objects of a list (all by default)."""
        size = PAGE_SIZE if limit is None else min(limit, PAGE_SIZE)
        asked = {**(query or {}), "limit": str(size)}
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.call("GET", path, query=asked)
            if not isinstance(answer["data"], list):
                raise self._no_portal()
            found += answer["data"]
            given = answer.get("metadata")
            metadata = given if isinstance(given, dict) else {}
            cursor, count = _next_page(metadata)
            if cursor is None or not answer["data"] or (limit is not None and len(found) >= limit):
                is_exact = metadata.get("count_is_exact") is not False
                return Listing(found[:limit], max(count, len(found)), is_exact)
            asked["page_cursor"] = cursor

    async def lines(self, path: str, *, query: Query | None = None) -> AsyncIterator[str]:
        """Yield the lines of an answer as they arrive.

        Raises:
            UserError: as `call`.
        """
        attempt = 1
        while True:
            try:
                async with self._client.stream(
                    "GET", f"{self._url}{path}", params=dict(query or {}), headers={"Accept": "*/*"}
                ) as response:
                    if response.is_success:
                        async for line in response.aiter_lines():
                            yield line
                        return
                    await response.aread()
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
                raise self._unreachable(error) from error
            await self._wait_or_refuse(response, attempt)
            attempt += 1

    async def _done(
        self,
        method: str,
        path: str,
        query: Query,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> httpx2.Response:
        """Send until the portal does not put it off any more, and return its answer."""
        attempt = 1
        while True:
            response = await self._send(method, path, query, body, headers)
            if response.is_success:
                return response
            await self._wait_or_refuse(response, attempt)
            attempt += 1

    async def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> httpx2.Response:
        try:
            return await self._client.request(
                method, f"{self._url}{path}", params=dict(query), json=body, headers=dict(headers)
            )
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise self._unreachable(error) from error

    async def _wait_or_refuse(self, response: httpx2.Response, attempt: int) -> None:
        """Wait as the portal asks; an answer that is final is raised."""
        wait_s = _wait_s(response, attempt)
        if wait_s is None or attempt == MAX_ATTEMPTS:
            error = _ERRORS.get(response.status_code, UserError)
            raise error(problem_text(response.status_code, _json_object(response) or {}, self._url))
        self._notify(f"the portal asks to wait: trying again in {wait_s} s ({attempt + 1} of {MAX_ATTEMPTS})")
        await self._sleep(wait_s)

    def _data(self, response: httpx2.Response) -> dict[str, Any]:
        answer = _json_object(response)
        data = None if answer is None else answer.get("data")
        objects = data if isinstance(data, list) else [data]
        if answer is None or not all(isinstance(one, dict) for one in objects):
            raise self._no_portal()
        return answer

    def _no_portal(self) -> UserError:
        return UserError(f"{self._url} does not answer like a Wardgate portal")

    def _unreachable(self, error: Exception) -> UserError:
        if isinstance(error, httpx2.TimeoutException):
            return UserError(f"the portal at {self._url} did not answer in time ({type(error).__name__})")
        return UserError(f"cannot reach the portal at {self._url}: {error}")


def _json_object(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        answer = response.json() if "json" in response.headers.get("content-type", "") else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _next_page(metadata: Mapping[str, Any]) -> tuple[str | None, int]:
    """Return the cursor of the next page, if there is one, and how many objects there are on all pages."""
    cursor, count = metadata.get("next_page"), metadata.get("count")
    return cursor if isinstance(cursor, str) and cursor else None, count if isinstance(count, int) else 0


def problem_text(status: int, problem: Mapping[str, Any], url: str) -> str:
    """Tell a problem document in one line: the fields that failed with their messages, else what it says of
    the whole."""
    flat = _flattened(problem.get("validation_errors"))
    if flat:
        detail = "; ".join(message if place == "base" else f"{place}: {message}" for place, message in flat)
    else:
        detail = str(problem.get("detail") or problem.get("title") or f"{url} answered {status}").rstrip(".")
    return f"{detail} ({status})"


def _flattened(errors: object, place: str = "") -> list[tuple[str, str]]:
    """Flatten `{"filters": [{}, {"ports": ["…"]}]}` into `[("filters[1].ports", "…")]`."""
    if isinstance(errors, dict):
        named = [(f"{place}.{name}" if place else str(name), value) for name, value in errors.items()]
        return [pair for name, value in named for pair in _flattened(value, name)]
    if isinstance(errors, list):
        return [
            pair
            for index, value in enumerate(errors)
            for pair in _flattened(value, f"{place}[{index}]" if isinstance(value, dict) else place)
        ]
    return [] if errors is None else [(place, str(errors))]


def _wait_s(response: httpx2.Response, attempt: int) -> int | None:
    """Return how long the portal asks to wait, or None if the answer is final."""
    if response.status_code not in _PUT_OFF:
        return None
    given = response.headers.get("retry-after", "")
    wait_s = int(given) if given.isascii() and given.isdecimal() and len(given) < 9 else 2 ** (attempt - 1)
    return wait_s if wait_s <= MAX_WAIT_S else None


def _trust(ca_file: Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:
        raise UserError(
            f"cannot use the CA file {ca_file}: {error.strerror or 'no PEM certificate in it'}"
        ) from error


def _header_value(text: str, what: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise UserError(f"{what} has characters that cannot be in one; was it copied whole?")
    return text
