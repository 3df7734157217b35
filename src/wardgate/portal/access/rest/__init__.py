"""Endpoints of resources, device pools, policies and explanations."""

from typing import Final

from wardgate.portal.access.rest import (
    device_pools,
    explanations,
    policies,
    resources,
)
from wardgate.portal.rest.routes import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    resources.routes,
    device_pools.routes,
    policies.routes,
    explanations.routes,
)
