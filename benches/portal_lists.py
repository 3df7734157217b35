"""A list of the REST API beside the same rows from bare FastAPI and SQLAlchemy."""

from __future__ import annotations

import hashlib
import hmac
import json
import statistics
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import create_engine, select

from benches.portal_account import Organisation, Stopwatch, Taken, percentiles
from benches.portal_sockets import sync_ms
from wardgate.portal.access.tables import POLICIES
from wardgate.portal.app import Portal
from wardgate.portal.http.asgi import App, Message

LISTINGS: Final = 200  # of each subject, alternating
WARM_UP: Final = 10
PAGE: Final = 100


async def measure(portal: Portal, organisation: Organisation, path: Path) -> dict[str, Any]:
    """Return percentiles and median CPU time of each subject, in milliseconds."""
    before_ms = sync_ms(path.parent)
    lists = await listings(portal, organisation, path)
    results: dict[str, Any] = {
        subject: {
            **percentiles([one.wall_s for one in taken]),
            "cpu": statistics.median(one.cpu_s for one in taken) * 1e3,
        }
        for subject, taken in lists.items()
    }
    results["sync"] = {"before": before_ms, "after": sync_ms(path.parent)}
    return results


async def listings(portal: Portal, organisation: Organisation, path: Path) -> dict[str, list[Taken]]:
    """Call both list endpoints in turn, and one that is refused as soon as its caller is known and the call logged."""
    bare = bare_endpoint(path, organisation.account.id, "bearer")
    subjects: dict[str, Callable[[], Awaitable[bytes]]] = {
        "wardgate": lambda: get(portal, organisation.api_token, "/policies", status=200),
        "bare": lambda: get(bare, "bearer", "/policies", status=200),
        "entrance": lambda: get(portal, organisation.api_token, "/policies/none", status=400),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in subjects}
    for number in range(WARM_UP + LISTINGS):
        listed = []
        for name, subject in subjects.items():
            watch = Stopwatch()
            listed.append(await subject())
            if number >= WARM_UP:
                taken[name].append(watch.taken())
        ours, theirs, _ = (json.loads(body) for body in listed)
        assert ours["data"] == theirs["data"]
        assert len(ours["data"]) == PAGE
    return taken


async def get(app: App, token: str, path: str, *, status: int) -> bytes:
    """Hand a request over as a server does, and return the body of the answer."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {"host": "portal.example", "accept": "application/json", "authorization": f"Bearer {token}"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": f"limit={PAGE}".encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.9", 40000),
        "server": ("portal.example", 80),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    assert sent[0]["status"] == status, body
    return body


class BarePolicy(BaseModel):
    """What the REST API says of a policy."""

    id: UUID
    group_id: UUID | None
    resource_id: UUID
    description: str | None
    flow_log_uploads_enabled: bool
    is_disabled: bool
    conditions: list[dict[str, Any]]


class BarePage(BaseModel):
    data: list[BarePolicy]


def bare_endpoint(path: Path, account_id: UUID, token: str) -> FastAPI:
    """The same rows by the two libraries alone: nothing counted, logged, throttled or awaited, the token in memory."""
    app, engine, policies = FastAPI(), create_engine(f"sqlite:///{path}"), POLICIES.table
    digest = hashlib.sha256(token.encode()).digest()

    async def check(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
        if not hmac.compare_digest(hashlib.sha256(given.credentials.encode()).digest(), digest):
            raise HTTPException(401)

    async def index(limit: int) -> BarePage:
        statement = (
            select(policies)
            .where(policies.c.account_id == account_id)
            .order_by(policies.c.inserted_at, policies.c.id)
            .limit(limit)
        )
        with engine.connect() as connection:
            rows = connection.execute(statement).mappings()
            return BarePage(data=[BarePolicy.model_validate(dict(row)) for row in rows])

    app.get("/policies", dependencies=[Depends(check)])(index)
    return app


def report(results: dict[str, Any]) -> None:
    ours, bare, entrance = results["wardgate"], results["bare"], results["entrance"]
    print(f"  GET /policies?limit={PAGE}")
    for text, figures, note in (
        (
            "wardgate",
            ours,
            f"budget p50 < 5 ms: {'met' if ours['p50'] < 5 else 'MISSED'}; CPU {ours['cpu']:.2f} ms",
        ),
        ("  of which caller and log of calls", entrance, f"CPU {entrance['cpu']:.2f} ms"),
        (
            "bare FastAPI + SQLAlchemy",
            bare,
            f"CPU {bare['cpu']:.2f} ms; ratio of p50 {ours['p50'] / bare['p50']:.2f} ×, of CPU "
            f"{ours['cpu'] / bare['cpu']:.2f} ×",
        ),
    ):
        print(f"    {text:<42} {figures['p50']:>8.2f} ms   p99 {figures['p99']:.1f} ms; {note}")
    print(
        f"    this disk's own sync of 4 KiB, median before and after: {results['sync']['before']:.2f} and "
        f"{results['sync']['after']:.2f} ms"
    )
