"""What it costs the portal to authorise a flow and to take it back: a crowd of clients over real sockets.

    python -m benches.portal_grants [CLIENTS] [sqlite|postgres]

The portal runs as `wardgate portal`, the crowd in this process. Milliseconds of a request are this process's too,
and of a machine that may be busy; CPU time of the portal's process is what a change of the code is judged by.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import wardgate
from benches import portal_sessions
from benches.portal_floods import cpu_s
from benches.portal_snapshot import MASTER_SECRET, postgres
from benches.portal_sockets import free_port, running
from wardgate.peer.crowd import Crowd, Percentiles, Plan, collector_at_rest
from wardgate.portal import credentials, provisioning
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.app import Portal
from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import Database, PostgresServer, SqliteFile

CLIENTS: Final = 2_000
GATEWAYS: Final = 2
CONNECTS_PER_S: Final = 100.0
RATES: Final = {200: 2_000, 1_000: 10_000}
"""Requests a second, and how many of them."""

REGRANTS_PER_S: Final = 400.0
LAST_FRAME_S: Final = 30.0
SETTLED_S: Final = 2.0
_NOFILE: Final = 20_000


@dataclass(frozen=True, slots=True)
class Access:
    """The ids and tokens of an account in which every client may reach one resource by one policy."""

    resource_id: UUID
    group_id: UUID
    actor_id: UUID
    policy_id: UUID
    client_token: str
    gateway_token: str
    api_token: str


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Once on each database, without and with sockets: connecting a crowd takes longer than all that is measured."""
    databases = ("sqlite", "postgres")
    sessions = {name: asyncio.run(portal_sessions.measure_on(name)) for name in databases}
    print(f"\ngrants: {CLIENTS:,} clients and {GATEWAYS} gateways, without sockets")
    portal_sessions.report(sessions)
    results = {name: asyncio.run(measure(CLIENTS, name)) for name in databases}
    print("  the same over sockets")
    report({name: one for name, one in results.items() if one is not None})
    return {"sessions": sessions, "sockets": results}


