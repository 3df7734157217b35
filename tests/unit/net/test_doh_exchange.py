import asyncio
import base64
import contextlib
import socket
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import dns.message
import dns.rrset
import pytest

from support.certificates import write_certificate
from wardgate.model.addresses import IpAddress
from wardgate.net.doh_exchange import DohClient
from wardgate.net.name_lookup import NameLookup


async def nobody() -> tuple[IpAddress, ...]:
    return ()


class DohServer:
    """Answers one request per connection; `status` and `kind` of the answer can be spoilt."""

    def __init__(self, status: str = "200 OK", kind: str = "application/dns-message") -> None:
        self.status, self.kind = status, kind
        self.asked: list[dns.message.Message] = []
        self.heads: list[str] = []
        self.padding = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        text = parse_qs(urlsplit(head.split()[1]).query)["dns"][0]
        query = dns.message.from_wire(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        self.asked.append(query)
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.80"))
        body = reply.to_wire() + bytes(self.padding)
        writer.write(
            f"HTTP/1.1 {self.status}\r\nContent-Type: {self.kind}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()


async def exchanged(server: DohServer) -> bytes:
    client = DohClient(NameLookup(nobody).addresses, mark=None)
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


async def test_neither_missing_certificates_nor_a_proxy_of_the_environment_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there

    assert dns.message.from_wire(await exchanged(DohServer())).id == 4711


@pytest.mark.parametrize(
    ("status", "kind"), [("500 Broken", "application/dns-message"), ("200 OK", "text/html")]
)
async def test_what_is_no_dns_answer_is_a_failure(status: str, kind: str) -> None:
    with pytest.raises(OSError, match="answered HTTP"):
        await exchanged(DohServer(status, kind))


async def test_a_dead_server_is_a_failure() -> None:
    client = DohClient(NameLookup(nobody).addresses, mark=None)
    try:
        with pytest.raises(OSError):  # noqa: PT011 - the text is the operating system's
            await client.exchange(b"\0" * 12, "http://127.0.0.1:1/dns-query")
    finally:
        await client.close()


@dataclass
class Bootstrap:
    """Finds the server's address, and counts how often it was asked."""

    addresses: tuple[str, ...] = ("127.0.0.1",)
    asked: list[str] = field(default_factory=list)

    async def look_up(self, name: str) -> list[IpAddress]:
        self.asked.append(name)
        return [ip_address(address) for address in self.addresses]


async def exchanged_by_name(
    server: DohServer, bootstrap: Bootstrap, context: ssl.SSLContext | None = None
) -> bytes:
    client = DohClient(bootstrap.look_up, mark=None)
    try:
        async with await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=context) as listening:
            port = listening.sockets[0].getsockname()[1]
            scheme = "http" if context is None else "https"
            query = dns.message.make_query("example.org", "A").to_wire()
            return await client.exchange(query, f"{scheme}://doh.example:{port}/dns-query")
    finally:
        await client.close()


async def test_the_servers_own_name_is_looked_up_outside_the_hosts_resolver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_the_host(*_: object, **__: object) -> None:
        raise AssertionError("the host's resolver was asked: on a client that is our own sentinel")

    monkeypatch.setattr(socket, "getaddrinfo", of_the_host)
    server, bootstrap = DohServer(), Bootstrap()
    assert await exchanged_by_name(server, bootstrap)
    assert bootstrap.asked == ["doh.example"]
    assert "host: doh.example:" in server.heads[0].lower()


async def test_the_next_address_is_tried_where_one_refuses() -> None:
    assert await exchanged_by_name(DohServer(), Bootstrap(("127.0.0.9", "127.0.0.1")))


async def test_a_server_without_address_is_a_failure() -> None:
    with pytest.raises(OSError, match=r"doh\.example has no address"):
        await exchanged_by_name(DohServer(), Bootstrap(()))


@pytest.mark.parametrize(("named", "is_trusted"), [("doh.example", True), ("other.example", False)])
async def test_the_certificate_is_held_against_the_name_and_not_the_address(
    named: str, is_trusted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, name=named)  # it is for 127.0.0.1 too
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    if is_trusted:
        assert await exchanged_by_name(DohServer(), Bootstrap(), context)
    else:
        with pytest.raises(OSError, match="certificate"):
            await exchanged_by_name(DohServer(), Bootstrap(), context)


async def test_after_a_change_of_the_network_another_connection_is_made() -> None:
    connections = 0
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                head = (
                    "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\nContent-Length: 12\r\n\r\n"
                )
                writer.write(head.encode() + bytes(12))
        writer.close()
        await writer.wait_closed()
        ended.put_nowait(None)

    client = DohClient(Bootstrap().look_up, mark=None)
    query = dns.message.make_query("example.org", "A").to_wire()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        url = f"http://doh.example:{listening.sockets[0].getsockname()[1]}/dns-query"
        for expected in (1, 1, 2):
            if expected == 2:
                await client.renew()
            await client.exchange(query, url)
            assert connections == expected
        await client.close()
        for _ in range(connections):
            await ended.get()


async def test_a_body_longer_than_any_dns_message_is_not_read_to_its_end() -> None:
    server = DohServer()
    server.padding = 10_000_000
    with pytest.raises(OSError, match="more than a DNS message"):
        await exchanged(server)


@pytest.mark.parametrize("url", ["", "https://", "nonsense", "https://[::1", "ftp://doh.example/"])
async def test_what_is_no_url_of_a_server_is_a_failure(url: str) -> None:
    client = DohClient(Bootstrap().look_up, mark=None)
    try:
        with pytest.raises(OSError):  # noqa: PT011 - whose words they are does not matter
            await client.exchange(b"\0" * 12, url)
    finally:
        await client.close()
