"""Applies commands whose refusal changes nothing but is worth a log line."""

import logging

from wardgate.connect import log_fields as fields
from wardgate.datapath.commands import Command
from wardgate.datapath.programmable import CommandRefused, Programmable

log = logging.getLogger(__name__)


def try_apply(engine: Programmable, command: Command) -> bool:
    """Apply a command; return whether it is in force."""
    try:
        engine.apply(command)
    except CommandRefused as refusal:
        log.debug("command refused", extra={"command": type(command).__name__, fields.REASON: str(refusal)})
        return False
    return True
