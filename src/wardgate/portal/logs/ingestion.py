"""`POST /ingestion/flow_logs` (rest-api §10): clients and gateways report flows, with the token that came
with the authorization.

Who used what is taken from the token alone; a record only describes the flow. Valid records are stored even
if others are invalid.
"""

import asyncio
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wardgate.model.addresses import parse_ip
from wardgate.portal.http.asgi import Receive, Scope, Send
from wardgate.portal.http.headers import headers_of, raw_headers
from wardgate.portal.http.origin import origin_of
from wardgate.portal.http.rate_limit import TokenBuckets, retry_after
from wardgate.portal.instants import parse_rfc_3339
from wardgate.portal.logs.streams import Logs
from wardgate.portal.logs.tables import FlowLog
from wardgate.portal.rest.pipeline import read_body
from wardgate.portal.rest.problems import PROBLEM_JSON, UNAUTHENTICATED, Problem, unprocessed
from wardgate.portal.services import Services
from wardgate.wire.errors import RemoteProtocolError
from wardgate.wire.ingest_tokens import IngestClaims, parse_ingest_token, verify_ingest_token

PATH: Final = "/ingestion/flow_logs"
MAX_BODY_BYTES: Final = 10_000_000
MAX_RECORDS: Final = 10_000
AT_ONCE: Final = 100
"""Records that are checked, and stored, before others have their turn."""
MAX_OUTERS: Final = 32
"""Paths of one flow: peers split a flow that has had more than 16 (control-plane §8)."""
UPLOADS_OFF: Final = "Flow log uploads are not enabled for this authorization"
ONE_AUTHORIZATION: Final = "All flow logs in a request must belong to a single policy authorization"

_Port = Annotated[int, Field(ge=0, le=65535)]
_Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Text = Annotated[str, Field(max_length=255)]


class FlowLogIngestOuter(BaseModel):
    """A path of a flow, between the addresses of the tunnel's packets."""

    model_config = ConfigDict(strict=True)
    src_ip: _Text | None = None
    src_port: _Port | None = None
    dst_ip: _Text
    dst_port: _Port
    path_activated_at: _Text | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "FlowLogIngestOuter":
        if (self.src_ip is None) != (self.src_port is None):
            raise ValueError("source address and port go together")
        for text in (self.src_ip, self.dst_ip):
            if text is not None:
                parse_ip(text)
        if self.path_activated_at is not None:
            parse_rfc_3339(self.path_activated_at)
        return self


class FlowLogIngestRecord(BaseModel):
    """One flow as one side saw it; without `flow_end` it is still open."""

    model_config = ConfigDict(strict=True)
    protocol: Literal["tcp", "udp"]
    inner_src_ip: _Text
    inner_src_port: _Port
    inner_dst_ip: _Text
    inner_dst_port: _Port
    domain: _Text | None = None
    outers: Annotated[list[FlowLogIngestOuter], Field(max_length=MAX_OUTERS)] | None = None
    flow_start: _Text
    flow_end: _Text | None = None
    last_packet: _Text | None = None
    rx_packets: _Count | None = None
    tx_packets: _Count | None = None
    rx_bytes: _Count | None = None
    tx_bytes: _Count | None = None


class FlowLogIngestRequest(BaseModel):
    """What clients and gateways report, by the name that the published document has for it; each record is checked by
    itself, so that the others are stored.
    """

    flow_logs: Annotated[list[FlowLogIngestRecord], Field(max_length=MAX_RECORDS)]


