"""Names of objects for shells to complete: asked of the portal at a key press, hence briefly, and in silence
when it fails."""

import contextlib
import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from wardgate.cli.admin.catalogue import noun_named
from wardgate.cli.admin.vocabulary import PARENTS, Noun
from wardgate.cli.profile import find_profile
from wardgate.cli.settings import Settings

PATIENCE_S: Final = 1.0
"""For all questions of one key press together."""

PAGE_SIZE: Final = 100  # the portal gives no more at once
MOST_PAGES: Final = 20
"""The portal has no filter by a name's beginning. Of what is beyond, the shell offers nothing."""

_PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)\}")


def names_of(noun_name: str, given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the objects of a noun are called, each with its kind, as far as the portal says so at once.

    Args:
        given: what the words before say: which portal to ask, and within which site, account and so on.
    """
    noun = noun_named(noun_name)
    if noun is None or not noun.named_by:
        return []
    deadline = time.monotonic() + PATIENCE_S
    names: set[str] = set()
    # Whatever fails, a key press is no place to tell of it; what came before is still of use.
    with contextlib.suppress(Exception):
        for one in _listed(noun, given, deadline):
            found = [one.get(member) for member in noun.named_by]
            names.update(name for name in found if isinstance(name, str) and name.isprintable())
    return [(name, noun.singular) for name in sorted(names)]


def _listed(noun: Noun, given: Mapping[str, Any], deadline: float) -> Iterator[dict[str, Any]]:
    """Yield the objects of a noun; those that stand within another object, within the one that is given."""
    listing = noun.verb("list")
    assert listing is not None, f"{noun.name} cannot be listed"
    path = _PLACEHOLDER.sub(
        lambda found: quote(_id_of(found[1], given, deadline), safe=""), listing.all_path or listing.path
    )
    query = {"limit": str(PAGE_SIZE)}
    for _ in range(MOST_PAGES):
        address = f"{path}?{urlencode(query)}"
        answer = _ask(address, given, is_operator=noun.is_operators, timeout_s=deadline - time.monotonic())
        yield from answer["data"]
        query["page_cursor"] = answer["metadata"]["next_page"]
        if query["page_cursor"] is None:
            return


def _id_of(placeholder: str, given: Mapping[str, Any], deadline: float) -> str:
    """Return the id of the object that an option such as `--site` names.

    Raises:
        LookupError: the option is not given, or names no object.
    """
    noun = noun_named(PARENTS[placeholder])
    named = given[f"named_{placeholder}"]
    assert noun is not None
    for one in _listed(noun, given, deadline):
        if named in (one["id"], *(one.get(member) for member in noun.named_by)):
            return str(one["id"])
    raise LookupError(named)


def _ask(address: str, given: Mapping[str, Any], *, is_operator: bool, timeout_s: float) -> Any:
    profile = find_profile(Settings.load("rest", os.environ, given), is_operator=is_operator)
    if urlsplit(profile.url).scheme not in ("http", "https"):
        raise ValueError(profile.url)
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        f"{profile.url}{address}",
        headers={"authorization": f"Bearer {profile.token}", "accept": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=max(timeout_s, 0.01)) as answer:  # noqa: S310
        return json.load(answer)
