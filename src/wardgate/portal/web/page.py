"""A page of an account: where it is, what it is called in the navigation, and what its template is filled with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from wardgate.portal.services import Services
from wardgate.portal.web.sessions import SignedIn


@dataclass(frozen=True, slots=True)
class Page:
    """One entry of the navigation.

    Attributes:
        path: behind the account's slug; empty for the first page.
        template: a file of `templates` that extends `page.html`.
        load: gathers what the template calls `page`, of what the person signed in may see.
    """

    name: str
    path: str
    template: str
    load: Callable[[Services, SignedIn], Awaitable[object]]
