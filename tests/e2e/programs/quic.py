"""A QUIC stream that sends back what it is sent: `serve PORT CERTIFICATE KEY`, `ask PORT HOST SIZE`."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration

PROTOCOL = "echo"


def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def answer() -> None:
        writer.write(await reader.read())
        writer.write_eof()

    tasks.add(asyncio.ensure_future(answer()))


tasks: set[asyncio.Future[None]] = set()


async def run_server(port: str, certificate: str, key: str) -> None:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[PROTOCOL])
    configuration.load_cert_chain(certificate, key)
    await serve("0.0.0.0", int(port), configuration=configuration, stream_handler=echo)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def ask(port: str, host: str, size: str) -> None:
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=[PROTOCOL], verify_mode=ssl.CERT_NONE, idle_timeout=60
    )
    payload = os.urandom(int(size))
    # The server has IPv4 addresses only, and this library tries one address and no other.
    address = socket.gethostbyname(host)
    async with connect(address, int(port), configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(payload)
        writer.write_eof()
        print("same" if await reader.read() == payload else "other")


if __name__ == "__main__":
    asyncio.run({"serve": run_server, "ask": ask}[sys.argv[1]](*sys.argv[2:]))
