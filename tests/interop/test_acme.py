"""The portal's certificate from a real ACME server: Pebble, built from its Go module, on loopback."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import ssl
import stat
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset
import httpx2
import pytest
from cryptography import x509

from support.certificates import write_certificate
from support.free_port import free_port
from support.once import alone_at
from support.patience import PATIENCE_S
from support.served_portal import served_portal
from wardgate.portal.acme import AcmeCertificate, OrderFailed, certificate_file
from wardgate.portal.environment import SystemClock
from wardgate.portal.listening import listen
from wardgate.portal.settings import AcmeSettings, PortalSettings

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".cache" / "pebble"
PEBBLE = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3"
DOMAIN = "portal.example.test"

pytestmark = pytest.mark.timeout(600)  # the first run fetches and compiles Pebble


@dataclass(frozen=True)
class Server:
    """A running Pebble.

    Attributes:
        asks_port: where it asks for proofs on the addresses of a name.
        roots: URL of the certificate that signs what it issues.
    """

    directory_url: str
    ca: Path
    asks_port: int
    roots: str

    def settings(self, *domains: str) -> AcmeSettings:
        return AcmeSettings(domains or (DOMAIN,), self.directory_url, "admin@example.test", self.ca)


@pytest.fixture(scope="module")
def pebble() -> Path:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        pytest.skip("no Go compiler on this machine")
    place = TOOLS / PEBBLE.rpartition("@")[2]
    with alone_at(place):
        if not (place / "pebble").exists():
            environment = {**os.environ, "GOBIN": str(place), "GOTOOLCHAIN": "local"}
            done = subprocess.run(
                [found, "install", PEBBLE], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
    return place / "pebble"


@pytest.fixture
async def server(pebble: Path, tmp_path: Path) -> AsyncIterator[Server]:
    directory = tmp_path / "pebble"
    directory.mkdir()
    certificate, key = directory / "pebble.crt", directory / "pebble.key"
    write_certificate(certificate, key, name="pebble.test")
    asked, management, asks = (free_port() for _ in range(3))
    config = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{asked}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(certificate),
            "privateKey": str(key),
            "httpPort": asks,
            "tlsPort": free_port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
    }
    (directory / "config.json").write_text(json.dumps(config))
    async with _names() as resolver:
        process = await asyncio.create_subprocess_exec(
            pebble, "-config", directory / "config.json", "-dnsserver", resolver,
            env={**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            url = f"https://127.0.0.1:{asked}/dir"
            await _answers(url, certificate)
            yield Server(url, certificate, asks, f"https://127.0.0.1:{management}/roots/0")
        finally:
            process.terminate()
            await process.wait()


@pytest.fixture
def file(tmp_path: Path, server: Server) -> Path:
    return certificate_file(tmp_path, server.settings())


async def test_a_portal_gets_its_certificate_by_itself_and_leads_plain_http_to_it(
    server: Server, file: Path
) -> None:
    async with _served(server, file) as port:
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http:
            plain = f"http://127.0.0.1:{server.asks_port}"
            answer = await http.get(f"{plain}/acme/sites?q=a%2Fb", headers={"host": "evil.example"})
            assert answer.status_code == 308
            assert answer.headers["location"] == f"https://{DOMAIN}/acme/sites?q=a%2Fb"
            assert (await http.get(f"{plain}/.well-known/acme-challenge/guess")).status_code == 404
        trusting = await _trusting(server)
        async with asyncio.timeout(PATIENCE_S):
            while not await _is_trusted(port, trusting):  # noqa: ASYNC110 - files have no event
                await asyncio.sleep(0.05)
    assert _mode(file) == 0o600
    assert _mode(file.parent) == 0o700


async def test_a_certificate_is_renewed_in_the_last_third_of_its_life_with_the_same_account(
    server: Server, file: Path
) -> None:
    clock = Clock()
    async with _proofs_served(server) as proofs:
        kept = AcmeCertificate(server.settings(), file, clock=clock, rng=Random(1))
        kept.proofs = proofs
        kept.prepare()
        async with _keeping(kept):
            await clock.slept.wait()
            first, account = _leaf(file), file.with_name("account.pem").read_bytes()
            life = first.not_valid_after_utc - first.not_valid_before_utc
            assert not kept.is_due(first.not_valid_before_utc + life * 0.66)
            clock.ahead = life * 0.67
            clock.wake()
            await clock.slept.wait()
        assert _leaf(file).serial_number != first.serial_number
        assert file.with_name("account.pem").read_bytes() == account


async def test_a_further_name_is_ordered_at_once(server: Server, file: Path) -> None:
    async with _proofs_served(server) as proofs:
        for domains in ((DOMAIN,), (DOMAIN, "api.example.test")):
            clock = Clock()
            kept = AcmeCertificate(server.settings(*domains), file, clock=clock, rng=Random(1))
            kept.proofs = proofs
            kept.prepare()
            async with _keeping(kept):
                await clock.slept.wait()
            names = _leaf(file).extensions.get_extension_for_class(x509.SubjectAlternativeName)
            assert set(names.value.get_values_for_type(x509.DNSName)) == set(domains)


async def test_a_proof_that_is_not_found_is_told_and_tried_again_later_and_later(
    server: Server, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    kept = AcmeCertificate(server.settings(), file, clock=clock, rng=Random(1))
    kept.prepare()
    before = _leaf(file)
    with caplog.at_level(logging.WARNING, logger="wardgate.portal.acme"):
        async with _keeping(kept):
            for _ in range(3):
                await clock.slept.wait()
                clock.wake()
            await clock.slept.wait()
    assert [round(pause / 60) for pause in clock.pauses] == pytest.approx([1, 2, 4, 8], rel=0.2)
    told: Any = caplog.records[0]
    assert DOMAIN in told.error
    assert "connection refused" in told.error.lower()
    assert _leaf(file) == before, "what was there stays"
    assert kept.proofs == {}


async def test_a_server_that_is_away_is_told_in_one_line(tmp_path: Path, pebble: Path) -> None:
    settings = AcmeSettings((DOMAIN,), f"https://127.0.0.1:{free_port()}/dir", None, None)
    file = certificate_file(tmp_path, settings)
    kept = AcmeCertificate(settings, file, clock=SystemClock(), rng=Random(1))
    kept.prepare()
    with pytest.raises(OrderFailed, match="refused"):
        await kept._order()


class Clock(SystemClock):
    """Sleeps until it is woken."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self.pauses: list[float] = []
        self.slept = asyncio.Event()
        self._woken = asyncio.Event()

    def now(self) -> datetime:
        return super().now() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.slept.set()
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        self.slept.clear()
        self._woken.set()


