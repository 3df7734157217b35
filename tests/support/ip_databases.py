"""IP databases in MaxMind's format, as an operator would supply: really written, with the fields that
published ones have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet


def city(
    country: str, name: str | None = None, coordinates: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return a record of a City database; without coordinates it is one of which only the country is known."""
    record: dict[str, Any] = {
        "continent": {"code": "EU", "names": {"en": "Europe"}},
        "country": {"geoname_id": 1, "iso_code": country, "names": {"de": "Land", "en": "Country"}},
        "registered_country": {"iso_code": "AQ"},
    }
    if name is not None:
        record["city"] = {"geoname_id": 2, "names": {"de": f"{name} (de)", "en": name}}
    if coordinates is not None:
        lat, lon = coordinates
        record["location"] = {"accuracy_radius": 20, "latitude": lat, "longitude": lon}
    return record


def write_ip_database(
    path: Path, networks: Mapping[str, object], *, kind: str = "GeoLite2-City", ip_version: int = 6
) -> Path:
    """Write a database beside the path and move it there, as tools that renew one do; return the path."""
    writer = MMDBWriter(
        ip_version, kind, languages=["en"], ipv4_compatible=ip_version == 6, description="for tests"
    )
    for network, record in networks.items():
        writer.insert_network(IPSet([network]), record)
    draft = path.with_suffix(".draft")
    writer.to_db_file(str(draft))
    draft.replace(path)
    return path
