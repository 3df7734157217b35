"""Actors and groups, as the REST API represents them (rest-api §8)."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.rest.views import Instant, RowView, one_of_words

ActorType = Annotated[
    str, one_of_words("account_user", "account_admin_user", "service_account", "api_client")
]

EntityType = Annotated[str, one_of_words("group", "org_unit")]


class ActorView(RowView):
    always_null = frozenset({"last_seen_at", "created_by_directory_id"})

    id: UUID
    name: str
    type: ActorType
    email: str | None
    allow_email_otp_sign_in: bool
    is_disabled: bool
    last_seen_at: Instant | None
    created_by_directory_id: UUID | None
    inserted_at: Instant
    updated_at: Instant


class GroupView(RowView):
    always_null = frozenset({"directory_id", "synced_at"})

    id: UUID
    name: str
    email: str | None
    entity_type: EntityType
    directory_id: UUID | None
    idp_id: str | None
    synced_at: Instant | None
    inserted_at: Instant
    updated_at: Instant


class MemberView(RowView):
    id: UUID
    name: str
    type: ActorType


class MembersView(BaseModel):
    actor_ids: list[UUID]
