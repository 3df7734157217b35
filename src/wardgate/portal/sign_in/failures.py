"""Why a sign-in ends without success, as a word for URLs and a sentence for people.

A page shows a failure by its word, so that no link can put a text of its own choice on our pages.
"""

from enum import Enum

from wardgate.portal.sign_in.oidc.failures import OidcFailure


class Failure(Enum):
    """The value is the word; `told` is the sentence."""

    told: str

    def __new__(cls, word: str, told: str) -> "Failure":
        failure = object.__new__(cls)
        failure._value_ = word
        failure.told = told
        return failure

    METHOD_UNAVAILABLE = "method", "You may not use this method to sign in. Choose another one."
    WRONG_CONTEXT = "context", "This method is not meant for signing in here. Choose another one."
    NEEDS_ADMIN = (
        "needs-admin",
        "Only administrators can sign in to the portal. Your client is where you sign in.",
    )
    UNKNOWN_USER = (
        "unknown-user",
        "Nobody with this identity may sign in here. Your administrator can add you.",
    )
    USERS_LIMIT = "users-limit", "This account has more users than it may have. Tell your administrator."
    INVALID_CREDENTIALS = "credentials", "The name or the password is wrong, or you may not sign in this way."
    SECOND_FACTOR = (
        "second-factor",
        "The second step was not completed: begin again. Who has lost what it needs asks an administrator.",
    )
    TIMED_OUT = "timed-out", "The sign-in took too long, or was begun in another browser. Start again."
    TOO_MANY_ATTEMPTS = "attempts", "There were too many attempts. Wait a few minutes, then try again."
    MALFORMED = (
        "malformed",
        "Your client began the sign-in in a way that cannot be completed. Start again there.",
    )


def failure_of(word: str | None) -> Failure | OidcFailure | None:
    """Return the failure that a URL names; None if it names none."""
    return next((failure for failure in (*Failure, *OidcFailure) if failure.value == word), None)
