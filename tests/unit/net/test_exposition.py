"""What relays, gateways and clients expose, and that docs/peer-metrics.md says the same."""

import re
from pathlib import Path

from wardgate_native import RelayHost, TunnelEngine

from support.process_parts import HostedParts, client_process
from wardgate.datapath.engine_news import ThreadWatch
from wardgate.net.exposition import exposition

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "peer-metrics.md").read_text()


def test_the_page_names_every_metric_of_a_relay() -> None:
    relay = RelayHost(stamp_secret="5e" * 32, ipv4="127.0.0.1", ipv6=None, port=0, max_sockets=10)
    try:
        counts = relay.stats() | ThreadWatch(relay).counts()
        exposed = _types(exposition("relay", counts), "relay")
    finally:
        relay.close()

    assert _documented("Relay") == exposed


def test_the_page_names_every_metric_of_a_tunnels_end() -> None:
    engine = TunnelEngine(
        role="gateway", private_key=_KEY, seed=bytes(32), listen_port=52625, unix_at_zero=1_767_225_600.0
    )
    stats = engine.stats()
    # Those of sockets and device exist only with a device, which takes root.
    thread = (ROOT / "native" / "crates" / "io" / "src" / "tunnel_host.rs").read_text()
    stats |= dict.fromkeys(re.findall(r'\("((?:udp|tun|io)_\w+)",', thread), 0)

    stats |= client_process(HostedParts())[0].counts()

    assert _documented("Gateway and client") == _types(exposition("gateway", stats), "gateway")


_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def _documented(heading: str) -> dict[str, str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))


def _types(text: str, kind: str) -> dict[str, str]:
    return dict(re.findall(rf"^# TYPE wardgate_{kind}_(\w+) (\w+)$", text, re.MULTILINE))
