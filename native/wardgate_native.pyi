"""Engines of the data plane (Rust). See native/crates/bindings.

`TunnelEngine` and `RelayEngine` are sans-IO: bytes and time in, bytes, events and deadlines out; simulator and
tests drive them. `TunnelHost` and `RelayHost` own the same engines on one I/O thread with sockets and TUN.
Socket addresses are text: "192.0.2.1:3478", "[2001:db8::1]:3478". Times are seconds on one monotonic clock chosen by
the caller; `unix_at_zero` says which wall time (Unix seconds) `now == 0.0` stands for (WireGuard's TAI64N,
TURN credentials).
"""

from typing import Self, final

__all__ = [
    "CommandRefused",
    "RelayEngine",
    "RelayHost",
    "TunnelEngine",
    "TunnelHost",
    "__version__",
    "generate_private_key",
    "public_key",
]

__version__: str

class CommandRefused(ValueError):
    """The command was malformed or named what does not exist; nothing was changed."""

_Datagram = tuple[str, str, bytes]  # (source, destination, payload)

def generate_private_key() -> str:
    """Draw a WireGuard private key from the operating system; standard base64."""

def public_key(private_key: str, /) -> str:
    """Derive the public key, both standard base64 of 32 bytes."""

@final
class TunnelEngine:
    def __new__(
        cls, *, role: str, private_key: str, seed: bytes, listen_port: int, unix_at_zero: float
    ) -> Self:
        """`role` is "client" or "gateway"; `seed` 32 bytes, from which all randomness of the engine derives."""
    def apply(self, command: bytes, *, now: float) -> None:
        """Apply one command (JSON of `wardgate.datapath.commands`). Raises CommandRefused."""
    def handle_network(self, batch: list[_Datagram], *, now: float) -> None: ...
    def handle_tun(self, batch: list[bytes], *, now: float) -> None: ...
    def handle_timeout(self, *, now: float) -> None: ...
    def poll_transmit(self) -> list[_Datagram]: ...
    def poll_tun(self) -> list[bytes]: ...
    def poll_events(self) -> bytes:
        """JSON array of `wardgate.datapath.events`; b"[]" when there is none."""
    def poll_timeout(self) -> float | None: ...
    def figures(self, peers: list[str], *, now: float) -> bytes:
        """JSON array of `wardgate.datapath.figures`: those of the named peers that have a connection."""
    def stats(self) -> dict[str, int]: ...

@final
class TunnelHost:
    def __new__(
        cls,
        *,
        role: str,
        private_key: str,
        tun_name: str,
        listen_port: int,
        firewall_mark: int | None = None,
        tun_device: int | None = None,
    ) -> Self:
        """Open TUN device and UDP sockets (IPv4, IPv6) and start the thread; a busy port falls back to
        one that the OS picks. `tun_device` is an open descriptor of the device, which is taken over.

        Raises OSError with `errno` when TUN or both sockets cannot be opened.
        """
    def apply(self, command: bytes) -> None:
        """Apply one command and return when the engine has applied it; the GIL is released.

        Raises CommandRefused, and RuntimeError when the thread has ended or hangs.
        """
    def drain_events(self) -> bytes: ...
    def event_fd(self) -> int:
        """Readable when events wait; owned by the host."""
    def clock(self) -> float:
        """The engine's `now` (CLOCK_BOOTTIME seconds), to turn wall-clock expiries into deadlines."""
    def local_port(self) -> int: ...
    def rebind(self) -> None:
        """Replace both UDP sockets (network change)."""
    def translated_flows(self) -> bytes:
        """JSON array of what a gateway translates, for `inherit_flows` of a process that takes its place."""
    def share_tun(self) -> int:
        """Return another descriptor of the TUN device, the caller's to close; while it is open, packets wait there.

        Raises OSError.
        """
    def figures(self, peers: list[str]) -> bytes:
        """JSON array of `wardgate.datapath.figures`: those of the named peers that have a connection.

        Packets wait while they are collected: name some dozens of peers at a time.
        """
    def stats(self) -> dict[str, int]: ...
    def warnings(self) -> list[str]: ...
    def news_fd(self) -> int:
        """Readable while `take_news` has something; owned by the host."""
    def take_news(self) -> tuple[list[str], str | None]:
        """Warnings since the last call, and why the thread is of no use any more: it ended by itself, or it hangs."""
    def check(self) -> int:
        """Look whether the thread goes on; to be called once a second.

        Returns how many calls in a row have met it at one and the same piece of work; 0 is as it should be. Too many
        are a fault in `take_news`.
        """
    def close(self) -> None:
        """Stop the thread and close everything; idempotent."""

@final
class RelayEngine:
    def __new__(
        cls,
        *,
        stamp_secret: str,
        ipv4: str | None,
        ipv6: str | None,
        port: int,
        first_port: int,
        last_port: int,
        seed: bytes,
        unix_at_zero: float,
    ) -> Self:
        """`ipv4`/`ipv6` are the public addresses announced; datagrams are named by them on both sides."""
    def handle_network(self, batch: list[_Datagram], *, now: float) -> None: ...
    def handle_timeout(self, *, now: float) -> None: ...
    def poll_transmit(self) -> list[_Datagram]: ...
    def poll_timeout(self) -> float | None: ...
    def drain(self) -> None:
        """Refuse new allocations (508) from now on."""
    def stats(self) -> dict[str, int]: ...

@final
class RelayHost:
    def __new__(
        cls,
        *,
        stamp_secret: str,
        ipv4: str | None,
        ipv6: str | None,
        port: int,
        first_port: int = 49152,
        last_port: int = 65535,
        deny_private: bool = False,
        max_sockets: int,
    ) -> Self:
        """Bind the listen port (wildcard) and start the thread. Raises OSError.

        `deny_private`: relay to no peer in a private range. `max_sockets`: one for each allocation and family.
        """
    def local_port(self) -> int: ...
    def drain(self) -> None: ...
    def stats(self) -> dict[str, int]:
        """allocations, channels, relayed_packets, relayed_bytes, dropped_packets, auth_failures, …"""
    def warnings(self) -> list[str]: ...
    def news_fd(self) -> int:
        """Readable while `take_news` has something; owned by the host."""
    def take_news(self) -> tuple[list[str], str | None]:
        """Warnings since the last call, and why the thread is of no use any more: it ended by itself, or it hangs."""
    def check(self) -> int:
        """Look whether the thread goes on; to be called once a second.

        Returns how many calls in a row have met it at one and the same piece of work; 0 is as it should be. Too many
        are a fault in `take_news`.
        """
    def close(self) -> None: ...
