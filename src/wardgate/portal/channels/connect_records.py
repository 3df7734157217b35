"""Records of connects, those of a group commit together: the latest session of their devices, and the session log
(portal-domain §7.4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from wardgate.portal.channels.session import Record
from wardgate.portal.devices.tables import Device
from wardgate.portal.logs.streams import Logs
from wardgate.portal.store import AccountTables, DanglingReference, Transaction


@dataclass(frozen=True, slots=True)
class Connect:
    """A client or gateway that connected.

    Attributes:
        columns: of its device, for the latest session; `last_seen_at` among them.
        subject: who it is, for the session log.
        recorded: called with the outcome after the commit; not called if the database fails.
    """

    device: Device
    token_id: UUID
    columns: dict[str, Any]
    subject: dict[str, Any]
    recorded: Callable[[Record], None]


async def record_connects(
    transaction: Transaction, connects: Sequence[Connect], *, is_each_alone: bool
) -> list[Record]:
    """Record connects in one go, or each for itself, because a token of theirs is gone; returns what became of each.

    Raises:
        DanglingReference: a token is gone; not with `is_each_alone`.
    """
    if not is_each_alone:
        return await _record(transaction, connects)
    records = []
    for connect in connects:
        try:
            async with transaction.savepoint():
                records += await _record(transaction, [connect])
        except DanglingReference:
            records.append(Record.TOKEN_GONE)
    return records


async def _record(transaction: Transaction, connects: Sequence[Connect]) -> list[Record]:
    """Raises: DanglingReference: a token is gone."""
    records: dict[int, Record] = {}
    for account_id in dict.fromkeys(connect.device.account_id for connect in connects):
        of_account = {
            number: connect
            for number, connect in enumerate(connects)
            if connect.device.account_id == account_id
        }
        found = await _found(transaction.of(account_id), list(of_account.values()))
        records |= dict(zip(of_account, found, strict=True))
        stored = [connect for number, connect in of_account.items() if records[number] is Record.STORED]
        await transaction.of(account_id).devices.note_sessions(
            [(connect.device.id, connect.columns) for connect in stored]
        )
        await Logs(transaction, account_id).append_sessions(
            [(connect.device.type, connect.subject) for connect in stored]
        )
    return [records[number] for number in range(len(connects))]


async def _found(tables: AccountTables, connects: Sequence[Connect]) -> list[Record]:
    """Tell whose device and, of gateways, whose token is still there."""
    known_devices = await tables.devices.still_there({connect.device.id for connect in connects})
    # Devices name a gateway's token without a foreign key.
    token_ids = {connect.token_id for connect in connects if connect.device.type == "gateway"}
    known_tokens = await tables.gateway_tokens.still_there(token_ids)
    return [
        Record.DEVICE_GONE
        if connect.device.id not in known_devices
        else Record.TOKEN_GONE
        if connect.token_id in token_ids - known_tokens
        else Record.STORED
        for connect in connects
    ]
