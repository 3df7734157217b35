"""Identifiers: one type each, so that a resource's id cannot be handed to something that wants a site's.

All are random UUIDv4 drawn by the portal, except a relay's, which is derived from its stamp secret
(`wire.relay_identity`). Text form: lower case with hyphens.
"""

from typing import NewType
from uuid import UUID

AccountId = NewType("AccountId", UUID)
ActorId = NewType("ActorId", UUID)
AuthorizationId = NewType("AuthorizationId", UUID)
AuthProviderId = NewType("AuthProviderId", UUID)
DecisionId = NewType("DecisionId", UUID)
DeviceId = NewType("DeviceId", UUID)
ClientId = NewType("ClientId", DeviceId)
GatewayId = NewType("GatewayId", DeviceId)
GroupId = NewType("GroupId", UUID)
MembershipId = NewType("MembershipId", UUID)
PolicyId = NewType("PolicyId", UUID)
PoolMemberId = NewType("PoolMemberId", UUID)
RelayId = NewType("RelayId", UUID)
ResourceId = NewType("ResourceId", UUID)
SessionId = NewType("SessionId", UUID)
SiteId = NewType("SiteId", UUID)
TokenId = NewType("TokenId", UUID)
