"""Bearer secrets: drawing one with what the store keeps of it, and finding the row behind a presented one.

Whatever is wrong with a presented token (forged, revoked, expired, owner disabled), the answer is one
`InvalidToken`; only a token of another kind is distinguished, because its prefix says so to everybody.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from wardgate.model.ids import AccountId, TokenId
from wardgate.portal.installation.tables import Account, OperatorLink, OperatorToken, RelayToken
from wardgate.portal.keys import Keys
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.api_calls import find_api_caller
from wardgate.portal.sign_in.tables import CLIENT_TOKENS, ApiToken, ClientToken, SignInLink
from wardgate.portal.sign_in.token_owners import finds_with_owners
from wardgate.portal.sites.tables import GatewayToken
from wardgate.portal.store import Repository, Transaction
from wardgate.wire.tokens import (
    SALT_BYTES,
    SECRET_BYTES,
    InvalidToken,
    Token,
    TokenKind,
    hash_secret,
    mint_fragment,
    parse_token,
)

_TokenT = TypeVar("_TokenT", ClientToken, GatewayToken, RelayToken, OperatorToken, ApiToken)

_KINDS: Final = {
    ClientToken.table: TokenKind.CLIENT,
    GatewayToken.table: TokenKind.GATEWAY,
    RelayToken.table: TokenKind.RELAY,
    OperatorToken.table: TokenKind.OPERATOR,
    ApiToken.table: TokenKind.API,
}

ROTATION_GRACE: Final = timedelta(hours=4)  # protocol §2.4
"""How long a gateway's rotated token works beside the one that takes its place."""


@dataclass(frozen=True, slots=True)
class Issued(Generic[_TokenT]):
    """A new token: `row` as stored, and its text, which is shown once and kept nowhere."""

    row: _TokenT
    text: str = field(repr=False)

    @property
    def id(self) -> UUID:
        return self.row.id


async def issue(
    tokens: Repository[_TokenT], *, transaction: Transaction, keys: Keys, nonce: str = "", **fields: Any
) -> Issued[_TokenT]:
    """Draw a secret and store what recognises it.

    Args:
        tokens: where tokens of its kind are.
        nonce: a client's own, which it puts before the text; without one the text is the whole token.
        fields: the rest of the row, such as whose token it is and when it expires.
    """
    id_, secret, salt = (
        transaction.new_id(),
        transaction.random_bytes(SECRET_BYTES),
        transaction.random_bytes(SALT_BYTES),
    )
    account_id = fields.get("account_id")
    text = mint_fragment(
        _KINDS[tokens.row_class.table],
        account_id=None if account_id is None else AccountId(account_id),
        token_id=TokenId(id_),
        secret=secret,
        key=keys.tokens,
    )
    row = tokens.row_class(
        id=id_,
        secret_salt=encode_salt(salt),
        secret_hash=hash_secret(nonce=nonce, secret=secret, salt=salt),
        **fields,
    )
    return Issued(await tokens.insert(row), text)


async def find_client_token(
    text: str, *, transaction: Transaction, keys: Keys
) -> tuple[Account, Actor, ClientToken]:
    """Return whose token this is.

    Raises:
        InvalidToken: it is none, or no longer one (protocol §2.3).
    """
    return await find_client(
        parse_token(text, expected=TokenKind.CLIENT, key=keys.tokens), transaction=transaction
    )


async def find_client(token: Token, *, transaction: Transaction) -> tuple[Account, Actor, ClientToken]:
    """Return whose token this is that has been parsed already. Raises as `find_client_token`."""
    found = await find_clients([token], transaction=transaction)
    if token not in found:
        raise InvalidToken("invalid token")
    return found[token]


async def find_clients(
    tokens: Sequence[Token], *, transaction: Transaction
) -> Mapping[Token, tuple[Account, Actor, ClientToken]]:
    """Return whose tokens these are, of which each has been parsed already, at most `MOST_AMONG`; what is no token, or
    no longer one, is left out.
    """
    by_account: dict[AccountId, list[Token]] = {}
    for token in dict.fromkeys(tokens):
        if token.account_id is not None:
            by_account.setdefault(token.account_id, []).append(token)
    alive: dict[Token, tuple[Account, Actor, ClientToken]] = {}
    for account_id, shown in by_account.items():
        stored = await _find_clients(transaction, account_id, list({token.token_id for token in shown}))
        for token in shown:
            owned = stored.get(token.token_id)
            if owned is not None and _matches(token, owned[2]) and _is_alive(*owned, now=transaction.now):
                alive[token] = owned
    return alive


async def find_gateway_token(
    text: str, *, transaction: Transaction, keys: Keys
) -> tuple[Account, GatewayToken]:
    """Return a gateway's token. Raises as `find_client_token`."""
    return await find_gateway(
        parse_token(text, expected=TokenKind.GATEWAY, key=keys.tokens), transaction=transaction
    )


async def find_gateway(token: Token, *, transaction: Transaction) -> tuple[Account, GatewayToken]:
    """Return a gateway's token that has been parsed already. Raises as `find_client_token`."""
    if token.account_id is not None:
        tables = transaction.of(token.account_id)
        row, account = await tables.gateway_tokens.load(token.token_id), await tables.account()
        if row is not None and account is not None and _matches(token, row):
            return account, row
    raise InvalidToken("invalid token")


