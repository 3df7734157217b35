"""Uploads flow records from the spool, authorization by authorization (data-plane §5.8, control-plane-protocol §7.1).

A pass begins every `interval_s`; while records remain, every second. It sends one batch of each authorization, the one
with the oldest records first. What becomes of a batch:

| answer | reaction |
| --- | --- |
| 200 | its files are removed |
| 400, 422, other 4xx | the files are set aside: the portal will never take them |
| 401 | stays: another portal node may know the account; pruned with its token |
| 413 | is sent in halves, from now on |
| 429 | is sent again after `Retry-After` |
| 408, 5xx, nobody answers | is sent again for 5 min with growing pauses, then in the next pass |
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol

from wardgate.connect.flow_logging import UploadFlows
from wardgate.net.flow_upload import Answer
from wardgate.peer.flow_spool import FlowSpool
from wardgate.wire.errors import RemoteProtocolError
from wardgate.wire.flow_records import UPLOAD_PATH, encode_upload
from wardgate.wire.ingest_tokens import parse_ingest_token

BACKLOG_S: Final = 1.0
DISABLED_S: Final = 30.0
RETRIES_S: Final = 300.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0

log = logging.getLogger(__name__)


class Post(Protocol):
    async def post(self, url: str, *, token: str, body: bytes) -> Answer: ...


class FlowUploader:
    """Runs until it is cancelled; `set` says where to and how often."""

    def __init__(
        self,
        spool: FlowSpool,
        http: Post,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        """The clocks are those of the process."""
        self._spool: Final = spool
        self._http: Final = http
        self._sleep: Final = sleep
        self._monotonic: Final = monotonic
        self._unix: Final = unix
        self._setting: UploadFlows | None = None
        self._changed: Final = asyncio.Event()
        self._halved: dict[Path, int] = {}
        self._uploaded = 0
        self._complaint: str | None = None

    def set(self, setting: UploadFlows) -> None:
        """Upload like this from the next pass on."""
        if setting != self._setting:
            self._setting = setting
            self._changed.set()

    def counts(self) -> dict[str, int]:
        """What `/metrics` says."""
        return {"flow_records_uploaded": self._uploaded}

    async def run(self) -> None:
        """Upload for ever."""
        while True:
            setting = self._setting
            if setting is None or setting.interval_s <= 0:
                await self._pause(DISABLED_S)
                continue
            has_more = False
            try:
                has_more = await self.pass_once(setting)
            except Exception:
                log.exception("an upload of flow records failed")  # packets must pass all the same
            await self._pause(BACKLOG_S if has_more else setting.interval_s)

    async def pass_once(self, setting: UploadFlows) -> bool:
        """Send one batch of each authorization; whether more could be sent at once."""
        await asyncio.to_thread(self._prune)
        has_more = False
        for directory in await asyncio.to_thread(self._spool.authorizations):
            outcome = await self._upload(directory, setting)
            if outcome is None:
                return False  # the portal is away: the others would meet the same
            has_more |= outcome
        return has_more

    async def _pause(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _prune(self) -> None:
        now = self._unix()
        self._spool.prune(lambda token: _ends_at(token) <= now, now=now)

    async def _upload(self, directory: Path, setting: UploadFlows) -> bool | None:
        """Send one batch; whether there is more of it, None if nobody takes anything at present."""
        size = self._halved.get(directory, setting.batch_size)
        token = await asyncio.to_thread(self._spool.token, directory)
        spooled = await asyncio.to_thread(self._spool.read, directory, at_most=size)
        if token is None or not spooled.records:
            return False
        for start in range(0, len(spooled.records), size):
            records = spooled.records[start : start + size]
            answer = await self._send(setting.api_url, token, encode_upload(records))
            if answer is None:
                return None
            if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and size > 1:
                self._halved[directory] = size // 2
                return True
            if answer.status == HTTPStatus.UNAUTHORIZED:
                self._complain(f"the portal does not know the token of authorization {directory.name}")
                return False
            if answer.status != HTTPStatus.OK:
                self._complain(f"the portal refused them with HTTP {answer.status}; they are set aside")
                await asyncio.to_thread(self._spool.set_aside, spooled.files)
                return True
            self._uploaded += len(records)
        self._halved.pop(directory, None)
        self._complaint = None
        await asyncio.to_thread(self._spool.remove, spooled.files)
        return len(spooled.records) >= size

    async def _send(self, api_url: str, token: str, body: bytes) -> Answer | None:
        """Send until somebody has answered for good, or None after 5 min of trying."""
        until = self._monotonic() + RETRIES_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                answer = await self._http.post(upload_url(api_url), token=token, body=body)
            except OSError as error:
                reason = str(error)
            else:
                if not _is_transient(answer.status):
                    return answer
                reason = f"HTTP {answer.status}"
                if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                    reason, pause_s = "", max(answer.retry_after_s or 1.0, 0.1)
            if self._monotonic() + pause_s > until:
                self._complain(f"no upload to {api_url}: {reason or 'too many requests'}")
                return None
            if reason:
                log.debug("an upload of flow records is repeated", extra={"reason": reason})
            await self._sleep(pause_s * random.uniform(1.0, 1.1))  # noqa: S311 - spreads many peers
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S) if reason else FIRST_PAUSE_S

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            log.warning("flow records are not uploaded", extra={"reason": complaint})


def upload_url(api_url: str) -> str:
    """Where records go: the path of `api_url` is replaced (control-plane-protocol §7.1)."""
    scheme, separator, rest = api_url.partition("://")
    authority = rest.split("/", 1)[0].split("?", 1)[0]
    return f"{scheme}{separator}{authority}{UPLOAD_PATH}"


def _is_transient(status: int) -> bool:
    return status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or status >= 500


def _ends_at(token: str) -> float:
    """When a token ends, Unix time; what is no token has ended."""
    try:
        return parse_ingest_token(token).exp
    except RemoteProtocolError:
        return 0.0
