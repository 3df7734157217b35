"""User agents (control-plane-protocol §1.4): `{os}/{os version} {component}/{version}[ ({arch}; {kernel})]`.

Features hang on what is parsed here, so the rules are followed to the letter, odd ones included. The version is a level
of the protocol: which messages, patterns and resources the peer understands (§6). Ours announce the level they speak,
and the version of the product in the comment: `Debian/12 gateway/1.6.1 (x86_64; 6.8.0; Wardgate/0.1.0)`.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wardgate.model.versions import ClientSoftware, Component, Version
from wardgate.wire.dialect import PeerKind

CLIENT_SPEAKS: Final = Version(1, 5, 12)
GATEWAY_SPEAKS: Final = Version(1, 6, 1)
RELAY_SPEAKS: Final = Version(
    0, 1, 0
)  # the channel of relays has one level, and this is what published ones announce

MAX_CHARS: Final = 255  # what is stored of a user agent and of a version

_COMPONENTS: Final = (
    "relay/",
    "connlib/",
    "headless-client/",
    "gui-client/",
    "apple-client/",
    "android-client/",
    "gateway/",
)
_OURS: Final = {
    PeerKind.CLIENT: ("headless-client", CLIENT_SPEAKS),
    PeerKind.GATEWAY: ("gateway", GATEWAY_SPEAKS),
    PeerKind.RELAY: ("relay", RELAY_SPEAKS),
}
_PRODUCT: Final = "Wardgate"
_NAMED_PRODUCT: Final = re.compile(rf"[(;] ?{_PRODUCT}/([0-9A-Za-z.+-]{{1,64}})[;)]")


@dataclass(frozen=True, slots=True)
class DeviceOs:
    """What flow logs say about a device; unreadable: the whole user agent is the name."""

    name: str
    version: str | None
    client_version: str | None


def build_user_agent(
    kind: PeerKind,
    *,
    os_name: str,
    os_version: str,
    product_version: str,
    arch: str = "",
    kernel: str = "",
) -> str:
    """Build the user agent of one of our own peers; characters outside ASCII are left out."""
    component, level = _OURS[kind]
    comment = "; ".join(part for part in (arch, kernel, f"{_PRODUCT}/{product_version}") if part)
    text = f"{os_name}/{os_version} {component}/{level} ({comment})"
    return "".join(char for char in text if " " <= char <= "~")


@lru_cache(256)
def announced_version(user_agent: str) -> str | None:
    """Return the version text of the first word that begins with a known component, or None."""
    for word in user_agent.split(" "):
        for component in _COMPONENTS:
            if word.startswith(component):
                return word.removeprefix(component)[:MAX_CHARS]
    return None


def product_version(user_agent: str) -> str | None:
    """Return the version of the product that one of our own peers names in its comment; else None."""
    named = _NAMED_PRODUCT.search(user_agent)
    return None if named is None else named[1]


def software_text(user_agent: str) -> str:
    """Say for people what a peer runs: `speaks 1.5.12 (Wardgate 0.1.0)`; of a foreign one only the level is known."""
    level, product = announced_version(user_agent), product_version(user_agent)
    spoken = "unknown" if not level else f"speaks {level}"
    return spoken if product is None else f"{spoken} ({_PRODUCT} {product})"


@lru_cache(256)
def parse_version(text: str | None) -> Version | None:
    """Parse an announced version; None if none was announced or it cannot be parsed."""
    if text is None:
        return None
    try:
        return Version.parse(text)
    except ValueError:
        return None


def client_component(user_agent: str) -> Component:
    for component in (Component.HEADLESS, Component.GUI, Component.APPLE, Component.ANDROID):
        if f"{component.value}/" in user_agent:
            return component
    if user_agent.startswith(("Mac OS", "macOS", "iOS")):
        return Component.APPLE
    return Component.ANDROID if user_agent.startswith("Android") else Component.GUI


@lru_cache(256)
def client_software(user_agent: str) -> ClientSoftware:
    """Return what version gates ask about a client."""
    return ClientSoftware(client_component(user_agent), parse_version(announced_version(user_agent)))


def device_os(user_agent: str) -> DeviceOs:
    """Split name and version of the operating system and the client's version out of a user agent."""
    name, slash, rest = user_agent.partition("/")
    version, space, rest = rest.partition(" ")
    _, second_slash, rest = rest.partition("/")
    client_version = rest.partition(" ")[0]
    if not (name and slash and version and space and second_slash and client_version):
        return DeviceOs(user_agent, None, None)
    return DeviceOs(name, version, client_version)
