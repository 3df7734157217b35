"""Actors and groups, as the REST API represents them (rest-api §8)."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.people.tables import Actor as ActorRow
from wardgate.portal.people.tables import Group as GroupRow
from wardgate.portal.rest.views import Instant, ViewFields, one_of_words

ActorType = Annotated[
    str, one_of_words("account_user", "account_admin_user", "service_account", "api_client")
]

EntityType = Annotated[str, one_of_words("group", "org_unit")]


class ActorView(BaseModel):
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

    @classmethod
    def of(cls, row: ActorRow) -> "ActorView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: ActorRow) -> ViewFields:
        return {
            "id": row.id,
            "name": row.name,
            "type": row.type,
            "email": row.email,
            "allow_email_otp_sign_in": row.allow_email_otp_sign_in,
            "is_disabled": row.is_disabled,
            "last_seen_at": None,
            "created_by_directory_id": None,
            "inserted_at": row.inserted_at,
            "updated_at": row.updated_at,
        }


class GroupView(BaseModel):
    id: UUID
    name: str
    email: str | None
    entity_type: EntityType
    directory_id: UUID | None
    idp_id: str | None
    synced_at: Instant | None
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: GroupRow) -> "GroupView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: GroupRow) -> ViewFields:
        return {
            "id": row.id,
            "name": row.name,
            "email": row.email,
            "entity_type": row.entity_type,
            "directory_id": None,
            "idp_id": row.idp_id,
            "synced_at": None,
            "inserted_at": row.inserted_at,
            "updated_at": row.updated_at,
        }


class MemberView(BaseModel):
    id: UUID
    name: str
    type: ActorType

    @staticmethod
    def fields_of(row: ActorRow) -> ViewFields:
        return {"id": row.id, "name": row.name, "type": row.type}


class MembersView(BaseModel):
    actor_ids: list[UUID]
