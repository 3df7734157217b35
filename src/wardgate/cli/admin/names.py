"""Names of objects for shells to complete: asked of the portal at a key press, hence briefly, and in silence when it fails."""

import json
import urllib.request
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from wardgate.cli.admin.catalogue import noun_named
from wardgate.cli.admin.vocabulary import OWN_ID, PARENTS, Kind, Noun, Verb
from wardgate.cli.rest_client import find_profile

PATIENCE_S: Final = 1.0
MOST_NAMES: Final = 100
_EXPLAIN: Final = {
    "--resource": "resources", "--resource-id": "resources", "--actor": "actors", "--actor-id": "actors",
    "--client": "clients", "--client-id": "clients",
}  # fmt: skip


def noun_wanted(words: Sequence[str]) -> Noun | None:
    """Return whose name the word after these would be; none: nobody's.

    Args:
        words: all words after `wardgate` that are finished.
    """
    last = words[-1] if words else ""
    match list(words):
        case ["explain", *_]:
            return noun_named(_EXPLAIN.get(last, ""))
        case ["admin", name, action, *given]:
            noun = noun_named(name)
            verb = None if noun is None else noun.verb(action)
            return None if noun is None or verb is None else _wanted(noun, verb, given)
        case _:
            return None


def _wanted(noun: Noun, verb: Verb, given: Sequence[str]) -> Noun | None:
    last = given[-1] if given else ""
    for field in (*verb.fields, *verb.filters):
        if field.kind is Kind.ID and field.noun is not None and last == field.flag:
            return noun_named(field.noun)
    for placeholder in verb.placeholders:
        if placeholder not in OWN_ID and last == f"--{placeholder.replace('_', '-')}":
            return noun_named(PARENTS[placeholder])
    if last.startswith("--"):
        return None
    if verb.elements:
        return noun_named(verb.elements)
    return noun if not given and OWN_ID & set(verb.placeholders) else None


def names_of(noun: Noun) -> list[str]:
    """Return what the objects of a noun are called, as far as the portal says so at once."""
    listing = noun.verb("list")
    if listing is None or not noun.named_by or "{" in (path := listing.all_path or listing.path):
        return []
    try:
        answer = _ask(path, is_operator=noun.is_operators)
        found = [one.get(member) for one in answer["data"] for member in noun.named_by]
    except Exception:  # noqa: BLE001 - whatever it is, a key press is no place to tell of it
        return []
    return sorted({name for name in found if isinstance(name, str) and name.isprintable()})


def _ask(path: str, *, is_operator: bool) -> Any:
    profile = find_profile(None, None, is_operator=is_operator)
    if urlsplit(profile.url).scheme not in ("http", "https"):
        raise ValueError(profile.url)
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        f"{profile.url}{path}?limit={MOST_NAMES}",
        headers={"authorization": f"Bearer {profile.token}", "accept": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
        return json.load(answer)
