"""A cable that loses and delays frames, for kernels without netem: a process between two veth pairs.

It runs in a namespace of its own, reads Ethernet frames with packet sockets and sends them on. Segmentation offload is
switched off on the interfaces, so that a loss hits one frame and not a burst of them.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardgate.lab.host import Host


class LossyLink:
    """Joins `left` and `right`; loss and delay apply to frames from left to right, delay also backwards."""

    def __init__(
        self,
        left: Host,
        left_name: str,
        right: Host,
        right_name: str,
        *,
        loss: float,
        delay_s: float,
        seed: int = 1,
    ) -> None:
        self._wire = subprocess.Popen(
            [
                "unshare", "--net", sys.executable, "-m", "wardgate.lab.wire",
                f"--loss={loss}", f"--delay={delay_s}", f"--seed={seed}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert self._wire.stdout is not None
        assert self._wire.stdin is not None
        if self._wire.stdout.readline() != "ready\n":
            raise RuntimeError("the link process did not start")
        for host, name, end in ((left, left_name, "left"), (right, right_name, "right")):
            host.run(
                "ip", "link", "add", name, "type", "veth", "peer", "name", end, "netns", str(self._wire.pid)
            )
            host.run("ethtool", "-K", name, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
            host.run("ip", "link", "set", name, "txqueuelen", "10000", "up")
        self._wire.stdin.write("plugged\n")
        self._wire.stdin.flush()
        if self._wire.stdout.readline() != "running\n":
            raise RuntimeError("the link process did not find its interfaces")

    def close(self) -> None:
        self._wire.kill()
        self._wire.communicate()
