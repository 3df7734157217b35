"""Declarations of request fields for the API's document. The rules themselves, with their messages, are in
each domain's `rules`: only JSON types are checked here, strictly; everything else is checked there, so that
all errors are reported at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic.config import JsonDict
from pydantic_core import InitErrorDetails, PydanticCustomError

NARROWING: Final = "is not known here, and access would be wider without it"

_ENDING: Final = frozenset(
    {
        "ends_at", "expiration", "expires_at", "expires_in", "expiry", "lifetime", "max_age", "not_after",
        "not_before", "starts_at", "ttl", "valid_from", "valid_to", "valid_until",
    }
)  # fmt: skip
_SWITCHING: Final = frozenset(
    {"active", "disabled", "disabled_at", "enabled", "is_active", "is_disabled", "is_enabled"}
)
EVERYWHERE: Final = _ENDING | _SWITCHING
"""Fields that narrow any object: when it begins and ends, and whether it is in effect at all."""

TOKENS: Final = frozenset(
    {
        "allowed_cidrs", "allowed_ips", "conditions", "is_read_only", "permissions", "read_only", "role",
        "scope", "scopes", "single_use",
    }
)  # fmt: skip
"""Fields that narrow a token."""

_HARMLESS_TRUE: Final = frozenset({"active", "enabled", "is_active", "is_enabled", "is_verified", "verified"})


class Fields(BaseModel):
    """Fields of an object in a request. Unknown ones are ignored, but not those that would have narrowed
    access.

    Whoever sends `postures` or `expires_at` to a portal that knows no such thing would get more than they
    asked for, and be told that all is well. A value that narrows nothing (null, an empty one, false) is
    ignored like other unknown fields.

    Attributes:
        narrowing: names of such fields, as newer consumers or other products call them; those that the model
        has are its own.
    """

    model_config = ConfigDict(strict=True)
    narrowing: ClassVar[frozenset[str]] = EVERYWHERE

    def given(self) -> dict[str, Any]:
        """Return the fields present in the request, including null ones, in the form that rules take."""
        return self.model_dump(exclude_unset=True)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_what_narrows(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        names = ignored_narrowing(given, cls.narrowing - cls.model_fields.keys())
        if names:
            refusal = PydanticCustomError("narrowing", NARROWING)
            details = [InitErrorDetails(type=refusal, loc=(name,), input=None) for name in names]
            raise ValidationError.from_exception_data(cls.__name__, details)
        return handler(given)


def ignored_narrowing(given: object, narrowing: frozenset[str] = EVERYWHERE) -> list[str]:
    """Return the fields of an object that would narrow access but that this API does not know."""
    if not isinstance(given, Mapping):
        return []
    return sorted(name for name in narrowing & given.keys() if not _narrows_nothing(name, given[name]))


def _narrows_nothing(name: str, value: object) -> bool:
    return value is None or value in ("", [], {}) or value is (name in _HARMLESS_TRUE)


class ExactFields(Fields):
    """Fields of an object of which each narrows: an unknown one is refused, whatever it is called."""

    model_config = ConfigDict(extra="forbid")


def required(*names: str) -> ConfigDict:
    """Document fields as required. The framework does not check it, so that a missing field is reported
    beside other errors."""
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
