"""The way from a new account to the first thing reached through a tunnel, each step checked as it happens."""

from dataclasses import dataclass
from enum import Enum
from typing import Final
from uuid import UUID

from wardgate.portal.logs.decision_log import newest_decisions
from wardgate.portal.store import AccountTables
from wardgate.portal.web.page import Live, TemplatePage
from wardgate.portal.web.visit import Visit

LAST_DECISIONS: Final = 100
"""Among which one that granted is looked for: a log is not searched to its end for a page."""


class State(Enum):
    """How far a step is; a step may be done while one before it is not."""

    DONE = "done"
    WAITING = "waiting"  # something was begun, and the rest happens elsewhere
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: also of the block in the template that tells what to do.
        told: what is there already, or what is waited for.
    """

    name: str
    title: str
    state: State
    told: str = ""


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """All steps in order, and what the instructions name.

    Attributes:
        site_id: where a gateway would stand; None if there is no site yet.
        address: of a resource to open at the end; None if there is none with an address.
        has_relay: whether a relay is online, without which nobody finds anybody.
    """

    steps: tuple[Step, ...]
    site_id: UUID | None
    address: str | None
    has_relay: bool
    slug: str
    web_url: str
    socket_url: str

    @property
    def done(self) -> int:
        return sum(step.state is State.DONE for step in self.steps)

    @property
    def is_complete(self) -> bool:
        return self.done == len(self.steps)

    @property
    def next(self) -> Step | None:
        return next((step for step in self.steps if step.state is not State.DONE), None)


async def load_first_steps(visit: Visit) -> FirstSteps:
    """Look what of the account is there. Each question is for one row only, however large the account is."""
    async with visit.reading() as tables:
        site = await tables.sites.find(tables.sites.c.managed_by != "system")
        resource = await tables.resources.find(tables.resources.c.type != "internet")
        steps = (
            Step("site", "Make a site", _done_if(site is not None), site.name if site else ""),
            await _gateway(visit, tables),
            Step(
                "resource",
                "Add a resource",
                _done_if(resource is not None),
                resource.name if resource else "",
            ),
            await _policy(tables),
            await _client(visit, tables),
            await _access(tables),
        )
    settings = visit.services.settings
    return FirstSteps(
        steps,
        site_id=site.id if site else None,
        address=resource.address if resource else None,
        has_relay=bool(visit.services.environment.bus.count("relay")),
        slug=visit.account.slug,
        web_url=settings.web_url,
        socket_url=settings.socket_url,
    )


PAGE: Final = TemplatePage(
    name="Get started",
    path="/get_started",
    icon="zap",
    section=None,
    live=Live(
        tables=frozenset({"sites", "devices", "gateway_tokens", "resources", "policies"}),
        presence=frozenset({"gateway", "client", "relay"}),
        decisions=True,
    ),
    template="first_steps.html",
    load=load_first_steps,
)


def _done_if(is_done: bool) -> State:
    return State.DONE if is_done else State.OPEN


async def _gateway(visit: Visit, tables: AccountTables) -> Step:
    online = len(visit.online("gateway"))
    if online:
        return Step("gateway", "Connect a gateway", State.DONE, f"{online} online")
    has_token = await tables.gateway_tokens.count(at_most=1)
    state, told = (State.WAITING, "waiting for it to connect…") if has_token else (State.OPEN, "")
    return Step("gateway", "Connect a gateway", state, told)


async def _policy(tables: AccountTables) -> Step:
    c = tables.policies.c
    is_there = await tables.policies.count(c.is_disabled.is_(False), at_most=1)
    return Step("policy", "Grant access with a policy", _done_if(bool(is_there)))


async def _client(visit: Visit, tables: AccountTables) -> Step:
    online = len(visit.online("client"))
    told = f"{online} online" if online else ""
    c = tables.devices.c
    has_been = online or await tables.devices.count(c.type == "client", at_most=1)
    return Step("client", "Connect a client", _done_if(bool(has_been)), told)


async def _access(tables: AccountTables) -> Step:
    granted = [
        one for one in await newest_decisions(tables, limit=LAST_DECISIONS) if one.outcome == "granted"
    ]
    told = f"{granted[0].actor_name} → {granted[0].resource_name}" if granted else ""
    return Step("access", "Open something through the tunnel", _done_if(bool(granted)), told)
