"""Carry a request out: names become ids, the ids the path, the fields the body."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from wardgate.cli.admin.arguments import Request
from wardgate.cli.admin.catalogue import noun_named
from wardgate.cli.admin.rendering import one_line
from wardgate.cli.admin.vocabulary import NAMED_MEMBERS, OWN_ID, PARENTS, Body, Kind, Noun, Verb
from wardgate.cli.errors import NotFound, UsageError
from wardgate.cli.rest_client import RestClient


async def path_of(client: RestClient, request: Request) -> str:
    """Return the path of the call, after looking up whatever was named."""
    ids: dict[str, str] = {}
    for placeholder in request.verb.placeholders:
        noun = request.noun if placeholder in OWN_ID else _noun(PARENTS[placeholder])
        lookup = request.verb.lookup if placeholder in OWN_ID else ""
        ids[placeholder] = await _id_of(client, noun, request.named[placeholder], ids, lookup)
    return (request.verb.all_path if request.wants_all else request.verb.path).format_map(ids)


async def body_of(client: RestClient, request: Request) -> dict[str, Any] | None:
    """Return the body of the call."""
    verb = request.verb
    match verb.body:
        case Body.NOTHING:
            return None
        case Body.FIELDS:
            return {verb.wrapper: _nested(request, await _with_ids(client, request))}
        case Body.ADDED | Body.REMOVED:
            member = "add" if verb.body is Body.ADDED else "remove"
            return {verb.wrapper: {member: await _elements(client, request)}}
        case Body.WHOLE_LIST:
            ids = await _elements(client, request)
            return {verb.wrapper: [{verb.element: id_} for id_ in ids]}


async def query_of(client: RestClient, request: Request) -> dict[str, str]:
    """Return the filters of the call."""
    return {name: str(value) for name, value in (await _with_ids(client, request)).items()}


async def id_named(client: RestClient, noun: str, named: str) -> str:
    """Return the id of an object that the user named, by id or name.

    Raises:
        NotFound: nothing is called so.
        UsageError: more than one is called so.
    """
    return await _id_of(client, _noun(noun), named, {})


NAMES_LOOKED_UP: Final = 300  # a noun; of a longer list, what is beyond keeps its id


async def with_names(
    client: RestClient, noun: Noun, objects: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Put names in place of the ids of other objects, for people."""
    named = [dict(one) for one in objects]
    for member, other in NAMED_MEMBERS.items():
        ids = {one.get(member) for one in named} - {None}
        listing = _noun(other).verb("list")
        if member not in noun.columns or not ids or listing is None:
            continue
        names = {
            one["id"]: one["name"]
            for one in (await client.pages(listing.all_path or listing.path, limit=NAMES_LOOKED_UP)).objects
        }
        for one in named:
            one[member] = names.get(one.get(member), one.get(member))
    return named


async def _with_ids(client: RestClient, request: Request) -> dict[str, Any]:
    values = dict(request.given)
    for field in (*request.verb.fields, *request.verb.filters):
        if field.kind is Kind.ID and values.get(field.wire):
            assert field.noun is not None
            values[field.wire] = await _id_of(client, _noun(field.noun), values[field.wire], {})
    return values


def _nested(request: Request, values: Mapping[str, Any]) -> dict[str, Any]:
    """Put values whose names have dots into their objects; two levels, as deep as any body goes."""
    body: dict[str, Any] = {}
    for field in request.verb.fields:
        if field.wire in values:
            for name, value in field.nested(values[field.wire]).items():
                body[name] = body.get(name, {}) | value if "." in field.wire else value
    return body


async def _elements(client: RestClient, request: Request) -> list[str]:
    noun = _noun(request.verb.elements)
    return [await _id_of(client, noun, name, {}) for name in request.elements]


async def _id_of(
    client: RestClient, noun: Noun, named: str, parents: Mapping[str, str], lookup: str = ""
) -> str:
    """Return the id of what the user named.

    Raises:
        NotFound: nothing is called so.
        UsageError: more than one is called so, or such things have no name.
    """
    if _is_id(named, noun):
        return quote(named, safe="")
    listing = noun.verb("list")
    if listing is None or not noun.named_by:
        raise UsageError(f"{one_line(named)!r} is not the id of a {noun.singular}")
    path = (lookup or listing.all_path or listing.path).format_map(parents)
    ids = {
        str(one["id"])
        for query in [{member: named} for member in noun.named_by if member in noun.filtered_by] or [{}]
        for one in (await client.pages(path, query=query)).objects
        if "id" in one and any(one.get(member) == named for member in noun.named_by)
    }
    if not ids:
        raise NotFound(f"there is no {noun.singular} called {one_line(named)!r}")
    if len(ids) > 1:
        raise UsageError(
            f"{len(ids)} {noun.name} are called {one_line(named)!r}; give the id of one: "
            f"{', '.join(sorted(ids))}"
        )
    return ids.pop()


def _is_id(text: str, noun: Noun) -> bool:
    """Tell whether this is a UUID or, for log entries, 24 hex digits; other things may be called so."""
    if len(text) == 24 and not noun.named_by:
        return all(digit in "0123456789abcdefABCDEF" for digit in text)
    try:
        return len(text) == 36 and bool(UUID(text).int >= 0)
    except ValueError:
        return False


def _noun(name: str) -> Noun:
    noun = noun_named(name)
    assert noun is not None
    return noun


def is_secret(verb: Verb, answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer holds a token, which the portal shows this once only."""
    return verb.method == "POST" and bool({"token", "api_token"} & answer.keys())
