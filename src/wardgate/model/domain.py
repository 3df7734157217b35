"""Actors, groups, memberships, sites, policies and the members of pools: what a decision is made of (portal-domain §3).

Only fields that decide something or explain a decision; the store's rows have more.
"""

from dataclasses import dataclass
from enum import StrEnum

from wardgate.model.conditions import Condition
from wardgate.model.ids import (
    ActorId,
    ClientId,
    GroupId,
    MembershipId,
    PolicyId,
    PoolMemberId,
    ResourceId,
    SiteId,
)


class ActorType(StrEnum):
    USER = "account_user"
    ADMIN = "account_admin_user"
    SERVICE_ACCOUNT = "service_account"
    API_CLIENT = "api_client"

    @property
    def is_user(self) -> bool:
        """Users are in the group "Everyone"; service accounts and API clients are not."""
        return self in (ActorType.USER, ActorType.ADMIN)


class GroupType(StrEnum):
    STATIC = "static"
    MANAGED = "managed"


class SiteManager(StrEnum):
    ACCOUNT = "account"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    id: ActorId
    type: ActorType
    name: str
    email: str | None = None
    is_disabled: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """`is_everyone`: all users of the account, without membership rows."""

    id: GroupId
    name: str
    type: GroupType = GroupType.STATIC
    is_everyone: bool = False
    is_synced: bool = False


@dataclass(frozen=True, slots=True)
class Membership:
    id: MembershipId
    actor_id: ActorId
    group_id: GroupId


@dataclass(frozen=True, slots=True)
class Site:
    id: SiteId
    name: str
    managed_by: SiteManager = SiteManager.ACCOUNT


@dataclass(frozen=True, slots=True)
class Policy:
    """Group → resource; `group_id` is None for an orphan, which grants nothing (§5.6)."""

    id: PolicyId
    group_id: GroupId | None
    resource_id: ResourceId
    conditions: tuple[Condition, ...] = ()
    is_disabled: bool = False
    description: str | None = None
    flow_log_uploads_enabled: bool = True


@dataclass(frozen=True, slots=True)
class ClientDevice:
    """A client as other clients reach it through a device pool; `hostname` is given by admins, never by the device.

    Addresses are the texts that the store keeps: bare and canonical.
    """

    id: ClientId
    name: str
    ipv4: str
    ipv6: str
    hostname: str | None = None


@dataclass(frozen=True, slots=True)
class PoolMember:
    """A client in a static device pool."""

    id: PoolMemberId
    resource_id: ResourceId
    device_id: ClientId
