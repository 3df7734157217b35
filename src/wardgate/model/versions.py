"""Versions of peers, and what depends on them (control-plane-protocol §6, portal-domain §3.10, §6.1).

A version that is unknown (None) is not an old one: each rule says what it does then.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

_VERSION: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?(?:[-+][0-9A-Za-z.+-]*)?")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """`major.minor.patch`, compared as numbers; pre-release and build suffixes are dropped."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `1.5.12`, `1.5` or `1.5.12-rc1`.

        Raises:
            ValueError: any other text.
        """
        match = _VERSION.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no version")
        return cls(int(match[1]), int(match[2]), int(match[3] or 0))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class Component(StrEnum):
    """The kinds of client; gates differ between them."""

    APPLE = "apple-client"
    GUI = "gui-client"
    HEADLESS = "headless-client"
    ANDROID = "android-client"


@dataclass(frozen=True, slots=True)
class ClientSoftware:
    """The software of a client: its component, and its version (None if it cannot be parsed)."""

    component: Component
    version: Version | None


def uses_site_names(client: ClientSoftware) -> bool:
    """Tell whether messages say `sites` and `site_id` rather than `gateway_groups` and `gateway_group_id`."""
    return _reaches(client, _SITE_NAMES, unknown=False)


def moves_sites_in_place(client: ClientSoftware) -> bool:
    """Tell whether a resource may change its site without `resource_deleted` first."""
    return _reaches(client, _SITE_MOVES, unknown=True)


def understands_client_to_client(client: ClientSoftware) -> bool:
    return _reaches(client, _CLIENT_TO_CLIENT, unknown=False)


def lists_device_pools(client: ClientSoftware, *, is_service_account: bool = False) -> bool:
    if is_service_account:
        return client.version is not None and client.version >= Version(1, 5, 9)
    return _reaches(client, _DEVICE_POOLS, unknown=False)


def is_compatible(client: Version | None, gateway: Version | None) -> bool:
    """Tell whether a gateway may serve a client: from one minor version older to one newer than the client.

    Every gateway may if `client` is None (no version announced), none if `gateway` is None.
    """
    if client is None:
        return True
    if gateway is None:
        return False
    oldest = Version(client.major, max(client.minor - 1, 0))
    return oldest <= gateway < Version(client.major, client.minor + 2)


def speaks_c2c_with(initiator: Version | None, target: Version | None) -> bool:
    """Tell whether two clients may be connected: equal major and minor version."""
    if initiator is None or target is None:
        return False
    return (initiator.major, initiator.minor) == (target.major, target.minor)


INTERNET_RESOURCE_SINCE: Final = Version(1, 3, 0)
CURRENT_PATTERNS_SINCE: Final = Version(1, 2, 0)

_SITE_NAMES: Final = {
    Component.APPLE: Version(1, 5, 11),
    Component.GUI: Version(1, 5, 10),
    Component.HEADLESS: Version(1, 5, 6),
    Component.ANDROID: Version(1, 5, 8),
}
_SITE_MOVES: Final = {
    Component.APPLE: Version(1, 5, 9),
    Component.GUI: Version(1, 5, 9),
    Component.HEADLESS: Version(1, 5, 5),
    Component.ANDROID: Version(1, 5, 5),
}
_CLIENT_TO_CLIENT: Final = {
    Component.APPLE: Version(1, 5, 14),
    Component.GUI: Version(1, 5, 11),
    Component.HEADLESS: Version(1, 5, 7),
    Component.ANDROID: Version(1, 5, 9),
}
_DEVICE_POOLS: Final = {
    Component.APPLE: Version(1, 5, 16),
    Component.GUI: Version(1, 5, 13),
    Component.HEADLESS: Version(1, 5, 9),
    Component.ANDROID: Version(1, 5, 11),
}


def _reaches(client: ClientSoftware, since: dict[Component, Version], *, unknown: bool) -> bool:
    if client.version is None:
        return unknown
    return client.version >= since[client.component]
