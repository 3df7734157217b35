import asyncio

import pytest

from wardgate.net.errors import HostRefused
from wardgate.net.health import health_listener


async def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    response = (await reader.read()).decode()
    writer.close()
    head, _, body = response.partition("\r\n\r\n")
    return int(head.split()[1]), body


async def test_readiness_follows_the_portal_and_liveness_does_not() -> None:
    ready = False
    async with health_listener("127.0.0.1", 0, is_ready=lambda: ready, version="1.2.3") as port:
        before = [await fetch(port, path) for path in ("/healthz", "/readyz")]
        ready = True
        after = await fetch(port, "/readyz?x=1")

    assert before == [(200, ""), (503, "1.2.3")]
    assert after == (200, "1.2.3")


async def test_other_paths_and_methods_are_refused() -> None:
    async with health_listener("127.0.0.1", 0, is_ready=lambda: True, version="") as port:
        assert (await fetch(port, "/"))[0] == 404
        assert (await fetch(port, "/healthz", "POST"))[0] == 405


async def test_a_busy_port_names_the_flag() -> None:
    async with health_listener("127.0.0.1", 0, is_ready=lambda: True, version="") as port:
        with pytest.raises(HostRefused, match="--health-check-addr"):
            async with health_listener("127.0.0.1", port, is_ready=lambda: True, version=""):
                pass
