"""Two gateways in one site: clients spread over them; one that is killed or drained leaves its clients to the other."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from wardgate.lab.host import wait_until
from wardgate.lab.installation import WEB4, WEB6, Installation
from wardgate.lab.internet import Site

DRAIN_S: Final = 120.0
LIMIT_S: Final = 90.0
"""Each look may take ten seconds."""
TRIES: Final = 20
"""A client without a known place takes either gateway: 2^-20 is the chance that all tries take the same."""

_FLOW: Final = """
import http.client, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
connection = http.client.HTTPConnection(sys.argv[1], timeout=10)
connection.connect()
connection.auto_open = 0
while not told:
    connection.request("GET", "/get")
    connection.getresponse().read()
    time.sleep(0.1)
connection.close()
"""
_SEEN: Final = """
import json, sys, urllib.request
print(json.load(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])))["client"])
"""


@pytest.fixture
def pair(cone: Installation) -> Iterator[Pair]:
    made = Pair(cone)
    yield made
    made.end()


def test_two_gateways_share_the_clients_of_a_site_and_one_stands_in_for_the_other(pair: Pair) -> None:
    lab = pair.lab

    # A new client takes either.
    first = pair.gateway_of(lab.client_site)
    for _ in range(TRIES):
        if pair.gateway_of(lab.second_client_site) != first:
            break
        pair.restart_second_client()
    assert pair.gateway_of(lab.second_client_site) != first

    # One that drains lets the flow that it has go on, and gets nothing new: not from the same client, not from others.
    other = pair.other(first)
    flow = lab.client_site.host.start("flow", sys.executable, "-c", _FLOW, WEB4)
    wait_until(lambda: pair.flows(first) > 0, "the flow", limit_s=LIMIT_S)
    pair.processes[first].signal(signal.SIGTERM)
    wait_until(lambda: "a gateway drains" in lab.portal.log(), "the portal told", limit_s=LIMIT_S)
    assert "draining" in pair.status(first)["notes"]
    seen = wait_until(lambda: pair.seen_from(lab.client_site, WEB6), "another resource", limit_s=LIMIT_S)
    assert seen == f"10:20::{other}"
    pair.restart_second_client()
    assert pair.gateway_of(lab.second_client_site) == other
    assert (flow.exit_code, pair.processes[first].exit_code) == (None, None)
    assert flow.stop() == 0, flow.log()
    assert pair.processes[first].wait(timeout_s=DRAIN_S / 2) == 0, (
        "it ends with its last flow, not with its time"
    )
    assert pair.gateway_of(lab.client_site) == other

    # One that is killed says nothing: its clients notice, and come to the other.
    pair.start(first)
    pair.processes[other].kill()
    wait_until(lambda: pair.gateway_of(lab.client_site) == first, "the other gateway", limit_s=LIMIT_S)
    wait_until(lambda: pair.gateway_of(lab.second_client_site) == first, "the other gateway", limit_s=LIMIT_S)


class Pair:
    """Gateway 1 and gateway 2, as the web server sees them: by the last number of their addresses."""

    def __init__(self, lab: Installation) -> None:
        self.lab = lab
        lab.gateway.stop()
        lab.start_gateway(WARDGATE_DRAIN=f"{DRAIN_S}s")
        self.processes = {1: lab.gateway, 2: lab.start_second_gateway(WARDGATE_DRAIN=f"{DRAIN_S}s")}
        wait_until(lambda: lab.is_online("gateway"), "the first gateway online", limit_s=45)
        self._second_client = lab.start_second_client()

    def end(self) -> None:
        """Leave the lab's client and its first gateway alone, which is started as it was."""
        for process in (*self.processes.values(), self._second_client):
            process.signal(signal.SIGKILL)
        self.lab.gateway.wait(timeout_s=30)

    def start(self, number: int) -> None:
        if number == 1:
            self.lab.start_gateway()
            self.processes[1] = self.lab.gateway
            wait_until(lambda: self.lab.is_online("gateway"), "the first gateway online", limit_s=45)
        else:
            self.processes[2] = self.lab.restart_second_gateway()

    @staticmethod
    def other(number: int) -> int:
        return 3 - number

    def restart_second_client(self) -> None:
        self._second_client.stop()
        self._second_client = self.lab.restart_second_client()

    def gateway_of(self, site: Site) -> int | None:
        """Which gateway a client's request comes through; None if none took it."""
        seen = self.seen_from(site, WEB4)
        return int(seen.rpartition(".")[2]) if seen else None

    def seen_from(self, site: Site, address: str) -> str:
        """The address that the web server sees a request come from; empty if it gets none within some seconds."""
        host = f"[{address}]" if ":" in address else address
        return site.host.run(sys.executable, "-c", _SEEN, f"http://{host}/get", "10", check=False).strip()

    def flows(self, number: int) -> int:
        """How many flows are open at a gateway, as it says itself."""
        return int(self.status(number)["counts"]["flows_open"])

    def status(self, number: int) -> dict[str, Any]:
        host = self.processes[number].host
        (status,) = json.loads(self.lab.wardgate(host, "status", "gateway", "--json", check=False))
        return status  # type: ignore[no-any-return]
