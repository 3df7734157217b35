"""The tunnel engine behind one interface, hosted (sockets, TUN, a thread of its own) or sans-IO (simulator, tests).

The machines of gateway and client see `Programmable` only. Who drives them chooses the engine, drains its events and
hands them over.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec
import wardgate_native

from wardgate.datapath.commands import Command, TranslatedFlow
from wardgate.datapath.engine_news import EngineStopped
from wardgate.datapath.events import AnyEvent
from wardgate.datapath.figures import ConnectionFigures
from wardgate.datapath.programmable import CommandRefused

Role = Literal["client", "gateway"]

_ENCODER: Final = msgspec.json.Encoder()
_EVENTS: Final = msgspec.json.Decoder(list[AnyEvent])
_FIGURES: Final = msgspec.json.Decoder(list[ConnectionFigures])
_TRANSLATED: Final = msgspec.json.Decoder(tuple[TranslatedFlow, ...])
_PEERS_AT_ONCE: Final = 50  # ours: packets wait while figures are collected, some microseconds for each peer


class SimulatedEngine:
    """Programs a sans-IO engine; `clock` gives the `now` of its caller."""

    def __init__(self, engine: wardgate_native.TunnelEngine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def apply(self, command: Command) -> None:
        try:
            self._engine.apply(_ENCODER.encode(command), now=self._clock())
        except wardgate_native.CommandRefused as error:
            raise CommandRefused(str(error)) from error

    def drain_events(self) -> list[AnyEvent]:
        return _EVENTS.decode(self._engine.poll_events())


class HostedEngine:
    """Owns a `TunnelHost`: its thread moves packets, this object programs it and reads its events."""

    def __init__(
        self,
        *,
        role: Role,
        private_key: str,
        tun_name: str,
        listen_port: int,
        firewall_mark: int,
        tun_device: int | None = None,
    ) -> None:
        """Open TUN device and sockets and start the thread; `tun_device`, a descriptor, is taken over instead.

        Raises:
            OSError: the device or both sockets cannot be opened; `errno` says why.
        """
        self._host = wardgate_native.TunnelHost(
            role=role,
            private_key=private_key,
            tun_name=tun_name,
            listen_port=listen_port,
            firewall_mark=firewall_mark,
            tun_device=tun_device,
        )

    def apply(self, command: Command) -> None:
        try:
            self._host.apply(_ENCODER.encode(command))
        except wardgate_native.CommandRefused as error:
            raise CommandRefused(str(error)) from error
        except RuntimeError as error:
            raise EngineStopped(str(error)) from error

    def on_readable(self, handle: Callable[[], None]) -> None:
        """Call `handle` from the running event loop whenever `drain_events` has something."""
        asyncio.get_running_loop().add_reader(self._host.event_fd(), handle)

    def drain_events(self) -> list[AnyEvent]:
        return _EVENTS.decode(self._host.drain_events())

    def clock(self) -> float:
        """Seconds of the engine's clock."""
        return self._host.clock()

    def local_port(self) -> int:
        return self._host.local_port()

    def news_fd(self) -> int:
        """Readable while `take_news` has something."""
        return self._host.news_fd()

    def take_news(self) -> tuple[list[str], str | None]:
        """Warnings since the last call, and why the thread is of no use any more: it ended by itself, or it hangs."""
        return self._host.take_news()

    def check(self) -> int:
        """Return for how many calls in a row, one a second, the thread has been at one and the same piece of work."""
        return self._host.check()

    def stats(self) -> dict[str, int]:
        return self._host.stats()

    def figures(self, peers: Sequence[str]) -> list[ConnectionFigures]:
        """Figures of those of the named peers that have a connection; packets pass between some peers and the next."""
        found = list[ConnectionFigures]()
        for first in range(0, len(peers), _PEERS_AT_ONCE):
            found += _FIGURES.decode(self._host.figures(list(peers[first : first + _PEERS_AT_ONCE])))
        return found

    def rebind(self) -> None:
        """Replace both UDP sockets after a network change."""
        self._host.rebind()

    def translated_flows(self) -> tuple[TranslatedFlow, ...]:
        """Return the flows to names that a gateway translates, for who takes over."""
        return _TRANSLATED.decode(self._host.translated_flows())

    def share_tun(self) -> int:
        """Return another descriptor of the TUN device, for who takes over; while it is open, packets wait there.

        Raises:
            OSError: the thread has ended, or there are too many descriptors.
        """
        return self._host.share_tun()

    def close(self) -> None:
        """Stop the thread and close everything; idempotent."""
        asyncio.get_running_loop().remove_reader(self._host.event_fd())
        self._host.close()


def generate_private_key() -> str:
    """Draw a WireGuard private key; standard base64 of 32 bytes."""
    return wardgate_native.generate_private_key()


def public_key(private_key: str) -> str:
    """The public key of a private key, both standard base64 of 32 bytes."""
    return wardgate_native.public_key(private_key)
