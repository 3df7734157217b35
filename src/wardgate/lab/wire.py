"""The link process: `python -m wardgate.lab.wire`, started by `LossyLink` in a namespace of its own."""

from __future__ import annotations

import argparse
import heapq
import random
import select
import socket
import subprocess
import sys
import time

_ETH_P_ALL = 0x0003
_OUTGOING = 4  # sll_pkttype of frames that we sent ourselves
_MAX_QUEUED = 20_000


def main() -> None:
    """Entry point of the link process; it ends when its standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loss", type=float, required=True)
    parser.add_argument("--delay", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    print("ready", flush=True)  # noqa: T201  # the protocol with LossyLink
    if sys.stdin.readline() != "plugged\n":
        return
    for end in ("left", "right"):
        subprocess.run(["ip", "link", "set", end, "txqueuelen", "10000", "up"], check=True)
        subprocess.run(
            ["ethtool", "-K", end, "tx", "off", "tso", "off", "gso", "off", "gro", "off"],
            check=True,
            capture_output=True,
        )
    left, right = _packet_socket("left"), _packet_socket("right")
    print("running", flush=True)  # noqa: T201
    _forward(left, right, options.loss, options.delay, random.Random(options.seed))  # noqa: S311  # a lab's loss, not a secret


def _packet_socket(interface: str) -> socket.socket:
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    packets.bind((interface, _ETH_P_ALL))
    packets.setblocking(False)
    return packets


def _forward(
    left: socket.socket, right: socket.socket, loss: float, delay_s: float, rng: random.Random
) -> None:
    queue: list[tuple[float, int, socket.socket, bytes]] = []
    count = 0
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        ready, _, _ = select.select([left, right, sys.stdin], [], [], wait)
        now = time.monotonic()
        if sys.stdin in ready and not sys.stdin.readline():
            return
        for source, target in ((left, right), (right, left)):
            if source not in ready:
                continue
            for _ in range(256):
                try:
                    frame, address = source.recvfrom(65536)
                except BlockingIOError:
                    break
                if (
                    address[2] == _OUTGOING
                    or (source is left and rng.random() < loss)
                    or len(queue) > _MAX_QUEUED
                ):
                    continue
                count += 1
                heapq.heappush(queue, (now + delay_s, count, target, frame))
        while queue and queue[0][0] <= now:
            _, _, target, frame = heapq.heappop(queue)
            try:
                target.send(frame)
            except (BlockingIOError, OSError):
                continue  # a full queue loses the frame, as a cable would


if __name__ == "__main__":
    main()
