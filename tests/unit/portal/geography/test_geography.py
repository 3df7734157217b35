"""Where the portal believes an address to be, and what it makes of an IP database that is missing, broken or
renewed.
"""

import asyncio
import logging
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from support.ip_databases import city, write_ip_database
from wardgate.model.regions import REGIONS
from wardgate.policy.selection import Position
from wardgate.portal.environment import InlineExecutor
from wardgate.portal.geography import NOWHERE, Geography, Place, centroid_of, is_country

BERLIN = (52.52, 13.4)
OFFICE = "198.51.100.7"
NETWORKS = {
    "198.51.100.0/25": city("DE", "Berlin", BERLIN),
    "198.51.100.128/25": city("FR"),
    "2001:db8:7::/48": city("SE", "Uppsala", (59.86, 17.64)),
}
REGISTERED = "193.0.6.139"  # RIPE NCC's own, in the Netherlands since 1992
TOLD = Place("AQ", "McMurdo", Position(-77.8, 166.7))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return write_ip_database(tmp_path / "city.mmdb", NETWORKS)


def test_the_database_says_country_english_city_and_coordinates(database: Path) -> None:
    geography = Geography(database)
    assert geography.place_of(ip_address(OFFICE)) == Place("DE", "Berlin", Position(*BERLIN))
    assert geography.place_of(ip_address("2001:db8:7::1")).city == "Uppsala"


def test_a_country_without_coordinates_is_at_its_middle(database: Path) -> None:
    assert Geography(database).place_of(ip_address("198.51.100.200")) == Place("FR", None, centroid_of("FR"))


@pytest.mark.parametrize(
    ("address", "told", "region"),
    [
        (OFFICE, TOLD, "DE"),
        ("198.18.0.1", TOLD, "AQ"),
        (REGISTERED, TOLD, "AQ"),
        (REGISTERED, Place(), None),
        (REGISTERED, None, "NL"),
        ("198.18.0.1", None, None),
    ],
)
def test_the_database_comes_before_the_proxy_and_the_registries_come_last(
    database: Path, address: str, told: Place | None, region: str | None
) -> None:
    assert Geography(database).place_of(ip_address(address), told).region == region


def test_without_a_database_the_registries_know_the_country() -> None:
    geography = Geography()
    assert geography.place_of(ip_address(REGISTERED)) == Place("NL", None, centroid_of("NL"))
    assert geography.place_of(ip_address("2001:67c:2e8::1")).region == "NL"
    assert geography.database_state is None


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1", "192.0.2.7", "192.168.1.1",
        "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "2001:db8::1", "fd00:2021:1111::1", "fe80::1", "ff02::1", "203:0:113::1",
    ],
)  # fmt: skip
def test_reserved_addresses_have_no_place_of_their_own(address: str) -> None:
    assert Geography().place_of(ip_address(address)) == NOWHERE


def test_an_operators_database_may_place_private_addresses(tmp_path: Path) -> None:
    database = write_ip_database(tmp_path / "own.mmdb", {"10.0.0.0/8": city("DE", "Berlin", BERLIN)})
    assert Geography(database).place_of(ip_address("10.1.2.3")).city == "Berlin"


@pytest.mark.parametrize(
    "record",
    [
        {"continent": {"code": "EU"}},
        {"country": {"iso_code": "EU"}},
        {"country": "DE"},
        {"country": {"iso_code": 49}},
        {"country": {"iso_code": "DE"}, "location": {"latitude": "north"}},
        "DE",
    ],
)
def test_a_record_without_a_readable_country_counts_as_none(tmp_path: Path, record: object) -> None:
    database = write_ip_database(tmp_path / "odd.mmdb", {"193.0.0.0/16": record})
    assert Geography(database).place_of(ip_address(REGISTERED)).region == "NL"


def test_coordinates_that_are_not_on_earth_are_ignored(tmp_path: Path) -> None:
    database = write_ip_database(tmp_path / "odd.mmdb", {"198.51.100.0/24": city("DE", None, (152.5, 13.4))})
    assert Geography(database).place_of(ip_address(OFFICE)) == Place("DE", None, centroid_of("DE"))


