"""A client's list of resources, and the messages when it changes (portal-domain §5.4, protocol §3.2.1)."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from uuid import UUID

from wardgate.model.ids import ActorId, ClientId, GroupId, PolicyId, ResourceId
from wardgate.model.resources import DevicePool
from wardgate.model.versions import moves_sites_in_place
from wardgate.policy import pools
from wardgate.policy.engine import connectable_resources
from wardgate.portal.access.tables import Policy, Resource
from wardgate.portal.channels.client_context import ClientContext
from wardgate.portal.database.row_changes import RowChange
from wardgate.portal.devices.tables import Device, StaticDevicePoolMember
from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor, Group, Membership
from wardgate.portal.sites.tables import Site
from wardgate.wire import messages as wire

Lost = dict[ClientId, tuple[str, str]]
"""Devices that have left a pool, with both their addresses."""


class ResourceList:
    """The resources that one client knows of. `refresh` brings the list up to date."""

    def __init__(self, context: ClientContext) -> None:
        self._context = context
        self._shown: Mapping[ResourceId, wire.ClientResource] = {}  # shared with other clients

    def __contains__(self, resource_id: ResourceId) -> bool:
        return resource_id in self._shown

    def replace(self, *, now: datetime) -> tuple[wire.ClientResource, ...]:
        """Compute the list again and return all of it, for `init`."""
        self._shown = self._views(now)
        return tuple(self._shown.values())

    def refresh(
        self, reset: AbstractSet[ResourceId] = frozenset(), *, now: datetime
    ) -> tuple[list[wire.Message], Lost]:
        """Bring the list up to date.

        Args:
            reset: resources to delete and create again even if they look the same.

        Returns:
            The messages, deletions first, and the devices that left a static pool that stays in the list.
        """
        before, self._shown = self._shown, self._views(now)
        deletions: list[wire.Message] = []
        creations: list[wire.Message] = []
        for resource_id, resource in before.items():
            after = self._shown.get(resource_id)
            if after is None or self._must_vanish_first(resource, after, is_reset=resource_id in reset):
                deletions.append(wire.ResourceDeleted(resource_id))
        for resource_id, after in self._shown.items():
            known = before.get(resource_id)
            if after != known or self._must_vanish_first(known, after, is_reset=resource_id in reset):
                creations.append(wire.ResourceCreatedOrUpdated(after))
        return [*deletions, *creations], self._lost_members(before)

    def leads_to(self, device_id: ClientId) -> bool:
        """Tell whether a device is in any pool of the list."""
        snapshot = self._context.snapshot
        device = pools.device_of(snapshot, device_id)
        return device is not None and any(
            isinstance(pool := snapshot.resources.get(resource_id), DevicePool)
            and pools.belongs_to(snapshot, pool, device)
            for resource_id in self._shown
        )

    def rests_on(self, policy_id: PolicyId, resource_id: ResourceId, *, now: datetime) -> bool:
        """Tell whether no policy but this one grants a resource."""
        context = self._context
        snapshot = context.snapshot
        actor, offer = (
            snapshot.actors.get(ActorId(context.actor.id)),
            snapshot.offers.get(resource_id.int),
        )
        return (
            actor is not None
            and offer is not None
            and not any(
                one.policy.id != policy_id and one.evaluate(context.facts, now=now).is_satisfied
                for one in snapshot.candidates(actor, offer)
            )
        )

    def concerns(self, change: RowChange) -> bool:
        """Tell whether a change may alter the list: most do not, and every client of the account receives
        each.
        """
        return any(self._depends_on(row) for row in change.rows)

    def _depends_on(self, row: object) -> bool:
        match row:
            case Site() | Account():
                return True
            case Group():  # Everyone has no memberships
                return row.type == "managed"
            case Policy():
                return self._is_in(row.group_id)
            case Resource():
                return self._is_offered(ResourceId(row.id))
            case StaticDevicePoolMember():
                return ResourceId(row.resource_id) in self._shown
            case Actor():
                return row.id == self._context.actor.id
            case Membership():
                return row.actor_id == self._context.actor.id
            case Device():
                return row.id == self._context.device.id or self._shows(row.id)
            case _:
                return False

    def _is_in(self, group_id: UUID | None) -> bool:
        actor = self._context.snapshot.actors.get(ActorId(self._context.actor.id))
        return (
            actor is not None
            and group_id is not None
            and self._context.snapshot.is_member(actor, GroupId(group_id))
        )

    def _is_offered(self, resource_id: ResourceId) -> bool:
        snapshot = self._context.snapshot
        actor, offer = (
            snapshot.actors.get(ActorId(self._context.actor.id)),
            snapshot.offers.get(resource_id.int),
        )
        return resource_id in self._shown or (
            actor is not None and offer is not None and bool(snapshot.candidates(actor, offer))
        )

    def _shows(self, device_id: UUID) -> bool:
        return any(
            device.client_id == device_id
            for resource in self._shown.values()
            if isinstance(resource, wire.ClientStaticDevicePool)
            for device in resource.devices
        )

    def _lost_members(self, before: Mapping[ResourceId, wire.ClientResource]) -> Lost:
        return {
            device.client_id: (device.ipv4.partition("/")[0], device.ipv6.partition("/")[0])
            for resource_id, resource in before.items()
            if isinstance(resource, wire.ClientStaticDevicePool)
            and isinstance(after := self._shown.get(resource_id), wire.ClientStaticDevicePool)
            and after.devices != resource.devices
            for device in resource.devices
            if all(device.client_id != other.client_id for other in after.devices)
        }

    def _must_vanish_first(
        self, before: wire.ClientResource | None, after: wire.ClientResource, *, is_reset: bool
    ) -> bool:
        if before is None or isinstance(after, wire.ClientInternetResource):
            # Deleting the internet resource would switch it off for the user (§3.2.1).
            return False
        if is_reset:
            return True
        if moves_sites_in_place(self._context.software):
            return False
        return getattr(before, "served_by", None) != getattr(after, "served_by", None)

    def _views(self, now: datetime) -> Mapping[ResourceId, wire.ClientResource]:
        context = self._context
        resources = connectable_resources(
            context.snapshot, ActorId(context.actor.id), context.facts, context.software, now=now
        )
        return context.view.client_views.of(context.snapshot, resources.values(), context.software)
