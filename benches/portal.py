"""The portal on the account of a large organisation: load of its snapshot, a client's `init`, a change's way, a REST list.

The portal is whole and in this process, on a SQLite file that is durable at commit; only the sockets are missing. Times are of the
wall clock, because waiting for the disk counts; where a step only computes, its CPU time stands beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from sqlalchemy import create_engine, select

from benches import decisions
from wardgate.model.ids import PolicyId
from wardgate.portal import credentials, provisioning
from wardgate.portal.app import Portal
from wardgate.portal.channels import Journal
from wardgate.portal.channels.client_session import ClientSession
from wardgate.portal.channels.connecting import ConnectedClient, Origin
from wardgate.portal.environment import Environment, SystemClock
from wardgate.portal.keys import Keys
from wardgate.portal.services import Services
from wardgate.portal.settings import PortalSettings
from wardgate.portal.snapshot import Accounts, AccountView
from wardgate.portal.store import SqliteFile, Transaction, schema
from wardgate.portal.store.rows import (
    Account,
    Actor,
    ApiToken,
    Change,
    ClientToken,
    Device,
    Group,
    Membership,
    Policy,
    Resource,
    Site,
)
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.frames import Framing
from wardgate.wire.tokens import TokenKind

CHANGES: Final = 100
LISTINGS: Final = 200  # of each subject, alternating
WARM_UP: Final = 10
PAGE: Final = 100
SHOWN: Final = 500  # resources of the client whose `init` is measured
USER_AGENT: Final = "Ubuntu/22.4.0 headless-client/1.5.12 (x86_64; 6.8.0)"
JOIN: Final = '{"topic":"client","event":"phx_join","payload":{},"ref":0}'

AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Medians of `runs` loads and five times as many `init`s; percentiles of single changes and calls."""
    results = asyncio.run(_measure_all(runs))
    report(results)
    return results


