"""User agents (control-plane-protocol §1.4): `{os}/{os version} {component}/{version}[ ({arch}; {kernel})]`.

Features hang on what is parsed here, so the rules are followed to the letter, odd ones included.
"""

from dataclasses import dataclass
from typing import Final

from wardgate.model.versions import ClientSoftware, Component, Version

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


@dataclass(frozen=True, slots=True)
class DeviceOs:
    """What flow logs say about a device; unreadable: the whole user agent is the name."""

    name: str
    version: str | None
    client_version: str | None


def build_user_agent(
    *, os_name: str, os_version: str, component: str, version: str, arch: str = "", kernel: str = ""
) -> str:
    """Build our own user agent; characters outside ASCII are left out."""
    details = "; ".join(part for part in (arch, kernel) if part)
    text = f"{os_name}/{os_version} {component}/{version}" + (f" ({details})" if details else "")
    return "".join(char for char in text if " " <= char <= "~")


def announced_version(user_agent: str) -> str | None:
    """Return the version text of the first word that begins with a known component; None: none does."""
    for word in user_agent.split(" "):
        for component in _COMPONENTS:
            if word.startswith(component):
                return word.removeprefix(component)[:MAX_CHARS]
    return None


def parse_version(text: str | None) -> Version | None:
    """Parse an announced version; None: none was announced, or it cannot be parsed."""
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