@contextlib.asynccontextmanager
async def _served(server: Server, file: Path) -> AsyncIterator[int]:
    settings = PortalSettings(
        external_url=f"https://{DOMAIN}", tls_certificate=file, tls_key=file, acme=server.settings()
    )
    plain = listen("127.0.0.1", server.asks_port)
    async with served_portal(lambda _port: settings, plain=plain) as (_portal, port):
        yield port


@contextlib.asynccontextmanager
async def _proofs_served(server: Server) -> AsyncIterator[dict[str, str]]:
    proofs: dict[str, str] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        proof = proofs[head.split()[1].decode().rpartition("/")[2]].encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(proof) + proof
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", server.asks_port):
        yield proofs


@contextlib.asynccontextmanager
async def _keeping(kept: AcmeCertificate) -> AsyncIterator[None]:
    task = asyncio.create_task(kept.keep_valid())
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def _names() -> AsyncIterator[str]:
    """A name server for which every name is this machine; Pebble asks it over TCP."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while length := int.from_bytes(await reader.readexactly(2)):
                question = dns.message.from_wire(await reader.readexactly(length))
                reply = dns.message.make_response(question, recursion_available=True)
                asked = question.question[0]
                if asked.rdtype == dns.rdatatype.A:
                    reply.answer.append(dns.rrset.from_text(asked.name, 60, "IN", "A", "127.0.0.1"))
                wire = reply.to_wire()
                writer.write(len(wire).to_bytes(2) + wire)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _answers(url: str, ca: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async with _client(ssl.create_default_context(cafile=ca)) as http:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    assert (await http.get(url)).status_code == 200
                    return
                await asyncio.sleep(0.05)


def _client(trusting: ssl.SSLContext) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(verify=trusting, trust_env=False, timeout=PATIENCE_S)


async def _trusting(server: Server) -> ssl.SSLContext:
    """Return a context that trusts what the server issues, and nothing else."""
    own = ssl.create_default_context(cafile=server.ca)
    async with _client(own) as http:
        return ssl.create_default_context(cadata=(await http.get(server.roots)).text)


async def _is_trusted(port: int, context: ssl.SSLContext) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=DOMAIN)
    except ssl.SSLCertVerificationError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _leaf(file: Path) -> x509.Certificate:
    pem = file.read_bytes()
    return x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
