"""Who somebody is, by a provider's word: claims of the ID token, completed by userinfo (identity §6, §7)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from wardgate.portal.provisioning import check_email
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure
from wardgate.portal.sign_in.oidc.relying_party import RelyingParty

MAX_GROUPS: Final = 200

_TEXTS: Final = ("name", "given_name", "family_name", "middle_name", "nickname", "preferred_username")
_URLS: Final = ("profile", "picture")
_LONGEST: Final = {**dict.fromkeys(_TEXTS, 255), **dict.fromkeys(_URLS, 2048)}
_FALLBACKS: Final = ("preferred_username", "nickname", "email")


@dataclass(frozen=True, slots=True)
class Profile:
    """One person at one issuer.

    Attributes:
        is_email_verified: whether the provider says so, in so many words.
        groups: names of groups in the claim `groups`; None if there is no such claim.
    """

    issuer: str
    subject: str
    email: str
    name: str
    is_email_verified: bool = False
    given_name: str | None = None
    family_name: str | None = None
    middle_name: str | None = None
    nickname: str | None = None
    preferred_username: str | None = None
    profile: str | None = None
    picture: str | None = None
    groups: tuple[str, ...] | None = None


def profile_of(claims: Mapping[str, Any], userinfo: Mapping[str, Any] | None, party: RelyingParty) -> Profile:
    """Return who the verified claims of an ID token speak of.

    Args:
        userinfo: counts only if it speaks of the same subject.

    Raises:
        OidcFailed: something needed is missing, or a value is too long.
    """
    more = userinfo if userinfo is not None and userinfo.get("sub") == claims.get("sub") else {}
    merged = {**claims, **more}
    email = _email_of(claims, party)
    subject = next((claims[one] for one in party.subject_claims if claims.get(one)), None)
    if not isinstance(subject, str) or len(subject) > 255 or not _is_storable(subject):
        raise OidcFailed(OidcFailure.PROFILE_REFUSED, "subject")
    values = {key: _text(merged, key, longest) for key, longest in _LONGEST.items()}
    for one in _URLS:
        if values[one] is not None and not _is_web_address(values[one] or ""):
            values[one] = None
    values["name"] = values["name"] or _name_from(values, email)
    verified = claims["email_verified"] if "email_verified" in claims else more.get("email_verified")
    return Profile(
        issuer=party.issuer,
        subject=subject,
        email=email,
        is_email_verified=verified is True,
        groups=_groups_of(merged),
        **values,  # type: ignore[arg-type] # the name is there
    )


def _email_of(claims: Mapping[str, Any], party: RelyingParty) -> str:
    email = _text(claims, party.email_claim, 160)
    try:
        return check_email(email or "")
    except ValueError:
        raise OidcFailed(OidcFailure.PROFILE_REFUSED, f"{party.email_claim} is no e-mail address") from None


def _text(claims: Mapping[str, Any], name: str, longest: int) -> str | None:
    value = claims.get(name)
    if not isinstance(value, str):
        return None
    value = value.strip()
    if len(value) > longest or not _is_storable(value):
        raise OidcFailed(OidcFailure.PROFILE_REFUSED, f"{name} is too long, or no text")
    return value or None


def _is_storable(text: str) -> bool:
    """Tell whether every database can store it: JSON may hold a zero, and halves of characters."""
    return not any(one == "\x00" or "\ud800" <= one <= "\udfff" for one in text)


def _name_from(values: Mapping[str, str | None], email: str) -> str:
    full = " ".join(filter(None, (values["given_name"], values["family_name"])))
    candidates = [full, *({**values, "email": email}[one] for one in _FALLBACKS)]
    return next(one for one in candidates if one)[:255]


def _groups_of(claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    value = claims.get("groups")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        return None
    names = (one.strip() for one in value if isinstance(one, str) and _is_storable(one))
    return tuple(sorted({one for one in names if 0 < len(one) <= 200})[:MAX_GROUPS])


def _is_web_address(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("https", "http")
    except ValueError:
        return False