_ON_CLOSE: Final = ("last_packet", "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "outers")
_TIMES: Final = ("flow_start", "flow_end", "last_packet")
_ADDRESSES: Final = ("inner_src_ip", "inner_dst_ip")


class Ingestion:
    """The endpoint as an ASGI application, with its own authentication and rate limit; calls are not
    logged."""

    def __init__(self, services: Services) -> None:
        self._services = services
        settings = services.settings
        self._buckets = TokenBuckets(
            capacity=settings.ingestion_capacity, refill_per_s=settings.ingestion_refill_per_s
        )
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._take(scope, receive)
            status, body, headers = 200, b'{"data":{"status":"ok"}}', {"content-type": "application/json"}
        except Problem as problem:
            status, body = int(problem.status), problem.document()
            headers = {"content-type": PROBLEM_JSON, **problem.headers}
        headers["content-length"] = str(len(body))
        await send({"type": "http.response.start", "status": status, "headers": raw_headers(headers)})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Scope, receive: Receive) -> None:
        if scope["path"] != PATH:
            raise Problem(HTTPStatus.NOT_FOUND, "There is nothing here.")
        if scope["method"] != "POST":
            raise Problem(
                HTTPStatus.METHOD_NOT_ALLOWED, "The method is not allowed here.", headers={"allow": "POST"}
            )
        origin = origin_of(scope)
        wait_s = self._buckets.take(origin.remote_ip, now=self._services.environment.clock.monotonic())
        if wait_s > 0:
            seconds = retry_after(wait_s)
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"Rate limit exceeded, retry after {seconds}s",
                headers={"retry-after": str(seconds)},
            )
        headers = headers_of(scope)
        claims = await self._claims(headers.get("authorization", ""))  # first: strangers send nothing large
        records = _records(await read_body(headers, receive, longest=MAX_BODY_BYTES))
        own = (None, str(claims.policy_authorization_id))
        if any(isinstance(one, dict) and one.get("policy_authorization_id") not in own for one in records):
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, ONE_AUTHORIZATION)
        await self._store(records, claims)

    async def _claims(self, authorization: str) -> IngestClaims:
        refusal = Problem(HTTPStatus.UNAUTHORIZED, UNAUTHENTICATED)
        if not authorization.startswith("Bearer "):
            raise refusal
        token = authorization.removeprefix("Bearer ")
        try:
            # Read unchecked only to choose the key; an unknown account and a wrong signature look the same.
            account_id = parse_ingest_token(token).account_id
            async with self._services.store.reading() as transaction:
                account = await transaction.accounts.load(UUID(str(account_id)))
            if account is None:
                raise refusal
            claims = verify_ingest_token(token, account.ingest_signing_key)
        except (RemoteProtocolError, ValueError):
            raise refusal from None
        if claims.exp <= self._services.environment.clock.now().timestamp():
            raise refusal
        if claims.uploads_enabled is not True:
            raise Problem(HTTPStatus.UNAUTHORIZED, UPLOADS_OFF)
        return claims

    async def _store(self, records: list[Any], claims: IngestClaims) -> None:
        """Store the records that are right, a slice at a time: uploads take turns with each other, and channels and
        pages with them.
        """
        errors: dict[str, Any] = {}
        for first in range(0, len(records), AT_ONCE):
            async with self._turn:
                right: list[dict[str, Any]] = []
                for index, record in enumerate(records[first : first + AT_ONCE], start=first):
                    try:
                        right.append(_checked(record))
                    except _Wrong as wrong:
                        errors[str(index)] = wrong.messages
                await self._services.environment.clock.sleep(0)
                if right:
                    await self._store_some(right, claims)
        if (synced := self._services.store.start_sync()) is not None:
            await synced
        if errors:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "Some flow log records failed validation",
                validation_errors=errors,
            )

    async def _store_some(self, records: list[dict[str, Any]], claims: IngestClaims) -> None:
        async with self._services.store.writing(is_synced=False) as transaction:
            logs = Logs(transaction, UUID(str(claims.account_id)))
            rows: dict[tuple[Any, ...], FlowLog] = {}
            for record in records:
                row = _row(record, claims, log_id=logs.new_flow_id(), now=transaction.now)
                key = (
                    row.flow_start,
                    row.protocol,
                    row.inner_src_ip,
                    row.inner_src_port,
                    row.inner_dst_ip,
                    row.inner_dst_port,
                )
                if key not in rows or rows[key].flow_end is None:
                    rows[key] = row
            await logs.report_flows(list(rows.values()))


class _Wrong(Exception):
    def __init__(self, messages: dict[str, list[str]]) -> None:
        super().__init__("a wrong record")
        self.messages = messages


def _records(body: bytes) -> list[Any]:
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        raise unprocessed() from None
    records = parsed.get("flow_logs") if isinstance(parsed, dict) else None
    if not isinstance(records, list):
        raise Problem(HTTPStatus.BAD_REQUEST, 'Expected a "flow_logs" array')
    if len(records) > MAX_RECORDS:
        raise Problem(HTTPStatus.BAD_REQUEST, f"Batch size exceeds maximum of {MAX_RECORDS}")
    return records


def _checked(record: Any) -> dict[str, Any]:
    """Return the fields of a valid record with times and addresses parsed."""
    if not isinstance(record, dict):
        raise _Wrong({"record": ["must be a JSON object"]})
    wrong: dict[str, list[str]] = {}
    try:
        values = FlowLogIngestRecord.model_validate(record).model_dump()
    except ValidationError as error:
        for one in error.errors():
            message = "can't be blank" if one["type"] == "missing" else "is invalid"
            wrong.setdefault(str(one["loc"][0]), [message])
        raise _Wrong(wrong) from None
    for names, parse in ((_TIMES, parse_rfc_3339), (_ADDRESSES, lambda text: str(parse_ip(text)))):
        for name in names:
            try:
                values[name] = None if values[name] is None else parse(values[name])
            except ValueError:
                wrong[name] = ["is invalid"]
    if values["flow_end"] is not None:
        wrong |= {name: ["can't be blank"] for name in _ON_CLOSE if values[name] in (None, [])}
    if "\x00" in (values["domain"] or ""):
        wrong["domain"] = ["is invalid"]
    if wrong:
        raise _Wrong(wrong)
    return values


def _row(values: dict[str, Any], claims: IngestClaims, *, log_id: str, now: datetime) -> FlowLog:
    claimed = msgspec.structs.asdict(claims)
    attribution = {name: claimed[name] for name in FlowLog.__dataclass_fields__ if name in claimed}
    attribution["authorized_at"] = parse_rfc_3339(claims.authorized_at)
    attribution["authorization_expires_at"] = parse_rfc_3339(claims.authorization_expires_at)
    domain = values.pop("domain")
    return FlowLog(**attribution, **values, inner_domain=domain, log_id=log_id, inserted_at=now)
