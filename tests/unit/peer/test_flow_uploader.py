"""A real spool; the portal answers as a test says, and time passes when the uploader sleeps."""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.flow_records import ONE, OTHER, UNIX, kept_flow, kept_token
from support.log_records import lines
from support.patience import PATIENCE_S
from wardgate.connect.flow_logging import KeepFlows, UploadFlows
from wardgate.net.flow_upload import Answer
from wardgate.peer.flow_spool import FlowSpool
from wardgate.peer.flow_uploader import FlowUploader, upload_url

SETTING = UploadFlows("https://portal.example/some/path", 60, 1000)
Answering = Callable[[str, list[Any]], Answer]


class Portal:
    def __init__(self) -> None:
        self.now = 0.0
        self.answering: Answering = lambda _token, _records: Answer(200)
        self.asked: list[tuple[float, str, str, list[Any]]] = []

    async def post(self, url: str, *, token: str, body: bytes) -> Answer:
        records = json.loads(body)["flow_logs"]
        self.asked.append((self.now, url, token, records))
        return self.answering(token, records)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def times(self) -> list[float]:
        return [asked[0] for asked in self.asked]

    @property
    def sizes(self) -> list[int]:
        return [len(asked[3]) for asked in self.asked]


@pytest.fixture
def spool(tmp_path: Path) -> FlowSpool:
    spool = FlowSpool(tmp_path)
    spool.put(kept_token())
    spool.put(kept_token(OTHER, role="initiator"))
    spool.start()
    return spool


def keep(spool: FlowSpool, count: int, authorization_id: str = ONE) -> None:
    role = "responder" if authorization_id == ONE else "initiator"
    flows = tuple(kept_flow(number, authorization_id, role=role) for number in range(count))
    spool.put(KeepFlows(flows))
    spool.settle()


def uploader(spool: FlowSpool, portal: Portal) -> FlowUploader:
    return FlowUploader(
        spool, portal, sleep=portal.sleep, monotonic=lambda: portal.now, unix=lambda: UNIX + portal.now
    )


async def test_each_authorizations_records_go_with_its_token_and_then_from_the_disk(spool: FlowSpool) -> None:
    portal = Portal()
    keep(spool, 3)
    keep(spool, 2, OTHER)
    made = uploader(spool, portal)
    assert await made.pass_once(SETTING) is False
    assert {asked[1] for asked in portal.asked} == {"https://portal.example/ingestion/flow_logs"}
    sent = {asked[2]: len(asked[3]) for asked in portal.asked}
    assert sent == {kept_token().token: 3, kept_token(OTHER, role="initiator").token: 2}
    assert spool.authorizations() == []
    assert made.counts() == {"flow_records_uploaded": 5}


async def test_a_backlog_goes_in_batches_of_one_authorization_at_a_time(spool: FlowSpool) -> None:
    portal = Portal()
    for _ in range(3):
        keep(spool, 100)
    made = uploader(spool, portal)
    small = UploadFlows(SETTING.api_url, 60, 100)
    assert await made.pass_once(small) is True
    assert portal.sizes == [100]
    assert await made.pass_once(small) is True
    assert await made.pass_once(small) is True
    assert await made.pass_once(small) is False
    assert portal.sizes == [100, 100, 100]


async def test_a_file_larger_than_a_batch_goes_in_parts(spool: FlowSpool) -> None:
    portal = Portal()
    keep(spool, 250)
    await uploader(spool, portal).pass_once(UploadFlows(SETTING.api_url, 60, 100))
    assert portal.sizes == [100, 100, 50]
    assert spool.authorizations() == []


