import pytest

from wardgate.model.versions import (
    ClientSoftware,
    Component,
    Version,
    is_compatible,
    lists_device_pools,
    moves_sites_in_place,
    speaks_c2c_with,
    understands_client_to_client,
    uses_site_names,
)


def client(component: Component, version: str | None) -> ClientSoftware:
    return ClientSoftware(component, None if version is None else Version.parse(version))


def test_versions_compare_as_numbers() -> None:
    assert Version.parse("1.10.0") > Version.parse("1.9.9")
    assert Version.parse("1.5") == Version.parse("1.5.0-rc1")


@pytest.mark.parametrize("text", ["", "1", "main", "1.5.x", "1.5.0.0", "v1.5.0", "1." + "9" * 10, "٣.٣"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("client_version", "gateway", "compatible"),
    [
        ("1.5.0", "1.4.0", True),
        ("1.5.0", "1.3.99", False),
        ("1.5.0", "1.6.99", True),
        ("1.5.0", "1.7.0", False),
        ("1.5.0", "2.5.0", False),
        ("1.0.3", "1.0.0", True),
        ("1.0.3", "0.9.0", False),
        (None, "0.1.0", True),
        ("1.5.0", None, False),
        (None, None, True),
    ],
)
def test_a_gateway_serves_clients_from_a_minor_version_newer_to_one_older(
    client_version: str | None, gateway: str | None, *, compatible: bool
) -> None:
    versions = [None if text is None else Version.parse(text) for text in (client_version, gateway)]
    assert is_compatible(*versions) is compatible


@pytest.mark.parametrize(
    ("component", "below", "since"),
    [
        (Component.APPLE, "1.5.10", "1.5.11"),
        (Component.GUI, "1.5.9", "1.5.10"),
        (Component.HEADLESS, "1.5.5", "1.5.6"),
        (Component.ANDROID, "1.5.7", "1.5.8"),
    ],
)
def test_site_names_are_used_since(component: Component, below: str, since: str) -> None:
    assert not uses_site_names(client(component, below))
    assert uses_site_names(client(component, since))


def test_an_unknown_version_is_old_for_names_and_pools_and_new_for_moves() -> None:
    unknown = client(Component.GUI, None)
    assert not uses_site_names(unknown)
    assert not lists_device_pools(unknown)
    assert not understands_client_to_client(unknown)
    assert moves_sites_in_place(unknown)


def test_a_service_account_lists_pools_by_one_version_for_all_components() -> None:
    assert lists_device_pools(client(Component.GUI, "1.5.9"), is_service_account=True)
    assert not lists_device_pools(client(Component.GUI, "1.5.9"))


def test_clients_connect_to_clients_of_their_own_minor_version() -> None:
    assert speaks_c2c_with(Version(1, 5, 0), Version(1, 5, 9))
    assert not speaks_c2c_with(Version(1, 5), Version(1, 6))
    assert not speaks_c2c_with(Version(1, 5), None)
