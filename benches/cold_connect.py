"""Cold connect: from the client program's connect call to the first byte of the reply, nothing connected before.

The client's edge adds 10 ms each way, so that everything is a 20 ms round trip away.
"""

from __future__ import annotations

import statistics
from typing import Any

from wardgate.lab import Internet
from wardgate.lab.host import wait_until
from wardgate.lab.installation import WEB4, Installation


def run(*, runs: int, seconds: int) -> dict[str, Any]:  # noqa: ARG001  # every suite takes both
    """Milliseconds over `runs` fresh client processes: to an address and to a name."""
    samples: dict[str, list[float]] = {"address": [], "name": []}
    with Internet() as internet:
        lab = Installation(internet, client_delay_s=0.01)
        lab.init()
        lab.start_portal()
        lab.make_access()
        lab.start_peers()
        for _ in range(runs):
            for kind, host in (("address", WEB4), ("name", "app.internal.example")):
                lab.client.stop()
                wait_until(lambda: not lab.client_online(), "client gone", limit_s=15)
                lab.start_client()
                wait_until(lab.client_online, "client online", limit_s=15)
                done = lab.fetch(f"http://{host}/get")
                assert done.first_byte_ms is not None, done.error
                samples[kind].append(done.first_byte_ms)
    print("\ncold connect at 20 ms round trip to everything, ms from connect to first byte")
    for kind, taken in samples.items():
        print(
            f"  to {kind:8} median {statistics.median(taken):6.0f}   all {sorted(round(value) for value in taken)}"
        )
    return {
        kind: {"median_ms": statistics.median(taken), "samples_ms": taken} for kind, taken in samples.items()
    }
