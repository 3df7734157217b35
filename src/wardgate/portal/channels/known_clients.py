"""Finds the rows of clients that come to connect: token, account, actor, device, grants.

After a restart thousands come, and to open a transaction and to put a question to the database takes longer than the
answer. So, while there is a crowd, those that ask in the same iteration of the event loop are looked up together,
`TOGETHER` in one transaction, whose statements ask for all of them. What is wrong with one of them is its own: the
others are looked up without it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from wardgate.model.ids import AccountId, TokenId
from wardgate.portal import credentials
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.channels.client_devices import find_devices, is_reported
from wardgate.portal.devices.tables import Device
from wardgate.portal.installation.tables import Account
from wardgate.portal.limits import is_over_limit_of
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.portal.store import INSTALLATION, UNAVAILABLE, Store, Transaction
from wardgate.supervision import Tasks
from wardgate.wire.tokens import Token, TokenKind
from wardgate.wire.upgrade import ClientParameters

TOGETHER: Final = 16
"""As many as have a turn in one iteration: a millisecond on SQLite."""

REHEARSED: Final = (1, 2, TOGETHER)
"""How many are looked for, so that each of their statements has been put together (`among`)."""

Owned = tuple[Account, Actor, ClientToken]


class Listening(Protocol):
    """What listens for a client while it is looked up (`early`)."""

    def handle_look_up(self) -> None:
        """The database is about to be looked at."""

    def follow(self, device_id: UUID) -> None:
        """The grants of this device are about to be read."""


class KnownClient(NamedTuple):
    """What is stored of a client.

    Attributes:
        is_over_limit: whether its account has more actors of its kind than it may have.
        device: None if it has not connected before, or if its query was not asked with.
        held: its grants and those to it; None if it reports other hardware than is stored, or has no device.
    """

    account: Account
    actor: Actor
    token: ClientToken
    is_over_limit: bool
    device: Device | None
    held: Sequence[PolicyAuthorization] | None


@dataclass(eq=False, slots=True)
class _Asked:
    token: Token
    parameters: ClientParameters | None
    listening: Listening
    answer: asyncio.Future[KnownClient | None]

    def reports(self, device: Device) -> bool:
        """Tell whether this is what is stored of its hardware."""
        return self.parameters is not None and is_reported(device, self.parameters)


class KnownClients:
    """Looks clients up, those of the same moment together."""

    def __init__(self, store: Store, on_failure: Callable[[], None]) -> None:
        """`on_failure` is called for a fault of ours, for a counter."""
        self._store = store
        self._asked: list[_Asked] = []
        self._is_due = False
        self._tasks = Tasks(on_failure)

    async def find(
        self,
        token: Token,
        parameters: ClientParameters | None,
        listening: Listening,
        *,
        is_one_of_many: bool,
    ) -> KnownClient | None:
        """Return what is stored of a client.

        Args:
            token: genuine, but perhaps revoked.
            parameters: its query; None if it makes no sense, and no device is looked for.
            is_one_of_many: wait for those that ask in the same iteration; who comes alone need not.

        Returns:
            None if the token is no longer one.

        Raises:
            Exception: as the store does.
        """
        answer: asyncio.Future[KnownClient | None] = asyncio.get_running_loop().create_future()
        asked = _Asked(token, parameters, listening, answer)
        if not is_one_of_many:
            return (await self._find([asked]))[0]
        self._asked.append(asked)
        if not self._is_due:
            self._is_due = True
            self._tasks.start(self._look_up(), name="look up clients")
        return await answer

    async def rehearse(self) -> None:
        """Look for nobody: the statements are put together, which takes longer than to run them, before a client waits
        for it.

        Raises:
            Exception: as the store does.
        """
        nobody = AccountId(INSTALLATION)
        async with self._store.reading() as transaction:
            for count in REHEARSED:
                ids = [UUID(int=number) for number in range(count)]
                tokens = [Token(TokenKind.CLIENT, nobody, TokenId(id_), "", b"") for id_ in ids]
                await credentials.find_clients(tokens, transaction=transaction)
                tables = transaction.of(nobody)
                await tables.devices.load_among(actor_id=ids, firezone_id=[str(id_) for id_ in ids])
                await tables.authorizations.load_held(ids)
            # As where an account's view was not there yet.
            await tables.devices.load(nobody)
            await tables.client_tokens.load(nobody)

    async def _look_up(self) -> None:
        """Answer everybody who has asked before this begins, which is in the next iteration."""
        self._is_due = False
        asked, self._asked = self._asked, []
        try:
            for start in range(0, len(asked), TOGETHER):
                await self._answer([one for one in asked[start : start + TOGETHER] if not one.answer.done()])
        finally:
            # Only at the end of the process: nobody is left without an answer.
            for one in asked:
                one.answer.cancel()

    async def _answer(self, asked: Sequence[_Asked]) -> None:
        if not asked:
            return
        try:
            found = await self._find(asked)
        except Exception as error:  # noqa: BLE001 - who asked raises it
            if len(asked) > 1 and not isinstance(error, UNAVAILABLE):
                for one in asked:
                    await self._answer([one])
                return
            for one in asked:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        for one, known in zip(asked, found, strict=True):
            if not one.answer.done():
                one.answer.set_result(known)

    async def _find(self, asked: Sequence[_Asked]) -> list[KnownClient | None]:
        for one in asked:
            one.listening.handle_look_up()
        # What changes between two statements is heard by who listens.
        async with self._store.reading(is_one_moment=False) as transaction:
            owners = await credentials.find_clients([one.token for one in asked], transaction=transaction)
            is_over_limit = await _over_limit(transaction, owners.values())
            devices = await find_devices(
                transaction,
                [
                    None
                    if one.parameters is None or one.token not in owners
                    else (owners[one.token][1], one.parameters.external_id)
                    for one in asked
                ],
            )
            for one, device in zip(asked, devices, strict=True):
                if device is not None and one.reports(device):
                    one.listening.follow(device.id)
            held = await _held(transaction, [device for device in devices if device is not None])
        return [
            None
            if (owned := owners.get(one.token)) is None
            else KnownClient(
                *owned,
                is_over_limit[owned[0].id, owned[1].type],
                device,
                held[device.id] if device is not None and one.reports(device) else None,
            )
            for one, device in zip(asked, devices, strict=True)
        ]


async def _over_limit(transaction: Transaction, owners: Iterable[Owned]) -> Mapping[tuple[UUID, str], bool]:
    """Tell by account and type of actor which has more of them than it may have."""
    accounts = {(account.id, actor.type): account for account, actor, _token in owners}
    return {
        key: await is_over_limit_of(transaction.of(account.id), account, key[1])
        for key, account in accounts.items()
    }


async def _held(
    transaction: Transaction, devices: Sequence[Device]
) -> Mapping[UUID, Sequence[PolicyAuthorization]]:
    """Return the grants of each device and those to it."""
    by_account: dict[UUID, set[UUID]] = {}
    for device in devices:
        by_account.setdefault(device.account_id, set()).add(device.id)
    held: dict[UUID, Sequence[PolicyAuthorization]] = {}
    for account_id, device_ids in by_account.items():
        held |= await transaction.of(account_id).authorizations.load_held(list(device_ids))
    return held
