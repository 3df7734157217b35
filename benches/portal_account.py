"""The account of a large organisation in a portal's database, and how time is taken on it."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from benches import decisions
from wardgate.portal import credentials, provisioning
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.devices.tables import Device
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.services import Services
from wardgate.portal.sites.tables import Site
from wardgate.portal.store import Transaction

SHOWN: Final = 500  # resources of the client whose `init` is measured


@dataclass(frozen=True, slots=True)
class Organisation:
    """What the measurements need of the account; `user` is shown `SHOWN` resources, `other` as many as most."""

    account: Account
    user: Actor
    other: Actor
    actors: list[Actor]
    policies: list[Policy]
    api_token: str


async def fill(services: Services) -> Organisation:
    """Make the account of the suite `decisions` in one transaction; half of the policies are those of one
    group; each actor has a client.
    """
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
        await of_account.devices.insert_all(
            [_laptop(tx, actor, number) for number, actor in enumerate(actors)]
        )
        await of_account.memberships.insert_all(rows("memberships", Membership))
        await of_account.resources.insert_all(rows("resources", Resource))
        policies = await of_account.policies.insert_all(rows("policies", Policy))
        robot = await of_account.actors.insert(
            Actor(id=tx.new_id(), account_id=account_id, type="api_client", name="robot")
        )
        api_token = await _api_token(tx, services, robot)
    user = next(actor for actor in actors if actor.id == UUID(user_id))
    members = {row["actor_id"] for row in tables["memberships"] if row["group_id"] == wide["id"]}
    other = next(actor for actor in actors if str(actor.id) not in members)
    return Organisation(made.account, user, other, actors, policies, api_token)


def _laptop(tx: Transaction, actor: Actor, number: int) -> Device:
    """Return one client for each actor."""
    return Device(
        id=tx.new_id(),
        account_id=actor.account_id,
        type="client",
        name="laptop",
        firezone_id=f"laptop-{number}",
        psk_base=bytes(32),
        actor_id=actor.id,
        ipv4=f"100.70.{number // 250}.{number % 250}",
        ipv6=f"fd00:2021:1111::{number:x}",
        hostname=f"laptop-{number}",
    )


def _typed(row: decisions.Row) -> dict[str, Any]:
    return {
        name: UUID(value) if name == "id" or (name.endswith("_id") and name != "idp_id") else value
        for name, value in row.items()
    }


async def _api_token(tx: Transaction, services: Services, robot: Actor) -> str:
    issued = await credentials.issue(
        tx.of(robot.account_id).api_tokens,
        transaction=tx,
        keys=services.keys,
        account_id=robot.account_id,
        actor_id=robot.id,
        name="bench",
        expires_at=tx.now + timedelta(days=1),
    )
    return issued.text


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


def percentiles(taken_s: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in milliseconds."""
    cuts = statistics.quantiles(taken_s, n=100, method="inclusive")
    return {"p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}
