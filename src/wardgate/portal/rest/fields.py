"""What the API's fields may hold, for its document. The rules themselves, with their messages, are in `edits` and the endpoints:
JSON types are checked strictly here, everything else there, so that all that is wrong is told at once.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict


class Fields(BaseModel):
    """Fields of an object in a request; unknown ones are ignored."""

    model_config = ConfigDict(strict=True)


def required(*names: str) -> ConfigDict:
    """Document fields as required. Their absence is told beside other errors, hence it is not checked by the framework."""
    return ConfigDict(json_schema_extra={"required": list(names)})


NOTHING_REQUIRED: Final = ConfigDict(json_schema_extra={})


def text(longest: int = 255, *, shortest: int = 0, about: str | None = None) -> Any:
    """Document a text; `shortest` 0 means that "" clears the field."""
    limits: JsonDict = {"maxLength": longest, **({"minLength": shortest} if shortest else {})}
    return Field(description=about, json_schema_extra=limits)


def one_of(words: Sequence[str], *, nullable: bool = False) -> Any:
    """Document a choice."""
    return Field(json_schema_extra={"enum": [*words, *((None,) if nullable else ())]})


def formatted(name: str, *, about: str | None = None) -> Any:
    """Document a text of a well-known format."""
    return Field(description=about, json_schema_extra={"format": name})


def array_of(model: type[BaseModel]) -> dict[str, Any]:
    """Document a list whose entries the endpoint checks itself."""
    return {"type": "array", "items": model.model_json_schema()}
