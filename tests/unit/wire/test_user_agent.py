import pytest

from wardgate.model.versions import (
    CURRENT_PATTERNS_SINCE,
    INTERNET_RESOURCE_SINCE,
    ClientSoftware,
    Component,
    Version,
    is_compatible,
    lists_device_pools,
    moves_sites_in_place,
    understands_client_to_client,
    uses_site_names,
)
from wardgate.wire.dialect import PeerKind
from wardgate.wire.user_agent import (
    CLIENT_SPEAKS,
    GATEWAY_SPEAKS,
    DeviceOs,
    announced_version,
    build_user_agent,
    client_component,
    client_software,
    device_os,
    parse_version,
    product_version,
    software_text,
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
        PeerKind.GATEWAY,
        os_name="Дebian",
        os_version="12\n",
        product_version="0.1.0",
        arch="x86_64",
        kernel="6.8",
    )
    assert text == "ebian/12 gateway/1.6.1 (x86_64; 6.8; Wardgate/0.1.0)"
    assert announced_version(text) == "1.6.1"
    assert product_version(text) == "0.1.0"
    assert software_text(text) == "speaks 1.6.1 (Wardgate 0.1.0)"


def test_our_client_announces_a_level_that_misses_no_gate() -> None:
    ours = client_software(ours_is(PeerKind.CLIENT))
    assert ours == ClientSoftware(Component.HEADLESS, CLIENT_SPEAKS)
    assert uses_site_names(ours)
    assert moves_sites_in_place(ours)
    assert understands_client_to_client(ours)
    assert lists_device_pools(ours)
    assert ours.version is not None
    assert ours.version >= INTERNET_RESOURCE_SINCE >= CURRENT_PATTERNS_SINCE


def test_our_client_and_our_gateway_fit_each_other_and_the_published_ones() -> None:
    gateway = parse_version(announced_version(ours_is(PeerKind.GATEWAY)))
    assert gateway == GATEWAY_SPEAKS
    assert is_compatible(CLIENT_SPEAKS, gateway)
    assert is_compatible(CLIENT_SPEAKS, Version(1, 6, 0))
    assert is_compatible(Version(1, 5, 11), gateway)


@pytest.mark.parametrize("kind", PeerKind)
def test_each_of_our_peers_names_the_product_beside_its_level(kind: PeerKind) -> None:
    agent = ours_is(kind)
    assert announced_version(agent) not in {None, "9.8.7"}
    assert product_version(agent) == "9.8.7"
    assert device_os(agent) == DeviceOs("Debian", "12", announced_version(agent))


@pytest.mark.parametrize(
    ("user_agent", "text"),
    [
        (MAC, "speaks 1.5.19"),
        ("curl/8.0", "unknown"),
        ("Debian/12 gateway/", "unknown"),
        ("Wardgate/1 gateway/1.6.0", "speaks 1.6.0"),  # the product is named in a comment only
    ],
)
def test_of_a_foreign_peer_only_the_level_is_known(user_agent: str, text: str) -> None:
    assert product_version(user_agent) is None
    assert software_text(user_agent) == text


def ours_is(kind: PeerKind) -> str:
    return build_user_agent(kind, os_name="Debian", os_version="12", product_version="9.8.7")
