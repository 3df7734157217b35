"""What gateway, client and relay have in common; `replace` makes one of them differ."""

from pathlib import Path
from typing import Final

from wardgate.cli import values
from wardgate.cli.parameters import Form, Parameter, Setting, switch

RUN: Final = ("run",)
"""A word that says what a part's command does anyway."""
DEFAULT_PORT: Final = 52625
"""UDP, of gateway and client (data-plane §1.2)."""

API_URL: Final = Setting[str | None](
    name="api_url",
    help="the portal, such as wss://portal.example.org; needed",
    read=values.portal_url,
    default=None,
    aliases=("-u",),
    value="URL",
    foreign=("FIREZONE_API_URL",),
)
TOKEN: Final = Setting[str | None](
    name="token",
    help="what the portal lets it in by; needed",
    read=values.secret,
    default=None,
    foreign=("FIREZONE_TOKEN",),
)
NAME: Final = Setting[str | None](
    name="name",
    help="name in the portal",
    read=values.text,
    default=None,
    foreign=("FIREZONE_NAME",),
    fallback="the host's name",
)
ID: Final = Setting[str | None](
    name="id",
    help="stable identity of this device",
    read=values.text,
    default=None,
    aliases=("--firezone-id", "-i"),
    foreign=("FIREZONE_ID",),
    fallback="derived from the machine",
)
INTERFACE: Final = Setting(
    name="interface", help="name of the TUN interface", read=values.text, default="wardgate", value="NAME"
)
LISTEN_PORT: Final = Setting(
    name="listen_port",
    help="preferred UDP port",
    read=values.whole_number_within(0, 65535),
    default=DEFAULT_PORT,
    value="PORT",
)
MAX_PARTITION_TIME: Final = Setting[float | None](
    name="max_partition_time",
    help="end after this long without a portal",
    read=values.parse_duration_s,
    default=None,
    value="DURATION",
    foreign=("MAX_PARTITION_TIME",),
)
FLOW_LOGS: Final = Setting(
    name="flow_logs",
    help="write every flow to the log, also those that the portal does not want; more are never uploaded",
    read=values.boolean,
    default=False,
    form=Form.SWITCH,
    foreign=("FIREZONE_FLOW_LOGS",),
)
FLOW_LOG_DIR: Final = Setting(
    name="flow_log_dir",
    help="where flow records lie until they are uploaded; tokens lie with them",
    read=values.path,
    default=Path("/var/lib/wardgate/flow_logs"),
    value="DIRECTORY",
)
HEALTH_CHECK_ADDR: Final = Setting(
    name="health_check_addr",
    help="HTTP listener for health and metrics",
    read=values.host_and_port,
    default=("127.0.0.1", 8081),
    written_default="127.0.0.1:8081",
    value="HOST:PORT",
    foreign=("HEALTH_CHECK_ADDR",),
)
CONTROL_SOCKET: Final = Setting[Path | None](
    name="control_socket",
    help="socket at which `wardgate status` asks this process",
    read=values.path,
    default=None,
    value="FILE",
    fallback="control.sock in /run/wardgate-client, /run/wardgate-gateway",
)
CHECK: Final = switch("check", "check the settings and exit")

# What the published programs take and nothing here needs: existing units and containers go on unchanged.
NO_TELEMETRY: Final = switch("no_telemetry", "accepted, and always so: nothing is reported to anybody")


def ignored_option(name: str, why: str, *, takes_value: bool = True) -> Parameter[str | bool]:
    """Return an option that the published program has, and that changes nothing here; a line in the log says so."""
    help_ = f"accepted, without effect: {why}"
    if takes_value:
        return Parameter(name=name, help=help_, read=values.text, default="", value="VALUE")
    return switch(name, help_)


METRICS: Final = ignored_option("metrics", "/metrics of the health listener always answers")
OTLP_GRPC_ENDPOINT: Final = ignored_option(
    "otlp_grpc_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT names a collector"
)
