"""Small accounts to decide about: one user, one group, one site, one resource, and builders for more."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from uuid import UUID

from wardgate.model.conditions import Condition, parse_condition
from wardgate.model.domain import Actor, ActorType, Group, GroupType, Membership, Policy, Site
from wardgate.model.ids import ActorId, GroupId, MembershipId, PolicyId, ResourceId, SiteId
from wardgate.model.resources import CidrResource
from wardgate.policy.engine import AccessRequest
from wardgate.policy.evaluation import Facts

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # a Monday
TOKEN_ENDS = NOW + timedelta(days=7)
FACTS = Facts(ip_address("203.0.113.5"), "DE", None, False)

ADA = Actor(ActorId(UUID(int=1)), ActorType.USER, "Ada", "ada@example.org")
ROBOT = Actor(ActorId(UUID(int=2)), ActorType.SERVICE_ACCOUNT, "Robot")
STAFF = Group(GroupId(UUID(int=10)), "Staff")
EVERYONE = Group(GroupId(UUID(int=11)), "Everyone", GroupType.MANAGED, is_everyone=True)
ADA_IN_STAFF = Membership(MembershipId(UUID(int=20)), ADA.id, STAFF.id)
ROBOT_IN_STAFF = Membership(MembershipId(UUID(int=21)), ROBOT.id, STAFF.id)
LAB = Site(SiteId(UUID(int=30)), "Lab")
NET = CidrResource(ResourceId(UUID(int=40)), "net", LAB.id, ip_network("10.20.0.0/16"))

BASICS = (ADA, ROBOT, STAFF, EVERYONE, ADA_IN_STAFF, ROBOT_IN_STAFF, LAB, NET)


def policy(
    number: int, *conditions: Condition, group: Group | None = STAFF, is_disabled: bool = False
) -> Policy:
    """A policy that grants NET; its id is `number`."""
    return Policy(
        PolicyId(UUID(int=1000 + number)),
        None if group is None else group.id,
        NET.id,
        conditions,
        is_disabled,
    )


def request(
    actor: Actor = ADA, facts: Facts = FACTS, token_expires_at: datetime = TOKEN_ENDS
) -> AccessRequest:
    return AccessRequest(actor.id, NET.id, facts, token_expires_at)


def hours(*values: str) -> Condition:
    return parse_condition("current_utc_datetime", "is_in_day_of_week_time_ranges", list(values))


def from_networks(*values: str) -> Condition:
    return parse_condition("remote_ip", "is_in_cidr", list(values))


def regions(*values: str) -> Condition:
    return parse_condition("remote_ip_location_region", "is_in", list(values))


def verified() -> Condition:
    return parse_condition("client_verified", "is", ["true"])
