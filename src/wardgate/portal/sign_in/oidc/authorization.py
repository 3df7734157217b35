"""The way to a provider and back (OpenID Connect Core 1.0, RFC 7636, RFC 9207)."""

import base64
import hashlib
import hmac
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode, urlsplit

from wardgate.portal.sign_in.oidc.discovery import CHALLENGE_METHOD, ProviderMetadata
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure
from wardgate.portal.sign_in.oidc.relying_party import RelyingParty

SCOPE: Final = "openid email profile"

_SECRET_BYTES: Final = 32
_LONGEST_CODE: Final = 8192


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to a provider and back; what the browser's cookie keeps of it.

    Attributes:
        state: comes back with the callback.
        verifier: proves to the token endpoint that the code was asked for here.
    """

    state: str
    verifier: str = field(repr=False)

    @classmethod
    def begin(cls, rng: random.Random) -> "Attempt":
        return cls(_text_of(rng.randbytes(_SECRET_BYTES)), _text_of(rng.randbytes(_SECRET_BYTES)))

    @property
    def challenge(self) -> str:
        """The verifier's digest, which the browser carries (RFC 7636 §4.2)."""
        return _text_of(hashlib.sha256(self.verifier.encode()).digest())

    @property
    def nonce(self) -> str:
        """Which the ID token must repeat; made of the verifier, so that it need not be kept (identity §5.1)."""
        return _text_of(hashlib.sha256(b"oidc-nonce:" + self.verifier.encode()).digest())

    def is_state(self, state: str) -> bool:
        return hmac.compare_digest(self.state.encode(), state.encode(errors="replace"))


def authorization_url(
    attempt: Attempt,
    party: RelyingParty,
    metadata: ProviderMetadata,
    *,
    redirect_uri: str,
    prompt: str | None = None,
    scope: str = SCOPE,
) -> str:
    """Return where the browser is sent.

    Args:
        prompt: instead of what is usual for the kind of provider.
    """
    query = {
        "response_type": "code",
        "client_id": party.client_id,
        "redirect_uri": redirect_uri,
        "scope": scope,
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": attempt.challenge,
        "code_challenge_method": CHALLENGE_METHOD,
    }
    wanted = prompt or party.prompt
    if wanted is not None:
        query["prompt"] = wanted
    separator = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
    return f"{metadata.authorization_endpoint}{separator}{urlencode(query)}"


def code_of(callback: Mapping[str, str], party: RelyingParty, metadata: ProviderMetadata) -> str:
    """Return the code that a callback brings.

    Raises:
        OidcFailed: the provider refused, or another one answered (RFC 9207 §2.4).
    """
    issuer = callback.get("iss")
    if (issuer is None and metadata.names_issuer) or (issuer is not None and not party.is_issuer(issuer)):
        raise OidcFailed(OidcFailure.ISSUER_REFUSED, "iss of the callback")
    if "error" in callback:
        raise OidcFailed(OidcFailure.REFUSED, callback["error"][:100])
    code = callback.get("code", "")
    if not 0 < len(code) <= _LONGEST_CODE:
        raise OidcFailed(OidcFailure.REFUSED, "the callback has no code")
    return code


def _text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
