import pytest

from wardgate.model.versions import Component, Version
from wardgate.wire.user_agent import (
    DeviceOs,
    announced_version,
    build_user_agent,
    client_component,
    client_software,
    device_os,
)

MAC = "Mac OS/15.4.1 apple-client/1.5.19 (arm64; 24.4.0)"
POP = "Pop!_OS/22.4.0 headless-client/1.5.11 (x86_64; 6.9.3)"


@pytest.mark.parametrize(
    ("user_agent", "version"),
    [
        (MAC, "1.5.19"),
        (POP, "1.5.11"),
        ("Debian/12.0.0 gateway/1.6.0 (x86_64)", "1.6.0"),
        ("Debian/12 connlib/1.3.0", "1.3.0"),
        ("Debian/12 relay/0.1.0", "0.1.0"),
        ("curl/8.0", None),
        ("", None),
        ("x xgateway/1.0", None),
        ("x  gateway/", ""),
    ],
)
def test_the_version_is_that_of_the_first_known_word(user_agent: str, version: str | None) -> None:
    assert announced_version(user_agent) == version


@pytest.mark.parametrize(
    ("user_agent", "component"),
    [
        (MAC, Component.APPLE),
        (POP, Component.HEADLESS),
        ("Windows/10.0.26200 gui-client/1.5.16 (x86_64)", Component.GUI),
        ("Android/14 android-client/1.5.13", Component.ANDROID),
        ("iOS/17 connlib/1.3.0", Component.APPLE),
        ("Android/14 connlib/1.3.0", Component.ANDROID),
        ("Fedora/40 connlib/1.3.0", Component.GUI),
    ],
)
def test_the_component_is_named_or_follows_from_the_system(user_agent: str, component: Component) -> None:
    assert client_component(user_agent) is component


def test_an_unreadable_version_is_unknown() -> None:
    assert client_software("Linux/1 headless-client/main").version is None
    assert client_software(POP).version == Version(1, 5, 11)


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (MAC, DeviceOs("Mac OS", "15.4.1", "1.5.19")),
        (POP, DeviceOs("Pop!_OS", "22.4.0", "1.5.11")),
        ("nonsense", DeviceOs("nonsense", None, None)),
        ("Linux/6.8", DeviceOs("Linux/6.8", None, None)),
        ("Linux/6.8 client", DeviceOs("Linux/6.8 client", None, None)),
    ],
)
def test_flow_logs_name_the_system_or_the_whole_text(user_agent: str, expected: DeviceOs) -> None:
    assert device_os(user_agent) == expected


def test_our_own_user_agent_is_readable_and_ascii() -> None:
    text = build_user_agent(
        os_name="Дebian", os_version="12\n", component="gateway", version="1.6.1", arch="x86_64", kernel="6.8"
    )
    assert text == "ebian/12 gateway/1.6.1 (x86_64; 6.8)"
    assert announced_version(text) == "1.6.1"
    assert build_user_agent(os_name="a", os_version="1", component="gateway", version="2") == "a/1 gateway/2"
