"""Endpoints of accounts, their settings, relays, jobs and banners."""

from typing import Final

from wardgate.portal.installation.rest import (
    account,
    accounts,
    banners,
    installation,
    settings,
)
from wardgate.portal.rest.routes import Routes

ROUTES: Final[tuple[Routes, ...]] = (
    accounts.routes,
    account.routes,
    settings.routes,
    installation.routes,
    banners.routes,
)
