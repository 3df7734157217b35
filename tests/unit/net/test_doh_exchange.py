import asyncio
import base64
from urllib.parse import parse_qs, urlsplit

import dns.message
import dns.rrset
import pytest

from wardgate.net.doh_exchange import DohClient


class DohServer:
    """Answers one request per connection; `status` and `kind` of the answer can be spoilt."""

    def __init__(self, status: str = "200 OK", kind: str = "application/dns-message") -> None:
        self.status, self.kind = status, kind
        self.asked: list[dns.message.Message] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        text = parse_qs(urlsplit(head.split()[1]).query)["dns"][0]
        query = dns.message.from_wire(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        self.asked.append(query)
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.80"))
        body = reply.to_wire()
        writer.write(
            f"HTTP/1.1 {self.status}\r\nContent-Type: {self.kind}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()


async def exchanged(server: DohServer) -> bytes:
    client = DohClient(mark=None)
    try:
        async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            query = dns.message.make_query("example.org", "A", id=4711)
            return await client.exchange(query.to_wire(), f"http://127.0.0.1:{port}/dns-query")
    finally:
        await client.close()


async def test_the_query_travels_with_id_zero_and_comes_back_with_its_own() -> None:
    server = DohServer()
    answer = dns.message.from_wire(await exchanged(server))

    assert server.asked[0].id == 0
    assert answer.id == 4711
    assert answer.answer[0][0].to_text() == "192.0.2.80"


@pytest.mark.parametrize(
    ("status", "kind"), [("500 Broken", "application/dns-message"), ("200 OK", "text/html")]
)
async def test_what_is_no_dns_answer_is_a_failure(status: str, kind: str) -> None:
    with pytest.raises(OSError, match="answered HTTP"):
        await exchanged(DohServer(status, kind))


async def test_a_dead_server_is_a_failure() -> None:
    client = DohClient(mark=None)
    try:
        with pytest.raises(OSError):  # noqa: PT011 - the text is the operating system's
            await client.exchange(b"\0" * 12, "http://127.0.0.1:1/dns-query")
    finally:
        await client.close()