async def _measure_all(runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory:
        file = SqliteFile(Path(directory) / "wardgate.db")
        settings = PortalSettings(database_url=file, api_capacity=1e9)
        portal = await Portal.open(settings, Keys.derive(b"k" * 32), Environment.of_this_process())
        try:
            organisation = await fill(portal.services)
            async with portal.running():
                loaded = [await load(portal.services, organisation) for _ in range(runs)]
                async with portal.services.accounts.using(organisation.account.id) as view:
                    inits = [init(portal.services, organisation, view) for _ in range(runs * 5)]
                    changes = [await change(portal.services, organisation, view, n) for n in range(CHANGES)]
                lists = await listings(portal, organisation, file.path)
        finally:
            await portal.close()
    return {
        "policies": len(organisation.policies),
        "load_s": statistics.median(one.wall_s for one in loaded),
        "load_cpu_s": statistics.median(one.cpu_s for one in loaded),
        "init_ms": statistics.median(one.taken.wall_s for one in inits) * 1e3,
        "init_cpu_ms": statistics.median(one.taken.cpu_s for one in inits) * 1e3,
        "init_bytes": inits[0].frame_bytes,
        "init_resources": inits[0].resources,
        "change_ms": percentiles([after_commit for _, after_commit in changes]),
        "commit_ms": percentiles([commit for commit, _ in changes]),
        **{
            f"list_{subject}_ms": {
                **percentiles([one.wall_s for one in taken]),
                "cpu": statistics.median(one.cpu_s for one in taken) * 1e3,
            }
            for subject, taken in lists.items()
        },
    }


# ── the account ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Organisation:
    """What the measurements need of the account; `user` is shown `SHOWN` resources."""

    account: Account
    user: Actor
    policies: list[Policy]
    api_token: str


async def fill(services: Services) -> Organisation:
    """Make the account of the suite `decisions` in one transaction; half of the policies are those of one group."""
    rng = random.Random(1)
    tables = decisions.account(rng)
    everyone, wide, *_ = tables["groups"]
    tables["groups"].remove(everyone)  # an account is born with one
    for row, resource in zip(tables["policies"], rng.sample(tables["resources"], SHOWN), strict=False):
        row |= {"group_id": wide["id"], "resource_id": resource["id"]}
    tables["policies"] = list(
        {(row["group_id"], row["resource_id"]): row for row in tables["policies"]}.values()
    )
    user_id = next(row["actor_id"] for row in tables["memberships"] if row["group_id"] == wide["id"])
    async with services.store.writing() as tx:
        made = await provisioning.provision(tx, name="Acme", slug="acme", admin_email="admin@acme.example")
        account_id, of_account = made.account.id, tx.of(made.account.id)

        def rows(table: str, row_class: Any) -> list[Any]:
            return [row_class(account_id=account_id, **_typed(row)) for row in tables[table]]

        await of_account.sites.insert_all(rows("sites", Site))
        await of_account.groups.insert_all(rows("groups", Group))
        actors = await of_account.actors.insert_all(rows("actors", Actor))
        await of_account.memberships.insert_all(rows("memberships", Membership))
        await of_account.resources.insert_all(rows("resources", Resource))
        policies = await of_account.policies.insert_all(rows("policies", Policy))
        robot = await of_account.actors.insert(
            Actor(id=tx.new_id(), account_id=account_id, type="api_client", name="robot")
        )
        api_token = await _api_token(tx, services, robot)
    user = next(actor for actor in actors if actor.id == UUID(user_id))
    return Organisation(made.account, user, policies, api_token)


def _typed(row: decisions.Row) -> dict[str, Any]:
    return {
        name: UUID(value) if name == "id" or (name.endswith("_id") and name != "idp_id") else value
        for name, value in row.items()
    }


async def _api_token(tx: Transaction, services: Services, robot: Actor) -> str:
    issued = credentials.issue(TokenKind.API, account_id=robot.account_id, transaction=tx, keys=services.keys)
    await tx.of(robot.account_id).api_tokens.insert(
        ApiToken(
            id=issued.id,
            account_id=robot.account_id,
            actor_id=robot.id,
            name="bench",
            secret_salt=issued.secret_salt,
            secret_hash=issued.secret_hash,
            expires_at=tx.now + timedelta(days=1),
        )
    )
    return issued.text


# ── what is measured ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Taken:
    """How long something took."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def taken(self) -> Taken:
        return Taken(time.perf_counter() - self._wall, time.process_time() - self._cpu)


async def load(services: Services, organisation: Organisation) -> Taken:
    """Load the account as for its first connection."""
    accounts = Accounts(services.store, services.feed, services.environment)
    watch = Stopwatch()
    async with accounts.using(organisation.account.id) as view:
        taken = watch.taken()
        assert len(view.snapshot.actors) > decisions.ACTORS
    await accounts.close()
    return taken


class OfficeHours(SystemClock):
    """An instant that the conditions on the time allow."""

    def now(self) -> datetime:
        return decisions.NOW


@dataclass(frozen=True, slots=True)
class Init:
    """What one `init` took, and its size."""

    taken: Taken
    frame_bytes: int
    resources: int


def init(services: Services, organisation: Organisation, view: AccountView) -> Init:
    """From the join of a client to the frame of `init`."""
    environment = replace(services.environment, clock=OfficeHours())
    session = ClientSession(
        Dialect(PeerKind.CLIENT),
        Framing.OBJECT,
        services=replace(services, environment=environment),
        journal=Journal(services),
        connected=_connected(organisation),
        view=view,
        held=[],
    )
    watch = Stopwatch()
    session.handle_text(JOIN)
    reply, frame = session.poll_transmit(), session.poll_transmit()
    taken = watch.taken()
    session.handle_disconnect()
    assert reply is not None
    assert frame is not None
    message = json.loads(frame)
    assert message["event"] == "init"
    resources = len(message["payload"]["resources"])
    assert resources >= SHOWN
    return Init(taken, len(frame.encode()), resources)


def _connected(organisation: Organisation) -> ConnectedClient:
    account_id, actor = organisation.account.id, organisation.user
    id_ = UUID(int=1, version=4)
    return ConnectedClient(
        account=organisation.account,
        actor=actor,
        token=ClientToken(
            id=id_,
            account_id=account_id,
            actor_id=actor.id,
            secret_salt="",
            secret_hash="",
            expires_at=decisions.NOW + timedelta(days=1),
        ),
        device=Device(
            id=id_,
            account_id=account_id,
            type="client",
            name="laptop",
            psk_base=bytes(32),
            actor_id=actor.id,
            ipv4="100.64.0.1",
            ipv6="fd00:2021:1111::1",
            verified_at=decisions.NOW,
        ),
        public_key="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        origin=Origin(ip_address("203.0.113.5"), USER_AGENT, region="DE"),
    )


class Arrival:
    """A listener of the account's view, as a connection is one; `at` is when it heard of the next batch."""

    def __init__(self) -> None:
        self.at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def handle_changes(self, _changes: list[Change]) -> None:
        self.at.set_result(time.perf_counter())


async def change(
    services: Services, organisation: Organisation, view: AccountView, number: int
) -> tuple[float, float]:
    """Change one policy; returns seconds of the whole transaction, and from its end until the snapshot has it."""
    arrival = Arrival()
    view.attach(arrival)
    before, description = organisation.policies[number], f"change {number}"
    started = time.perf_counter()
    async with services.store.writing() as tx:
        policy = await tx.of(organisation.account.id).policies.save(replace(before, description=description))
    committed = time.perf_counter()
    arrived = await asyncio.wait_for(arrival.at, timeout=10)
    view.detach(arrival)
    assert view.snapshot.policies[PolicyId(policy.id)].description == description
    return committed - started, arrived - committed


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


async def get(app: AsgiApp, token: str, path: str, *, status: int) -> bytes:
    """Hand a request over as a server does, and return the body of the answer."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
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
    app, engine, policies = FastAPI(), create_engine(f"sqlite:///{path}"), schema.policies
    digest = hashlib.sha256(token.encode()).digest()

    def check(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
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


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────


def percentiles(taken_s: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    cuts = statistics.quantiles(taken_s, n=100, method="inclusive")
    return {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


def report(results: dict[str, Any]) -> None:
    ours, bare, entrance = (results[f"list_{name}_ms"] for name in ("wardgate", "bare", "entrance"))
    print(
        f"\nportal: {decisions.ACTORS:,} actors in {decisions.GROUPS_EACH} groups each, {decisions.GROUPS} groups, "
        f"{results['policies']:,} policies, {decisions.RESOURCES:,} resources, in a SQLite file"
    )
    print(
        f"  snapshot loaded from the database    {results['load_s']:>8.2f} s    (budget < 1; CPU {results['load_cpu_s']:.2f} s)"
    )
    print(
        f"  `init` of a client, {results['init_resources']} resources     {results['init_ms']:>8.2f} ms   "
        f"(budget < 10; CPU {results['init_cpu_ms']:.2f} ms; {results['init_bytes']:,} bytes)"
    )
    for text, figures, note in (
        ("a commit until the snapshot has it  ", results["change_ms"], "(budget < 20)"),
        ("the change's own transaction        ", results["commit_ms"], ""),
        (f"GET /policies?limit={PAGE}             ", ours, f"(budget p50 < 5; CPU {ours['cpu']:.2f} ms)"),
        ("  of which caller and log of calls  ", entrance, f"(CPU {entrance['cpu']:.2f} ms)"),
        (
            "bare FastAPI + SQLAlchemy           ",
            bare,
            f"(CPU {bare['cpu']:.2f} ms; ratio of p50 {ours['p50'] / bare['p50']:.2f} ×, of CPU {ours['cpu'] / bare['cpu']:.2f} ×)",
        ),
    ):
        print(f"  {text} {figures['p50']:>8.2f} ms   p99 {figures['p99']:>5.1f} ms   {note}".rstrip())
