"""What probes and scrapes are told while the database is away, and when it is back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.browser import caller
from support.portal import portal_running
from support.postgres import postgres_database
from wardgate.portal.app import Portal
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import PostgresServer

pytestmark = pytest.mark.one_database  # starts what it needs

_SOCKET = ".s.PGSQL.5432"


@pytest.mark.parametrize("is_refusing", [True, False], ids=["refuses", "does not answer"])
async def test_a_portal_without_its_database_is_alive_but_not_ready(
    tmp_path: Path, is_refusing: bool
) -> None:
    async with postgres_database() as url:
        database, _, directory = url.partition("?host=")
        line = Line(Path(directory) / _SOCKET, tmp_path / _SOCKET)
        settings = PortalSettings(database_url=PostgresServer(f"{database}?host={tmp_path}"))
        async with line.open(), portal_running(settings) as portal:
            assert await _health(portal, "/readyz") == (200, "ready")
            line.break_(is_refusing=is_refusing)
            assert await _health(portal, "/readyz") == (503, "database_unavailable")
            assert await _health(portal, "/healthz") == (200, "ok")
            scraped = await portal.export_metrics()
            assert b"wardgate_portal_channels{" in scraped
            assert b"wardgate_portal_jobs{" not in scraped
            line.mend()
            while await _health(portal, "/readyz") != (200, "ready"):  # noqa: ASYNC110 - nobody announces that it is back
                await asyncio.sleep(0)
            assert b"wardgate_portal_requests_total{" in await portal.export_metrics()


class Line:
    """A line between a portal and its database that can break: what is on it ends; what comes is refused, or
    waits for nothing.
    """

    def __init__(self, server: Path, socket: Path) -> None:
        self._server = server
        self._socket = socket
        self._is_broken = False
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        listener = await asyncio.start_unix_server(self._take, self._socket)
        try:
            yield
        finally:
            listener.close()
            self._end()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def break_(self, *, is_refusing: bool) -> None:
        self._is_broken = True
        if is_refusing:
            self._socket.rename(self._socket.with_suffix(".away"))
        self._end()

    def mend(self) -> None:
        self._is_broken = False
        away = self._socket.with_suffix(".away")
        if away.exists():
            away.rename(self._socket)
        self._end()

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.closing(writer), contextlib.suppress(asyncio.CancelledError):
            if self._is_broken:
                await asyncio.Event().wait()
            far_reader, far_writer = await asyncio.open_unix_connection(self._server)
            with contextlib.closing(far_writer):
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def _health(portal: Portal, path: str) -> tuple[int, str]:
    async with caller(portal) as probe:
        answer = await probe.get(path)
    return answer.status_code, answer.json()["status"]
