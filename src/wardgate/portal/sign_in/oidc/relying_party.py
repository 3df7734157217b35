"""What the portal is to one identity provider, for each kind of provider (identity §6)."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from wardgate.portal.sign_in.tables import (
    EntraAuthProvider,
    GoogleAuthProvider,
    OidcAuthProvider,
    OktaAuthProvider,
)

WELL_KNOWN: Final = "/.well-known/openid-configuration"
GOOGLE_ISSUER: Final = "https://accounts.google.com"

AnyProvider = GoogleAuthProvider | EntraAuthProvider | OktaAuthProvider | OidcAuthProvider


class EmailTrust(Enum):
    """What makes the address that a provider names worth something; the values are the column's."""

    NONE = "none"
    CLAIM = "claim"
    PROOF = "proof"


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """The portal as a provider's client.

    Attributes:
        issuer: which issuer's tokens count; nobody else's do, whatever a discovery document says.
        tenant_id: the tenant (`tid`) that tokens must name; None for providers that have none.
        subject_claims: where the person's id stands; the first that is there counts.
    """

    kind: str
    client_id: str
    client_secret: str = field(repr=False)
    discovery_uri: str
    issuer: str
    subject_claims: tuple[str, ...] = ("sub",)
    email_claim: str = "email"
    email_trust: EmailTrust = EmailTrust.CLAIM
    tenant_id: str | None = None
    prompt: str | None = "select_account"

    @classmethod
    def of(cls, provider: AnyProvider) -> "RelyingParty":
        """Return what a stored provider makes of the portal.

        Raises:
            ValueError: the provider has no client id or secret.
        """
        if not provider.client_id or not provider.client_secret:
            raise ValueError("the provider has no client id or secret")
        client, secret = provider.client_id, provider.client_secret
        match provider:
            case GoogleAuthProvider():
                return cls("google", client, secret, GOOGLE_ISSUER + WELL_KNOWN, GOOGLE_ISSUER)
            case EntraAuthProvider():
                return cls(
                    "entra",
                    client,
                    secret,
                    provider.issuer.rstrip("/") + WELL_KNOWN,
                    provider.issuer,
                    subject_claims=("oid",),
                    email_claim=provider.email_claim,
                    # Entra verifies no address: who administers a guest's tenant chooses the guest's.
                    email_trust=EmailTrust.PROOF,
                    tenant_id=tenant_of(provider.issuer),
                )
            case OktaAuthProvider():
                return cls("okta", client, secret, provider.issuer + WELL_KNOWN, provider.issuer)
            case OidcAuthProvider():
                return cls(
                    "oidc",
                    client,
                    secret,
                    provider.discovery_document_uri,
                    provider.issuer,
                    subject_claims=("oid", "sub"),
                    email_trust=EmailTrust(provider.email_verification_method),
                    prompt=None,
                )

    def is_issuer(self, issuer: object) -> bool:
        """Tell whether an `iss` is the configured issuer; Google writes its own without the scheme, too."""
        if self.kind == "google" and issuer == urlsplit(GOOGLE_ISSUER).hostname:
            return True
        return issuer == self.issuer


def tenant_of(issuer: str) -> str:
    """Return the tenant that an Entra issuer names: `https://login.microsoftonline.com/<tenant>/v2.0`."""
    return urlsplit(issuer).path.strip("/").split("/")[0]
