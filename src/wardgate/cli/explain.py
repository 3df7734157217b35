"""`wardgate explain`: why an actor or a client may or may not reach a resource, told by the engine that decides."""

import json
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from wardgate.cli.errors import UserError
from wardgate.cli.rest_client import find_profile, get
from wardgate.policy.explanation import as_text, from_json


def command(
    resource_id: Annotated[UUID, typer.Option(help="The resource.")],
    actor_id: Annotated[UUID | None, typer.Option(help="Who asks: a person or a service account …")] = None,
    client_id: Annotated[UUID | None, typer.Option(help="… or one of their devices.")] = None,
    at: Annotated[
        str | None, typer.Option(help="A time, ISO 8601, such as 2026-11-22T09:00:00Z; now by default.")
    ] = None,
    remote_ip: Annotated[
        str | None, typer.Option(help="The address that the client would come from.")
    ] = None,
    provider: Annotated[
        UUID | None, typer.Option(help="The provider that it would have signed in by.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The portal. [env: WARDGATE_URL]")] = None,
    token: Annotated[str | None, typer.Option(help="API token. [env: WARDGATE_TOKEN]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file. [env: WARDGATE_CONFIG]")] = None,
) -> None:
    """Say why access is granted or denied: every policy, every condition, its input and its outcome.

    Inputs that only a connection has are undetermined unless you give them.

    Example: wardgate explain --actor-id 9c… --resource-id 5f2c… --remote-ip 203.0.113.5
    """
    if (actor_id is None) == (client_id is None):
        raise typer.BadParameter("give --actor-id or --client-id, not both")
    given = {
        "resource_id": resource_id,
        "actor_id": actor_id,
        "client_id": client_id,
        "at": at,
        "remote_ip": remote_ip,
        "provider": provider,
    }
    query = {name: str(value) for name, value in given.items() if value is not None}
    answer = get(find_profile(url, token, config), "/wardgate/explain", query)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    try:
        typer.echo(as_text(from_json(answer)))
    except msgspec.ValidationError as error:
        raise UserError(
            f"the portal's explanation cannot be read; is it of another version? ({error})"
        ) from error
