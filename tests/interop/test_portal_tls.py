"""The portal with a certificate of its own, asked by a foreign TLS client over real TCP."""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from h2.connection import H2Connection

from support.certificates import write_certificate
from support.patience import PATIENCE_S
from support.served_portal import served_portal
from wardgate.portal import tls
from wardgate.portal.settings import PortalSettings


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "portal.crt", tmp_path / "portal.key"


async def test_a_renewed_certificate_is_shown_without_a_restart(files: tuple[Path, Path]) -> None:
    first = write_certificate(*files, name="first.example")
    async with _served(files) as port:
        assert await _shown(port) == first
        second = write_certificate(*files, name="second.example")
        assert await _is_shown(port, second)
        assert await _status(port, "/healthz") == 200


async def test_connections_that_name_no_host_see_the_renewed_certificate_too(
    files: tuple[Path, Path],
) -> None:
    write_certificate(*files, name="first.example")
    async with _served(files) as port:
        second = write_certificate(*files, name="second.example")
        assert await _is_shown(port, second, name=None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda certificate, _key: certificate.write_text("not a certificate"),
        lambda _certificate, key: key.unlink(),
        lambda certificate, key: write_certificate(certificate, key.with_name("another.key"), name="x"),
    ],
    ids=["garbage", "missing", "another's key"],
)
async def test_broken_files_keep_the_old_certificate_and_are_told_once(
    files: tuple[Path, Path], spoil: Callable[[Path, Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    first = write_certificate(*files, name="first.example")
    certificate = tls.Certificate(*files)
    spoil(*files)
    with caplog.at_level(logging.INFO, logger="wardgate"):
        for _ in range(5):
            certificate.look()
    assert [record.getMessage() for record in caplog.records] == [
        "the new TLS files cannot be used, the old certificate stays"
    ]
    assert _handshake(certificate) == first
    mended = write_certificate(*files, name="mended.example")
    certificate.look()
    certificate.look()
    assert _handshake(certificate) == mended


def test_files_that_are_still_being_written_are_left_alone(files: tuple[Path, Path]) -> None:
    first = write_certificate(*files, name="first.example")
    certificate = tls.Certificate(*files)
    write_certificate(*files, name="second.example")
    certificate.look()
    assert _handshake(certificate) == first


async def test_a_key_with_a_password_is_an_error_and_no_question(files: tuple[Path, Path]) -> None:
    write_certificate(*files, name="first.example")
    key = serialization.load_pem_private_key(files[1].read_bytes(), password=None)
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(tls.CertificateUnusable, match="has a password"):
        tls.Certificate(*files)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (
            lambda certificate, _key: certificate.write_text("not a certificate"),
            "portal.crt holds no certificate",
        ),
        (lambda _certificate, key: key.write_text(""), "portal.key holds no private key"),
        (lambda _certificate, key: key.unlink(), "cannot read .*portal.key: No such file"),
        (lambda certificate, _key: certificate.write_bytes(certificate.read_bytes()[:200]), "is damaged"),
        (
            lambda certificate, key: write_certificate(certificate, key.with_name("another.key"), name="x"),
            "portal.key does not belong to the certificate",
        ),
    ],
    ids=["garbage", "empty", "missing", "cut", "another's key"],
)
def test_files_that_are_no_pair_are_refused_by_name(
    files: tuple[Path, Path], spoil: Callable[[Path, Path], object], why: str
) -> None:
    write_certificate(*files, name="first.example")
    spoil(*files)
    with pytest.raises(tls.CertificateUnusable, match=why):
        tls.Certificate(*files)


async def test_a_foreign_http2_client_uploads_flow_logs(files: tuple[Path, Path], tmp_path: Path) -> None:
    write_certificate(*files, name="portal.example")
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"flow_logs": [{"x": "y" * 1000}] * 5000}))
    async with _served(files) as port:
        url = f"https://127.0.0.1:{port}/ingestion/flow_logs"
        # The ingest token is nobody's: the endpoint says so before it has read five megabytes.
        said = await _curl("--http2", "-H", "Authorization: Bearer x.y.z", "--json", f"@{body}", url)
        assert said == ["2 401 application/problem+json"]
        assert await _curl("--http2", f"https://127.0.0.1:{port}/healthz") == ["2 200 application/json"]
        assert await _curl("--http1.1", f"https://127.0.0.1:{port}/healthz") == ["1.1 200 application/json"]


async def test_a_stopping_portal_sees_the_end_of_a_peer_that_it_has_not_read_to_the_end(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    write_certificate(*files, name="portal.example")
    trusting = _trusting_anybody()
    trusting.set_alpn_protocols(["h2"])
    peer = H2Connection()
    peer.initiate_connection()
    for _ in range(10_000):
        peer.ping(b"12345678")
    async with _served(files) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        # More than the portal reads in a second: reading rests when the end comes.
        writer.write(peer.data_to_send())
        await writer.drain()
        assert await asyncio.wait_for(reader.read(1), PATIENCE_S)
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
    writer.transport.abort()
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR], "uvicorn gave up waiting"


async def _curl(*arguments: str) -> list[str]:
    """Return version, status and media type of each answer."""
    told = "%{http_version} %{http_code} %{content_type}\n"
    process = await asyncio.create_subprocess_exec(
        "curl", "-ksS", "-o", "/dev/null", "-w", told, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _nothing = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    return out.decode().splitlines()


@contextlib.asynccontextmanager
async def _served(files: tuple[Path, Path]) -> AsyncIterator[int]:
    def settings(port: int) -> PortalSettings:
        url = f"https://127.0.0.1:{port}"
        return PortalSettings(external_url=url, tls_certificate=files[0], tls_key=files[1])

    async with served_portal(settings) as (_portal, port):
        yield port


def _trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _shown(port: int, name: str | None = "portal.example") -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=_trusting_anybody(), server_hostname=name or ""
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    return shown  # type: ignore[no-any-return]


async def _is_shown(port: int, wanted: bytes, name: str | None = "portal.example") -> bool:
    """Tell whether it is, sooner or later."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await _shown(port, name) != wanted:  # noqa: ASYNC110 - files have no event
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


async def _status(port: int, path: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=_trusting_anybody())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1])


def _handshake(certificate: tls.Certificate) -> bytes:
    """Shake hands in memory; returns the certificate that the client saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = certificate.context.wrap_bio(to_server, to_client, server_side=True)
    client = _trusting_anybody().wrap_bio(to_client, to_server, server_hostname="portal.example")
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown
