"""Merge patches checked field by field (rest-api §3): absent keeps, null or "" clears, errors are collected,
not raised one by one. What a column's declaration says of its values is not said again here.

An `Edit` holds what was given and what stood there before; each verb looks at one field. `finish` raises all
errors at once or returns the values to store.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Boolean, Integer, String

from wardgate.portal.outcomes import FieldErrors, Invalid
from wardgate.portal.schema.declaration import TableDeclaration

BLANK: Final = "can't be blank"
INVALID: Final = "is invalid"

Given = Mapping[str, Any]
"""The fields that somebody gave, by name: text, numbers, booleans, and lists and mappings of these."""


class Edit:
    """One create or update. `before`: the stored values, or the defaults of a new object."""

    def __init__(self, given: Given, before: Mapping[str, Any]) -> None:
        self._given = given
        self._values = dict(before)
        self.errors: FieldErrors = {}

    def gave(self, name: str) -> bool:
        return name in self._given

    def value(self, name: str) -> Any:
        """Return the value as it would be stored."""
        return self._values[name]

    def put(self, name: str, value: Any) -> None:
        self._values[name] = value

    def columns(self, declaration: TableDeclaration[Any]) -> None:
        """Take what people may change of a row, each value as its column holds it (`Editable` in annotations)."""
        for column, editable in declaration.editable:
            match column.type:
                case String(length=int(longest)):
                    self.text(column.name, longest=longest, required=not column.nullable)
                case Integer():
                    self.number(column.name, least=editable.least, most=editable.most)
                case Boolean():
                    self.flag(column.name)
                case other:
                    raise TypeError(f"{column}: no rule for what people give of {other!r}")

    def text(self, name: str, *, longest: int = 255, required: bool = False) -> None:
        """Take a trimmed text; null and "" clear it unless it is required."""
        if name in self._given:
            self._values[name] = _trimmed(self._given[name])
        value = self._values[name]
        if value is None and required:
            self.error(name, BLANK)
        elif value is not None and len(value) > longest:
            self.error(name, f"should be at most {longest} character(s)")
        elif value is not None and "\x00" in value:
            self.error(name, INVALID)

    def flag(self, name: str) -> None:
        """Take a boolean; null is refused."""
        if name in self._given:
            if self._given[name] is None:
                self.error(name, BLANK)
            else:
                self._values[name] = self._given[name]

    def number(self, name: str, *, least: int, most: int) -> None:
        """Take a whole number; null is refused."""
        if name in self._given:
            self._values[name] = self._given[name]
        value = self._values[name]
        if value is None:
            self.error(name, BLANK)
        elif not least <= value <= most:
            self.error(name, f"must be between {least} and {most}")

    def choice(self, name: str, allowed: tuple[str, ...], *, required: bool = False) -> None:
        if name in self._given:
            self._values[name] = self._given[name]
        value = self._values[name]
        if value is None:
            if required:
                self.error(name, BLANK)
        elif value not in allowed:
            self.error(name, INVALID)

    def id(self, name: str, *, required: bool = False) -> None:
        """Take a UUID given as text."""
        if name in self._given:
            text = _trimmed(self._given[name])
            self._values[name] = None
            if text is not None:
                try:
                    self._values[name] = UUID(text)
                except ValueError:
                    self.error(name, INVALID)
                    return
        if required and self._values[name] is None:
            self.error(name, BLANK)

    def raw(self, name: str) -> Any:
        """Return a given value as it came; only after `gave`."""
        return self._given[name]

    def error(self, name: str, message: str) -> None:
        self.errors.setdefault(name, []).append(message)

    def nested_error(self, name: str, structure: object) -> None:
        self.errors[name] = structure

    def finish(self) -> dict[str, Any]:
        """Return the values to store.

        Raises:
            Invalid: anything is wrong.
        """
        if self.errors:
            raise Invalid(self.errors)
        return self._values


def _trimmed(value: str | None) -> str | None:
    return None if value is None else value.strip() or None
