"""What parameters of paths and queries hold.

An id in a path may be a log id too (24 hex digits); no object here has one, so it becomes None and is not
found. Anything else was refused before.
"""

from typing import Annotated, Final
from uuid import UUID

from pydantic import BeforeValidator, WithJsonSchema


def parse_id(text: object) -> UUID | None:
    """Parse an id from a path. None if no object can have it."""
    try:
        return UUID(str(text))
    except ValueError:
        return None


Id = Annotated[UUID | None, BeforeValidator(parse_id), WithJsonSchema({"type": "string", "format": "uuid"})]

DATE_TIME: Final = {"format": "date-time"}
UUID_TEXT: Final = {"format": "uuid"}
IP: Final = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}
