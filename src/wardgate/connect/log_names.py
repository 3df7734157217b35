"""Log fields that give the name beside an id, where the protocol carries the name."""

from typing import Final

from wardgate.connect import log_fields as fields
from wardgate.wire import messages as m

INTERNET_NAME: Final = "Internet Resource"


def name_of(resource: m.ClientResource | m.GatewayResource) -> str:
    """The Internet resource has no name on the wire."""
    if isinstance(resource, m.ClientInternetResource | m.GatewayInternetResource):
        return INTERNET_NAME
    return resource.name


def resource_fields(resource: m.ClientResource | m.GatewayResource) -> dict[str, str]:
    return {fields.RESOURCE_ID: str(resource.id), fields.RESOURCE: name_of(resource)}
