"""The private web server of the lab: `GET /bytes?num=N` (zero bytes), `/get` (who asks), `/slow?num=N&rate=B`
(B bytes a second).
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_CHUNK = bytes(65536)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name http.server wants
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/get":
            self._answer(
                json.dumps({"host": self.headers.get("Host"), "client": self.client_address[0]}).encode()
            )
        elif url.path in ("/bytes", "/slow"):
            self._stream(int(query.get("num", "0")), float(query.get("rate", "0")))
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's signature
        pass

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, size: int, rate: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        started, sent = time.monotonic(), 0
        while sent < size:
            part = _CHUNK[: min(len(_CHUNK), size - sent, max(1, int(rate / 50)) if rate else len(_CHUNK))]
            self.wfile.write(part)
            sent += len(part)
            if rate:
                time.sleep(max(0.0, started + sent / rate - time.monotonic()))


class _Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away is what the lab is for


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=80)
    _Server(("::", parser.parse_args().port), _Handler).serve_forever()


if __name__ == "__main__":
    main()
