"""Endpoints of actors, groups, identities and directories."""

from typing import Final

from wardgate.portal.people.rest import (
    actors,
    directories,
    external_identities,
    groups,
)
from wardgate.portal.rest.routes import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    actors.routes,
    groups.routes,
    groups.routes_of_all,
    external_identities.routes,
    directories.routes,
)
