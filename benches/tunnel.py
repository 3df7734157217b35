"""One TCP stream from client to a server behind the gateway and back, beside wireguard-go and the bare path.

All three subjects run between the same hosts, behind the same routers, at an inner MTU of 1280. The bare path
ends at the gateway's own iperf3 server; the tunnels end there too, so that every subject crosses the same
cables.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from wardgate.lab import Internet
from wardgate.lab.host import CommandFailed, Host, Process, wait_until
from wardgate.lab.installation import WEB4, Installation

_MODULE: Final = "golang.zx2c4.com/wireguard"
_WG_PORT: Final = 51820
_MSS: Final = (
    "1228"  # 1280 less IPv4 and TCP headers with timestamps; the bare path must cut as the tunnels do
)
_UDP_SIZE: Final = "64"


@dataclass
class Subject:
    """One way to the server, and the processes whose CPU time it costs."""

    name: str
    address: str
    processes: list[Process]


def run(*, runs: int, seconds: int) -> dict[str, Any]:
    """Median Mbit/s and CPU seconds per GB, both directions, and packets per second at 64 bytes; alternating runs."""
    with Internet() as internet:
        lab = Installation(internet)
        lab.init()
        lab.start_portal()
        lab.make_access()
        lab.start_peers()
        lab.web.start("iperf3", "iperf3", "--server")
        gateway, client = lab.gateway_site.host, lab.client_site.host
        assert lab.fetch(f"http://{WEB4}/get").error is None
        subjects = [Subject("wardgate", WEB4, [lab.client, lab.gateway])]
        with _wireguard_go(lab) as (peer, why_not):
            if peer is not None:
                subjects.append(peer)
            lab.gateway_site.router.run("nft", "-f", "-", text=_forward("tcp", 5201) + _forward("udp", 5201))
            gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            gateway.run("nft", "-f", "-", text=_BARE_RULES)
            subjects.append(Subject("bare path", lab.gateway_site.public4, []))
            results = _measure(client, subjects, runs, seconds)
    _print(results, why_not)
    return {**results, "wireguard_go_skipped": why_not}


def _measure(client: Host, subjects: list[Subject], runs: int, seconds: int) -> dict[str, Any]:
    tests: dict[str, Callable[[Subject], dict[str, float]]] = {
        "up": lambda subject: _tcp(client, subject, seconds),
        "down": lambda subject: _tcp(client, subject, seconds, "--reverse"),
        "packets": lambda subject: _udp(client, subject, seconds),
    }
    samples: dict[str, dict[str, list[dict[str, float]]]] = {t: {s.name: [] for s in subjects} for t in tests}
    for number in range(runs):
        for test, measure in tests.items():
            for subject in subjects if number % 2 == 0 else reversed(subjects):
                samples[test][subject.name].append(measure(subject))
    return {
        test: {
            name: {key: statistics.median(run[key] for run in taken) for key in taken[0]}
            for name, taken in by_name.items()
        }
        for test, by_name in samples.items()
    }


def _tcp(client: Host, subject: Subject, seconds: int, *extra: str) -> dict[str, float]:
    before = _cpu(subject)
    report = _iperf(client, subject.address, seconds, "--congestion", "cubic", "--set-mss", _MSS, *extra)
    received = report["end"]["sum_received"]
    gigabytes = received["bytes"] / 1e9
    return {
        "mbit_s": received["bits_per_second"] / 1e6,
        "cpu_s_per_gb": (_cpu(subject) - before) / gigabytes,
        "retransmits": report["end"]["sum_sent"].get("retransmits", 0),
    }


def _udp(client: Host, subject: Subject, seconds: int) -> dict[str, float]:
    report = _iperf(client, subject.address, seconds, "--udp", "--length", _UDP_SIZE, "--bandwidth", "0")
    received = report["end"]["sum_received"]
    got = received["packets"] - received.get("lost_packets", 0)
    return {"packets_s": got / received["seconds"]}


def _iperf(client: Host, address: str, seconds: int, *extra: str) -> dict[str, Any]:
    for attempt in range(5):
        with contextlib.suppress(CommandFailed):  # the one-client server may still be closing the last run
            report: dict[str, Any] = json.loads(
                client.run(
                    "iperf3",
                    "--client",
                    address,
                    "--time",
                    str(seconds),
                    "--json",
                    *extra,
                    timeout_s=seconds + 30,
                )
            )
            return report
        time.sleep(0.5 * (attempt + 1))
    raise RuntimeError(f"iperf3 to {address} failed five times")


def _cpu(subject: Subject) -> float:
    return sum(process.cpu_seconds() for process in subject.processes)


@contextmanager
def _wireguard_go(lab: Installation) -> Iterator[tuple[Subject | None, str | None]]:
    """Two wireguard-go processes between the same hosts, or the reason why there are none."""
    binary, why_not = _build_wireguard_go()
    if binary is None:
        yield None, why_not
        return
    client, gateway = lab.client_site.host, lab.gateway_site.host
    lab.gateway_site.router.run("nft", "-f", "-", text=_forward("udp", _WG_PORT))
    keys = {name: X25519PrivateKey.generate() for name in ("client", "gateway")}
    processes = []
    sockets = Path("/var/run/wireguard")
    try:
        for host, name, own, other, addresses in (
            (gateway, "wgbenchg", "gateway", "client", ("10.22.0.1/24",)),
            (client, "wgbenchc", "client", "gateway", ("10.22.0.2/24",)),
        ):
            processes.append(host.start(name, str(binary), "--foreground", name))
            wait_until((sockets / f"{name}.sock").exists, "wireguard-go's socket", limit_s=5)
            settings = [f"private_key={keys[own].private_bytes_raw().hex()}"]
            if name == "wgbenchg":
                settings.append(f"listen_port={_WG_PORT}")
            settings.append(f"public_key={keys[other].public_key().public_bytes_raw().hex()}")
            if name == "wgbenchc":
                settings.append(f"endpoint={lab.gateway_site.public4}:{_WG_PORT}")
            settings.append("allowed_ip=0.0.0.0/0")
            _configure(sockets / f"{name}.sock", settings)
            for address in addresses:
                host.run("ip", "addr", "add", address, "dev", name)
            host.run("ip", "link", "set", name, "mtu", "1280", "up")
        client.run("ip", "route", "add", "10.21.0.0/24", "dev", "wgbenchc")
        gateway.run("ip", "addr", "add", "10.21.0.1/24", "dev", "eth1")
        lab.web.run("ip", "addr", "add", "10.21.0.100/24", "dev", "eth1")
        gateway.run("nft", "-f", "-", text=_WG_RULES)
        yield Subject("wireguard-go", "10.21.0.100", processes), None
    finally:
        for process in processes:
            process.stop()
        for name in ("wgbenchg", "wgbenchc"):
            (sockets / f"{name}.sock").unlink(missing_ok=True)


def _build_wireguard_go() -> tuple[Path | None, str | None]:
    if shutil.which("go") is None:
        return None, "skipped: no Go toolchain on this machine"
    cache = Path(".cache/bench").resolve()
    binary = cache / "wireguard"
    if not binary.exists():
        cache.mkdir(parents=True, exist_ok=True)
        built = subprocess.run(
            ["go", "install", f"{_MODULE}@latest"],
            env={**os.environ, "GOBIN": str(cache)},
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            return None, f"skipped: wireguard-go does not build here: {built.stderr.strip().splitlines()[-1]}"
    return binary, None


def _configure(path: Path, settings: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(path))
        control.sendall(("set=1\n" + "\n".join(settings) + "\n\n").encode())
        answer = control.recv(4096)
    if b"errno=0" not in answer:
        raise RuntimeError(f"wireguard-go refused its configuration: {answer!r}")


def _forward(protocol: str, port: int) -> str:
    return f"add rule inet lab pre iifname internet meta nfproto ipv4 {protocol} dport {port} dnat ip to 172.31.0.100\n"


_WG_RULES = """
table ip bench_wg {
  chain post {
    type nat hook postrouting priority 100;
    ip saddr 10.22.0.0/24 oifname eth1 masquerade
  }
}
"""
_BARE_RULES = """
table ip bench_bare {
  chain pre {
    type nat hook prerouting priority -100;
    iifname eth0 meta l4proto { tcp, udp } th dport 5201 dnat to 10.20.0.100
  }
  chain post {
    type nat hook postrouting priority 100;
    oifname eth1 ip daddr 10.20.0.100 masquerade
  }
}
"""


def _print(results: dict[str, Any], why_not: str | None) -> None:
    for test, title, key in (
        ("up", "one TCP stream, client → server, Mbit/s", "mbit_s"),
        ("down", "one TCP stream, server → client, Mbit/s", "mbit_s"),
        ("up", "CPU seconds per GB, both ends, client → server", "cpu_s_per_gb"),
        ("down", "CPU seconds per GB, both ends, server → client", "cpu_s_per_gb"),
        ("packets", "UDP packets of 64 bytes received, per second", "packets_s"),
    ):
        print(f"\n{title}")
        ours = results[test]["wardgate"][key]
        for name, values in results[test].items():
            value = values[key]
            ratio = f"wardgate is {ours / value:.2f} ×" if name != "wardgate" and value else ""
            print(f"  {name:14} {value:12,.2f}  {ratio}")
    if why_not is not None:
        print(f"\nwireguard-go: {why_not}")
