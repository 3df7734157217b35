"""Endpoints of clients, gateways and members of device pools."""

from typing import Final

from wardgate.portal.devices.rest import (
    clients,
    gateways,
    pool_members,
)
from wardgate.portal.rest.routes import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    clients.routes,
    gateways.routes,
    pool_members.routes,
)