@pytest.mark.parametrize("status", [400, 403, 404, 422])
async def test_what_the_portal_refuses_is_set_aside_and_the_rest_goes_on(
    spool: FlowSpool, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    portal = Portal()
    keep(spool, 1)
    made = uploader(spool, portal)
    portal.answering = lambda _token, _records: Answer(status)
    await made.pass_once(SETTING)
    assert spool.authorizations() == []
    assert f"HTTP {status}" in str(lines(caplog.records)[0][1]["reason"])
    portal.answering = lambda _token, _records: Answer(200)
    keep(spool, 2)
    await made.pass_once(SETTING)
    assert portal.sizes == [1, 2]


async def test_a_token_that_is_not_known_keeps_its_records_until_it_ends(
    spool: FlowSpool, caplog: pytest.LogCaptureFixture
) -> None:
    portal = Portal()
    keep(spool, 1)
    portal.answering = lambda _token, _records: Answer(401)
    made = uploader(spool, portal)
    for _ in range(3):
        assert await made.pass_once(SETTING) is False
    assert len(caplog.records) == 1, "said once"
    assert len(spool.authorizations()) == 1
    portal.now = 61
    await made.pass_once(SETTING)
    assert spool.authorizations() == []
    assert len(portal.asked) == 3


async def test_a_body_that_is_too_large_is_halved(spool: FlowSpool) -> None:
    portal = Portal()
    portal.answering = lambda _token, records: Answer(200 if len(records) <= 300 else 413)
    keep(spool, 1000)
    made = uploader(spool, portal)
    while await made.pass_once(SETTING):
        pass
    assert portal.sizes == [1000, 500, 250, 250, 250, 250]
    assert spool.authorizations() == []


async def test_a_portal_that_wants_a_pause_gets_it(spool: FlowSpool) -> None:
    portal = Portal()
    answers = [Answer(429, 7.0), Answer(429), Answer(200)]
    portal.answering = lambda _token, _records: answers.pop(0)
    keep(spool, 1)
    await uploader(spool, portal).pass_once(SETTING)
    first, second, third = portal.times
    assert 7.0 <= second - first <= 8.0
    assert 1.0 <= third - second <= 1.2
    assert spool.authorizations() == []


@pytest.mark.parametrize("fault", [500, 503, 408, "nobody"])
async def test_a_fault_is_met_by_growing_pauses_for_five_minutes(
    spool: FlowSpool, fault: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    portal = Portal()
    keep(spool, 1)
    keep(spool, 1, OTHER)

    def answer(_token: str, _records: list[Any]) -> Answer:
        if fault == "nobody":
            raise OSError("nobody answers")
        return Answer(int(fault))

    portal.answering = answer
    with caplog.at_level(logging.WARNING):
        assert await uploader(spool, portal).pass_once(SETTING) is False
    pauses = [later - earlier for earlier, later in zip(portal.times, portal.times[1:], strict=False)]
    assert 200 < portal.now <= 330
    assert pauses[:3] == pytest.approx([0.5, 1, 2], rel=0.1)
    assert max(pauses) <= 66
    assert len({asked[2] for asked in portal.asked}) == 1, "the others would meet the same"
    assert len(spool.authorizations()) == 2
    assert len(caplog.records) == 1


async def test_uploads_go_on_after_a_fault(spool: FlowSpool) -> None:
    portal = Portal()
    answers = [Answer(502), Answer(200)]
    portal.answering = lambda _token, _records: answers.pop(0)
    keep(spool, 1)
    await uploader(spool, portal).pass_once(SETTING)
    assert spool.authorizations() == []


async def test_a_fault_of_our_own_is_logged_and_the_next_pass_comes(
    spool: FlowSpool, caplog: pytest.LogCaptureFixture
) -> None:
    portal = Portal()
    keep(spool, 1)
    made = uploader(spool, portal)
    answers: list[Answer] = [Answer(200)]
    failed = asyncio.Event()

    def answer(_token: str, _records: list[Any]) -> Answer:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("unforeseen")
        return answers.pop(0)

    portal.answering = answer
    made.set(SETTING)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(PATIENCE_S):
        await failed.wait()
        while not caplog.records:  # noqa: ASYNC110 - the log is asked
            await asyncio.sleep(0)
        made.set(UploadFlows(SETTING.api_url, 61, 1000))
        while spool.authorizations():  # noqa: ASYNC110
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert [line for line, _ in lines(caplog.records)] == ["an upload of flow records failed"]


@pytest.mark.parametrize(
    ("api_url", "wanted"),
    [
        ("https://portal.example/", "https://portal.example/ingestion/flow_logs"),
        ("https://portal.example:8443/a/b?c=d", "https://portal.example:8443/ingestion/flow_logs"),
        ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080/ingestion/flow_logs"),
        ("https://portal.example?x=/", "https://portal.example/ingestion/flow_logs"),
    ],
)
def test_the_path_of_the_portals_url_is_replaced(api_url: str, wanted: str) -> None:
    assert upload_url(api_url) == wanted
