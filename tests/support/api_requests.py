from wardgate.portal.logs.tables import API_REQUEST_LOGS, ApiRequest
from wardgate.portal.store import AccountTables


async def newest_api_requests(tables: AccountTables, *, limit: int) -> list[ApiRequest]:
    """Return the newest calls of an account. Raises NotAllowed."""
    order = (API_REQUEST_LOGS.c.seq.desc(),)
    return await tables.entries(API_REQUEST_LOGS, order_by=order, limit=limit)
