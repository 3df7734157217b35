"""Names of objects for shells to complete: asked of the portal at a key press, hence briefly, and in silence when it fails."""

import json
import os
import urllib.request
from typing import Any, Final
from urllib.parse import urlsplit

from wardgate.cli.admin.catalogue import noun_named
from wardgate.cli.profile import find_profile
from wardgate.cli.settings import Settings

PATIENCE_S: Final = 1.0
MOST_NAMES: Final = 100


def names_of(noun_name: str) -> list[tuple[str, str]]:
    """Return what the objects of a noun are called, each with its kind, as far as the portal says so at once."""
    noun = noun_named(noun_name)
    listing = None if noun is None else noun.verb("list")
    if (
        noun is None
        or listing is None
        or not noun.named_by
        or "{" in (path := listing.all_path or listing.path)
    ):
        return []
    try:
        answer = _ask(path, is_operator=noun.is_operators)
        found = [one.get(member) for one in answer["data"] for member in noun.named_by]
    except Exception:  # noqa: BLE001 - whatever it is, a key press is no place to tell of it
        return []
    names = {name for name in found if isinstance(name, str) and name.isprintable()}
    return [(name, noun.singular) for name in sorted(names)]


def _ask(path: str, *, is_operator: bool) -> Any:
    profile = find_profile(Settings.load("rest", os.environ), is_operator=is_operator)
    if urlsplit(profile.url).scheme not in ("http", "https"):
        raise ValueError(profile.url)
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        f"{profile.url}{path}?limit={MOST_NAMES}",
        headers={"authorization": f"Bearer {profile.token}", "accept": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
        return json.load(answer)
