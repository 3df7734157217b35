"""Datagrams larger than the tunnel's packets, as Kerberos, RADIUS and SIP send them: they travel in fragments."""

from __future__ import annotations

import sys
from functools import partial

import pytest

from wardgate.lab.host import Host, Process, wait_until
from wardgate.lab.installation import WEB4, WEB6, Installation

PORT = 8812
SIZE = 4000
_ECHO = f"""
import socket
both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
both.bind(("::", {PORT}))
print("ready", flush=True)
while True:
    payload, sender = both.recvfrom(65535)
    both.sendto(payload[::-1], sender)
"""
_ASK = f"""
import os, socket, sys
wanted = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET  # the name has IPv4 addresses only
family, _, _, _, server = socket.getaddrinfo(sys.argv[1], {PORT}, wanted, socket.SOCK_DGRAM)[0]
payload = os.urandom({SIZE})
for _ in range(10):  # the first answer tells the server of the tunnel's MTU, where the path is IPv6
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        asking.connect(server)
        asking.send(payload)
        try:
            print("same" if asking.recv(65535) == payload[::-1] else "spoilt")
            break
        except TimeoutError:
            pass
else:
    print("lost")
"""


@pytest.mark.parametrize(
    "server", [WEB4, WEB6, "app.internal.example"], ids=["IPv4", "IPv6", "translated name"]
)
def test_a_datagram_of_4000_bytes_is_echoed(cone: Installation, server: str) -> None:
    echo = cone.web.start("echo", sys.executable, "-c", _ECHO)
    try:
        wait_until(partial(_is_ready, echo), "the echo server", limit_s=45)
        assert asked(cone.client_site.host, server) == "same"
    finally:
        echo.kill()


def asked(host: Host, server: str) -> str:
    return host.run(sys.executable, "-c", _ASK, server, timeout_s=120).strip()


def _is_ready(echo: Process) -> bool:
    return "ready" in echo.log()
