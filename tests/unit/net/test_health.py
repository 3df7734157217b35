import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from wardgate.net.errors import HostRefused
from wardgate.net.exposition import exposition
from wardgate.net.health import health_listener, is_own_host


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


async def test_readiness_tells_what_is_to_be_known() -> None:
    async with health_listener(
        "127.0.0.1", 0, is_ready=lambda: True, version="1.2.3", notes=lambda: ["routes: put back 2 times"]
    ) as port:
        assert await fetch(port, "/readyz") == (200, "1.2.3\nroutes: put back 2 times")


async def test_other_paths_and_methods_are_refused() -> None:
    async with health_listener("127.0.0.1", 0, is_ready=lambda: True, version="") as port:
        assert (await fetch(port, "/"))[0] == 404
        assert (await fetch(port, "/healthz", "POST"))[0] == 405


async def test_metrics_are_for_processes_on_this_host() -> None:
    exposed = exposition("gateway", {"packets_sent": 7, "allocations": 3})

    async with health_listener(
        "127.0.0.1", 0, is_ready=lambda: True, version="", metrics=lambda: exposed
    ) as port:
        assert await fetch(port, "/metrics") == (200, exposed)
    async with health_listener(
        "127.0.0.1", 0, is_ready=lambda: True, version="", metrics=lambda: None
    ) as port:
        assert await fetch(port, "/metrics") == (404, "")


@pytest.mark.parametrize(
    ("peer", "is_own"),
    [
        (("127.0.0.1", 9), True),
        (("::1", 9, 0, 0), True),
        (("::ffff:127.0.0.1", 9, 0, 0), True),
        (("192.0.2.1", 9), False),
        (("fe80::1%eth0", 9, 0, 2), False),
        (("::ffff:192.0.2.1", 9, 0, 0), False),
    ],
)
def test_only_loopback_is_this_host(peer: tuple[object, ...], is_own: bool) -> None:
    assert is_own_host(peer) is is_own


def test_what_only_grows_is_a_counter() -> None:
    families = {
        family.name: (family.type, family.samples[0].value)
        for family in text_string_to_metric_families(
            exposition("relay", {"relayed_packets": 7, "allocations": 3})
        )
    }

    assert families == {
        "wardgate_relay_relayed_packets": ("counter", 7.0),
        "wardgate_relay_allocations": ("gauge", 3.0),
    }


async def test_a_busy_port_names_the_flag() -> None:
    async with health_listener("127.0.0.1", 0, is_ready=lambda: True, version="") as port:
        with pytest.raises(HostRefused, match="--health-check-addr"):
            async with health_listener("127.0.0.1", port, is_ready=lambda: True, version=""):
                pass
