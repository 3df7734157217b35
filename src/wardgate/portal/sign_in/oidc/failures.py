"""Why a provider did not sign somebody in: a word for URLs and a sentence for people (identity §5.3)."""

from enum import Enum

from wardgate.portal.outbound import Failure, OutboundFailed


class OidcFailure(Enum):
    """The value is the word; `told` is the sentence."""

    told: str

    def __new__(cls, word: str, told: str) -> "OidcFailure":
        failure = object.__new__(cls)
        failure._value_ = word
        failure.told = told
        return failure

    NAME_UNKNOWN = "idp-dns", "The identity provider's host name cannot be resolved."
    ADDRESS_REFUSED = (
        "idp-private",
        "The identity provider has a private address, and the operator has not allowed its network.",
    )
    CONNECTION_REFUSED = "idp-refused", "The identity provider refuses the connection."
    CERTIFICATE_REFUSED = "idp-certificate", "The identity provider's certificate is not trusted."
    PROVIDER_TIMED_OUT = "idp-timeout", "The identity provider does not answer in time."
    NOT_FOUND = "idp-not-found", "The identity provider has no discovery document at this address (404)."
    PROVIDER_FAILED = "idp-failed", "The identity provider reports an error of its own. Try again later."
    MALFORMED = "idp-malformed", "The identity provider's answer cannot be understood."
    UNSUITABLE = (
        "idp-unsuitable",
        "The identity provider does not offer what is needed: the authorization code flow with PKCE (S256).",
    )
    REFUSED = "idp-denied", "The identity provider did not sign you in. Start again."
    CODE_REFUSED = "idp-code", "The sign-in has expired or was used already. Start again."
    CREDENTIALS_REFUSED = (
        "idp-credentials",
        "The identity provider does not accept the portal's client id or secret. Tell your administrator.",
    )
    TOKEN_REFUSED = "idp-token", "The identity provider's answer could not be verified."
    CLOCK_SKEW = (
        "idp-clock",
        "The identity provider's answer has expired or lies in the future: its clock and the portal's differ.",
    )
    ISSUER_REFUSED = (
        "idp-issuer",
        "The answer came from another identity provider than the one that was asked.",
    )
    PROFILE_REFUSED = (
        "idp-profile",
        "The identity provider does not say enough about you: name or e-mail address.",
    )
    EMAIL_UNVERIFIED = "idp-email", "The identity provider has not verified your e-mail address."


class OidcFailed(Exception):
    """A sign-in with a provider has ended; `failure` is why, `detail` is for the portal's log."""

    def __init__(self, failure: OidcFailure, detail: str = "") -> None:
        super().__init__(f"{failure.told} ({detail})" if detail else failure.told)
        self.failure = failure
        self.detail = detail


def failure_of_outbound(error: OutboundFailed) -> OidcFailed:
    """Say in a sign-in's words why a provider could not be asked."""
    return OidcFailed(_FAILURES.get(error.failure, OidcFailure.MALFORMED), str(error))


_FAILURES = {
    Failure.NAME_UNKNOWN: OidcFailure.NAME_UNKNOWN,
    Failure.ADDRESS_REFUSED: OidcFailure.ADDRESS_REFUSED,
    Failure.SCHEME_REFUSED: OidcFailure.ADDRESS_REFUSED,
    Failure.CONNECTION_REFUSED: OidcFailure.CONNECTION_REFUSED,
    Failure.CERTIFICATE_REFUSED: OidcFailure.CERTIFICATE_REFUSED,
    Failure.TIMED_OUT: OidcFailure.PROVIDER_TIMED_OUT,
}
