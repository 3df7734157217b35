"""Endpoints of actors, groups, identities and directories."""

from typing import Final

from wardgate.portal.people.rest import (
    actors,
    all_groups,
    directories,
    external_identities,
    groups,
)
from wardgate.portal.rest.routes import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    actors.routes,
    groups.routes,
    all_groups.routes,
    external_identities.routes,
    directories.routes,
)
