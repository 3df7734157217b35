import io
import json
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx2
import pytest

from support.browser import make_api_token
from support.portal import World, make_world, portal_running
from wardgate.cli.admin.arguments import parse
from wardgate.cli.admin.execution import execute
from wardgate.cli.errors import UserError
from wardgate.cli.terminal import Terminal
from wardgate.portal.app import Portal
from wardgate.portal.settings import PortalSettings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended; `error` is its one line."""

    code: int
    out: str
    notes: str
    error: str

    def json(self) -> Any:
        assert self.code == 0, self.error
        return json.loads(self.out)


class Admin(Protocol):
    def __call__(
        self, *arguments: str, stdin: str | None = None, columns: int | None = None, now: datetime = NOW
    ) -> Awaitable[Ran]:
        """Run `wardgate admin`; `stdin` is what somebody answers, `columns` how wide their terminal is."""


@dataclass(slots=True)
class Waits:
    """Stands for `asyncio.sleep`."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
async def portal() -> AsyncIterator[Portal]:
    async with portal_running(PortalSettings(api_capacity=100_000.0, connect_capacity=1000.0)) as running:
        yield running


@pytest.fixture
async def world(portal: Portal) -> World:
    return await make_world(portal)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def transport(portal: Portal) -> httpx2.AsyncBaseTransport:
    return httpx2.ASGITransport(app=portal, client=("192.0.2.9", 40000))


@pytest.fixture
async def admin(
    world: World, monkeypatch: pytest.MonkeyPatch, transport: httpx2.AsyncBaseTransport, waits: Waits
) -> Admin:
    token, _ = await make_api_token(world)
    monkeypatch.setenv("WARDGATE_URL", "http://portal.example")
    monkeypatch.setenv("WARDGATE_TOKEN", token)
    monkeypatch.setenv("WARDGATE_OPERATOR_TOKEN", world.operator_token)
    return runner(transport, waits)


def runner(transport: httpx2.AsyncBaseTransport, waits: Waits) -> Admin:
    async def run(
        *arguments: str, stdin: str | None = None, columns: int | None = None, now: datetime = NOW
    ) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        terminal = Terminal(io.StringIO(stdin or ""), out, err, stdin is not None, columns)
        try:
            request = parse(arguments, now=now)
            await execute(request, terminal=terminal, transport=transport, sleep=waits)
        except UserError as error:
            return Ran(error.exit_code, out.getvalue(), err.getvalue(), str(error))
        return Ran(0, out.getvalue(), err.getvalue(), "")

    return run
