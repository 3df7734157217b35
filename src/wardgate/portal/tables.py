"""All tables there are: the declarations of every domain, and the change feed's own."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

from wardgate.portal.access import tables as access
from wardgate.portal.devices import tables as devices
from wardgate.portal.installation import tables as installation
from wardgate.portal.logs import tables as logs
from wardgate.portal.people import tables as people
from wardgate.portal.schema import change_feed
from wardgate.portal.schema.declaration import TableDeclaration, metadata
from wardgate.portal.sign_in import tables as sign_in
from wardgate.portal.sites import tables as sites

__all__ = ["DOMAINS", "TABLES", "metadata"]


def _declared(module: ModuleType) -> tuple[TableDeclaration[Any], ...]:
    return tuple(declared for declared in vars(module).values() if isinstance(declared, TableDeclaration))


DOMAINS: Final[Mapping[str, tuple[TableDeclaration[Any], ...]]] = {
    domain.__name__.split(".")[-2]: _declared(domain)
    for domain in (sign_in, people, access, sites, devices, logs, installation)
} | {"change_feed": _declared(change_feed)}
"""What each domain declares, in its order."""

TABLES: Final[Mapping[str, TableDeclaration[Any]]] = {
    declaration.name: declaration for declarations in DOMAINS.values() for declaration in declarations
}
"""By name. The dependants of a row are removed in this order."""
