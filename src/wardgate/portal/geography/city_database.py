"""An IP database in MaxMind's format (GeoLite2 City, DB-IP City Lite and the like), which the operator
supplies and renews.

The file is copied into memory of our own and read there: a file that is overwritten in place while it is
mapped would end the process (SIGBUS), and `cp` does just that. It is looked at every few seconds and loaded
again when it has changed. A file that is missing or broken is said once, in the log and in the health of the
installation; what was loaded before stays in use, and no look-up ever fails.
"""

import logging
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from wardgate.model.addresses import IpAddress
from wardgate.portal.environment import Clock, Executor
from wardgate.portal.followed_files import FollowedFiles
from wardgate.portal.geography.centroids import centroid_of, is_country
from wardgate.portal.geography.place import MAX_CITY_CHARS, Place, position_of

if TYPE_CHECKING:
    import maxminddb

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 5.0
_KINDS: Final = ("City", "Country", "Enterprise", "Insights")
"""What a database's type contains if its records have the fields that are read here."""


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """How the database is, for the health of the installation.

    Attributes:
        built_at: when its publisher built the one in use; None if none is in use.
        error: why the file cannot be used at present; None if it is in use.
    """

    built_at: datetime | None
    error: str | None


class CityDatabase:
    """The database in one file, loaded at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._followed = FollowedFiles(path)
        self._reader: maxminddb.Reader | None = None
        self._error: str | None = None
        self._load()

    @property
    def state(self) -> DatabaseState:
        if self._reader is None:
            return DatabaseState(None, self._error)
        return DatabaseState(datetime.fromtimestamp(self._reader.metadata().build_epoch, UTC), self._error)

    def place_of(self, address: IpAddress) -> Place | None:
        """Look an address up; None if the database knows no country for it."""
        try:
            record = None if self._reader is None else self._reader.get(address)
        except ValueError:  # an IPv6 address in a database for IPv4
            return None
        except RuntimeError as error:
            # `maxminddb.InvalidDatabaseError`: only a loaded library can name it.
            self._doubt(str(error))
            return None
        try:
            found = _Record() if record is None else msgspec.convert(record, _Record)
        except msgspec.ValidationError as error:
            self._doubt(str(error))
            return None
        return _place(found)

    async def watch(self, clock: Clock, executor: Executor) -> None:
        """Follow the file for ever."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            if self._followed.take_change():
                await executor.run(self._load)

    def _load(self) -> None:
        try:
            reader = _opened(self._path)
        except (OSError, ValueError) as error:
            self._error = (error.strerror if isinstance(error, OSError) else None) or str(error)
            log.warning(
                "the IP database cannot be used; %s",
                "places are looked up elsewhere" if self._reader is None else "the one loaded before stays",
                extra={"file": str(self._path), "error": self._error},
            )
        else:
            self._reader, self._error = reader, None
            log.info(
                "an IP database is in use",
                extra={"file": str(self._path), "built_at": str(self.state.built_at)},
            )

    def _doubt(self, error: str) -> None:
        """Say once of a database that it does not hold what its head promises."""
        if self._error is None:
            self._error = error
            log.warning("the IP database is damaged", extra={"file": str(self._path), "error": error})


class _Country(msgspec.Struct, frozen=True):
    iso_code: str = ""


class _City(msgspec.Struct, frozen=True):
    names: dict[str, str] = {}


class _Location(msgspec.Struct, frozen=True):
    latitude: float | None = None
    longitude: float | None = None


class _Record(msgspec.Struct, frozen=True):
    """What is read of a record; the rest of it is ignored."""

    country: _Country = _Country()
    city: _City = _City()
    location: _Location = _Location()


def _place(record: _Record) -> Place | None:
    region = record.country.iso_code.upper()
    if not is_country(region):
        return None
    lat, lon = record.location.latitude, record.location.longitude
    position = None if lat is None or lon is None else position_of(lat, lon)
    city = record.city.names.get("en", "").strip()[:MAX_CITY_CHARS] or None
    return Place(region, city, position or centroid_of(region))


def _opened(path: Path) -> "maxminddb.Reader":
    """Open a copy of the file in memory.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no database of places.
    """
    import maxminddb  # takes longer to load than all of this package: only who has a database pays

    copy = os.memfd_create("ip-database")
    try:
        with path.open("rb") as source, os.fdopen(copy, "wb", closefd=False) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        reader = maxminddb.open_database(f"/proc/self/fd/{copy}")
    except maxminddb.InvalidDatabaseError as error:
        raise ValueError("it is no database in MaxMind's format") from error
    finally:
        os.close(copy)
    kind = reader.metadata().database_type
    if not any(one in kind for one in _KINDS):
        raise ValueError(
            f"it is a database of another kind, {kind[:64]!r}: one of cities or countries is needed"
        )
    return reader
