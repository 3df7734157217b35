"""Paths: symmetric NATs, relays, loss, and a relay that dies."""

from __future__ import annotations

from collections.abc import Callable

from wardgate.lab import Nat
from wardgate.lab.host import wait_until
from wardgate.lab.installation import TEN_MEGABYTES, TEN_MEGABYTES_SHA256, WEB4, Download, Installation
from wardgate.lab.internet import Site

BY_NAME = f"http://download.httpbin/bytes?num={TEN_MEGABYTES}"


def test_s14_download_double_symmetric_nat(cone: Installation) -> None:
    cone.relays["relay-2"].kill()
    wait_until(lambda: len(cone.operator.get("/wardgate/relays")) == 1, "one relay", limit_s=45)
    cone.restart_ends(client_nat=Nat.SYMMETRIC, gateway_nat=Nat.SYMMETRIC)
    before = cone.relayed_bytes(cone.gateway_site)
    whole(cone.fetch(BY_NAME, timeout_s=30))
    assert used_since(cone, before, cone.gateway_site)["relay-1"] > TEN_MEGABYTES


def test_s16_download_packet_loss(installation: Callable[..., Installation]) -> None:
    lab = installation(client_loss=0.2)
    whole(lab.fetch(BY_NAME, timeout_s=30))


def test_n01_symmetric_client_uses_one_relay(cone: Installation) -> None:
    cone.restart_ends(client_nat=Nat.SYMMETRIC)
    before, direct_before = cone.relayed_bytes(cone.gateway_site), cone.direct_bytes()
    whole(cone.fetch(BY_NAME, timeout_s=30))
    used = used_since(cone, before, cone.gateway_site)
    assert len([relay for relay, count in used.items() if count > TEN_MEGABYTES]) == 1
    assert cone.direct_bytes() - direct_before < 100_000


def test_n02_n03_double_symmetric_with_two_relays_of_which_one_dies(cone: Installation) -> None:
    cone.restart_ends(client_nat=Nat.SYMMETRIC, gateway_nat=Nat.SYMMETRIC)
    whole(cone.fetch(BY_NAME, timeout_s=30))
    before = cone.relayed_bytes()
    download = cone.fetch_in_background(f"http://{WEB4}/slow?num=10000000&rate=2000000", timeout_s=30)
    wait_until(lambda: max(used_since(cone, before).values()) > 3_000, "the download running", limit_s=45)
    used = used_since(cone, before)
    cone.relays[max(used, key=lambda relay: used[relay])].kill()
    done = download.wait(limit_s=90)
    assert done.error is None
    assert done.bytes == TEN_MEGABYTES
    assert done.longest_gap_s < 15


def whole(download: Download) -> None:
    assert download.error is None
    assert download.sha256 == TEN_MEGABYTES_SHA256


def used_since(lab: Installation, before: dict[str, int], site: Site | None = None) -> dict[str, int]:
    return {relay: count - before[relay] for relay, count in lab.relayed_bytes(site).items()}
