"""`Idempotency-Key` on POST: a repeated call gets the first one's answer and changes nothing.

The answer is kept in the transaction of the call itself, so that either both hold or neither. Refusals are
not kept: they changed nothing, and the cause may be gone next time. An answer may hold a token that is stored
nowhere else in clear, hence it is encrypted with a key that takes the installation's secret and the caller's
`Idempotency-Key` together.
"""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardgate.portal.logs.streams import KeptAnswers
from wardgate.portal.rest.caller import Caller
from wardgate.portal.rest.problems import Problem
from wardgate.portal.store import Conflict

KEPT_FOR: Final = timedelta(hours=24)
BAD_KEY: Final = "Idempotency-Key must have 1 to 255 printable ASCII characters."
OTHER_REQUEST: Final = "This Idempotency-Key was used for another request."
IN_PROGRESS: Final = "A request with this Idempotency-Key is being carried out."

_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")
_NONCE_BYTES: Final = 12
_REPLAYED: Final = (b"idempotent-replayed", b"true")


class Answer(msgspec.Struct, frozen=True):
    """A complete response of the framework."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


Carry = Callable[[Caller], Awaitable[Answer]]


async def answer_once(key: str, request: bytes, caller: Caller, carry_out: Carry) -> Answer:
    """Return the stored answer for this key, or carry out the request and store its answer.

    Args:
        request: what distinguishes one request of this caller from another.
        carry_out: does everything in the transaction of the caller that it is given.

    Raises:
        Problem: 400 if the key is malformed, 422 if it was used for another request, 409 if one is in
        progress.
    """
    if _KEY.fullmatch(key) is None:
        raise Problem(HTTPStatus.BAD_REQUEST, BAD_KEY)
    try:
        return await _in_one_transaction(key, hashlib.sha256(request).hexdigest(), caller, carry_out)
    except _Refused as refused:
        return refused.answer
    except Conflict as conflict:
        if conflict.table != "idempotency_keys":
            raise
        raise Problem(HTTPStatus.CONFLICT, IN_PROGRESS) from None


class _Refused(Exception):
    """Rolls back the transaction of a request that was refused."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


async def _in_one_transaction(key: str, request_hash: str, caller: Caller, carry_out: Carry) -> Answer:
    secret = caller.services.keys.answers
    key_hash = hmac.new(secret, b"name " + key.encode(), hashlib.sha256).hexdigest()
    cipher = AESGCM(hmac.digest(secret, b"answer " + key.encode(), hashlib.sha256))
    bound_to = f"{caller.token_id} {key_hash}".encode()
    async with caller.writing() as transaction:
        kept_answers = KeptAnswers(transaction, caller.account_id, caller.token_id)
        kept = await kept_answers.find(key_hash, not_before=transaction.now - KEPT_FOR)
        if kept is not None:
            if kept.request_hash != request_hash:
                raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, OTHER_REQUEST)
            nonce, sealed = kept.answer[:_NONCE_BYTES], kept.answer[_NONCE_BYTES:]
            first = msgspec.msgpack.decode(cipher.decrypt(nonce, sealed, bound_to), type=Answer)
            return msgspec.structs.replace(first, headers=[*first.headers, _REPLAYED])
        answer = await carry_out(replace(caller, transaction=transaction))
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _Refused(answer)
        nonce = transaction.random_bytes(_NONCE_BYTES)
        sealed = cipher.encrypt(nonce, msgspec.msgpack.encode(answer), bound_to)
        await kept_answers.keep(key_hash, request_hash, nonce + sealed)
        return answer


class Recorder:
    """The sending side of an ASGI call whose answer is inspected before it is sent."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = list(message.get("headers", []))
        else:
            self._body.append(message.get("body", b""))

    def answer(self) -> Answer:
        return Answer(self._status, self._headers, b"".join(self._body))
