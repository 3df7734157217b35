"""What grants and their end cost the portal without the network, in CPU time: the sessions of clients and gateways
themselves, with journal, database and change feed, in this process.

    python -m benches.portal_sessions [sqlite|postgres] [CLIENTS]

Who writes the frames of the peers is in the figures: some 20 µs a grant.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from benches.portal_snapshot import JOIN, MASTER_SECRET, USER_AGENT, postgres
from wardgate.cli.garbage import settle
from wardgate.model.ids import ActorId
from wardgate.portal import credentials, provisioning
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.app import Portal
from wardgate.portal.channels.client_session import ClientSession
from wardgate.portal.channels.connecting import ConnectedClient, ConnectedGateway
from wardgate.portal.channels.gateway_session import GatewaySession
from wardgate.portal.channels.session import Session
from wardgate.portal.devices.tables import Device
from wardgate.portal.environment import Environment
from wardgate.portal.http.origin import Origin
from wardgate.portal.installation.tables import Account
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.settings import PortalSettings
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.sites.tables import GatewayToken
from wardgate.portal.snapshot.accounts import AccountView
from wardgate.portal.snapshot.audience import Interest
from wardgate.portal.store import Database, PostgresServer, SqliteFile, Transaction
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.frames import Framing

CLIENTS: Final = 2_000
GATEWAYS: Final = 2
GRANTS: Final = 4_000
AT_ONCE: Final = 8
"""Requests under way together, as 1,000 a second that take 8 ms each."""

GATEWAY_AGENT: Final = "Debian/12.0.0 gateway/1.6.1 (x86_64; 6.8.0)"


@dataclass(slots=True)
class Crowd:
    """The sessions of an account in which every client may reach one resource by one policy."""

    portal: Portal
    view: AccountView
    account: Account
    policy: Policy
    membership: Membership
    clients: list[ClientSession]
    gateways: list[GatewaySession]
    answered: int = 0
    rejected: int = 0

    def carry(self) -> None:
        """Take what the sessions have to say, and let gateways acknowledge."""
        for gateway in self.gateways:
            while (text := gateway.poll_transmit()) is not None:
                gateway.handle_transmitted()
                if '"event":"create_authorization"' in text:
                    ref = text.partition('"ref":"')[2][:36]
                    gateway.handle_text(
                        f'{{"topic":"gateway","event":"authorization_created","payload":{{"ref":"{ref}"}},"ref":1}}'
                    )
                elif '"event":"reject_access"' in text:
                    self.rejected += 1

    def hear(self, clients: list[ClientSession]) -> None:
        """Take what clients are told."""
        for client in clients:
            while (text := client.poll_transmit()) is not None:
                client.handle_transmitted()
                self.answered += '"event":"authorization_created"' in text

    async def ask(self, count: int) -> None:
        """Let clients ask in turn, a few at once, until all have their answer."""
        request = json.dumps(
            {
                "topic": "client",
                "event": "request_authorization",
                "payload": {"resource_id": str(self.policy.resource_id)},
                "ref": 1,
            }
        )
        clients = itertools.cycle(self.clients)
        for _ in range(0, count, AT_ONCE):
            asking = list(itertools.islice(clients, AT_ONCE))
            wanted = self.answered + AT_ONCE
            for client in asking:
                client.handle_text(request)
            self.carry()
            while self.answered < wanted:
                await asyncio.sleep(0.001)
                self.hear(asking)
        self.hear(self.clients)


@contextlib.asynccontextmanager
async def crowd(location: Database, clients: int) -> AsyncIterator[Crowd]:
    """Run a portal with so many clients and two gateways."""
    settings = PortalSettings(database_url=location)
    portal = await Portal.open(settings, Keys.derive(MASTER_SECRET), Environment.of_this_process())
    try:
        async with portal.services.store.writing() as tx:
            made = await _provide(tx, portal.services.keys, clients)
        settle()
        async with portal.running(), portal.services.accounts.using(made.account.id) as view:
            yield _sessions(portal, view, made)
    finally:
        await portal.close()


@dataclass(frozen=True, slots=True)
class _Made:
    account: Account
    policy: Policy
    membership: Membership
    actor: Actor
    client_token: ClientToken
    gateway_token: GatewayToken
    devices: list[Device]


async def _provide(tx: Transaction, keys: Keys, clients: int) -> _Made:
    made = await provisioning.provision(tx, name="Acme", slug="acme", admin_email="ada@acme.example")
    account_id, tables = made.account.id, tx.of(made.account.id)
    group = await tables.groups.insert(Group(id=tx.new_id(), account_id=account_id, name="Engineering"))
    actor = await tables.actors.insert(
        Actor(id=tx.new_id(), account_id=account_id, type="service_account", name="crowd")
    )
    net = await tables.resources.insert(
        Resource(
            id=tx.new_id(), account_id=account_id, type="cidr", name="net", address="10.0.0.0/24",
            site_id=made.site.id,
        )
    )  # fmt: skip
    membership = await tables.memberships.insert(
        Membership(id=tx.new_id(), account_id=account_id, group_id=group.id, actor_id=actor.id)
    )
    policy = await tables.policies.insert(
        Policy(id=tx.new_id(), account_id=account_id, group_id=group.id, resource_id=net.id)
    )
    client_token = await credentials.issue(
        tables.client_tokens, transaction=tx, keys=keys, account_id=account_id, actor_id=actor.id,
        expires_at=tx.now + timedelta(days=1),
    )  # fmt: skip
    gateway_token = await credentials.issue(
        tables.gateway_tokens, transaction=tx, keys=keys, account_id=account_id, site_id=made.site.id
    )
    devices = [
        Device(
            id=tx.new_id(), type="client", name="laptop", firezone_id=f"laptop-{number}", actor_id=actor.id,
            ipv4=f"100.70.{number // 250}.{number % 250}", ipv6=f"fd00:2021:1111::1:{number:x}", account_id=account_id,
            psk_base=bytes(32),
        )
        for number in range(clients)
    ]  # fmt: skip
    devices += [
        Device(
            id=tx.new_id(), type="gateway", name="gateway", firezone_id=f"gateway-{number}",
            site_id=made.site.id, ipv4=f"100.71.0.{number}", ipv6=f"fd00:2021:1111::2:{number:x}",
            account_id=account_id, psk_base=bytes(32),
        )
        for number in range(GATEWAYS)
    ]  # fmt: skip
    devices = await tables.devices.insert_all(devices)
    return _Made(made.account, policy, membership, actor, client_token.row, gateway_token.row, devices)


def _sessions(portal: Portal, view: AccountView, made: _Made) -> Crowd:
    rng = random.Random(1)
    crowd = Crowd(portal, view, made.account, made.policy, made.membership, [], [])
    for device in made.devices:
        key = f"{rng.getrandbits(256):064x}"[:43] + "="
        if device.type == "client":
            client = ClientSession(
                Dialect(PeerKind.CLIENT), Framing.OBJECT, services=portal.services, journal=portal.journal,
                connected=ConnectedClient(
                    made.account, made.actor, made.client_token, device, key,
                    Origin(ip_address("203.0.113.5"), USER_AGENT, region="DE"),
                ),
                view=view,
            )  # fmt: skip
            crowd.clients.append(client)
            interest = Interest.in_(
                device.id, made.client_token.id, made.actor.id, actor_id=ActorId(made.actor.id)
            )
            _begin(client, "client", view, interest)
        else:
            gateway = GatewaySession(
                Dialect(PeerKind.GATEWAY), Framing.OBJECT, services=portal.services,
                connected=ConnectedGateway(
                    made.account, made.gateway_token, device, key,
                    Origin(ip_address("203.0.113.6"), GATEWAY_AGENT, region="DE"),
                ),
                view=view,
            )  # fmt: skip
            crowd.gateways.append(gateway)
            _begin(gateway, "gateway", view, Interest.in_(device.id, made.gateway_token.id))
            portal.journal.follow(device.id, gateway.handle_message)
    return crowd


def _begin(session: Session, topic: str, view: AccountView, interest: Interest) -> None:
    view.attach(session, interest)
    session.handle_text(JOIN.replace("client", topic))
    while session.poll_transmit() is not None:
        session.handle_transmitted()


async def measure(location: Database, clients: int = CLIENTS) -> dict[str, Any]:
    async with crowd(location, clients) as all_:
        await all_.ask(AT_ONCE * 20)
        before = time.process_time()
        await all_.ask(GRANTS)
        taken_ms = (time.process_time() - before) / GRANTS * 1e3
        await all_.ask(len(all_.clients))
        return {"grant_cpu_ms": taken_ms, "revocations": await _revoke_all(all_)}


_Step = Callable[[Transaction], Awaitable[object]]


async def _revoke_all(all_: Crowd) -> dict[str, Any]:
    """End everybody's grants for one cause after the other."""
    store, account_id = all_.portal.services.store, all_.account.id
    policy, membership = all_.policy, all_.membership
    steps: list[tuple[str, _Step, _Step | None]] = [
        ("policy disabled",
         lambda tx: tx.of(account_id).policies.save(replace(policy, is_disabled=True)),
         lambda tx: tx.of(account_id).policies.save(policy)),
        ("membership deleted",
         lambda tx: tx.of(account_id).memberships.delete(membership.id),
         lambda tx: tx.of(account_id).memberships.insert(membership)),
        ("policy deleted", lambda tx: tx.of(account_id).policies.delete(policy.id), None),
    ]  # fmt: skip
    seen: dict[str, Any] = {}
    for name, step, undo in steps:
        all_.rejected = 0
        cpu_s, began_s = time.process_time(), time.perf_counter()
        async with store.writing() as tx:
            await step(tx)
        committed_s, committed_cpu_s = time.perf_counter(), time.process_time()
        while all_.rejected < len(all_.clients):
            await asyncio.sleep(0)
            all_.carry()
        told_s, told_cpu_s = time.perf_counter(), time.process_time()
        await asyncio.sleep(0.2)
        seen[name] = {
            "commit_ms": (committed_s - began_s) * 1e3,
            "commit_cpu_ms": (committed_cpu_s - cpu_s) * 1e3,
            "last_frame_ms": (told_s - began_s) * 1e3,
            "last_frame_cpu_ms": (told_cpu_s - cpu_s) * 1e3,
        }
        all_.hear(all_.clients)
        if undo is not None:
            async with store.writing() as tx:
                await undo(tx)
            await asyncio.sleep(0.2)
            await all_.ask(len(all_.clients))
    return seen


def report(results: dict[str, Any]) -> None:
    for name, one in results.items():
        if one is None:
            print(f"  {name} is not installed: skipped")
            continue
        print(f"  {name}: a grant takes {one['grant_cpu_ms']:.3f} ms of CPU time (with sockets: budget 0.8)")
        for cause, seen in one["revocations"].items():
            print(
                f"    {cause}: committed after {seen['commit_ms']:.0f} ms (CPU {seen['commit_cpu_ms']:.0f}), the "
                f"last frame after {seen['last_frame_ms']:.0f} ms (CPU {seen['last_frame_cpu_ms']:.0f}), budget 500"
            )


async def measure_on(database: str, clients: int = CLIENTS) -> dict[str, Any] | None:
    """Measure on SQLite, or on a PostgreSQL server of its own; None if that is not installed."""
    if database == "postgres":
        async with postgres() as url:
            return None if url is None else await measure(PostgresServer(url), clients)
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as place:
        return await measure(SqliteFile(Path(place) / "wardgate.db"), clients)


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    wanted = int(sys.argv[2]) if len(sys.argv) > 2 else CLIENTS
    report({chosen: asyncio.run(measure_on(chosen, wanted))})
