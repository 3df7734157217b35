"""What the store does for every call of the REST API before it is carried out: find its caller, log it, note
that the token was used.

These run for each call, so each is one statement that is put together once. None is part of the change feed,
so none takes the account's lock: a call must not wait for a long change of the same account to be logged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, insert, update

from wardgate.portal.database.refusals import sanitized
from wardgate.portal.logs.tables import API_REQUEST_LOGS, ApiRequest
from wardgate.portal.sign_in.tables import API_TOKENS, ApiToken
from wardgate.portal.sign_in.token_owners import Owned, finds_with_owners
from wardgate.portal.store import Transaction


@dataclass(frozen=True, slots=True)
class TokenUse:
    """From where and when a token was last used."""

    account_id: UUID
    token_id: UUID
    user_agent: str
    remote_ip: str
    region: str | None
    city: str | None
    lat: float | None
    lon: float | None
    at: datetime


async def find_api_caller(
    transaction: Transaction, account_id: UUID, token_id: UUID
) -> Owned[ApiToken] | None:
    """Return an API token with its account and actor, if it is there."""
    return (await _find_callers(transaction, account_id, [token_id])).get(token_id)


async def append_api_requests(transaction: Transaction, requests: Sequence[ApiRequest]) -> None:
    """Append to the log of calls; what cannot be stored of an entry is cut off or left out."""
    table = API_REQUEST_LOGS.table
    await transaction.execute(_APPEND, [sanitized(table, _without_seq(request)) for request in requests])


async def note_token_uses(transaction: Transaction, uses: Sequence[TokenUse]) -> None:
    """Note the latest use of API tokens; one that is gone is left out."""
    # One order for all transactions, so that two of them cannot lock the rows crosswise.
    ordered = sorted(uses, key=lambda use: (use.token_id, use.at))
    await transaction.execute(_NOTE_USE, [_of_use(use) for use in ordered])


def _without_seq(request: ApiRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in _LOGGED}


def _of_use(use: TokenUse) -> dict[str, Any]:
    storable = sanitized(
        API_TOKENS.table,
        {
            "last_seen_user_agent": use.user_agent,
            "last_seen_remote_ip": use.remote_ip,
            "last_seen_remote_ip_location_region": use.region,
            "last_seen_remote_ip_location_city": use.city,
            "last_seen_remote_ip_location_lat": use.lat,
            "last_seen_remote_ip_location_lon": use.lon,
            "last_seen_at": use.at,
        },
    )
    return {"of_account": use.account_id, "of_token": use.token_id, **storable}


_find_callers: Final = finds_with_owners(API_TOKENS)
_LOGGED: Final = tuple(field.name for field in fields(ApiRequest) if field.name != "seq")
_APPEND: Final = insert(API_REQUEST_LOGS.table)
_NOTE_USE: Final = (
    update(API_TOKENS.table)
    .where(
        API_TOKENS.c.account_id == bindparam("of_account"),
        API_TOKENS.c.id == bindparam("of_token"),
    )
    .values(
        {
            column.name: bindparam(column.name)
            for column in API_TOKENS.c
            if column.name.startswith("last_seen_")
        }
    )
)
