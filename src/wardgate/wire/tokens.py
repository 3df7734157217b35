"""Bearer tokens: what is handed out, what is stored, how one is checked (control-plane-protocol §2.1,
portal-domain §3.9).

    <nonce> "." <prefix> base32( account id 16 | token id 16 | secret 32 | mac 16 )

The nonce is empty but for a client's interactive sign-in, where the client chose it and prepends it to the rest,
the *fragment*. The prefix names the kind, for people and for error messages. Base32 is lower case, and 80 bytes
need no padding. The mac (HMAC-SHA256, first 16 bytes, over prefix and the three fields) refuses a forgery before the
store is asked; what is stored is a salted hash over nonce and secret. Account id zero: a token of no account.

Text arrives from config files and clipboards: `parse_token` and `kind_of` accept a token of an administrator
without the leading dot, which a double click does not select.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID

from wardgate.model.ids import AccountId, TokenId

SECRET_BYTES: Final = 32
SALT_BYTES: Final = 16
MAX_NONCE_CHARS: Final = 128

_MAC_BYTES: Final = 16
_NO_ACCOUNT: Final = UUID(int=0)
_PAYLOAD_BYTES: Final = 16 + 16 + SECRET_BYTES + _MAC_BYTES
_PAYLOAD_CHARS: Final = _PAYLOAD_BYTES * 8 // 5


class TokenKind(StrEnum):
    """What a token is for; the value is its readable prefix."""

    CLIENT = "wg_client_"
    GATEWAY = "wg_gateway_"
    RELAY = "wg_relay_"
    API = "wg_api_"
    OPERATOR = "wg_operator_"
    SIGN_IN = "wg_signin_"

    @property
    def noun(self) -> str:
        return {"api": "an API token", "operator": "an operator token"}.get(
            self.word, f"a {self.word.replace('signin', 'sign-in')} token"
        )

    @property
    def word(self) -> str:
        return self.value.removeprefix("wg_").removesuffix("_")


class InvalidToken(ValueError):
    """Not a token, or not one of ours; the message is for the one who presented it."""


class WrongTokenKind(InvalidToken):
    """A token of ours, for another purpose."""

    def __init__(self, found: TokenKind, expected: TokenKind) -> None:
        super().__init__(f"this is {found.noun}, {expected.noun} is needed")
        self.found = found
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed token whose mac is right: genuine, but perhaps revoked. `verifier(salt)` is compared with the store."""

    kind: TokenKind
    account_id: AccountId | None
    token_id: TokenId
    nonce: str = field(repr=False)
    secret: bytes = field(repr=False)

    def hashed(self, salt: bytes) -> str:
        """Return what the store keeps: 64 lower-case hex characters."""
        return hash_secret(nonce=self.nonce, secret=self.secret, salt=salt)

    def matches(self, *, secret_hash: str, salt: bytes) -> bool:
        """Compare with the stored hash in constant time."""
        return hmac.compare_digest(self.hashed(salt), secret_hash)


def mint_fragment(
    kind: TokenKind, *, account_id: AccountId | None, token_id: TokenId, secret: bytes, key: bytes
) -> str:
    """Return the token without its nonce: begins with a dot; nonce ‖ fragment is the token.

    Args:
        secret: 32 random bytes.
        key: the installation's key for tokens.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    body = (account_id or _NO_ACCOUNT).bytes + token_id.bytes + secret
    payload = base64.b32encode(body + _mac(kind, body, key)).decode().lower()
    return f".{kind.value}{payload}"


def hash_secret(*, nonce: str, secret: bytes, salt: bytes) -> str:
    """Hash for the store: hex SHA3-256 of nonce, secret and salt."""
    return hashlib.sha3_256(nonce.encode() + secret + salt).hexdigest()


def kind_of(text: str) -> TokenKind | None:
    """Tell a token's kind by its prefix, without checking anything else."""
    _, rest = _split(text)
    return next((kind for kind in TokenKind if rest.startswith(kind.value)), None)


def parse_token(text: str, *, expected: TokenKind, key: bytes) -> Token:
    """Parse a presented token and check its mac.

    Raises:
        WrongTokenKind: a token of ours for another purpose (by its prefix).
        InvalidToken: anything else; reasons are not distinguished.
    """
    nonce, rest = _split(text)
    if not rest.startswith(expected.value):
        kind = kind_of(text)
        raise InvalidToken("invalid token") if kind is None else WrongTokenKind(kind, expected)
    encoded = rest.removeprefix(expected.value)
    if len(nonce) > MAX_NONCE_CHARS or not nonce.isascii() or len(encoded) != _PAYLOAD_CHARS:
        raise InvalidToken("invalid token")
    try:
        payload = _base32_bytes(encoded)
    except ValueError:
        raise InvalidToken("invalid token") from None
    body, mac = payload[:-_MAC_BYTES], payload[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(expected, body, key)):
        raise InvalidToken("invalid token")
    account_id = UUID(bytes=body[:16])
    return Token(
        expected,
        None if account_id == _NO_ACCOUNT else AccountId(account_id),
        TokenId(UUID(bytes=body[16:32])),
        nonce,
        body[32:],
    )


def _base32_bytes(encoded: str) -> bytes:
    """Decode the base32 of a payload, in either case; the library's own takes ten times as long.

    Raises:
        ValueError: it is none (UnicodeEncodeError included).
    """
    return int(encoded.encode("ascii").translate(_DIGITS), 32).to_bytes(_PAYLOAD_BYTES, "big")


_BASE32: Final = b"abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648 §6
_DIGITS: Final = bytes(
    b"0123456789abcdefghijklmnopqrstuv"[_BASE32.index(char)] if char in _BASE32 else ord("!")
    for char in (bytes([code]).lower()[0] for code in range(256))
)
"""From a character of base32 to the digit that Python has for its value; none for all others, such as the sign, the
space and the underscore that `int` takes.
"""


def _split(text: str) -> tuple[str, str]:
    nonce, dot, rest = text.partition(".")
    return (nonce, rest) if dot else ("", text)


def _mac(kind: TokenKind, body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, kind.value.encode() + body, "sha256")[:_MAC_BYTES]
