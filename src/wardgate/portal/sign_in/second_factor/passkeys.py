"""Passkeys (WebAuthn level 3): what a browser is asked for, and whether its answer is good.

The authenticator must have verified its user (a fingerprint, a PIN), signs the challenge of one attempt, and does so
for this portal's host and origin only. No attestation is asked for: which make a key is of is nobody's business here.

Browsers know passkeys on HTTPS and on `localhost` only, and for host names, not for addresses; a portal that is
reached otherwise offers none (`RelyingParty.of`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from wardgate.portal.installation.tables import Account
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.tables import Passkey

CHALLENGE_BYTES: Final = 32  # WebAuthn level 3: 16 at least
TIMEOUT_MS: Final = 120_000
MAX_ANSWER_CHARS: Final = 16 * 1024
MAX_KEY_CHARS: Final = 1024
MAX_ID_CHARS: Final = 1368


class BadAnswer(ValueError):
    """A browser's answer proves nothing."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A new passkey, as the store keeps it."""

    credential_id: str
    public_key: str
    sign_count: int


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """The portal, as authenticators know it.

    Attributes:
        id: its host name.
        origin: scheme, host and port of its pages.
    """

    id: str
    origin: str

    @classmethod
    def of(cls, web_url: str) -> "RelyingParty | None":
        """Return the party of a portal whose pages are there; None if browsers know no passkeys there."""
        url = urlsplit(web_url)
        host = (url.hostname or "").lower()
        is_local = host == "localhost" or host.endswith(".localhost")
        if not host or _is_address(host) or not (url.scheme == "https" or is_local):
            return None
        default = {"https": 443, "http": 80}[url.scheme]
        port = "" if url.port in (None, default) else f":{url.port}"
        return cls(host, f"{url.scheme}://{host}{port}")

    def to_register(self, account: Account, actor: Actor, known: Sequence[Passkey], *, challenge: str) -> str:
        """Return the options of `navigator.credentials.create`, as JSON."""
        options = webauthn.generate_registration_options(
            rp_id=self.id,
            rp_name=account.name,
            user_id=actor.id.bytes,
            user_name=actor.email or actor.name,
            user_display_name=actor.name,
            challenge=base64url_to_bytes(challenge),
            timeout=TIMEOUT_MS,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.DISCOURAGED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=_descriptors(known),
        )
        return webauthn.options_to_json(options)

    def to_authenticate(self, known: Sequence[Passkey], *, challenge: str) -> str:
        """Return the options of `navigator.credentials.get`, as JSON."""
        options = webauthn.generate_authentication_options(
            rp_id=self.id,
            challenge=base64url_to_bytes(challenge),
            timeout=TIMEOUT_MS,
            allow_credentials=_descriptors(known),
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return webauthn.options_to_json(options)

    def registered(self, answer: str, *, challenge: str) -> Registered:
        """Return the passkey that a browser has made.

        Raises:
            BadAnswer: it has not.
        """
        try:
            made = webauthn.verify_registration_response(
                credential=_parsed(answer),
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self.id,
                expected_origin=self.origin,
                require_user_verification=True,
            )
        except _REFUSALS as error:
            raise BadAnswer(str(error)) from error
        registered = Registered(
            bytes_to_base64url(made.credential_id),
            bytes_to_base64url(made.credential_public_key),
            made.sign_count,
        )
        if len(registered.credential_id) > MAX_ID_CHARS or len(registered.public_key) > MAX_KEY_CHARS:
            raise BadAnswer("the key is larger than any that is known")
        return registered

    def authenticated(self, answer: str, known: Sequence[Passkey], *, challenge: str) -> tuple[Passkey, int]:
        """Return which of these passkeys a browser has used, and what it has counted.

        Raises:
            BadAnswer: none.
        """
        try:
            parsed = _parsed(answer)
            passkey = next((one for one in known if one.credential_id == parsed.get("id")), None)
            if passkey is None:
                raise BadAnswer("the key is not known")
            used = webauthn.verify_authentication_response(
                credential=parsed,
                expected_challenge=base64url_to_bytes(challenge),
                expected_rp_id=self.id,
                expected_origin=self.origin,
                credential_public_key=base64url_to_bytes(passkey.public_key),
                credential_current_sign_count=passkey.sign_count,
                require_user_verification=True,
            )
        except _REFUSALS as error:
            raise BadAnswer(str(error)) from error
        return passkey, used.new_sign_count


_REFUSALS: Final = (WebAuthnException, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What the library raises over what a browser has sent, which may be anything."""


def _parsed(answer: str) -> dict[str, Any]:
    if len(answer) > MAX_ANSWER_CHARS:
        raise BadAnswer("the answer is too long")
    parsed = json.loads(answer)
    if not isinstance(parsed, dict):
        raise BadAnswer("the answer is no object")
    return parsed


def _descriptors(known: Sequence[Passkey]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=base64url_to_bytes(one.credential_id)) for one in known]


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
