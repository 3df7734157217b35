"""A provider of the tests' own, which signs what it is told to: for what a real one cannot be made to do wrong."""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from joserfc import jwk, jws
from joserfc.jwk import RSAKey

from wardgate.portal.outbound import Answer, Failure, OutboundFailed, Question
from wardgate.portal.sign_in.oidc.discovery import ProviderMetadata
from wardgate.portal.sign_in.oidc.relying_party import EmailTrust, RelyingParty

ISSUER = "https://idp.test"
CLIENT = "client-1"
SECRET = "s3cret/+ ="

PARTY = RelyingParty(
    "oidc",
    CLIENT,
    SECRET,
    f"{ISSUER}/.well-known/openid-configuration",
    ISSUER,
    subject_claims=("oid", "sub"),
    email_trust=EmailTrust.CLAIM,
    prompt=None,
)

_RSA_KEYS = {
    kid: RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"}) for kid in ("k1", "k2")
}


def rsa_key(kid: str = "k1") -> RSAKey:
    """Return one of two keys, which are made once: they cost some time."""
    return _RSA_KEYS[kid]


def public(*keys: jwk.Key) -> tuple[Mapping[str, Any], ...]:
    return tuple(key.as_dict(private=key.key_type == "oct") for key in keys)


def metadata(*keys: jwk.Key, issuer: str = ISSUER, **more: Any) -> ProviderMetadata:
    return ProviderMetadata(
        issuer,
        f"{issuer}/authorize",
        f"{issuer}/token",
        f"{issuer}/keys",
        keys=public(*(keys or (rsa_key(),))),
        **more,
    )


def claims(now: float, nonce: str, /, **changed: Any) -> dict[str, Any]:
    """Claims as they should be, with some changed; one that becomes None is left out."""
    right = {
        "iss": ISSUER,
        "aud": CLIENT,
        "sub": "subject-1",
        "iat": int(now),
        "exp": int(now) + 300,
        "nonce": nonce,
        "email": "ada@example.org",
        "email_verified": True,
        "name": "Ada",
    }
    return {name: value for name, value in {**right, **changed}.items() if value is not None}


def signed(
    claims: Mapping[str, Any], key: jwk.Key | None = None, *, alg: str = "RS256", **header: Any
) -> str:
    key = key or rsa_key()
    written = {"alg": alg, "kid": key.kid, **header}
    written = {name: value for name, value in written.items() if value is not None}
    return jws.serialize_compact(written, json.dumps(claims), key, algorithms=[alg])


@dataclass(slots=True)
class ScriptedOutbound:
    """Answers questions by their address; a failure may stand for an answer.

    Attributes:
        asked: what was asked, in order.
    """

    answers: dict[str, Answer | Failure | Callable[[Question], Answer]] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        answer = self.answers.get(question.url, Failure.NAME_UNKNOWN)
        if isinstance(answer, Failure):
            raise OutboundFailed(answer)
        return answer if isinstance(answer, Answer) else answer(question)

    def put(self, url: str, content: object, *, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answers[url] = Answer(status, named, body)

    def put_discovery(self, *keys: jwk.Key, issuer: str = ISSUER, **changed: Any) -> None:
        document = {**document_of(issuer), **changed}
        self.put(f"{issuer}/.well-known/openid-configuration", document)
        self.put(f"{issuer}/keys", {"keys": public(*(keys or (rsa_key(),)))})

    def count(self, url: str) -> int:
        return sum(question.url == url for question in self.asked)


def document_of(issuer: str) -> dict[str, Any]:
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/keys",
        "response_types_supported": ["code", "id_token"],
        "code_challenge_methods_supported": ["S256"],
    }


class FakeProvider:
    """A provider that answers as it should, unless a test changes something of it.

    Attributes:
        outbound: what the portal is given.
        changed: claims that its ID tokens have instead of the right ones.
        at_token: what its token endpoint answers instead of tokens.
    """

    def __init__(self, *, issuer: str = ISSUER, client_id: str = CLIENT, secret: str = SECRET) -> None:
        self.issuer, self.client_id, self.secret = issuer, client_id, secret
        self.outbound = ScriptedOutbound()
        self.changed: dict[str, Any] = {}
        self.now: Callable[[], float] = lambda: datetime.now(UTC).timestamp()
        self.at_token: Answer | Failure | None = None
        self.key = rsa_key()
        self.codes: dict[str, dict[str, str]] = {}
        self.exchanges: list[Question] = []
        self.outbound.put_discovery(self.key, issuer=issuer)
        self.outbound.answers[f"{issuer}/token"] = self._token

    def announce(self, **changed: Any) -> None:
        """Change the discovery document."""
        document = {**document_of(self.issuer), **changed}
        self.outbound.put(f"{self.issuer}/.well-known/openid-configuration", document)

    def authorize(self, url: str) -> str:
        """Do what the provider does with a browser that comes to `url`: return the callback's query."""
        asked = dict(parse_qsl(urlsplit(url).query))
        assert url.startswith(f"{self.issuer}/authorize?")
        assert asked["response_type"] == "code"
        assert asked["client_id"] == self.client_id
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return urlencode({"code": code, "state": asked["state"]})

    def _token(self, question: Question) -> Answer:
        self.exchanges.append(question)
        if isinstance(self.at_token, Failure):
            raise OutboundFailed(self.at_token)
        if self.at_token is not None:
            return self.at_token
        form = dict(question.form or {})
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
        if (
            asked is None
            or challenge.rstrip(b"=").decode() != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return Answer(400, {}, b'{"error": "invalid_grant"}')
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret)}".encode()
        if question.headers.get("authorization") != "Basic " + base64.b64encode(pair).decode():
            return Answer(401, {}, b'{"error": "invalid_client"}')
        right = claims(self.now(), asked["nonce"], iss=self.issuer, aud=self.client_id)
        token = signed({**right, **self.changed}, self.key)
        return Answer(
            200, {}, json.dumps({"id_token": token, "access_token": "a", "token_type": "Bearer"}).encode()
        )