async def find_relay_token(text: str, *, transaction: Transaction, keys: Keys) -> RelayToken:
    """Return a relay's token. Raises as `find_client_token`."""
    return await find_relay(
        parse_token(text, expected=TokenKind.RELAY, key=keys.tokens), transaction=transaction
    )


async def find_relay(token: Token, *, transaction: Transaction) -> RelayToken:
    """Return a relay's token that has been parsed already. Raises as `find_client_token`."""
    row = await transaction.relay_tokens.load(token.token_id)
    if row is None or not _matches(token, row):
        raise InvalidToken("invalid token")
    return row


async def find_operator_token(text: str, *, transaction: Transaction, keys: Keys) -> OperatorToken:
    """Return the operator's token. Raises as `find_client_token`."""
    token = parse_token(text, expected=TokenKind.OPERATOR, key=keys.tokens)
    row = await transaction.operator_tokens.load(token.token_id)
    if row is None or not _matches(token, row):
        raise InvalidToken("invalid token")
    return row


async def find_api_token(
    text: str, *, transaction: Transaction, keys: Keys
) -> tuple[Account, Actor, ApiToken]:
    """Return an API client's token. Raises as `find_client_token`."""
    token = parse_token(text, expected=TokenKind.API, key=keys.tokens)
    if token.account_id is not None:
        found = await find_api_caller(transaction, token.account_id, token.token_id)
        if found is not None and _matches(token, found[2]) and _is_alive(*found, now=transaction.now):
            return found
    raise InvalidToken("invalid token")


async def redeem_sign_in_link(text: str, *, transaction: Transaction, keys: Keys) -> tuple[Account, Actor]:
    """Use up a one-time link (in a write transaction) and return who signs in.

    Raises:
        InvalidToken: forged, used, expired, or its actor may not sign in.
    """
    token = parse_token(text, expected=TokenKind.SIGN_IN, key=keys.tokens)
    if token.account_id is not None:
        tables = transaction.of(token.account_id)
        row = await tables.sign_in_links.load(token.token_id)
        if row is not None and token.matches(secret_hash=row.secret_hash, salt=_LINK_SALT):
            await tables.sign_in_links.delete(row.id)
            account, actor = await tables.account(), await tables.actors.load(row.actor_id)
            if (
                row.expires_at > transaction.now
                and account is not None
                and actor is not None
                and not actor.is_disabled
                and actor.type == "account_admin_user"
            ):
                return account, actor
    raise InvalidToken("invalid link")


async def issue_sign_in_link(actor: Actor, *, lifetime_s: int, transaction: Transaction, keys: Keys) -> str:
    """Make a one-time sign-in secret for an admin; older ones of the actor are withdrawn."""
    links = transaction.of(actor.account_id).sign_in_links
    await links.delete_where(links.c.actor_id == actor.id)
    id_, secret = transaction.new_id(), transaction.random_bytes(SECRET_BYTES)
    await links.insert(
        SignInLink(
            id=id_,
            account_id=actor.account_id,
            actor_id=actor.id,
            secret_hash=hash_secret(nonce="", secret=secret, salt=_LINK_SALT),
            expires_at=transaction.now + timedelta(seconds=lifetime_s),
        )
    )
    return _link_text(AccountId(actor.account_id), id_, secret, keys)


async def redeem_operator_link(text: str, *, transaction: Transaction, keys: Keys) -> None:
    """Use up a one-time link of the operator (in a write transaction).

    Raises:
        InvalidToken: forged, used or expired.
    """
    token = parse_token(text, expected=TokenKind.SIGN_IN, key=keys.tokens)
    if token.account_id is None:
        row = await transaction.operator_links.load(token.token_id)
        if row is not None and token.matches(secret_hash=row.secret_hash, salt=_LINK_SALT):
            await transaction.operator_links.delete(row.id)
            if row.expires_at > transaction.now:
                return
    raise InvalidToken("invalid link")


async def issue_operator_link(*, lifetime_s: int, transaction: Transaction, keys: Keys) -> str:
    """Make a one-time sign-in secret of the operator; older ones are withdrawn."""
    links = transaction.operator_links
    await links.delete_where()
    id_, secret = transaction.new_id(), transaction.random_bytes(SECRET_BYTES)
    await links.insert(
        OperatorLink(
            id=id_,
            secret_hash=hash_secret(nonce="", secret=secret, salt=_LINK_SALT),
            expires_at=transaction.now + timedelta(seconds=lifetime_s),
        )
    )
    return _link_text(None, id_, secret, keys)


_find_clients: Final = finds_with_owners(CLIENT_TOKENS)


def _link_text(account_id: AccountId | None, id_: UUID, secret: bytes, keys: Keys) -> str:
    text = mint_fragment(
        TokenKind.SIGN_IN, account_id=account_id, token_id=TokenId(id_), secret=secret, key=keys.tokens
    )
    return text.removeprefix(".")


def encode_salt(salt: bytes) -> str:
    return base64.urlsafe_b64encode(salt).decode().rstrip("=")


def decode_salt(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_LINK_SALT = b"sign-in link"
"""A link's secret is 32 random bytes used once within minutes: a fixed salt is enough."""


def _is_alive(account: Account, actor: Actor, row: ClientToken | ApiToken, *, now: datetime) -> bool:
    return row.expires_at > now and not account.is_disabled and not actor.is_disabled


def _matches(token: Token, row: ClientToken | GatewayToken | RelayToken | OperatorToken | ApiToken) -> bool:
    return token.matches(secret_hash=row.secret_hash, salt=decode_salt(row.secret_salt))
