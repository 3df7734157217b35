"""Verification of ID tokens (OpenID Connect Core 1.0; identity §5.2)."""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, RSAKey
from joserfc.jws import JWSRegistry

from wardgate.portal.sign_in.oidc.discovery import ProviderMetadata
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure
from wardgate.portal.sign_in.oidc.relying_party import RelyingParty

LEEWAY_S: Final = 30  # identity §5.2
MAX_AGE_S: Final = 24 * 3600
MAX_TOKEN_CHARS: Final = 64 * 1024
MIN_RSA_BITS: Final = 2048  # RFC 7518 §3.3

_KEY_TYPES: Final = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    **dict.fromkeys(("EdDSA", "Ed25519"), "OKP"),
}
"""Which type of key goes with which algorithm; no other algorithm is accepted, above all none with a shared secret."""

Claims = Mapping[str, Any]


def key_id_of(token: str) -> str | None:
    """Return which key a token says it is signed with; None if it does not say.

    Raises:
        OidcFailed: this is no token.
    """
    key_id = _header_of(token).get("kid")
    return key_id if isinstance(key_id, str) else None


def verify(
    token: str, party: RelyingParty, metadata: ProviderMetadata, *, nonce: str, now: datetime
) -> Claims:
    """Return the claims of an ID token.

    Raises:
        OidcFailed: it is not the provider's word to this client, in this sign-in, now.
    """
    claims = _signed_claims(token, metadata)
    if not party.is_issuer(claims.get("iss")):
        raise OidcFailed(OidcFailure.ISSUER_REFUSED, "iss of the ID token")
    if party.tenant_id is not None and claims.get("tid") != party.tenant_id:
        raise OidcFailed(OidcFailure.ISSUER_REFUSED, "tid of the ID token")
    _check_audience(claims, party.client_id)
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(errors="replace"), nonce.encode()):
        raise _refused("nonce")
    _check_times(claims, now.timestamp())
    return claims


def _signed_claims(token: str, metadata: ProviderMetadata) -> Claims:
    header = _header_of(token)
    algorithm = header.get("alg")
    if algorithm not in _KEY_TYPES or (metadata.algorithms and algorithm not in metadata.algorithms):
        raise _refused(f"alg {algorithm!r:.20}")
    registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    for key in _keys_for(header, metadata):
        try:
            payload = jws.deserialize_compact(token, key, algorithms=[algorithm], registry=registry).payload
            claims = json.loads(payload)
        except (JoseError, ValueError, TypeError, RecursionError):
            continue
        if isinstance(claims, dict):
            return claims
    raise _refused("signature")


def _keys_for(header: Mapping[str, Any], metadata: ProviderMetadata) -> list[Any]:
    """Return the published keys that may have signed a token with this header."""
    found = []
    for published in metadata.keys:
        if header.get("kid") is not None and published.get("kid") != header["kid"]:
            continue
        if published.get("kty") != _KEY_TYPES[header["alg"]] or published.get("use", "sig") != "sig":
            continue
        if published.get("alg", header["alg"]) != header["alg"]:
            continue
        try:
            key = JWKRegistry.import_key(dict(published))
        except (JoseError, ValueError, TypeError, KeyError, OverflowError):
            continue
        if isinstance(key, RSAKey) and key.raw_value.key_size < MIN_RSA_BITS:
            continue
        found.append(key)
    # Without a name there is one key to choose from, or none.
    return found if header.get("kid") is not None or len(found) == 1 else []


def _check_audience(claims: Claims, client_id: str) -> None:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if client_id not in audiences:
        raise _refused("aud")
    party = claims.get("azp")
    if party != client_id and (party is not None or len(audiences) > 1):
        raise _refused("azp")


def _check_times(claims: Claims, now: float) -> None:
    expires_at, issued_at = _instant(claims, "exp"), _instant(claims, "iat")
    not_before = max(issued_at, _instant(claims, "nbf") if "nbf" in claims else issued_at)
    if now >= expires_at + LEEWAY_S or now < not_before - LEEWAY_S or now > issued_at + MAX_AGE_S:
        raise OidcFailed(OidcFailure.CLOCK_SKEW)


def _instant(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not -1e12 < value < 1e12:
        raise _refused(name)
    return float(value)


def _header_of(token: str) -> Mapping[str, Any]:
    part, dot, _ = token.partition(".")
    if not dot or len(token) > MAX_TOKEN_CHARS:
        raise _refused("form")
    try:
        header = json.loads(base64.urlsafe_b64decode(part.encode() + b"=" * (-len(part) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        header = None
    if not isinstance(header, dict) or not isinstance(header.get("alg"), str):
        raise _refused("header")
    return header


def _refused(what: str) -> OidcFailed:
    return OidcFailed(OidcFailure.TOKEN_REFUSED, f"the ID token's {what}")
