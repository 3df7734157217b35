"""Client to client: two of ours reach each other through device pools, directly and over relays."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.on_hosts import AT_ONCE_S, give_address, take_addresses
from wardgate.lab import Nat
from wardgate.lab.host import Process, Stopwatch, wait_until
from wardgate.lab.installation import TEN_MEGABYTES, TEN_MEGABYTES_SHA256, Installation
from wardgate.lab.packet_watch import PacketWatch

BY_NAME = "nas.lab.example"


@pytest.fixture
def pair(cone: Installation) -> Iterator[Pair]:
    made = Pair(cone)
    yield made
    made.end()


def test_s06_two_clients_reach_each_other_behind_any_router(pair: Pair, tmp_path: Path) -> None:
    lab = pair.lab
    before = lab.passed_by_relays()
    lab.grant(pair.make_pool("devices", "static_device_pool"))
    pair.set_members("devices", "client-2")
    wait_until(lambda: pair.is_pinged(pair.nas["ipv4"]), "the second client's answer to a ping", limit_s=30)
    pair.download(pair.nas["ipv4"])
    pair.download(f"[{pair.nas['ipv6']}]")
    assert lab.passed_by_relays() - before < TEN_MEGABYTES, "the path must be direct"
    for address in pair.nas["ipv4"], pair.nas["ipv6"]:
        lab.client_site.host.run("ping", "-c", "1", "-W", "10", address)

    # The pool's filters hold at both ends, and it leads in one direction.
    assert not pair.answers(pair.nas["ipv4"], 8001)
    assert not pair.answers_back(pair.laptop["ipv4"])
    pair.set_members("devices", "client", "client-2")
    wait_until(lambda: pair.answers_back(pair.laptop["ipv4"]), "the way back", limit_s=30)
    pair.download(pair.nas["ipv4"])

    # By name, through a pool of its own; the portal gives the name.
    lab.api.put(f"/wardgate/clients/{pair.nas['id']}/hostname", {"client": {"hostname": BY_NAME}})
    lab.grant(pair.make_pool("named", "dynamic_device_pool", address="*.lab.example"))
    pair.download(BY_NAME)

    # A program that only receives goes on when its machine comes back in another network.
    file, size = tmp_path / "download", 2_000_000
    url = f"http://{pair.nas['ipv4']}/slow?num={size}&rate=300000"
    client = lab.client_site
    running = client.host.start("roaming", "curl", "-fsS", "--no-keepalive", "-o", str(file), url)
    wait_until(lambda: file.exists() and file.stat().st_size > size / 10, "the download running", limit_s=60)
    take_addresses(client.host)
    try:
        give_address(client.host, client.address.removesuffix("100") + "201")
        assert running.wait(timeout_s=120) == 0, running.log()
        assert file.read_bytes() == bytes(size)
    finally:
        take_addresses(client.host)
        give_address(client.host, client.address)
        wait_until(lab.client_online, "the first client online", limit_s=60)

    # The end of access is felt at once.
    with PacketWatch(pair.site.host, 80, "wardgate") as watch:
        endless = lab.fetch_in_background(
            f"http://{pair.nas['ipv4']}/slow?num=1000000000&rate=1000000", timeout_s=3
        )
        wait_until(lambda: watch.count > 200, "the download", limit_s=45)
        asked = Stopwatch()
        lab.revoke("devices")
        lab.revoke("named")
        wait_until(lambda: time.time() - watch.last_at > 1, "silence at the other client", limit_s=30)
        assert asked.seconds_until(watch.last_at) < AT_ONCE_S
    assert endless.wait(limit_s=60).error is not None
    assert not pair.answers(pair.nas["ipv4"], 80)

    # Where neither router lets the other in, a relay carries it.
    lab.grant("devices")
    pair.put_behind(Nat.SYMMETRIC)
    before = lab.passed_by_relays()
    pair.download(pair.nas["ipv4"])
    assert lab.passed_by_relays() - before > TEN_MEGABYTES


class Pair:
    """The lab's client, and a second one with a web server on ports 80 and 8001."""

    def __init__(self, lab: Installation) -> None:
        self.lab = lab
        self.second: Process = lab.start_second_client()
        self.site = lab.second_client_site
        self._servers = [
            host.start(f"web-{port}", sys.executable, "-m", "wardgate.lab.web_server", "--port", str(port))
            for host in (self.site.host, lab.client_site.host)
            for port in (80, 8001)
        ]
        self.laptop, self.nas = self._device("client"), self._device("client-2")

    def _device(self, name: str) -> dict[str, Any]:
        (device,) = [one for one in self.lab.api.get("/clients") if one["name"] == name]
        return device

    def make_pool(self, name: str, type_: str, **fields: str) -> str:
        filters = [{"protocol": "tcp", "ports": ["80"]}, {"protocol": "icmp", "ports": []}]
        body = {"device_pool": {"name": name, "type": type_, "filters": filters, **fields}}
        self.lab.ids[name] = self.lab.api.post("/wardgate/device_pools", body)["id"]
        return name

    def set_members(self, pool: str, *names: str) -> None:
        members = [{"device_id": self._device(name)["id"]} for name in names]
        self.lab.api.put(f"/resources/{self.lab.ids[pool]}/pool_members", {"pool_members": members})

    def download(self, host: str) -> None:
        """Fetch ten megabytes from the second client; what was changed a moment ago may need another attempt."""
        url = f"http://{host}/bytes?num={TEN_MEGABYTES}"
        done = wait_until(
            lambda: one if (one := self.lab.fetch(url)).error is None else None, f"a download from {host}", 60
        )
        assert done is not None
        assert done.sha256 == TEN_MEGABYTES_SHA256

    def is_pinged(self, address: str) -> bool:
        """Whether one echo request of the first client is answered within a second."""
        return "1 received" in self.lab.client_site.host.run("ping", "-c1", "-W1", address, check=False)

    def answers(self, address: str, port: int) -> bool:
        return self.lab.fetch(f"http://{address}:{port}/bytes?num=1", timeout_s=3).error is None

    def answers_back(self, address: str) -> bool:
        """Whether the first client's server answers the second one."""
        return self.lab.fetch(f"http://{address}/bytes?num=1", timeout_s=3, site=self.site).error is None

    def end(self) -> None:
        """Leave the lab's client as it was."""
        for process in (*self._servers, self.second):
            process.stop()
        for pool in ("devices", "named"):
            if pool in self.lab.ids:
                self.lab.api.delete(f"/wardgate/device_pools/{self.lab.ids.pop(pool)}")

    def put_behind(self, nat: Nat) -> None:
        """Exchange the routers' translation while both clients are down."""
        self.second.stop()
        self.site.set_nat(nat)
        self.lab.restart_ends(client_nat=nat)
        self.second = self.lab.restart_second_client()
