from ipaddress import ip_address
from pathlib import Path

import pytest

from support.https_server import Asked, Reply, https_server
from wardgate.model.addresses import IpAddress
from wardgate.net.flow_upload import Answer, FlowUpload

HERE: tuple[IpAddress, ...] = (ip_address("127.0.0.1"),)


async def here(host: str) -> tuple[IpAddress, ...]:
    return HERE if host in ("portal.test", "127.0.0.1") else ()


async def posted(url: str) -> Answer:
    upload = FlowUpload(here, mark=None)
    try:
        return await upload.post(url, token="secret", body=b'{"flow_logs":[]}')
    finally:
        await upload.close()


async def test_records_go_to_the_address_that_was_looked_up_with_the_token_and_the_name() -> None:
    async with https_server(lambda _: Reply(), None) as server:
        answer = await posted(f"http://portal.test:{server.port}/ingestion/flow_logs")
    (asked,) = server.asked
    assert answer == Answer(200)
    assert (asked.method, asked.path, asked.body) == ("POST", "/ingestion/flow_logs", b'{"flow_logs":[]}')
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["host"] == f"portal.test:{server.port}"
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("text", "meant"), [("7", 7.0), ("0", 0.0), ("900000", 300.0), ("soon", None), ("-3", 0.0)]
)
async def test_the_wanted_pause_is_read(text: str, meant: float | None) -> None:
    async with https_server(lambda _: Reply(429, headers={"retry-after": text}), None) as server:
        assert await posted(f"http://portal.test:{server.port}/") == Answer(429, meant)


@pytest.mark.parametrize(
    "target",
    [
        "http://portal.test/",
        "https://portal.test:8443/",
        "ftp://portal.test/",
        "",
        "/elsewhere",
        "//portal.test:1/",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_token_is_not_led_elsewhere_than_to_https_on_443(status: int, target: str) -> None:
    async with https_server(lambda _: Reply(status, headers={"location": target}), None) as server:
        with pytest.raises(OSError, match="redirect"):
            await posted(f"http://portal.test:{server.port}/")
    assert len(server.asked) == 1


async def test_redirects_end(monkeypatch: pytest.MonkeyPatch) -> None:
    upload = FlowUpload(here, mark=None)
    sent: list[str] = []

    async def send(url: object, _token: str, _body: bytes) -> object:
        sent.append(str(url))
        return Redirect()

    monkeypatch.setattr(upload, "_send", send)
    with pytest.raises(OSError, match="more than 5 redirects"):
        await upload.post("https://portal.test/", token="secret", body=b"{}")
    assert len(sent) == 6
    await upload.close()


class Redirect:
    status_code = 307
    headers = {"location": "https://portal.test/again"}  # noqa: RUF012


async def test_a_certificate_of_nobody_is_refused(tmp_path: Path) -> None:
    def answer(_: Asked) -> Reply:
        raise AssertionError("the token was sent")

    async with https_server(answer, tmp_path, name="portal.test") as server:
        with pytest.raises(OSError, match=r"(?i)certificate"):
            await posted(f"https://portal.test:{server.port}/")
    assert server.asked == []


async def test_a_name_without_an_address_and_a_port_where_nobody_listens_are_failures() -> None:
    with pytest.raises(OSError, match="no address"):
        await posted("http://elsewhere.test/")
    with pytest.raises(OSError, match=r"(?i)connect"):
        await posted("http://portal.test:1/")
