"""`wardgate doctor`: what each part can be asked to look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import client, gateway, portal, relay
from wardgate.cli.parameters import AS_JSON, CONFIG, Parameter

BUNDLE: Final = Parameter[Path | None](
    name="bundle",
    help="write what was found, and what helps to understand it, to this archive; tokens are left out",
    read=values.path,
    default=None,
    value="FILE",
)
_NOTES: Final = "Exit codes: 0 nothing is wrong · 1 something is; each finding says its cure."


def _of(part: str, about: str, parameters: tuple[Parameter[object], ...]) -> Command:
    return Command(
        name=part,
        help=f"Look for what keeps the {part} from working: {about}.",
        details=f"Settings are those of the service (/etc/wardgate/{part}.env) and of this shell.",
        parameters=(*parameters, AS_JSON, BUNDLE, CONFIG),
        examples=(f"sudo wardgate doctor {part}", f"sudo wardgate doctor {part} --bundle {part}.tar.gz"),
        notes=_NOTES,
        section=part,
        run=f"wardgate.cli.doctor:{part}",
    )


def _children() -> Sequence[Command]:
    return (
        _of(
            "client", "token, portal, clock, tunnel device, relays, DNS", (client.API_URL, client.TOKEN_PATH)
        ),
        _of(
            "gateway",
            "token, portal, clock, tunnel device, relays, forwarding",
            (gateway.API_URL, gateway.INTERFACE),
        ),
        _of("relay", "token, portal, clock, its port", (relay.API_URL, relay.LISTEN_PORT)),
        _of(
            "portal",
            "data directory, database, certificate, address, disk",
            (portal.DATA_DIR, portal.DATABASE_URL, portal.EXTERNAL_URL, portal.TLS_CERTIFICATE),
        ),
    )


COMMAND: Final = Command(
    name="doctor",
    help="Look for what keeps a part from working on this host, and say the cure.",
    details="Without a part: each that is installed, set up or running here.",
    parameters=(AS_JSON, BUNDLE, CONFIG),
    examples=(
        "sudo wardgate doctor",
        "sudo wardgate doctor --bundle host.tar.gz",
        "sudo wardgate doctor client",
        "sudo wardgate doctor portal --json",
    ),
    notes=f"{_NOTES[:-1]} · 3 no part is here.",
    run="wardgate.cli.doctor:everything",
    children=_children,
)
