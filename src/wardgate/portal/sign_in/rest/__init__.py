"""Endpoints of providers, client tokens, API clients and their tokens."""

from typing import Final

from wardgate.portal.rest.routes import Routes
from wardgate.portal.sign_in.rest import (
    api_clients,
    auth_providers,
    client_tokens,
    local_providers,
    operated_providers,
    passwords,
    second_factors,
)

ROUTES: Final[tuple[Routes, ...]] = (
    auth_providers.routes,
    operated_providers.routes,
    local_providers.routes,
    client_tokens.routes,
    api_clients.routes,
    passwords.routes,
    second_factors.routes,
)
