"""`wardgate relay`: its settings."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import peers, shared
from wardgate.cli.parameters import CONFIG, Form, Setting
from wardgate.wire.reconnect import RELAY_BUDGET_S


def _all_addresses(text: str) -> str:
    """Refuse what an administrator would believe in: that others do not reach the relay by its other addresses."""
    if not values.address(text).is_unspecified:
        raise ValueError(f"a relay listens at all addresses of its host, not at {text} alone; a firewall can")
    return text


API_URL: Final = peers.API_URL
TOKEN: Final = replace(peers.TOKEN, help="relay token; needed", form=Form.ARGUMENT)
PUBLIC_IP4_ADDR: Final = Setting[IPv4Address | None](
    name="public_ip4_addr",
    help="IPv4 address at which peers reach the relay; this or the next is needed",
    read=values.ipv4_address,
    default=None,
    value="ADDRESS",
    foreign=("PUBLIC_IP4_ADDR",),
)
PUBLIC_IP6_ADDR: Final = Setting[IPv6Address | None](
    name="public_ip6_addr",
    help="IPv6 address at which peers reach the relay",
    read=values.ipv6_address,
    default=None,
    value="ADDRESS",
    foreign=("PUBLIC_IP6_ADDR",),
)
LISTEN_PORT: Final = replace(
    peers.LISTEN_PORT, help="STUN and TURN, UDP", read=values.port, default=3478, foreign=("LISTEN_PORT",)
)
LOWEST_PORT: Final = Setting(
    name="lowest_port",
    help="first port of allocations",
    read=values.port,
    default=49152,
    value="PORT",
    foreign=("LOWEST_PORT",),
)
HIGHEST_PORT: Final = Setting(
    name="highest_port",
    help="last port of allocations",
    read=values.port,
    default=65535,
    value="PORT",
    foreign=("HIGHEST_PORT",),
)
DENY_PRIVATE: Final = Setting(
    name="deny_private",
    help="relay to no peer in a private range",
    read=values.boolean,
    default=False,
    form=Form.SWITCH,
    notes="The ranges are RFC 1918, 100.64.0.0/10 and fc00::/7: for a relay that shares its network with"
    " other services and only serves"
    " peers on the internet",
)
NAME: Final = replace(peers.NAME, fallback="")
MAX_PARTITION_TIME: Final = replace(peers.MAX_PARTITION_TIME, default=RELAY_BUDGET_S, written_default="24h")
DRAIN: Final = Setting(
    name="drain",
    help="how long allocations may continue after SIGTERM",
    read=values.parse_duration_s,
    default=0.0,
    written_default="0s",
    value="DURATION",
)
HEALTH_CHECK_ADDR: Final = replace(
    peers.HEALTH_CHECK_ADDR, default=("127.0.0.1", 8082), written_default="127.0.0.1:8082"
)
LOG_FORMAT: Final = replace(shared.LOG_FORMAT, foreign=("LOG_FORMAT",))
LOG_LEVEL: Final = replace(shared.LOG_LEVEL, foreign=("RUST_LOG",))

SETTINGS: Final = (
    API_URL, TOKEN, PUBLIC_IP4_ADDR, PUBLIC_IP6_ADDR, LISTEN_PORT, LOWEST_PORT, HIGHEST_PORT, DENY_PRIVATE,
    NAME,
    MAX_PARTITION_TIME, DRAIN, HEALTH_CHECK_ADDR, LOG_FORMAT, LOG_LEVEL,
)  # fmt: skip

WITHOUT_EFFECT: Final = (
    peers.ignored_option("telemetry", "nothing is reported to anybody", takes_value=False),
    peers.OTLP_GRPC_ENDPOINT,
    replace(
        peers.ignored_option("bind_ip4_addr", "it listens at all addresses, and refuses any but 0.0.0.0"),
        read=_all_addresses,
    ),
    replace(
        peers.ignored_option("bind_ip6_addr", "it listens at all addresses, and refuses any but ::"),
        read=_all_addresses,
    ),
    peers.ignored_option("control_endpoint", "the log's level is set by --log-level"),
    peers.ignored_option("num_worker_threads", "one thread forwards"),
    peers.ignored_option("rng_seed", "randomness is the operating system's"),
    peers.ignored_option("ebpf_offloading", "packets are forwarded in user space"),
    peers.ignored_option("ebpf_attach_mode", "packets are forwarded in user space"),
    peers.ignored_option("ebpf_int4_addr", "packets are forwarded in user space"),
    peers.ignored_option("ebpf_int6_addr", "packets are forwarded in user space"),
)
CHECK: Final = peers.CHECK

COMMAND: Final = Command(
    name="relay",
    help="Run a relay (STUN/TURN server).",
    details="It carries sealed packets between peers that cannot reach each other directly. At least one"
    " public address is needed; its UDP"
    " port and the allocation ports must be reachable there.",
    parameters=(*SETTINGS, CHECK, *WITHOUT_EFFECT, CONFIG),
    examples=(
        "wardgate relay --api-url wss://portal.example.org --public-ip4-addr 203.0.113.7",
        "WARDGATE_TOKEN_FILE=/run/secrets/relay WARDGATE_CONFIG=/etc/wardgate.toml wardgate relay",
    ),
    section="relay",
    run="wardgate.cli.relay:run",
    same=peers.RUN,
)
