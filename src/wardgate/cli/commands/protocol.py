"""The options of `wardgate protocol`."""

from pathlib import Path
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.parameters import AS_JSON, Form, Parameter

FILE: Final = Parameter[Path | None](
    name="file",
    help="a transcript",
    read=values.path,
    default=None,
    form=Form.ARGUMENT,
    value="FILE",
    is_required=True,
)
_REPLAY: Final = Command(
    name="replay",
    help="Compare a transcript of control channels with what this program knows of the protocol.",
    details="Reads what `wardgate portal --record-frames` writes: every frame is decoded as its receiver would."
    " An error is against the protocol, a note is borne by whoever receives it."
    " Exit codes: 0 without errors, 8 with errors.",
    parameters=(FILE, AS_JSON),
    examples=(
        "wardgate protocol replay frames/20261129T171500.123456-client-0.jsonl",
        "wardgate protocol replay frames/20261129T171500.123456-client-0.jsonl --json",
    ),
    run="wardgate.cli.protocol:replay",
)
COMMAND: Final = Command(
    name="protocol",
    help="Look into what was said between peers and the portal.",
    examples=_REPLAY.examples,
    children=lambda: (_REPLAY,),
)
