"""The first path segments of all that the portal serves: the table says who answers, and no account's slug
may be one of them.

It stands apart from those who answer, so that making an account loads neither the API nor the pages. Tests
compare it with their routes. Endpoints that the published API lacks are all below `/wardgate`, so that a new
one adds nothing here.
"""

from collections.abc import Iterable, Mapping
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
    "entra_directories": Part.REST,
    "google_auth_providers": Part.REST,
    "google_directories": Part.REST,
    "groups": Part.REST,
    "ingestion": Part.REST,
    "intune_devices": Part.REST,
    "intune_posture_providers": Part.REST,
    "iru_devices": Part.REST,
    "iru_posture_providers": Part.REST,
    "logs": Part.REST,
    "oidc_auth_providers": Part.REST,
    "okta_auth_providers": Part.REST,
    "okta_directories": Part.REST,
    "openapi": Part.REST,
    "openapi.json": Part.REST,
    "policies": Part.REST,
    "resources": Part.REST,
    "sites": Part.REST,
    "swaggerui": Part.REST,
    "wardgate": Part.REST,
    "assets": Part.WEB,
    "auth": Part.WEB,
    "favicon.ico": Part.WEB,
    "find_account": Part.WEB,
    "getting_started": Part.WEB,
    "operator": Part.WEB,
    "install": Part.WEB,
    "robots.txt": Part.WEB,
    "sign_in": Part.WEB,
    "sign_up": Part.WEB,
    "try": Part.WEB,
    "verify_sign_up": Part.WEB,
}

RESERVED_SLUGS: Final = frozenset(SEGMENTS)


def part_of(path: str, *, is_upgrade: bool, is_program: bool = False) -> Part:
    """Return who answers this path; upgrades are the channels', whatever their path.

    What nobody else serves is the pages', for it may be an account's slug; to a program, which shows a bearer
    token or takes nothing but JSON, the API says that there is nothing.
    """
    if is_upgrade:
        return Part.UPGRADE
    part = SEGMENTS.get(path.split("/", 2)[1] if path.startswith("/") else "")
    if part is None:
        return Part.REST if is_program else Part.WEB
    return Part.WEB if part is Part.UPGRADE else part


def is_program(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request is no browser's: those send neither bearer tokens nor an `Accept` of JSON alone
    for a page.
    """
    for name, value in headers:
        match name.lower():
            case b"authorization" if value[:7].lower() == b"bearer ":
                return True
            case b"accept" if b"json" in value.lower() and b"html" not in value.lower():
                return True
    return False
