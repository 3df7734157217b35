"""What the gateways of one account are told of its resources: the same for every grant, until the resource changes."""

from typing import Final

from wardgate.model.resources import Resource
from wardgate.wire import messages as wire
from wardgate.wire.resource_views import gateway_view
from wardgate.wire.user_agent import parse_version

MOST: Final = 4096
"""Views kept: of so many resources, by the versions that gateways announce."""


class GatewayViews:
    """Views by resource and version of gateway."""

    def __init__(self) -> None:
        self._made: Final[dict[tuple[int, str | None], tuple[Resource, wire.GatewayResource | None]]] = {}

    def of(self, resource: Resource, version: str | None) -> wire.GatewayResource | None:
        """Return what a gateway that announces a version is told; None if it cannot be told of the resource."""
        key = resource.id.int, version
        known = self._made.get(key)
        if known is not None and known[0] is resource:
            return known[1]
        if len(self._made) >= MOST:
            self._made.clear()
        view = gateway_view(resource, parse_version(version))
        self._made[key] = resource, view
        return view
