"""Which page an administrator sees first after signing in: a preference of the actor."""

from collections.abc import Mapping
from typing import Final

from wardgate.portal.people.tables import Actor

START_PAGES: Final[Mapping[str, str]] = {
    "": "Overview",
    "sites": "Sites",
    "resources": "Resources",
    "groups": "Groups",
    "policies": "Policies",
    "clients": "Clients",
    "actors": "People",
}
"""Path behind the account's slug → what the page is called."""


def start_page_of(actor: Actor) -> str:
    """Return the path of an actor's first page, without a slash; what is not known any more is the overview."""
    chosen = actor.preferences.get("start_page")
    return chosen if isinstance(chosen, str) and chosen in START_PAGES else ""
