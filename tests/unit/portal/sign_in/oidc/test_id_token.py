import base64
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from support.identity_provider import CLIENT, ISSUER, PARTY, claims, metadata, rsa_key, signed
from wardgate.portal.sign_in.oidc.discovery import ProviderMetadata
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure
from wardgate.portal.sign_in.oidc.id_token import Claims, key_id_of, verify
from wardgate.portal.sign_in.oidc.relying_party import RelyingParty

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AT = NOW.timestamp()
NONCE = "n" * 43
ENTRA = "https://login.microsoftonline.com/4711/v2.0"


def verified(token: str, provider: ProviderMetadata | None = None, party: RelyingParty = PARTY) -> Claims:
    return verify(token, party, provider or metadata(), nonce=NONCE, now=NOW)


def failure_of(
    token: str, provider: ProviderMetadata | None = None, party: RelyingParty = PARTY
) -> OidcFailure:
    with pytest.raises(OidcFailed) as caught:
        verified(token, provider, party)
    return caught.value.failure


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_accepts_what_the_provider_signed_for_us_now() -> None:
    token = signed(claims(AT, NONCE))
    assert verified(token)["sub"] == "subject-1"
    assert key_id_of(token) == "k1"


@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("PS256", RSAKey.generate_key(2048, {"kid": "a"})),
        ("ES256", ECKey.generate_key("P-256", {"kid": "a"})),
        ("ES384", ECKey.generate_key("P-384", {"kid": "a"})),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "a"})),
    ],
)
def test_accepts_the_usual_asymmetric_signatures(alg: str, key: Any) -> None:
    assert verified(signed(claims(AT, NONCE), key, alg=alg), metadata(key))["aud"] == CLIENT


def test_the_secret_of_the_client_signs_nothing() -> None:
    secret = OctKey.import_key(PARTY.client_secret * 4, {"kid": "k1"})
    assert failure_of(signed(claims(AT, NONCE), secret, alg="HS256")) is OidcFailure.TOKEN_REFUSED


def test_a_public_key_is_no_shared_secret() -> None:
    """The classic confusion: HS256 with the text of the RSA key, which everybody has."""
    signing = f"{part({'alg': 'HS256', 'kid': 'k1'})}.{part(claims(AT, NONCE))}"
    mac = hmac.digest(rsa_key().as_pem(private=False), signing.encode(), "sha256")
    token = f"{signing}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    assert failure_of(token) is OidcFailure.TOKEN_REFUSED


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS1", ""])
def test_an_unsigned_token_is_refused(alg: str) -> None:
    token = f"{part({'alg': alg, 'kid': 'k1'})}.{part(claims(AT, NONCE))}."
    assert failure_of(token) is OidcFailure.TOKEN_REFUSED


def test_the_signature_covers_the_claims() -> None:
    header, _, signature = signed(claims(AT, NONCE)).split(".")
    forged = (
        base64.urlsafe_b64encode(json.dumps(claims(AT, NONCE, sub="other")).encode()).rstrip(b"=").decode()
    )
    assert failure_of(f"{header}.{forged}.{signature}") is OidcFailure.TOKEN_REFUSED


@pytest.mark.parametrize(
    "published",
    [
        {"kid": "other"},
        {"use": "enc"},
        {"alg": "RS512"},
        {"kty": "EC"},
        {"n": "AQAB"},
    ],
)
def test_only_a_published_key_for_this_algorithm_and_use_counts(published: dict[str, str]) -> None:
    key = {**rsa_key().as_dict(private=False), **published}
    provider = metadata()
    provider = ProviderMetadata(
        provider.issuer,
        provider.authorization_endpoint,
        provider.token_endpoint,
        provider.jwks_uri,
        keys=(key,),
    )
    assert failure_of(signed(claims(AT, NONCE)), provider) is OidcFailure.TOKEN_REFUSED


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning", "ignore::UserWarning")
def test_a_small_key_is_refused() -> None:
    small = RSAKey.generate_key(1024, {"kid": "k1"})
    assert failure_of(signed(claims(AT, NONCE), small), metadata(small)) is OidcFailure.TOKEN_REFUSED


def test_an_algorithm_that_the_provider_does_not_announce_is_refused() -> None:
    provider = metadata(algorithms=("ES256",))
    assert failure_of(signed(claims(AT, NONCE)), provider) is OidcFailure.TOKEN_REFUSED


def test_a_token_without_key_id_needs_a_single_key() -> None:
    token = signed(claims(AT, NONCE), rsa_key(), kid=None)
    assert verified(token)["sub"] == "subject-1"
    assert failure_of(token, metadata(rsa_key(), rsa_key("k2"))) is OidcFailure.TOKEN_REFUSED


