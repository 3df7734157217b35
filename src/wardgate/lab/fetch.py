"""Fetch a URL and print one JSON object about it: `python -m wardgate.lab.fetch URL`.

Unlike curl it reports the time from the connect call to the first byte of the reply, and the longest stall
between two reads.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import sys
import time
from urllib.parse import urlsplit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument(
        "--timeout", type=float, default=30, help="seconds without a byte after which it gives up"
    )
    options = parser.parse_args()
    url = urlsplit(options.url)
    started = time.monotonic()
    digest, received, longest_gap = hashlib.sha256(), 0, 0.0
    error = None
    first_byte_s = None
    try:
        connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=options.timeout)
        connection.request("GET", url.path + (f"?{url.query}" if url.query else ""))
        response = connection.getresponse()
        first_byte_s = time.monotonic() - started
        last = time.monotonic()
        while part := response.read1(1 << 16):
            now = time.monotonic()
            longest_gap = max(longest_gap, now - last)
            last = now
            received += len(part)
            digest.update(part)
        if response.status != http.client.OK:
            error = f"HTTP {response.status}"
        elif response.length:
            error = f"{response.length} bytes are missing"
    except (OSError, http.client.HTTPException) as caught:
        error = f"{type(caught).__name__}: {caught}"
    print(  # noqa: T201  # this is its output
        json.dumps(
            {
                "bytes": received,
                "sha256": digest.hexdigest(),
                "seconds": time.monotonic() - started,
                "first_byte_ms": None if first_byte_s is None else first_byte_s * 1000,
                "longest_gap_s": longest_gap,
                "error": error,
            }
        )
    )
    sys.exit(0 if error is None else 1)


if __name__ == "__main__":
    main()
