"""Where on earth an address is: `Geography` answers, `Place` is the answer (portal-domain §6.2)."""

from wardgate.portal.geography.centroids import centroid_of, is_country
from wardgate.portal.geography.city_database import CityDatabase, DatabaseState
from wardgate.portal.geography.geography import Geography
from wardgate.portal.geography.place import MAX_CITY_CHARS, NOWHERE, Place, parse_coordinates

__all__ = [
    "MAX_CITY_CHARS",
    "NOWHERE",
    "CityDatabase",
    "DatabaseState",
    "Geography",
    "Place",
    "centroid_of",
    "is_country",
    "parse_coordinates",
]
