"""How long one edit of a very large group keeps everybody else waiting: `python -m benches.portal_members 50000`.

A portal in this process on a file, no socket; each turn of the event loop is timed by its CPU time, which a busy
machine does not lengthen. Beside the edit one connection follows the account's feed, as a client's session does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from wardgate.cli.garbage import settle
from wardgate.portal import credentials, provisioning
from wardgate.portal.app import Portal
from wardgate.portal.environment import Environment
from wardgate.portal.http.asgi import Message
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor, Group
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import SqliteFile


class Turns:
    """The turns of the event loop, by their CPU time."""

    def __init__(self) -> None:
        self.longest_s: list[float] = []
        self._run = asyncio.events.Handle._run  # noqa: SLF001 - there is no other place

    def begin(self) -> None:
        run, longest_s = self._run, self.longest_s

        def timed(handle: asyncio.Handle) -> None:
            began_s = time.thread_time()
            run(handle)
            longest_s.append(time.thread_time() - began_s)

        asyncio.events.Handle._run = timed  # type: ignore[method-assign, assignment]  # noqa: SLF001

    def end(self) -> None:
        asyncio.events.Handle._run = self._run  # type: ignore[method-assign]  # noqa: SLF001


async def main(members: int, directory: Path) -> None:
    settings = PortalSettings(database_url=SqliteFile(directory / "wardgate.db"))
    portal = await Portal.open(settings, Keys.derive(b"k" * 32), Environment.of_this_process())
    try:
        async with portal.running():
            await measure(portal, members)
    finally:
        await portal.close()


async def measure(portal: Portal, members: int) -> None:
    services = portal.services
    async with services.store.writing() as tx:
        made = await provisioning.provision(tx, name="acme", slug="acme", admin_email="admin@acme.example")
        account_id, tables = made.account.id, tx.of(made.account.id)
        people = [
            Actor(
                id=tx.new_id(),
                account_id=account_id,
                type="account_user",
                name="Ada",
                email=f"p{number}@acme.example",
            )
            for number in range(members)
        ]
        await tables.actors.insert_all(people)
        group = await tables.groups.insert(
            Group(id=tx.new_id(), account_id=account_id, name="Everybody here")
        )
        robot = await tables.actors.insert(
            Actor(id=tx.new_id(), account_id=account_id, type="api_client", name="bench")
        )
        token = await credentials.issue(
            tables.api_tokens, transaction=tx, keys=services.keys, account_id=account_id,
            actor_id=robot.id, name="bench", expires_at=tx.now + timedelta(days=1),
        )  # fmt: skip
    ids = [{"actor_id": str(one.id)} for one in people]
    settle()
    print(f"{'edit':24}{'CPU':>8}{'longest turns':>20}")
    async with services.accounts.using(account_id):
        for what, wanted in (("all become members", ids), ("none is any more", [])):
            body = json.dumps({"memberships": wanted}).encode()
            turns, began_s = Turns(), time.thread_time()
            turns.begin()
            await put(portal, token.text, f"/groups/{group.id}/memberships", body)
            await asyncio.sleep(0.5)  # the feed's readers
            turns.end()
            longest = ", ".join(f"{one * 1e3:.0f}" for one in sorted(turns.longest_s, reverse=True)[:3])
            print(f"{what:24}{time.thread_time() - began_s:>6.1f} s{longest:>17} ms")


async def put(portal: Portal, token: str, path: str, body: bytes) -> None:
    """Hand a request over as a server does."""
    sent: list[Message] = []
    parts = [body[start : start + 65536] for start in range(0, len(body), 65536)]

    async def receive() -> Message:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {
        "host": "portal.example",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "authorization": f"Bearer {token}",
    }
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PUT",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.9", 40000),
        "server": ("portal.example", 80),
    }
    await portal(scope, receive, send)
    assert sent[0]["status"] == 200, sent


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000, Path(place)))
