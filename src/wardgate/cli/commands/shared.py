"""Settings that several processes have."""

import logging
from typing import Final

from wardgate.cli import values
from wardgate.cli.parameters import Setting

LOG_FORMAT: Final = Setting(
    name="log_format",
    help="how log lines look",
    read=values.log_format,
    default="text",
    choices=values.LOG_FORMATS,
)
LOG_LEVEL: Final = Setting(
    name="log_level",
    help="least severity that is logged",
    read=values.log_level,
    default=logging.INFO,
    written_default="info",
    choices=values.LOG_LEVELS,
)
