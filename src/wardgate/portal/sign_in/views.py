"""Tokens and providers, as the REST API represents them (rest-api §8)."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel

from wardgate.portal.people.tables import ExternalIdentity as ExternalIdentityRow
from wardgate.portal.rest.views import Instant, RowView, ViewFields, one_of_words
from wardgate.portal.sign_in.second_factor.rules import Factors
from wardgate.portal.sign_in.tables import Passkey

ProviderContext = Annotated[str, one_of_words("clients_and_portal", "clients_only", "portal_only")]

EmailClaim = Annotated[str, one_of_words("email", "upn", "preferred_username")]

EmailVerification = Annotated[str, one_of_words("none", "claim", "proof")]


class ClientTokenView(RowView):
    id: UUID
    actor_id: UUID
    expires_at: Instant
    inserted_at: Instant
    updated_at: Instant


class NewClientTokenView(ClientTokenView):
    token: str


class ExternalIdentityView(RowView):
    """An actor's record at an identity provider; made by signing in or by directory sync."""

    always_null = frozenset({"directory_id", "synced_at"})

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
    def fields_of(cls, row: ExternalIdentityRow) -> ViewFields:
        prefix, colon, rest = row.idp_id.partition(":")
        return super().fields_of(row) | {
            "email": row.email or row.idp_id,
            "idp_id": rest if colon else prefix,
        }


class AuthProviderView(RowView):
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


class EmailOtpAuthProviderView(AuthProviderView):
    """Sign-in by a code that is sent by e-mail."""


class UserpassAuthProviderView(AuthProviderView):
    """Sign-in by name and password."""


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


class PasswordView(BaseModel):
    actor_id: UUID
    is_set: bool


class PasswordLinkView(BaseModel):
    """`url`: null where it was mailed."""

    actor_id: UUID
    expires_at: Instant
    url: str | None


class SecondFactorView(BaseModel):
    id: UUID
    type: Annotated[str, one_of_words("authenticator_app", "passkey")]
    name: str
    last_used_at: Instant | None
    inserted_at: Instant


class SecondFactorsView(BaseModel):
    """What a person signs in with besides a code by e-mail or a password."""

    actor_id: UUID
    second_factors: list[SecondFactorView]
    recovery_codes_left: int

    @classmethod
    def of(cls, actor_id: UUID, factors: Factors) -> "SecondFactorsView":
        return cls(
            actor_id=actor_id,
            second_factors=[
                SecondFactorView(
                    id=one.id,
                    type="passkey" if isinstance(one, Passkey) else "authenticator_app",
                    name=one.name,
                    last_used_at=one.last_used_at,
                    inserted_at=one.inserted_at,
                )
                for one in factors.all
            ],
            recovery_codes_left=factors.codes_left,
        )
