"""Endpoints of clients, gateways and members of device pools."""

from typing import Final

from wardgate.portal.devices.rest import (
    clients,
    draining,
    gateways,
    pool_members,
)
from wardgate.portal.rest.routes import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    clients.routes,
    draining.routes,
    gateways.routes,
    pool_members.routes,
)
