"""A socket that knows when its bytes were in the kernel, however late its process comes to read them."""

import asyncio
import socket
import time

from wardgate.net.timed_socket import TimedSocket

BUSY_S = 0.05
ROUNDING_S = 1e-6


async def test_what_is_read_late_was_received_when_it_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        timed = TimedSocket(socket.AF_INET, socket.SOCK_STREAM)
        timed.connect(listener.getsockname())
        other, _address = listener.accept()
    assert (timed.sent_at, timed.received_at) == (0, 0)
    reader, writer = await asyncio.open_connection(sock=timed)
    with other:
        began = time.time()
        writer.write(b"a request")
        assert began <= timed.sent_at <= time.time(), "asyncio writes at once"
        assert other.recv(64) == b"a request"

        sent = time.time()
        other.sendall(b"an answer")
        time.sleep(BUSY_S)  # noqa: ASYNC251  # this process has something else to do
        noticed = time.time()
        assert await reader.read(64) == b"an answer"
        assert sent - ROUNDING_S <= timed.received_at < noticed

        other.sendall(b"twice")
        other.close()
        assert await reader.read() == b"twice", "and the end is an end"
    writer.close()
    await writer.wait_closed()
