"""What the clients of one account are told of its resources, made once and shared by all their sessions.

A client of a large organisation is shown hundreds of resources. If each session made and kept views of its
own, they would be most of its memory, and most of the time between join and `init`.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import msgspec

from wardgate.model.domain import Site
from wardgate.model.ids import ResourceId, SiteId
from wardgate.model.resources import Resource, StaticDevicePool
from wardgate.model.versions import ClientSoftware
from wardgate.policy import pools
from wardgate.policy.snapshot import Snapshot, site_of
from wardgate.wire import messages as wire
from wardgate.wire.resource_views import ClientStyle, client_style, client_view

_View = wire.ClientResource | None


class ClientViews:
    """Views by style of client. A view is rebuilt when its resource changes, all of them when a site does."""

    def __init__(self) -> None:
        self._made: Final[dict[ClientStyle, dict[int, tuple[Resource, _View]]]] = {}
        self._sites: Mapping[SiteId, Site] = {}
        self._wire_sites: Final[dict[SiteId, wire.Site]] = {}
        self._latest: Mapping[ResourceId, wire.ClientResource] = {}

    def of(
        self, snapshot: Snapshot, resources: Iterable[Resource], software: ClientSoftware
    ) -> Mapping[ResourceId, wire.ClientResource]:
        """Return the views of these resources for a client of this software; some it cannot be told of.

        Clients that come after each other are often shown the same: they share the whole list.
        """
        if snapshot.sites is not self._sites:
            self._made.clear()
            self._wire_sites.clear()
            self._sites = snapshot.sites
        made = self._made.setdefault(client_style(software), {})
        views: list[wire.ClientResource] = []
        for resource in resources:
            known = made.get(resource.id.int)
            if known is not None and known[0] is resource:
                view = known[1]
            else:
                view = self._make(snapshot, resource, software, made)
            if view is not None:
                views.append(view)
        if len(made) > len(snapshot.resources):
            for number in made.keys() - {resource_id.int for resource_id in snapshot.resources}:
                del made[number]
        if list(self._latest.values()) != views:
            self._latest = {view.id: view for view in views}
        return self._latest

    def count(self) -> int:
        """Return how many views are kept."""
        return sum(len(made) for made in self._made.values())

    def _make(
        self,
        snapshot: Snapshot,
        resource: Resource,
        software: ClientSoftware,
        made: dict[int, tuple[Resource, _View]],
    ) -> _View:
        if isinstance(resource, StaticDevicePool):
            # Its members change without the resource.
            members = pools.members_of(snapshot, resource.id)
            addresses = [(one.id, IPv4Address(one.ipv4), IPv6Address(one.ipv6)) for one in members]
            return client_view(resource, site=None, software=software, members=addresses)
        view = client_view(resource, site=self._site_of(snapshot, resource), software=software)
        made[resource.id.int] = resource, view
        return view

    def _site_of(self, snapshot: Snapshot, resource: Resource) -> wire.Site | None:
        site_id = site_of(resource)
        site = None if site_id is None else snapshot.sites.get(site_id)
        if site is None:
            return None
        # The message has the fields of the entity that are known to clients, by the same names.
        return self._wire_sites.setdefault(site.id, msgspec.convert(site, wire.Site, from_attributes=True))
