"""Commands that ask what runs on this host: `status`, `why`."""

from pathlib import Path
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.parameters import AS_JSON, Form, Parameter, switch

PARTS: Final = ("client", "gateway")
PROTOCOLS: Final = ("tcp", "udp", "icmp")

PART: Final = Parameter[str | None](
    name="part",
    help="ask this one only; both by default",
    read=values.one_of(*PARTS),
    default=None,
    form=Form.ARGUMENT,
    value="client|gateway",
    choices=PARTS,
)
CONTROL_SOCKET: Final = Parameter[Path | None](
    name="control_socket", help="socket of the process, if it is not the usual one", read=values.path, default=None,
    value="FILE",
)  # fmt: skip
WATCH: Final = switch("watch", "show it anew every second, until Ctrl-C")

STATUS: Final = Command(
    name="status",
    help="Tell how the client or the gateway on this host fares.",
    details="Resources and who serves them; each connection, whether it is direct or relayed and why; relays; DNS; what"
    " was put back on this host. Root may ask, and members of the group `wardgate`.",
    parameters=(PART, WATCH, AS_JSON, CONTROL_SOCKET),
    examples=("sudo wardgate status", "sudo wardgate status client --watch", "sudo wardgate status --json"),
    notes="Exit codes: 0 all that runs is connected and ready · 1 something is not · 3 nothing runs.",
    run="wardgate.cli.looking:status",
)


def _target(text: str) -> str:
    values.target(text)
    return text


TARGET: Final = Parameter[str](
    name="target",
    help="name or address, with a port if it matters; IPv6 with a port in brackets",
    read=_target,
    default="",
    form=Form.ARGUMENT,
    value="HOST[:PORT]",
    is_required=True,
)
PROTOCOL: Final = Parameter(
    name="protocol",
    help="of the connection",
    read=values.one_of(*PROTOCOLS),
    default="tcp",
    choices=PROTOCOLS,
)
NO_ASK: Final = switch("no_ask", "do not ask the portal for access that nobody has asked for yet")

WHY: Final = Command(
    name="why",
    help="Tell what becomes of a connection from this host, and why.",
    details="Which resource it is for, whether the portal grants it and if not why, which gateway serves it over which"
    " path, what DNS answers, and where the kernel sends it. If the resource is not granted yet, the portal is asked"
    " as the first packet would, and what it grants stands; `--no-ask` tells only what is known here.",
    parameters=(TARGET, PROTOCOL, NO_ASK, AS_JSON, CONTROL_SOCKET),
    examples=(
        "sudo wardgate why wiki.corp.example:443",
        "sudo wardgate why 10.0.3.7 --no-ask",
        "sudo wardgate why [fd00::7]:22 --json",
    ),
    notes="Exit codes: 0 it goes through the tunnel · 1 it does not get there · 3 no client runs · 6 access is denied"
    " · 7 no resource that you are offered is at this address, and the tunnel carries nothing there.",
    run="wardgate.cli.looking:why",
)
