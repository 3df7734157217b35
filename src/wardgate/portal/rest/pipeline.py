"""What happens to every REST request before a handler sees it (rest-api §1), as ASGI in front of the
framework.

    Accept → authenticate → rate limit → log → path ids → body → handler

The order is load-bearing: an unauthenticated request is neither throttled nor logged, a throttled one is not
logged, and nothing is carried out unlogged. The entry is committed before the handler runs; that a power cut
would not undo it is waited for beside the handler, and no answer goes out before (docs/decisions/0011). The
body is read here, whole and bounded, so that an endless or slow one costs nobody else anything.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Mapping
from http import HTTPStatus
from typing import Final

from wardgate.portal import credentials
from wardgate.portal.http.asgi import App, Message, Receive, Scope, Send
from wardgate.portal.http.headers import headers_of, raw_headers
from wardgate.portal.http.origin import Origin, origin_of
from wardgate.portal.http.rate_limit import TokenBuckets, retry_after
from wardgate.portal.http.security_headers import API_SECURITY
from wardgate.portal.logs.tables import ApiRequest
from wardgate.portal.rest.caller import SCOPE_KEY, Caller
from wardgate.portal.rest.entrance import REQUEST_ID
from wardgate.portal.rest.idempotency import Answer, Carry, Recorder, answer_once
from wardgate.portal.rest.paths import Paths
from wardgate.portal.rest.problems import (
    BAD_PATH_ID,
    PROBLEM_JSON,
    RATE_LIMITED,
    UNAUTHENTICATED,
    UNEXPECTED,
    UNPROCESSED,
    Problem,
    database_unavailable,
)
from wardgate.portal.services import Services
from wardgate.portal.sign_in.api_calls import TokenUse, append_api_requests, note_token_uses
from wardgate.portal.store import UNAVAILABLE
from wardgate.wire.tokens import InvalidToken

TOKENS_PER_REQUEST: Final = 10.0
MAX_BODY_BYTES: Final = 8_000_000
BODY_TIMEOUT_S: Final = 30.0  # ours: the whole body, from its first byte to its last

_BEARER: Final = "Bearer "
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

log = logging.getLogger(__name__)


class Pipeline:
    """The REST API's outer application. It puts the caller into the scope of `inner`.

    Args:
        paths: those of `inner`.
    """

    def __init__(self, inner: App, services: Services, paths: Paths) -> None:
        self._inner = inner
        self._paths = paths
        self._services = services
        self._buckets: dict[tuple[float, float], TokenBuckets] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, request_id = headers_of(scope), scope[REQUEST_ID]
        answer = _Answer(send)
        try:
            try:
                await self._handle(scope, headers, request_id, receive, answer)
            except Problem as problem:
                await answer.problem(problem)
        except UNAVAILABLE:
            # The store has said so in the log, once a minute.
            await answer.problem(database_unavailable())
        except Exception:
            log.exception("a request failed", extra={"request_id": request_id})
            self._services.counters["rest_failures"] += 1
            await answer.problem(Problem(HTTPStatus.INTERNAL_SERVER_ERROR, UNEXPECTED))

    async def _handle(
        self, scope: Scope, headers: Mapping[str, str], request_id: str, receive: Receive, answer: "_Answer"
    ) -> None:
        if not _accepts_json(headers.get("accept", "*/*")):
            raise Problem(HTTPStatus.NOT_ACCEPTABLE, "Only JSON can be answered.")
        inner_scope = dict(scope)
        if scope["method"] == "HEAD":
            inner_scope["method"] = "GET"
        origin = origin_of(scope)
        caller = await self._authenticate(scope["path"], headers, origin)
        self._throttle(caller)
        await self._record(scope, headers, request_id, caller)
        answer.delay_until(self._services.store.start_sync())
        # The disk begins now, not when the handler first waits for something.
        await asyncio.sleep(0)
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            # No stored text can hold it, and PostgreSQL does not even compare with it.
            raise Problem(HTTPStatus.BAD_REQUEST, UNPROCESSED)
        if not self._paths.are_ids_valid(scope["path"]):
            raise Problem(HTTPStatus.BAD_REQUEST, BAD_PATH_ID)
        body = await read_body(headers, receive)
        if _has_lone_surrogate(body):
            raise Problem(HTTPStatus.BAD_REQUEST, UNPROCESSED)
        inner_scope[SCOPE_KEY] = caller
        # Any content type is accepted and parsed as JSON, so the framework is told that it is JSON.
        inner_scope["headers"] = [
            *((name, value) for name, value in scope["headers"] if name.lower() != b"content-type"),
            (b"content-type", b"application/json"),
        ]
        key = headers.get("idempotency-key")
        if scope["method"] == "POST" and key is not None:
            request = b"%s?%s\n%s" % (scope["path"].encode(), scope.get("query_string", b""), body)
            await answer.whole(
                await answer_once(key, request, caller, self._recorded(inner_scope, body, receive))
            )
        else:
            await self._inner(inner_scope, _replay(body, receive), answer.send)

    def _recorded(self, scope: Scope, body: bytes, receive: Receive) -> Carry:
        async def carry_out(caller: Caller) -> Answer:
            recorder = Recorder()
            await self._inner({**scope, SCOPE_KEY: caller}, _replay(body, receive), recorder.send)
            return recorder.answer()

        return carry_out

    async def _authenticate(self, path: str, headers: Mapping[str, str], origin: Origin) -> Caller:
        header = headers.get("authorization", "")
        refusal = Problem(HTTPStatus.UNAUTHORIZED, UNAUTHENTICATED, headers={"www-authenticate": "Bearer"})
        if not header.startswith(_BEARER):
            raise refusal
        token, keys = header.removeprefix(_BEARER), self._services.keys
        try:
            async with self._services.store.reading() as transaction:
                if self._paths.is_operators(path):
                    row = await credentials.find_operator_token(token, transaction=transaction, keys=keys)
                    return Caller(self._services, row.id, origin, None, None)
                account, actor, api_token = await credentials.find_api_token(
                    token, transaction=transaction, keys=keys
                )
        except InvalidToken:
            raise refusal from None
        if actor.type != "api_client":
            raise refusal
        return Caller(self._services, api_token.id, origin, account, actor)

    def _throttle(self, caller: Caller) -> None:
        limits = {} if caller.account is None else caller.account.limits
        capacity = _positive(limits.get("api_capacity"), self._services.settings.api_capacity)
        refill_per_s = _positive(limits.get("api_refill_rate"), self._services.settings.api_refill_per_s)
        buckets = self._buckets.setdefault(
            (capacity, refill_per_s),
            TokenBuckets(
                capacity=max(capacity / TOKENS_PER_REQUEST, 1.0),
                refill_per_s=refill_per_s / TOKENS_PER_REQUEST,
            ),
        )
        wait_s = buckets.take(caller.account_id, now=self._services.environment.clock.monotonic())
        if wait_s > 0:
            headers = {"retry-after": str(retry_after(wait_s))}
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, RATE_LIMITED, headers=headers)

    async def _record(
        self, scope: Scope, headers: Mapping[str, str], request_id: str, caller: Caller
    ) -> None:
        origin, position = caller.origin, caller.origin.position
        async with self._services.store.writing(is_synced=False) as transaction:
            request = ApiRequest(
                account_id=caller.account_id,
                log_id=f"a{int.from_bytes(transaction.random_bytes(12), 'big') >> 4:023x}",
                actor_id=None if caller.actor is None else caller.actor.id,
                token_id=caller.token_id,
                method=scope["method"][:16],
                path=scope["path"][:2048],
                content_length=_content_length(headers),
                request_id=request_id[:255],
                user_agent=origin.user_agent[:255],
                ip=str(origin.remote_ip),
                ip_region=origin.region,
                ip_city=origin.city,
                ip_lat=None if position is None else position.lat,
                ip_lon=None if position is None else position.lon,
                inserted_at=transaction.now,
            )
            await append_api_requests(transaction, [request])
            if caller.account is not None:
                await note_token_uses(transaction, [_use_of(request, origin)])


class _Answer:
    """The sending side: adds the headers common to all responses."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_started = False
        self._sync: Awaitable[None] | None = None

    def delay_until(self, sync: Awaitable[None] | None) -> None:
        """Send nothing before this completes."""
        self._sync = sync

    async def send(self, message: Message) -> None:
        if self._sync is not None:
            sync, self._sync = self._sync, None
            await sync
        if message["type"] == "http.response.start":
            self._has_started = True
            message = {**message, "headers": [*message.get("headers", []), *API_SECURITY]}
        await self._send(message)

    async def whole(self, answer: Answer) -> None:
        await self.send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await self.send({"type": "http.response.body", "body": answer.body})

    async def problem(self, problem: Problem) -> None:
        if self._has_started:
            return
        body = problem.document()
        headers = [
            (b"content-type", PROBLEM_JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            *raw_headers(problem.headers),
        ]
        await self.send({"type": "http.response.start", "status": int(problem.status), "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


async def read_body(headers: Mapping[str, str], receive: Receive, *, longest: int = MAX_BODY_BYTES) -> bytes:
    """Read the whole body.

    Raises:
        Problem: 413 if it is too large, 408 if it takes too long.
    """
    too_large = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body exceeds {longest} bytes.")
    announced = _content_length(headers)
    if announced is not None and announced > longest:
        raise too_large
    chunks: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(HTTPStatus.BAD_REQUEST, UNPROCESSED)
                chunks.append(message.get("body", b""))
                length += len(chunks[-1])
                if length > longest:
                    raise too_large
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise Problem(HTTPStatus.REQUEST_TIMEOUT, "The body took too long.") from None


def _has_lone_surrogate(body: bytes) -> bool:
    """Return whether a JSON text escapes a lone surrogate: such text cannot be encoded, so it can be neither
    stored nor returned."""
    if _SURROGATE.search(body) is None:
        return False
    try:
        json.dumps(json.loads(body), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False


def _replay(body: bytes, receive: Receive) -> Receive:
    pending = [body]

    async def replayed() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replayed


def _use_of(request: ApiRequest, origin: Origin) -> TokenUse:
    return TokenUse(
        account_id=request.account_id,
        token_id=request.token_id,
        user_agent=origin.user_agent[:2000],
        remote_ip=request.ip,
        region=request.ip_region,
        city=request.ip_city,
        lat=request.ip_lat,
        lon=request.ip_lon,
        at=request.inserted_at,
    )


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else None


def _positive(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _accepts_json(accept: str) -> bool:
    for part in accept.split(","):
        media, _, parameters = part.strip().lower().partition(";")
        if re.search(r"q=0(?:\.0*)?\s*(?:;|$)", parameters):
            continue
        if media.strip() in (
            "",
            "*/*",
            "application/*",
            "application/json",
            "application/x-ndjson",
            PROBLEM_JSON,
        ):
            return True
    return False
