"""A WebSocket that sends back what it is sent: `serve PORT CERTIFICATE KEY`, `ask PORT HOST SIZE`."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def run_server(port: str, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with serve(echo, "0.0.0.0", int(port), ssl=context, max_size=None) as server:
        print("ready", flush=True)
        await server.serve_forever()


async def ask(port: str, host: str, size: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    payload = os.urandom(int(size))
    async with connect(f"wss://{host}:{port}", ssl=context, max_size=None, open_timeout=60) as connection:
        await connection.send(payload)
        print("same" if await connection.recv() == payload else "other")


if __name__ == "__main__":
    asyncio.run({"serve": run_server, "ask": ask}[sys.argv[1]](*sys.argv[2:]))
