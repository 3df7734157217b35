"""`wardgate client`: its settings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import peers, shared
from wardgate.cli.parameters import CONFIG, Form, Setting, switch

DNS_METHODS: Final = ("systemd-resolved", "etc-resolv-conf", "disabled")

API_URL: Final = peers.API_URL
TOKEN: Final = replace(peers.TOKEN, help="client token", form=Form.ABSENT)
TOKEN_PATH: Final = Setting(
    name="token_path",
    help="file with the token, read when it is not set otherwise",
    read=values.path,
    default=Path("/etc/dev.firezone.client/token"),
    value="FILE",
    foreign=("FIREZONE_TOKEN_PATH",),
)
NAME: Final = replace(peers.NAME, aliases=("--firezone-name",))
ID: Final = peers.ID
DNS_CONTROL: Final = Setting[str | None](
    name="dns_control",
    help="who learns of the client's resolver",
    read=values.one_of(*DNS_METHODS),
    default=None,
    choices=DNS_METHODS,
    foreign=("FIREZONE_DNS_CONTROL",),
    fallback="systemd-resolved where it runs, else etc-resolv-conf",
)
ACTIVATE_INTERNET_RESOURCE: Final = Setting(
    name="activate_internet_resource",
    help="send everything else through the internet resource too",
    read=values.boolean,
    default=False,
    form=Form.SWITCH,
    foreign=("FIREZONE_ACTIVATE_INTERNET_RESOURCE",),
)
INTERFACE: Final = peers.INTERFACE
LISTEN_PORT: Final = peers.LISTEN_PORT
MAX_PARTITION_TIME: Final = replace(peers.MAX_PARTITION_TIME, aliases=("-m",), fallback="never")
INC_BUF: Final = Setting(
    name="inc_buf",
    help="raise the kernel's socket buffer limits",
    read=values.boolean,
    default=False,
    form=Form.SWITCH,
    foreign=("FIREZONE_INC_BUF",),
)
HEALTH_CHECK_ADDR: Final = replace(
    peers.HEALTH_CHECK_ADDR, default=("127.0.0.1", 8083), written_default="127.0.0.1:8083"
)
FLOW_LOGS: Final = peers.FLOW_LOGS
FLOW_LOG_DIR: Final = replace(peers.FLOW_LOG_DIR, default=Path("/var/lib/wardgate/client/flow_logs"))
CONTROL_SOCKET: Final = peers.CONTROL_SOCKET
LOG_FORMAT: Final = replace(shared.LOG_FORMAT, foreign=("FIREZONE_LOG_FORMAT",))
LOG_LEVEL: Final = replace(shared.LOG_LEVEL, foreign=("RUST_LOG",))
LOG_DIR: Final = Setting[Path | None](
    name="log_dir",
    help="directory in which log lines are kept too, the last 50 MB of them",
    read=values.path,
    default=None,
    aliases=("-l",),
    value="DIRECTORY",
    foreign=("LOG_DIR",),
)

SETTINGS: Final = (
    API_URL, TOKEN, TOKEN_PATH, NAME, ID, DNS_CONTROL, ACTIVATE_INTERNET_RESOURCE, INTERFACE, LISTEN_PORT,
    MAX_PARTITION_TIME, INC_BUF, HEALTH_CHECK_ADDR, CONTROL_SOCKET, FLOW_LOGS, FLOW_LOG_DIR, LOG_FORMAT,
    LOG_LEVEL, LOG_DIR,
)  # fmt: skip

WITHOUT_EFFECT: Final = (peers.METRICS, peers.OTLP_GRPC_ENDPOINT)
CHECK: Final = peers.CHECK
EXIT: Final = switch("exit", "exit once the tunnel is up")


def _children() -> Sequence[Command]:
    from wardgate.cli.commands import client_sign_in  # which takes settings from here

    return client_sign_in.COMMANDS


COMMAND: Final = Command(
    name="client",
    help="Run the headless client.",
    details="It carries this host's packets to the resources that it is granted.\n\n"
    "SIGHUP tells it that the network changed. SIGTERM ends it and restores the host's DNS settings. SIGUSR2 has it"
    " start its program again, maybe another version of it, and hand over: connections go on.",
    parameters=(*SETTINGS, CHECK, EXIT, peers.NO_TELEMETRY, *WITHOUT_EFFECT, CONFIG),
    examples=(
        "sudo wardgate client --api-url wss://portal.example.org --token-path /etc/wardgate/client-token",
        "sudo wardgate client --config /etc/wardgate.toml --check",
    ),
    section="client",
    run="wardgate.cli.client:run",
    same=(*peers.RUN, "standalone"),  # the published client's word
    children=_children,
)