async def measure(clients: int, database: str) -> dict[str, Any] | None:
    """Return what was seen on one database; None if it is not installed."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_NOFILE, hard), hard))
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wardgate-bench-")))
        url = f"sqlite:///{directory / 'wardgate.db'}"
        location: Database = SqliteFile(directory / "wardgate.db")
        if database == "postgres":
            server = await stack.enter_async_context(postgres())
            if server is None:
                return None
            url, location = server, PostgresServer(server)
        access = await provide(location)
        secret = directory / "secret.key"
        secret.touch(mode=0o600)
        secret.write_bytes(MASTER_SECRET)
        port = free_port()
        environment = {
            **os.environ,
            "WARDGATE_DATA_DIR": str(directory),
            "WARDGATE_DATABASE_URL": url,
            "WARDGATE_LISTEN": f"127.0.0.1:{port}",
            "WARDGATE_API_CAPACITY": "1000000000",
            "WARDGATE_CONNECT_CAPACITY": "100000",
            "WARDGATE_CONNECT_REFILL_RATE": "100000",
            "WARDGATE_MAX_CONNECTIONS_PER_ADDRESS": "100000",
            "WARDGATE_LOG_LEVEL": "warning",
        }
        command = [str(Path(sys.executable).with_name("wardgate")), "portal"]
        process = stack.enter_context(running(command, port, environment))
        return await _measure(clients, process.pid, port, access)


async def provide(location: Database) -> Access:
    """Make the account in an empty database."""
    portal = await Portal.open(
        PortalSettings(database_url=location), Keys.derive(MASTER_SECRET), Environment.of_this_process()
    )
    try:
        keys = portal.services.keys
        async with portal.services.store.writing() as tx:
            made = await provisioning.provision(tx, name="Acme", slug="acme", admin_email="ada@acme.example")
            account_id, tables = made.account.id, tx.of(made.account.id)
            group = await tables.groups.insert(
                Group(id=tx.new_id(), account_id=account_id, name="Engineering")
            )
            actor = await tables.actors.insert(
                Actor(id=tx.new_id(), account_id=account_id, type="service_account", name="crowd")
            )
            robot = await tables.actors.insert(
                Actor(id=tx.new_id(), account_id=account_id, type="api_client", name="bench")
            )
            net = await tables.resources.insert(
                Resource(
                    id=tx.new_id(), account_id=account_id, type="cidr", name="net", address="10.0.0.0/24",
                    site_id=made.site.id,
                )
            )  # fmt: skip
            await tables.memberships.insert(
                Membership(id=tx.new_id(), account_id=account_id, group_id=group.id, actor_id=actor.id)
            )
            policy = await tables.policies.insert(
                Policy(id=tx.new_id(), account_id=account_id, group_id=group.id, resource_id=net.id)
            )
            ends_at = tx.now + timedelta(days=1)
            client = await credentials.issue(
                tables.client_tokens,
                transaction=tx,
                keys=keys,
                account_id=account_id,
                actor_id=actor.id,
                expires_at=ends_at,
            )
            gateway = await credentials.issue(
                tables.gateway_tokens,
                transaction=tx,
                keys=keys,
                account_id=account_id,
                site_id=made.site.id,
            )
            api = await credentials.issue(
                tables.api_tokens, transaction=tx, keys=keys, account_id=account_id, actor_id=robot.id,
                name="bench", expires_at=ends_at,
            )  # fmt: skip
    finally:
        await portal.close()
    return Access(net.id, group.id, actor.id, policy.id, client.text, gateway.text, api.text)


async def _measure(clients: int, pid: int, port: int, access: Access) -> dict[str, Any]:
    plan = Plan(
        url=f"ws://127.0.0.1:{port}",
        client_token=access.client_token,
        gateway_token=access.gateway_token,
        clients=clients,
        gateways=GATEWAYS,
        connects_per_s=CONNECTS_PER_S,
        resource_id=access.resource_id,
        requests=0,
        requests_per_s=0.0,
        hold_s=0.0,
        product_version=wardgate.__version__,
    )
    crowd = Crowd(plan, rng=random.Random(1), say=lambda text: print(f"  {text}", file=sys.stderr))
    async with crowd.gathered():
        await asyncio.sleep(SETTLED_S)
        grants = {str(rate): await _ask(crowd, pid, access, count, rate) for rate, count in RATES.items()}
        revocations = {}
        stored = sum(one["granted"] for one in grants.values())
        for cause, undoing in _causes(access):
            seen = await _revoke(crowd, pid, port, access, cause)
            revocations[cause.name] = {**seen, "grants": stored + seen["grants"]}
            stored = 0
            if undoing is not None:
                await asyncio.to_thread(_call, port, access.api_token, undoing)
                await asyncio.sleep(SETTLED_S)
    return {"grants": grants, "revocations": revocations}


async def _ask(crowd: Crowd, pid: int, access: Access, count: int, rate: float) -> dict[str, Any]:
    for taken in (crowd.authorise_s, crowd.granted_s, crowd.late_s):
        taken.clear()
    before = cpu_s(pid)
    began_at = asyncio.get_running_loop().time()
    await crowd.ask(access.resource_id, requests=count, per_s=rate)
    took_s = asyncio.get_running_loop().time() - began_at
    taken_s = cpu_s(pid) - before
    authorise, granted = Percentiles.of(crowd.authorise_s), Percentiles.of(crowd.granted_s)
    late = Percentiles.of(crowd.late_s)
    return {
        "granted": len(crowd.granted_s),
        "per_s": len(crowd.granted_s) / took_s,
        "cpu_ms": taken_s / max(1, len(crowd.granted_s)) * 1e3,
        "authorise": None if authorise is None else asdict(authorise),
        "answer": None if granted is None else asdict(granted),
        "late": None if late is None else asdict(late),
        "failed": dict(crowd.failed),
    }


@dataclass(frozen=True, slots=True)
class Cause:
    """What ends everybody's grants, as a call of the API."""

    name: str
    method: str
    path: str
    body: dict[str, Any] | None


