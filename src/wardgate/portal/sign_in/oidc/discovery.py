"""A provider's discovery document and keys (OpenID Connect Discovery 1.0), cached as long as both may be (identity
§5.2).

An entry is refetched early when a token names a key that it lacks, once per cool-down, so that a provider may rotate
its keys at any time and nobody makes the portal ask at will. A refetch that fails leaves the old keys. What could not
be had is not asked for again for a moment, however many people want to sign in.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from wardgate.portal.environment import Clock
from wardgate.portal.outbound import Answer, Outbound, OutboundFailed, Question
from wardgate.portal.sign_in.oidc.failures import OidcFailed, OidcFailure, failure_of_outbound

log = logging.getLogger(__name__)

MAX_ENTRIES: Final = 1000
LIFETIME_S: Final = 3600.0
COOL_DOWN_S: Final = 30.0
FAILURE_LIFETIME_S: Final = 3.0
MAX_KEYS: Final = 100
CHALLENGE_METHOD: Final = "S256"

_MAX_AGE: Final = re.compile(r"\bmax-age=\"?(\d{1,10})")
_NEVER: Final = re.compile(r"\bno-(store|cache)\b")


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What a provider says of itself, as far as a sign-in needs it.

    Attributes:
        keys: JSON Web Keys as they were published.
        authentication_methods: how a client may show its secret; empty for the standard's default.
        names_issuer: whether every callback carries `iss` (RFC 9207).
        algorithms: with which ID tokens may be signed; empty if it does not say.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    authentication_methods: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    names_issuer: bool = False
    keys: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    metadata: ProviderMetadata | None = None
    expires_at: float = 0.0
    refetchable_at: float = 0.0
    failed: OidcFailed | None = None
    failed_until: float = 0.0


class Discovery:
    """The discovery documents of all providers of this process. Times are the clock's monotonic seconds."""

    def __init__(self, outbound: Outbound, clock: Clock) -> None:
        self._outbound = outbound
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    async def load(self, uri: str) -> ProviderMetadata:
        """Return what the document at this address says.

        Raises:
            OidcFailed: it cannot be had, or does not say what is needed.
        """
        entry = self._entry(uri)
        async with entry.lock:
            now = self._clock.monotonic()
            if entry.metadata is not None and now < entry.expires_at:
                return entry.metadata
            if entry.failed is not None and now < entry.failed_until:
                raise OidcFailed(entry.failed.failure, entry.failed.detail)
            try:
                return await self._fetch(uri, entry)
            except OidcFailed as failed:
                entry.failed, entry.failed_until = failed, self._clock.monotonic() + FAILURE_LIFETIME_S
                raise

    async def load_with_key(self, uri: str, key_id: str | None) -> ProviderMetadata:
        """Return the same, fetched anew if no key has this id and that was not tried just now.

        Raises:
            OidcFailed: nothing was cached, and it cannot be had.
        """
        entry = self._entry(uri)
        metadata = await self.load(uri)
        async with entry.lock:
            metadata = entry.metadata or metadata
            if any(key.get("kid") == key_id for key in metadata.keys):
                return metadata
            if self._clock.monotonic() < entry.refetchable_at:
                return metadata
            try:
                await self._fetch(uri, entry)
            except OidcFailed as error:
                log.warning("a provider's keys cannot be fetched again", extra={"error": str(error)})
            return entry.metadata or metadata

    def _entry(self, uri: str) -> _Entry:
        entry = self._entries.setdefault(uri, _Entry())
        self._entries.move_to_end(uri)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return entry

    async def _fetch(self, uri: str, entry: _Entry) -> ProviderMetadata:
        entry.refetchable_at = self._clock.monotonic() + COOL_DOWN_S
        document = await self._get(uri)
        metadata = _metadata_of(_object_of(document))
        keys = await self._get(metadata.jwks_uri)
        lifetime_s = min(LIFETIME_S, _lifetime_of(document), _lifetime_of(keys))
        entry.metadata = _with_keys(metadata, _object_of(keys))
        entry.expires_at = self._clock.monotonic() + lifetime_s
        return entry.metadata

    async def _get(self, url: str) -> Answer:
        try:
            answer = await self._outbound.ask(Question(url))
        except OutboundFailed as error:
            raise failure_of_outbound(error) from error
        if answer.status == 404:
            raise OidcFailed(OidcFailure.NOT_FOUND, url)
        if answer.status >= 500:
            raise OidcFailed(OidcFailure.PROVIDER_FAILED, f"{url}: HTTP {answer.status}")
        if answer.status != 200:
            raise OidcFailed(OidcFailure.MALFORMED, f"{url}: HTTP {answer.status}")
        return answer


def _object_of(answer: Answer) -> dict[str, Any]:
    try:
        return answer.json_object()
    except OutboundFailed as error:
        raise OidcFailed(OidcFailure.MALFORMED, str(error)) from error


def _metadata_of(document: Mapping[str, Any]) -> ProviderMetadata:
    response_types = _texts(document, "response_types_supported")
    methods = _texts(document, "code_challenge_methods_supported")
    if (response_types and "code" not in response_types) or (methods and CHALLENGE_METHOD not in methods):
        raise OidcFailed(OidcFailure.UNSUITABLE)
    userinfo = document.get("userinfo_endpoint")
    return ProviderMetadata(
        issuer=_text(document, "issuer"),
        authorization_endpoint=_url(document, "authorization_endpoint"),
        token_endpoint=_url(document, "token_endpoint"),
        jwks_uri=_url(document, "jwks_uri"),
        userinfo_endpoint=None if userinfo is None else _url(document, "userinfo_endpoint"),
        authentication_methods=_texts(document, "token_endpoint_auth_methods_supported"),
        algorithms=_texts(document, "id_token_signing_alg_values_supported"),
        names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
    )


def _with_keys(metadata: ProviderMetadata, document: Mapping[str, Any]) -> ProviderMetadata:
    keys = document.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise OidcFailed(OidcFailure.MALFORMED, "the provider's keys are no list of keys")
    return replace(metadata, keys=tuple(key for key in keys if isinstance(key, dict)))


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise OidcFailed(OidcFailure.MALFORMED, f"the discovery document has no {name}")
    return value


def _url(document: Mapping[str, Any], name: str) -> str:
    """Return an address that may stand in a `Location`; which hosts are asked is the guard's business."""
    value = _text(document, name)
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or parts.fragment
        or not value.isascii()
        or not value.isprintable()
    ):
        raise OidcFailed(OidcFailure.MALFORMED, f"the discovery document's {name} is not an address")
    return value


def _texts(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _lifetime_of(answer: Answer) -> float:
    """Return for how many seconds an answer may be kept (RFC 9111 §4.2)."""
    control = answer.headers.get("cache-control", "").lower()
    if _NEVER.search(control):
        return 0.0
    found = _MAX_AGE.search(control)
    if found is None:
        return LIFETIME_S
    age = answer.headers.get("age", "0")
    return max(0.0, float(found[1]) - (float(age) if age.isdecimal() and len(age) < 10 else 0.0))