def test_an_ipv6_address_is_nobodys_fault_in_a_database_for_ipv4(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = write_ip_database(
        tmp_path / "four.mmdb", {"198.51.100.0/24": city("DE", "Berlin", BERLIN)}, ip_version=4
    )
    geography = Geography(database)
    assert geography.place_of(ip_address("2001:db8::1")) == NOWHERE
    assert geography.place_of(ip_address(OFFICE)).region == "DE"
    assert _warnings(caplog) == []


def _missing(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _rubbish(path: Path) -> None:
    path.write_bytes(b"GIF89a" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _of_networks(path: Path) -> None:
    write_ip_database(path, {"193.0.0.0/16": {"autonomous_system_number": 3333}}, kind="GeoLite2-ASN")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_missing, "No such file or directory"),
        (_directory, "Is a directory"),
        (_rubbish, "it is no database in MaxMind's format"),
        (_empty, "it is no database in MaxMind's format"),
        (_cut, "it is no database in MaxMind's format"),
        (
            _of_networks,
            "it is a database of another kind, 'GeoLite2-ASN': one of cities or countries is needed",
        ),
    ],
)
def test_an_unusable_file_is_said_once_and_fails_no_look_up(
    database: Path, spoil: Callable[[Path], None], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(database)
    geography = Geography(database)
    for _ in range(3):
        assert geography.place_of(ip_address(REGISTERED)).region == "NL"
    assert len(_warnings(caplog)) == 1
    state = geography.database_state
    assert state is not None
    assert (state.built_at, state.error) == (None, why)


def test_a_damaged_file_is_said_once_and_fails_no_look_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    networks = {f"198.51.{number}.0/24": city("DE", f"City {number}", BERLIN) for number in range(100)}
    database = write_ip_database(tmp_path / "city.mmdb", networks)
    content = bytearray(database.read_bytes())
    head = content.rindex(b"\xab\xcd\xefMaxMind.com")
    content[head // 2 : head - 10] = b"\xff" * (head - 10 - head // 2)
    database.write_bytes(content)
    geography = Geography(database)
    for number in range(100):
        geography.place_of(ip_address(f"198.51.{number}.1"))
    assert _warnings(caplog) == ["the IP database is damaged"]
    state = geography.database_state
    assert state is not None
    assert state.error is not None


async def test_a_renewed_file_is_used_without_a_restart_and_a_broken_one_is_not(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    geography, looks = Geography(database), _Looks()
    watching = asyncio.create_task(geography.watch(looks, InlineExecutor()))  # type: ignore[arg-type]
    try:
        write_ip_database(database, {"198.51.100.0/24": city("SE")})
        await looks.happen(2)
        assert geography.place_of(ip_address(OFFICE)).region == "SE"
        _rubbish(database)
        await looks.happen(2)
        assert geography.place_of(ip_address(OFFICE)).region == "SE"
        assert _warnings(caplog) == ["the IP database cannot be used; the one loaded before stays"]
        state = geography.database_state
        assert state is not None
        assert state.built_at is not None
        assert state.error is not None
        write_ip_database(database, {"198.51.100.0/24": city("NO")})
        await looks.happen(2)
        assert geography.place_of(ip_address(OFFICE)).region == "NO"
        state = geography.database_state
        assert state is not None
        assert state.error is None
    finally:
        watching.cancel()


def test_a_file_overwritten_in_place_does_not_pull_the_ground_away(database: Path) -> None:
    geography = Geography(database)
    database.write_bytes(b"")
    assert geography.place_of(ip_address(OFFICE)).region == "DE"


def test_there_is_a_middle_for_exactly_the_countries_that_conditions_know_and_kosovo() -> None:
    everything = {f"{first}{second}" for first in _LETTERS for second in _LETTERS}
    known = {code for code in everything if is_country(code)}
    assert known == REGIONS | {"XK"}
    for code in known:
        middle = centroid_of(code)
        assert middle is not None
        assert abs(middle.lat) <= 90
        assert abs(middle.lon) <= 180
    assert centroid_of("EU") is None
    assert centroid_of(None) is None


class _Looks:
    """A clock whose sleeper is woken by hand."""

    def __init__(self) -> None:
        self._asleep, self._wake = asyncio.Event(), asyncio.Event()

    async def sleep(self, _seconds: float) -> None:
        self._asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def happen(self, count: int) -> None:
        for _ in range(count):
            await self._asleep.wait()
            self._asleep.clear()
            self._wake.set()
        await self._asleep.wait()


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