UNDONE: Final = "undone"


def _causes(access: Access) -> list[tuple[Cause, Cause | None]]:
    """Return what ends all grants, each with what undoes it."""
    policy = f"/policies/{access.policy_id}"
    members = f"/groups/{access.group_id}/memberships"
    in_it, not_in_it = ({"memberships": {name: [str(access.actor_id)]}} for name in ("add", "remove"))
    disabled, enabled = ({"policy": {"is_disabled": is_disabled}} for is_disabled in (True, False))
    return [
        # Each request has left a row, and the latest of a pair alone is in force: seven rows a client.
        (Cause("policy disabled, first", "PATCH", policy, disabled), Cause(UNDONE, "PATCH", policy, enabled)),
        (Cause("policy disabled", "PATCH", policy, disabled), Cause(UNDONE, "PATCH", policy, enabled)),
        (Cause("membership deleted", "PATCH", members, not_in_it), Cause(UNDONE, "PATCH", members, in_it)),
        (Cause("policy deleted", "DELETE", policy, None), None),
    ]


async def _revoke(crowd: Crowd, pid: int, port: int, access: Access, cause: Cause) -> dict[str, float]:
    """End everybody's grants, when everybody has one; milliseconds from the call to frames of gateways."""
    loop, clients = asyncio.get_running_loop(), crowd.plan.clients
    crowd.granted_s.clear()
    while len(crowd.granted_s) < clients:
        await crowd.ask(access.resource_id, requests=clients, per_s=REGRANTS_PER_S)
    granted = len(crowd.granted_s)
    crowd.rejected_at.clear()
    with collector_at_rest():
        before, began_at = cpu_s(pid), loop.time()
        await asyncio.to_thread(_call, port, access.api_token, cause)
        answered_s = loop.time() - began_at
        # The crowd has no event for it, and a look every 10 ms is no burden.
        while len(crowd.rejected_at) < clients and loop.time() < began_at + LAST_FRAME_S:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(
            SETTLED_S
        )  # what clients are told, and gateways of more than one grant of a client
    told_ms = sorted((at - began_at) * 1e3 for at in crowd.rejected_at) or [0.0]
    return {
        "grants": granted,
        "frames": len(crowd.rejected_at),
        "answered_ms": answered_s * 1e3,
        "first_ms": told_ms[0],
        "last_ms": told_ms[-1],
        "cpu_ms": (cpu_s(pid) - before) * 1e3,
    }


def _call(port: int, token: str, cause: Cause) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LAST_FRAME_S)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    body = None if cause.body is None else json.dumps(cause.body)
    connection.request(cause.method, cause.path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    connection.close()


def report(results: dict[str, Any]) -> None:
    for name, one in results.items():
        print(f"  {name}")
        for rate, seen in one["grants"].items():
            frame, answer, late = seen["authorise"], seen["answer"], seen["late"]
            print(
                f"    {rate:>5} requests/s: CPU {seen['cpu_ms']:.2f} ms each (budget 0.8); to the gateway p50 "
                f"{frame['p50_ms']:.1f}, p99 {frame['p99_ms']:.1f} ms (budget 5 at 1000/s); to the answer p50 "
                f"{answer['p50_ms']:.1f}, p99 {answer['p99_ms']:.1f} ms; {seen['per_s']:.0f} granted/s; the crowd was "
                f"late by p50 {late['p50_ms']:.1f}, p99 {late['p99_ms']:.1f} ms"
            )
        for cause, seen in one["revocations"].items():
            print(
                f"    {cause}: {seen['grants']} grants end, {seen['frames']} frames of gateways, the last "
                f"{seen['last_ms']:.0f} ms after the call (budget 500), CPU {seen['cpu_ms']:.0f} ms"
            )


if __name__ == "__main__":
    chosen = sys.argv[2] if len(sys.argv) > 2 else "sqlite"
    found = asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else CLIENTS, chosen))
    if found is not None:
        report({chosen: found})
