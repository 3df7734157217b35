"""The portal on the account of a large organisation: its snapshot (`portal_snapshot`) and a REST list
(`portal_lists`, `portal_sockets`).
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from benches import decisions, portal_lists, portal_snapshot, portal_sockets
from wardgate.portal.store import SqliteFile


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Medians of `runs` loads and five times as many `init`s; percentiles of single changes and calls."""
    results = asyncio.run(_measure_all(runs))
    print(
        f"\nportal: {decisions.ACTORS:,} actors in {decisions.GROUPS_EACH} groups each and with a client each, "
        f"{decisions.GROUPS} groups, {decisions.POLICIES:,} policies, {decisions.RESOURCES:,} resources"
    )
    portal_snapshot.report(results["snapshot"])
    portal_lists.report(results["lists"])
    portal_sockets.report(results["sockets"])
    return results


async def _measure_all(runs: int) -> dict[str, Any]:
    results: dict[str, Any] = {"snapshot": await portal_snapshot.measure_all(runs)}
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as directory:
        file = SqliteFile(Path(directory) / "wardgate.db")
        async with portal_snapshot.opened(file, f"sqlite:///{file.path}") as account:
            results["lists"] = await portal_lists.measure(account.portal, account.organisation, file.path)
            api_token = account.organisation.api_token
        secret = file.path.with_name("secret.key")
        secret.touch(mode=0o600)
        secret.write_bytes(portal_snapshot.MASTER_SECRET)
        results["sockets"] = portal_sockets.measure(Path(directory), api_token)
    return results
