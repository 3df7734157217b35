"""Names a second through the client's resolver, and how long each takes, beside dnsmasq on the same host.

dnsperf asks from the client's host, a hundred queries under way. Three kinds of names: *cached*, a
few that both have answered before; *resource*, ours alone: names of a DNS resource, whose answers are made up here; and
*forwarded*, each asked for the first time, so that both ask the same server on the public segment, another
dnsmasq. Both servers have room for 2,048 answers.
"""

from __future__ import annotations

import math
import re
import statistics
from functools import partial
from typing import Any, Final

from wardgate.lab import Internet
from wardgate.lab.host import CommandFailed, Host, Process, wait_until
from wardgate.lab.installation import Installation

_UPSTREAM: Final = "203.0.113.54"
_PEER: Final = "127.0.0.1"
_PEER_PORT: Final = 5300
_CACHED_NAMES: Final = 64
_RESOURCE_NAMES: Final = 64
_FIRST_TIME_NAMES: Final = 200_000  # far more than are asked in one run


def run(*, runs: int, seconds: int) -> dict[str, Any]:
    """Queries a second, their p99 in ms and CPU microseconds a query, of each server; medians of alternating runs."""
    samples: dict[str, dict[str, list[dict[str, float]]]] = {}
    with Internet() as internet:
        upstream = internet.public_host("upstream", 54)
        lab = Installation(internet)
        upstream.start(
            "dnsmasq", *_dnsmasq(_UPSTREAM, 53, "--address=/bench.test/192.0.2.7", "--local-ttl=300")
        )
        lab.init()
        lab.start_portal()
        lab.make_access()
        lab.client_site.host.set_resolver(_UPSTREAM)
        lab.start_peers()
        client = lab.client_site.host
        sentinel = client.run("grep", "-m1", "-oE", r"100\.100\.111\.[0-9]+", "/etc/resolv.conf").strip()
        peer = client.start(
            "dnsmasq", *_dnsmasq(_PEER, _PEER_PORT, f"--server={_UPSTREAM}", "--cache-size=2048")
        )
        subjects = {"wardgate": (sentinel, 53, lab.client), "dnsmasq": (_PEER, _PEER_PORT, peer)}
        for address, port, _ in subjects.values():
            wait_until(partial(_answers, client, address, port), "an answer", 30)
        kinds = {
            "cached": [f"n{number}.bench.test" for number in range(_CACHED_NAMES)],
            "resource": [f"n{number}.httpbin.search.test" for number in range(_RESOURCE_NAMES)],
        }
        for number in range(runs):
            for kind in ("cached", "resource", "forwarded"):
                names = kinds.get(kind) or [
                    f"f{number}x{count}.bench.test" for count in range(_FIRST_TIME_NAMES)
                ]
                for subject in list(subjects) if number % 2 == 0 else reversed(list(subjects)):
                    if kind == "resource" and subject == "dnsmasq":
                        continue
                    address, port, process = subjects[subject]
                    taken = samples.setdefault(kind, {}).setdefault(subject, [])
                    taken.append(_ask(client, address, port, process, names, seconds))
    results = {
        kind: {
            subject: {key: statistics.median(one[key] for one in taken) for key in taken[0]}
            for subject, taken in by_subject.items()
        }
        for kind, by_subject in samples.items()
    }
    _print(results)
    return results


def _dnsmasq(address: str, port: int, *extra: str) -> list[str]:
    return [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--bind-interfaces",
        f"--listen-address={address}",
        f"--port={port}",
        "--pid-file=",
        "--dns-forward-max=2000",
        *extra,
    ]


def _answers(client: Host, address: str, port: int) -> bool:
    try:
        return "192.0.2.7" in client.run(
            "dig", "+short", "+time=1", "+tries=1", f"@{address}", "-p", str(port), "up.bench.test"
        )
    except CommandFailed:
        return False


def _ask(
    client: Host, address: str, port: int, process: Process, names: list[str], seconds: int
) -> dict[str, float]:
    (client.directory / "queries").write_text("".join(f"{name} A\n" for name in names))
    before = process.cpu_seconds()
    printed = client.run(
        *("dnsperf", "-s", address, "-p", str(port), "-d", str(client.directory / "queries")),
        *("-l", str(seconds), "-q", "100", "-c", "4", "-t", "5", "-v"),
        timeout_s=seconds + 60,
    )
    used = process.cpu_seconds() - before
    took = sorted(float(one) for one in re.findall(r"^> NOERROR \S+ \S+ ([\d.]+)", printed, re.MULTILINE))
    lost = re.search(r"Queries lost:\s+(\d+)", printed)
    assert took, printed[-2000:]
    return {
        "queries_s": len(took) / seconds,
        "p99_ms": took[math.ceil(len(took) * 0.99) - 1] * 1000,
        "cpu_us": used / len(took) * 1e6,
        "lost": float(lost[1]) if lost else math.nan,
    }


def _print(results: dict[str, Any]) -> None:
    print("\nDNS through the client's resolver, 100 queries under way")
    for kind, by_subject in results.items():
        for subject, one in by_subject.items():
            print(
                f"  {kind:10} {subject:9} {one['queries_s']:9.0f} /s   p99 {one['p99_ms']:7.2f} ms   "
                f"{one['cpu_us']:6.0f} µs of CPU each   lost {one['lost']:.0f}"
            )
