"""What the portal asks a provider for one sign-in: where to send the browser, then what its code is worth."""

import base64
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

from wardgate.portal.environment import Environment
from wardgate.portal.outbound import OutboundFailed, Question
from wardgate.portal.sign_in.oidc.authorization import Attempt, authorization_url, code_of
from wardgate.portal.sign_in.oidc.discovery import Discovery, ProviderMetadata
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure, failure_of_outbound
from wardgate.portal.sign_in.oidc.profile import Profile, profile_of
from wardgate.portal.sign_in.oidc.relying_party import RelyingParty

log = logging.getLogger(__name__)


class Conversation:
    """Speaks with providers for one portal process.

    Args:
        redirect_uri: where they send browsers back to.
    """

    def __init__(self, environment: Environment, *, redirect_uri: str) -> None:
        self._environment = environment
        self._redirect_uri = redirect_uri
        self._discovery = Discovery(environment.outbound, environment.clock)

    async def begin(self, party: RelyingParty, *, prompt: str | None = None) -> tuple[Attempt, str]:
        """Return a new attempt, and where the browser is to go.

        Raises:
            OidcFailed: the provider cannot be asked, or is not what it is stored as.
        """
        metadata = await self._discovered(party)
        attempt = Attempt.begin(self._environment.rng)
        url = authorization_url(attempt, party, metadata, redirect_uri=self._redirect_uri, prompt=prompt)
        return attempt, url

    async def complete(self, party: RelyingParty, attempt: Attempt, callback: Mapping[str, str]) -> Profile:
        """Return who the provider says has come back.

        Args:
            callback: its query; the state has been compared.

        Raises:
            OidcFailed: at any step.
        """
        # Verification needs a library that a portal without providers does without.
        from wardgate.portal.sign_in.oidc.id_token import key_id_of, verify

        metadata = await self._discovered(party)
        code = code_of(callback, party, metadata)
        tokens = await self._exchange(party, metadata, attempt, code)
        token = tokens.get("id_token")
        if not isinstance(token, str):
            raise OidcFailed(OidcFailure.TOKEN_REFUSED, "the token endpoint's answer has no ID token")
        metadata = await self._discovery.load_with_key(party.discovery_uri, key_id_of(token))
        now = self._environment.clock.now()
        claims = verify(token, party, metadata, nonce=attempt.nonce, now=now)
        return profile_of(claims, await self._userinfo(metadata, tokens), party)

    async def issuer_of(self, party: RelyingParty) -> str:
        """Return which issuer the provider's discovery document names.

        Raises:
            OidcFailed: the provider cannot be asked.
        """
        return (await self._discovery.load(party.discovery_uri)).issuer

    async def _discovered(self, party: RelyingParty) -> ProviderMetadata:
        metadata = await self._discovery.load(party.discovery_uri)
        if not party.is_issuer(metadata.issuer):
            raise OidcFailed(OidcFailure.ISSUER_REFUSED, "issuer of the discovery document")
        return metadata

    async def _exchange(
        self, party: RelyingParty, metadata: ProviderMetadata, attempt: Attempt, code: str
    ) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": attempt.verifier,
            "redirect_uri": self._redirect_uri,
            "client_id": party.client_id,
        }
        headers = {}
        if "client_secret_post" in metadata.authentication_methods:
            form["client_secret"] = party.client_secret
        else:
            headers["authorization"] = _basic(party.client_id, party.client_secret)
        try:
            answer = await self._environment.outbound.ask(
                Question(metadata.token_endpoint, form=form, headers=headers)
            )
            content = answer.json_object() if answer.status < 500 else {}
        except OutboundFailed as error:
            raise failure_of_outbound(error) from error
        if answer.status == 200:
            return content
        raise OidcFailed(_failure_of_exchange(answer.status, content.get("error")), f"HTTP {answer.status}")

    async def _userinfo(
        self, metadata: ProviderMetadata, tokens: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Return what else the provider tells; a failure is none of the sign-in (identity §5.2)."""
        token = tokens.get("access_token")
        if metadata.userinfo_endpoint is None or not isinstance(token, str) or not _is_bearer(token):
            return None
        question = Question(metadata.userinfo_endpoint, headers={"authorization": f"Bearer {token}"})
        try:
            answer = await self._environment.outbound.ask(question)
            return answer.json_object() if answer.status == 200 else None
        except OutboundFailed as error:
            log.info("a provider's userinfo was not to be had", extra={"error": str(error)})
            return None


def _failure_of_exchange(status: int, error: object) -> OidcFailure:
    if status >= 500:
        return OidcFailure.PROVIDER_FAILED
    if status == 401 or error in ("invalid_client", "unauthorized_client"):
        return OidcFailure.CREDENTIALS_REFUSED
    return OidcFailure.CODE_REFUSED if error == "invalid_grant" else OidcFailure.PROVIDER_FAILED


def _basic(client_id: str, client_secret: str) -> str:
    """Write the credentials of a client (RFC 6749 §2.3.1: each is form-encoded first)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _is_bearer(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
