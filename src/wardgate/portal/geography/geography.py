"""The place of a connection or call, from the first of these that knows it:

1. the operator's IP database (`city_database`), if one is configured and has a country for the address;
2. what a trusted proxy says in its headers, if it says anything, be it that it does not know;
3. the country to which a registry gave the address (RIPE, ARIN …), from tables that come with the program. It
needs no set-up, but knows no city, and sometimes it is the country of the network's owner rather than of its
user.

A place with a country but without coordinates gets the middle of the country. Private, loopback,
documentation and other reserved addresses belong to no registry: they have no place unless the operator's own
database or proxy gives them one.
"""

from pathlib import Path

from wardgate.model.addresses import IpAddress
from wardgate.portal.environment import Clock, Executor
from wardgate.portal.geography.centroids import centroid_of, is_country
from wardgate.portal.geography.city_database import CityDatabase, DatabaseState
from wardgate.portal.geography.place import NOWHERE, Place


class Geography:
    """Looks up places. `database`: the file of the operator's IP database, if there is one."""

    def __init__(self, database: Path | None = None) -> None:
        from iptocc import country_code  # a compiled module: only a portal needs it

        self._registered_country = country_code
        self._database = None if database is None else CityDatabase(database)

    @property
    def database_state(self) -> DatabaseState | None:
        """The state of the operator's database; None if none is configured."""
        return None if self._database is None else self._database.state

    def place_of(self, address: IpAddress, given: Place | None = None) -> Place:
        """Return where an address is; `NOWHERE` if nobody knows.

        Args:
            given: what a trusted proxy said, if anything.
        """
        found = None if self._database is None else self._database.place_of(address)
        return found or given or self._registered(address)

    async def watch(self, clock: Clock, executor: Executor) -> None:
        """Follow the database's file; without one, return."""
        if self._database is not None:
            await self._database.watch(clock, executor)

    def _registered(self, address: IpAddress) -> Place:
        code = self._registered_country(str(address))
        return Place(code, None, centroid_of(code)) if code is not None and is_country(code) else NOWHERE
