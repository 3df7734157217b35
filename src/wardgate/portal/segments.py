"""The first path segments of all that the portal serves: the table says who answers, and no account's slug may be one of them.

It stands apart from those who answer, so that making an account loads neither the API nor the pages. Tests compare it with their routes.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Part(Enum):
    """Who answers a request; the values are those of the metric's label."""

    HEALTH = "health"
    UPGRADE = "upgrade"
    REST = "rest"
    WEB = "web"


SEGMENTS: Final[Mapping[str, Part]] = {
    "healthz": Part.HEALTH,
    "readyz": Part.HEALTH,
    "client": Part.UPGRADE,
    "gateway": Part.UPGRADE,
    "relay": Part.UPGRADE,
    "account": Part.REST,
    "actors": Part.REST,
    "clients": Part.REST,
    "email_otp_auth_providers": Part.REST,
    "entra_auth_providers": Part.REST,
    "google_auth_providers": Part.REST,
    "groups": Part.REST,
    "ingestion": Part.REST,
    "logs": Part.REST,
    "oidc_auth_providers": Part.REST,
    "okta_auth_providers": Part.REST,
    "openapi": Part.REST,
    "openapi.json": Part.REST,
    "policies": Part.REST,
    "resources": Part.REST,
    "sites": Part.REST,
    "swaggerui": Part.REST,
    "wardgate": Part.REST,
    "assets": Part.WEB,
    "favicon.ico": Part.WEB,
    "robots.txt": Part.WEB,
}

RESERVED_SLUGS: Final = frozenset(SEGMENTS)


def part_of(path: str, *, is_upgrade: bool) -> Part:
    """Return who answers this path; upgrades are the channels', whatever their path, and what nobody else serves is the pages'."""
    if is_upgrade:
        return Part.UPGRADE
    part = SEGMENTS.get(path.split("/", 2)[1] if path.startswith("/") else "", Part.WEB)
    return Part.WEB if part is Part.UPGRADE else part
