"""One run of `wardgate admin`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx2

from wardgate.cli.admin.arguments import Request, request_of
from wardgate.cli.admin.calls import body_of, is_secret, path_of, query_of, with_names
from wardgate.cli.admin.rendering import one_json_line, one_line, show_object, show_objects
from wardgate.cli.admin.vocabulary import OWN_ID, Answer, Output
from wardgate.cli.commands.rest import CA_FILE
from wardgate.cli.errors import UsageError, UserError
from wardgate.cli.profile import find_profile
from wardgate.cli.rest_client import RestClient
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import Terminal


def run(settings: Settings) -> None:
    """Run one verb in this process.

    Raises:
        UserError: it failed; the message is one line.
    """
    now = datetime.now(UTC)
    asyncio.run(execute(request_of(settings, now=now), terminal=Terminal.of_this_process()))


async def execute(
    request: Request,
    *,
    terminal: Terminal,
    transport: httpx2.AsyncBaseTransport | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Carry one request out.

    Args:
        transport: how to reach the portal; the network by default.
        sleep: waits when the portal asks for it; seconds.

    Raises:
        UserError: it failed; the message is one line.
    """
    profile = find_profile(
        request.settings, is_operator=request.noun.is_operators or request.verb.is_operators
    )
    async with RestClient(
        profile,
        transport=transport,
        ca_file=request.settings[CA_FILE],
        notify=lambda line: terminal.note(f"wardgate: {line}"),
        sleep=sleep,
    ) as client:
        try:
            await _carry_out(client, request, terminal)
        except UserError as error:
            raise type(error)(one_line(str(error))) from error


async def _carry_out(client: RestClient, request: Request, terminal: Terminal) -> None:
    verb = request.verb
    if verb.is_destructive:
        _confirm(request, terminal)
    path = await path_of(client, request)
    if request.wants_version:
        terminal.show(await client.version(path))
        return
    if verb.answer is Answer.LINES:
        async for line in client.lines(path, query=await query_of(client, request)):
            terminal.show(one_json_line(line))
        return
    columns = verb.columns or request.noun.columns
    if verb.answer is Answer.PAGES:
        query = await query_of(client, request)
        listing = await client.pages(path, query=query, limit=request.limit)
        objects = listing.objects
        if request.output is Output.TABLE:
            objects = await with_names(client, request.noun, objects)
        show_objects(objects, columns, request.output, terminal)
        if not objects and request.output is Output.TABLE:
            terminal.note(f"wardgate: no {request.noun.name.replace('-', ' ')}")
        if len(objects) < listing.count:
            number = listing.count if listing.is_exact else f"at least {listing.count}"
            terminal.note(f"wardgate: {len(objects)} of {number} shown")
        return
    body = await body_of(client, request)
    data = (await client.call(verb.method, path, body=body, if_match=request.if_match))["data"]
    if isinstance(data, list):
        show_objects(data, columns, request.output, terminal)
        return
    show_object(data, request.output, terminal)
    if is_secret(verb, data):
        terminal.note("wardgate: the token is shown this once only; keep it in a safe place")


def _confirm(request: Request, terminal: Terminal) -> None:
    if request.is_confirmed:
        return
    if not terminal.is_interactive:
        raise UsageError(
            f"{request.noun.name} {request.verb.name} needs --yes when nobody can be asked to confirm;"
            f" nothing was done"
        )
    own = request.noun.singular
    named = ", ".join(
        f"{own if name in OWN_ID else name} {one_line(value)}" for name, value in request.named.items()
    )
    if not terminal.confirm(f"{request.verb.help} Really ({named})?"):
        raise UsageError("not confirmed; nothing was done")
