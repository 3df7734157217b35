"""`wardgate explain`: why an actor or a client may or may not reach a resource, told by the engine that
decides."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from wardgate.cli.admin.calls import id_named
from wardgate.cli.commands import rest as options
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import AS_JSON
from wardgate.cli.profile import Profile, find_profile
from wardgate.cli.rest_client import RestClient
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import Terminal, echo
from wardgate.cli.values import parse_instant
from wardgate.model.filters import FIRST_PORT, LAST_PORT
from wardgate.policy.explanation import as_text, from_json

EXIT_CODES: Final = {"granted": 0, "denied": 6, "undetermined": 7}


def run(settings: Settings) -> int:
    """Ask the portal, print what it says and return the exit code that tells the answer.

    Raises:
        UserError: it cannot be asked, or does not answer.
    """
    if (settings[options.ACTOR] is None) == (settings[options.CLIENT] is None):
        raise settings.wrong_usage("give --actor or --client, not both")
    assumed = {
        one.name: value
        for one in (options.REMOTE_IP, options.REGION, options.PROVIDER)
        if (value := settings[one]) is not None
    }
    asked = assumed | _traffic(settings)
    at = _past(settings)
    if at is not None:
        if asked:
            raise settings.wrong_usage(
                "--at looks up what was answered then; no other input can be given with it"
            )
        asked["at"] = at
    named = {
        one.name: name
        for one in (options.RESOURCE, options.ACTOR, options.CLIENT)
        if (name := settings[one]) is not None
    }
    answer = asyncio.run(_ask(find_profile(settings), settings[options.CA_FILE], named, asked))
    try:
        explanation = from_json(answer)
    except msgspec.ValidationError as error:
        raise UserError(
            f"the portal's explanation cannot be read; does it run another version? ({error})"
        ) from error
    echo(
        json.dumps(answer, indent=2)
        if settings[AS_JSON]
        else "\n".join([as_text(explanation), *_flows(answer)])
    )
    return EXIT_CODES[explanation.outcome]


def _flows(answer: Any) -> list[str]:
    """Tell what passed by a decision of the past that granted something."""
    match answer.get("flows"):
        case {"number": 0, "is_exact": bool(is_exact)}:
            among = "" if is_exact else ", among the newest that were looked at"
            return [f"no flow that passed by it was reported{among}"]
        case {"number": int(number), "is_exact": bool(is_exact), "last_at": str(last_at)}:
            least = "" if is_exact else "at least "
            return [
                f"{least}{number} reports of flows that passed by it, the newest of one that began at {last_at}"
            ]
        case _:
            return []


def _traffic(settings: Settings) -> dict[str, str]:
    """Return the query of a packet: 443/tcp, 53/udp, icmp."""
    text = settings[options.PORT]
    if text is None:
        return {}
    port, slash, protocol = text.lower().rpartition("/")
    if protocol == "icmp" and not slash:
        return {"protocol": protocol}
    is_port = port.isascii() and port.isdecimal() and len(port) < 6 and FIRST_PORT <= int(port) <= LAST_PORT
    if protocol in ("tcp", "udp") and is_port:
        return {"protocol": protocol, "port": port}
    raise settings.wrong_usage(f"--port: {text!r} is not a port with its protocol: 443/tcp, 53/udp or icmp")


async def _ask(
    profile: Profile, ca_file: Path | None, named: Mapping[str, str], query: Mapping[str, str]
) -> Any:
    async with RestClient(
        profile, ca_file=ca_file, notify=lambda line: Terminal.of_this_process().note(f"wardgate: {line}")
    ) as client:
        ids = {f"{what}_id": await id_named(client, f"{what}s", name) for what, name in named.items()}
        return (await client.call("GET", "/wardgate/explain", query={**ids, **query}))["data"]


def _past(settings: Settings) -> str | None:
    text = settings[options.AT]
    try:
        return None if text is None else parse_instant(text, datetime.now(UTC), direction=-1)
    except (ValueError, OverflowError) as error:
        raise settings.wrong_usage(f"--at: {error}") from error
