"""`wardgate gateway`: its settings."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import peers, shared
from wardgate.cli.parameters import CONFIG, Form, Setting, switch
from wardgate.wire.reconnect import GATEWAY_BUDGET_S

API_URL: Final = peers.API_URL
TOKEN: Final = replace(peers.TOKEN, help="gateway token; needed", form=Form.ARGUMENT)
NAME: Final = replace(peers.NAME, aliases=("--firezone-name", "-n"))
ID: Final = replace(peers.ID, help="stable identity of this gateway")
INTERFACE: Final = replace(peers.INTERFACE, default="wardgate-gw")
LISTEN_PORT: Final = peers.LISTEN_PORT
MAX_PARTITION_TIME: Final = replace(
    peers.MAX_PARTITION_TIME,
    aliases=("-m",),
    default=GATEWAY_BUDGET_S,
    written_default="24h",
    foreign=("FIREZONE_MAX_PARTITION_TIME",),
)
NO_INC_BUF: Final = Setting(
    name="no_inc_buf",
    help="leave the kernel's socket buffer limits alone",
    read=values.boolean,
    default=False,
    form=Form.SWITCH,
    foreign=("FIREZONE_NO_INC_BUF",),
)
DRAIN: Final = Setting(
    name="drain",
    help="how long flows may continue after SIGTERM; there are no new grants meanwhile",
    read=values.parse_duration_s,
    default=0.0,
    written_default="0s",
    value="DURATION",
)
HEALTH_CHECK_ADDR: Final = peers.HEALTH_CHECK_ADDR
FLOW_LOGS: Final = peers.FLOW_LOGS
FLOW_LOG_DIR: Final = replace(peers.FLOW_LOG_DIR, default=Path("/var/lib/wardgate/gateway/flow_logs"))
CONTROL_SOCKET: Final = peers.CONTROL_SOCKET
LOG_FORMAT: Final = replace(shared.LOG_FORMAT, foreign=("FIREZONE_LOG_FORMAT",))
LOG_LEVEL: Final = replace(shared.LOG_LEVEL, foreign=("RUST_LOG",))

SETTINGS: Final = (
    API_URL, TOKEN, NAME, ID, INTERFACE, LISTEN_PORT, MAX_PARTITION_TIME, DRAIN, NO_INC_BUF, HEALTH_CHECK_ADDR,
    CONTROL_SOCKET, FLOW_LOGS, FLOW_LOG_DIR, LOG_FORMAT, LOG_LEVEL,
)  # fmt: skip

WITHOUT_EFFECT: Final = (
    peers.METRICS,
    peers.OTLP_GRPC_ENDPOINT,
    peers.ignored_option(
        "validate_checksums", "packets with a wrong one are the receiver's", takes_value=False
    ),
)
CHECK: Final = peers.CHECK
NO_CHECK: Final = switch("no_check", "skip the check for privileges")

COMMAND: Final = Command(
    name="gateway",
    help="Run a gateway in front of private resources.",
    details="It lets clients that were granted access reach the resources of its site. It sets up"
    " forwarding and masquerading itself, in"
    " an nftables table of its own.\n\nSIGTERM ends it. SIGUSR2 has it start its program again, maybe another"
    " version of it, and hand over: connections go on.",
    parameters=(*SETTINGS, CHECK, NO_CHECK, peers.NO_TELEMETRY, *WITHOUT_EFFECT, CONFIG),
    examples=(
        "sudo WARDGATE_TOKEN_FILE=/etc/wardgate/gateway-token wardgate gateway --api-url wss://portal.example.org",
        "WARDGATE_TOKEN_FILE=/run/secrets/gateway wardgate gateway --config /etc/wardgate.toml",
        "sudo WARDGATE_TOKEN_FILE=/etc/wardgate/gateway-token wardgate gateway --drain 10m",
    ),
    section="gateway",
    run="wardgate.cli.gateway:run",
    same=peers.RUN,
)