@pytest.mark.parametrize(
    ("changed", "failure"),
    [
        ({"iss": "https://evil.test"}, OidcFailure.ISSUER_REFUSED),
        ({"iss": None}, OidcFailure.ISSUER_REFUSED),
        ({"iss": ISSUER + "/"}, OidcFailure.ISSUER_REFUSED),
        ({"aud": "client-2"}, OidcFailure.TOKEN_REFUSED),
        ({"aud": None}, OidcFailure.TOKEN_REFUSED),
        ({"aud": ["client-2"]}, OidcFailure.TOKEN_REFUSED),
        ({"aud": [CLIENT, "client-2"]}, OidcFailure.TOKEN_REFUSED),
        ({"aud": [CLIENT, "client-2"], "azp": "client-2"}, OidcFailure.TOKEN_REFUSED),
        ({"azp": "client-2"}, OidcFailure.TOKEN_REFUSED),
        ({"nonce": "m" * 43}, OidcFailure.TOKEN_REFUSED),
        ({"nonce": None}, OidcFailure.TOKEN_REFUSED),
        ({"nonce": 1}, OidcFailure.TOKEN_REFUSED),
        ({"nonce": "\ud800"}, OidcFailure.TOKEN_REFUSED),
        ({"exp": None}, OidcFailure.TOKEN_REFUSED),
        ({"exp": "later"}, OidcFailure.TOKEN_REFUSED),
        ({"exp": True}, OidcFailure.TOKEN_REFUSED),
        ({"exp": 1e300}, OidcFailure.TOKEN_REFUSED),
        ({"iat": None}, OidcFailure.TOKEN_REFUSED),
        ({"exp": AT - 30}, OidcFailure.CLOCK_SKEW),
        ({"iat": AT + 31}, OidcFailure.CLOCK_SKEW),
        ({"nbf": AT + 31}, OidcFailure.CLOCK_SKEW),
        ({"iat": AT - 86_401}, OidcFailure.CLOCK_SKEW),
    ],
)
def test_claims_that_are_not_for_us_now_are_refused(changed: dict[str, Any], failure: OidcFailure) -> None:
    assert failure_of(signed(claims(AT, NONCE, **changed))) is failure


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": AT - 29.9},
        {"iat": AT + 30},
        {"nbf": AT + 30},
        {"iat": AT - 86_400},
        {"azp": CLIENT},
        {"aud": [CLIENT]},
        {"aud": [CLIENT, "client-2"], "azp": CLIENT},
    ],
)
def test_claims_at_the_edge_are_accepted(changed: dict[str, Any]) -> None:
    assert verified(signed(claims(AT, NONCE, **changed)))["sub"] == "subject-1"


@pytest.mark.parametrize(("tid", "is_accepted"), [("4711", True), ("4712", False), (None, False)])
def test_an_entra_token_names_the_tenant(tid: str | None, is_accepted: bool) -> None:
    party = RelyingParty("entra", CLIENT, "s", ENTRA, ENTRA, tenant_id="4711")
    token = signed(claims(AT, NONCE, iss=ENTRA, tid=tid))
    if is_accepted:
        assert verified(token, party=party)["tid"] == "4711"
    else:
        assert failure_of(token, party=party) is OidcFailure.ISSUER_REFUSED


def test_google_may_leave_out_the_scheme_and_nobody_else_may() -> None:
    google = RelyingParty(
        "google", CLIENT, "s", "https://accounts.google.com/x", "https://accounts.google.com"
    )
    token = signed(claims(AT, NONCE, iss="accounts.google.com"))
    assert verified(token, party=google)["sub"] == "subject-1"
    assert failure_of(signed(claims(AT, NONCE, iss="idp.test"))) is OidcFailure.ISSUER_REFUSED


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "e30.e30.", "W10.e30.x", "\ud800.x.y", "x" * 70_000 + ".y.z", "ImEi.e30.x"],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert failure_of(token) is OidcFailure.TOKEN_REFUSED


def test_an_extension_that_must_be_understood_is_not() -> None:
    _, body, signature = signed(claims(AT, NONCE)).split(".")
    crit = {"alg": "RS256", "kid": "k1", "crit": ["exp"], "exp": 1}
    forged = base64.urlsafe_b64encode(json.dumps(crit).encode()).rstrip(b"=").decode()
    assert failure_of(f"{forged}.{body}.{signature}") is OidcFailure.TOKEN_REFUSED
