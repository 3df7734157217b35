"""`wardgate explain`: why an actor or a client may or may not reach a resource, told by the engine that decides."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from wardgate.cli.admin.arguments import parse_instant
from wardgate.cli.admin.calls import id_named
from wardgate.cli.errors import UsageError, UserError
from wardgate.cli.profile import Profile
from wardgate.cli.rest_client import RestClient, find_profile, read_token
from wardgate.cli.settings import Settings
from wardgate.model.filters import FIRST_PORT, LAST_PORT
from wardgate.policy.explanation import as_text, from_json

EXIT_CODES: Final = {"granted": 0, "denied": 6, "undetermined": 7}


def command(
    resource: Annotated[
        str, typer.Option("--resource", "--resource-id", metavar="NAME", help="The resource: name or id.")
    ],
    actor: Annotated[
        str | None,
        typer.Option(
            "--actor",
            "--actor-id",
            metavar="NAME",
            help="Who asks: a person's or service account's name, address or id …",
        ),
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(
            "--client", "--client-id", metavar="NAME", help="… or one of their devices: name or id."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Look up what was answered then: ISO 8601, such as 2026-11-22T09:00:00Z, or how long ago (24h). By default the question is answered anew.",
        ),
    ] = None,
    remote_ip: Annotated[
        str | None, typer.Option(metavar="IP", help="The address that the client would come from.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="The country it would come from; looked up by --remote-ip."),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="ID", help="The provider that it would have signed in by.")
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(
            metavar="PORT/PROTOCOL",
            help="A packet to ask the resource's filters about: 443/tcp, 53/udp or icmp.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
    url: Annotated[str | None, typer.Option(help="The portal. [env: WARDGATE_URL]")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File that holds the API token. [env: WARDGATE_TOKEN_FILE]")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM authorities to trust. [env: WARDGATE_CA_FILE]")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file. [env: WARDGATE_CONFIG]")] = None,
) -> None:
    """Say why access is granted or denied: every policy, every condition, its input and its outcome.

    Inputs that only a connection has are taken from the client's, if it is connected, and are undetermined unless you give them.

    Exit codes: 0 granted · 6 denied · 7 undetermined · others as everywhere (1 failed, 2 wrong usage, 3 not found, 4 refused, 5 not valid).

    Example: wardgate explain --actor grace@example.org --resource wiki --remote-ip 203.0.113.5

    Example: wardgate explain --client laptop --resource wiki --port 81/tcp

    Example: wardgate explain --client laptop --resource wiki --at 24h
    """
    if (actor is None) == (client is None):
        raise typer.BadParameter("give --actor or --client, not both")
    settings = Settings.load("rest", os.environ, config)
    assumed = {"remote_ip": remote_ip, "region": region, "provider": provider}
    asked = {name: value for name, value in assumed.items() if value is not None} | _traffic(port)
    if at is not None:
        if asked:
            raise UsageError("--at looks up what was answered then; nothing can be assumed with it")
        asked["at"] = _past(at)
    profile = find_profile(url, None if token_file is None else read_token(token_file), config)
    named = {"resource": resource, **({"actor": actor} if actor else {"client": client or ""})}
    answer = asyncio.run(_ask(profile, settings.path("ca_file", ca_file, None), named, asked))
    try:
        told = from_json(answer)
    except msgspec.ValidationError as error:
        raise UserError(
            f"the portal's explanation cannot be read; is it of another version? ({error})"
        ) from error
    typer.echo(json.dumps(answer, indent=2) if as_json else as_text(told))
    sys.exit(EXIT_CODES[told.outcome])


def _traffic(text: str | None) -> dict[str, str]:
    """Return the query of a packet: 443/tcp, 53/udp, icmp."""
    if text is None:
        return {}
    port, slash, protocol = text.lower().rpartition("/")
    if protocol == "icmp" and not slash:
        return {"protocol": protocol}
    is_port = port.isascii() and port.isdecimal() and len(port) < 6 and FIRST_PORT <= int(port) <= LAST_PORT
    if protocol in ("tcp", "udp") and is_port:
        return {"protocol": protocol, "port": port}
    raise UsageError(f"--port: {text!r} is not a port with its protocol: 443/tcp, 53/udp or icmp")


async def _ask(
    profile: Profile, ca_file: Path | None, named: Mapping[str, str], query: Mapping[str, str]
) -> Any:
    async with RestClient(
        profile, ca_file=ca_file, notify=lambda line: typer.echo(f"wardgate: {line}", err=True)
    ) as client:
        ids = {f"{what}_id": await id_named(client, f"{what}s", name) for what, name in named.items()}
        return (await client.call("GET", "/wardgate/explain", query={**ids, **query}))["data"]


def _past(text: str) -> str:
    try:
        return parse_instant(text, datetime.now(UTC), direction=-1)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--at: {error}") from error
