"""Tokens and providers, as the REST API represents them (rest-api §8)."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.people.tables import ExternalIdentity as ExternalIdentityRow
from wardgate.portal.rest.views import Instant, ViewFields, one_of_words
from wardgate.portal.sign_in.tables import ClientToken as ClientTokenRow

ProviderContext = Annotated[str, one_of_words("clients_and_portal", "clients_only", "portal_only")]

EmailClaim = Annotated[str, one_of_words("email", "upn", "preferred_username")]

EmailVerification = Annotated[str, one_of_words("none", "claim", "proof")]


class ClientTokenView(BaseModel):
    id: UUID
    actor_id: UUID
    expires_at: Instant
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: ClientTokenRow) -> "ClientTokenView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: ClientTokenRow) -> ViewFields:
        return {
            "id": row.id,
            "actor_id": row.actor_id,
            "expires_at": row.expires_at,
            "inserted_at": row.inserted_at,
            "updated_at": row.updated_at,
        }


class NewClientTokenView(ClientTokenView):
    token: str


class ExternalIdentityView(BaseModel):
    """An actor's record at an identity provider; made by signing in or by directory sync."""

    id: UUID
    actor_id: UUID
    account_id: UUID
    issuer: str
    directory_id: UUID | None
    email: str
    idp_id: str
    name: str | None
    given_name: str | None
    family_name: str | None
    middle_name: str | None
    nickname: str | None
    preferred_username: str | None
    profile: str | None
    picture: str | None
    firezone_avatar_url: str | None
    synced_at: Instant | None
    inserted_at: Instant

    @classmethod
    def of(cls, row: ExternalIdentityRow) -> "ExternalIdentityView":
        return cls(**cls.fields_of(row))

    @staticmethod
    def fields_of(row: ExternalIdentityRow) -> ViewFields:
        plain = {name: getattr(row, name, None) for name in ExternalIdentityView.model_fields}
        prefix, colon, rest = row.idp_id.partition(":")
        return plain | {"email": row.email or row.idp_id, "idp_id": rest if colon else prefix}


class AuthProviderView(BaseModel):
    """What all kinds of provider show.

    A lifetime of null is the default: 7 days for clients, 8 hours for the portal.
    """

    id: UUID
    account_id: UUID
    name: str
    issuer: str
    context: ProviderContext
    client_session_lifetime_secs: int | None
    portal_session_lifetime_secs: int | None
    is_disabled: bool
    inserted_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(**cls.fields_of(row))

    @classmethod
    def fields_of(cls, row: Any) -> ViewFields:
        """Show a row of the provider's kind: only what the view names, so never its secret."""
        return {name: getattr(row, name) for name in cls.model_fields}


class EmailOtpAuthProviderView(AuthProviderView):
    """Sign-in by a code that is sent by e-mail."""


class GoogleAuthProviderView(AuthProviderView):
    is_default: bool


class EntraAuthProviderView(AuthProviderView):
    is_default: bool
    email_claim: EmailClaim


class OktaAuthProviderView(AuthProviderView):
    is_default: bool
    client_id: str
    okta_domain: str


class OidcAuthProviderView(AuthProviderView):
    is_default: bool
    client_id: str
    discovery_document_uri: str
    email_verification_method: EmailVerification
