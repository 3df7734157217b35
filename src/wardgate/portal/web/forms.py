"""Forms: fields declared once, written down by `ui.html`, and read into what the functions of `rules.py` take.

    NAME = TextField(name="name", label="Name", is_required=True, longest=64)
    FORM = Form((NAME, NumberField(name="health_threshold", label="Health threshold", least=1)))

What a person typed survives a refusal. Two administrators may edit one object at once: the form carries what was
read and its version; if the object has changed meanwhile, the second sees the first one's values beside hers, and
what she had not touched is taken over (`Filled.merged`).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Any, ClassVar, Final

from starlette.datastructures import FormData

from wardgate.portal.edits import BLANK
from wardgate.portal.outcomes import FieldErrors
from wardgate.portal.web.choices import Asked, Choices, ChoicesOf, Option, words_of

MAX_FIELDS: Final = 1200
MAX_FIELD_BYTES: Final = 64 * 1024

Input = tuple[str, ...]
"""What a control holds: the texts that a browser would send for it."""


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """One field.

    Attributes:
        name: as `rules.py` calls it; its errors come back under it.
        shown_if: shown only while another field has one of these values, as in `("type", ("dns",))`; hidden fields
            are not given to the rules.
        template: a template with the control, for kinds that `ui.html` does not know; it has `field`, `input`,
            `options`.
    """

    kind: ClassVar[str]
    name: str
    label: str
    help: str = ""
    is_required: bool = False
    shown_if: tuple[str, tuple[str, ...]] | None = None
    template: str | None = None
    initial: Any = None

    @abstractmethod
    def read(self, input_: Input) -> Any:
        """Return the value to give to the rules. Raises ValueError with what is wrong."""

    def input(self, value: Any) -> Input:
        """Return what the control holds for a stored value."""
        return () if value is None else (str(value),)

    def submitted(self, form: FormData) -> Input:
        """Return what was typed."""
        return tuple(one for one in form.getlist(self.name) if isinstance(one, str))

    def stored(self, row: object) -> Any:
        """Return the field's value of a stored object."""
        return getattr(row, self.name)

    async def options(self, _visit: Any, _tables: Any, _asked: Asked) -> Choices:
        """Return what there is to choose from."""
        return Choices()


@dataclass(frozen=True, kw_only=True)
class TextField(Field):
    """A line of text, or several (`is_long`); `type` is the input's."""

    kind: ClassVar[str] = "text"
    longest: int = 255
    placeholder: str = ""
    is_long: bool = False
    is_code: bool = False
    type: str = "text"

    def read(self, input_: Input) -> Any:
        return input_[0].replace("\r\n", "\n").strip() or None if input_ else None


@dataclass(frozen=True, kw_only=True)
class NumberField(Field):
    """A whole number."""

    kind: ClassVar[str] = "number"
    least: int | None = None
    most: int | None = None

    def read(self, input_: Input) -> Any:
        text = input_[0].strip() if input_ else ""
        if not text:
            return None
        if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdecimal() or len(text) > 18:
            raise ValueError("must be a whole number")
        return int(text)


@dataclass(frozen=True, kw_only=True)
class ToggleField(Field):
    """Yes or no."""

    kind: ClassVar[str] = "toggle"

    def read(self, input_: Input) -> Any:
        return "on" in input_

    def input(self, value: Any) -> Input:
        return ("on",) if value else ()


@dataclass(frozen=True, kw_only=True)
class ChoiceField(Field):
    """One of some: cards if `is_cards`, else a list. `choices` are fixed, or read from the account."""

    kind: ClassVar[str] = "choice"
    choices: Sequence[Option] | ChoicesOf
    is_cards: bool = False
    empty: str = "Choose…"

    def read(self, input_: Input) -> Any:
        return input_[0] or None if input_ else None

    async def options(self, visit: Any, tables: Any, asked: Asked) -> Choices:
        return await self.choices(visit, tables, asked) if callable(self.choices) else Choices(self.choices)


@dataclass(frozen=True, kw_only=True)
class SeveralField(Field):
    """Any number of some, as boxes to tick in a list that can be searched."""

    kind: ClassVar[str] = "several"
    choices: Sequence[Option] | ChoicesOf

    def read(self, input_: Input) -> Any:
        return [one for one in input_ if one]

    def input(self, value: Any) -> Input:
        return tuple(str(one) for one in value or ())

    async def options(self, visit: Any, tables: Any, asked: Asked) -> Choices:
        return await self.choices(visit, tables, asked) if callable(self.choices) else Choices(self.choices)


@dataclass(frozen=True, kw_only=True)
class DateField(Field):
    """A day; it stands for its last second, in UTC."""

    kind: ClassVar[str] = "date"

    def read(self, input_: Input) -> Any:
        text = input_[0].strip() if input_ else ""
        if not text:
            return None
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise ValueError("must be a date") from None
        return datetime.combine(day, time(23, 59, 59), UTC)

    def input(self, value: Any) -> Input:
        return () if value is None else (value.date().isoformat(),)


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of one form, in order."""

    fields: tuple[Field, ...]

    def blank(self, given: Mapping[str, Sequence[str]]) -> "Filled":
        """Return the form of a new object; another page may link to it with some of it filled in."""
        inputs = {one.name: tuple(given.get(one.name) or one.input(one.initial)) for one in self.fields}
        return Filled(self, inputs)

    def of(self, row: object, version: str) -> "Filled":
        """Return the form of a stored object."""
        inputs = {one.name: one.input(one.stored(row)) for one in self.fields}
        return Filled(self, inputs, inputs, version)

    def submitted(self, form: FormData) -> "Filled":
        """Return the form as somebody filled it in."""
        inputs = {one.name: one.submitted(form) for one in self.fields}
        version, base = form.get("version"), _base(form.get("base"))
        words = {one.name: words_of(form.get(f"find.{one.name}")) for one in self.fields}
        looks_for_more = "search" in form or any(
            words[one.name] != words_of(form.get(f"found.{one.name}")) for one in self.fields
        )
        return Filled(
            self,
            inputs,
            base,
            version if isinstance(version, str) and version else None,
            words=words,
            is_search=looks_for_more,
        )


@dataclass(frozen=True, slots=True)
class Filled:
    """A form with what is in it.

    Attributes:
        base: what it held when it was read.
        version: of the object that it was filled from; None for a new one.
        errors: what is wrong, by field; `base` for what concerns several.
        theirs: values that somebody else stored meanwhile, by field, where they differ from the person's own.
        taken: fields whose new values were taken over, because the person had not touched them.
        words: that look for more to choose from, by field.
        is_search: whether the form was sent to look for more, and for nothing else.
    """

    form: Form
    inputs: Mapping[str, Input]
    base: Mapping[str, Input] = field(default_factory=dict)
    version: str | None = None
    errors: FieldErrors = field(default_factory=dict)
    theirs: Mapping[str, Input] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    words: Mapping[str, str] = field(default_factory=dict)
    is_search: bool = False

    async def options(self, visit: Any, tables: Any) -> dict[str, Choices]:
        """Return the choices of each field, of what the page's visits read."""
        return {
            one.name: await one.options(
                visit, tables, Asked(self.inputs[one.name], self.words.get(one.name, ""))
            )
            for one in self.form.fields
        }

    @property
    def base_text(self) -> str:
        """What the hidden input carries of `base`."""
        return json.dumps(dict(self.base), separators=(",", ":"))

    @property
    def is_stale(self) -> bool:
        return bool(self.theirs or self.taken)

    def given(self) -> tuple[dict[str, Any], FieldErrors]:
        """Return the values for the rules, and what cannot be one."""
        values: dict[str, Any] = {}
        errors: FieldErrors = {}
        for one in self.form.fields:
            if not self._is_shown(one):
                continue
            try:
                values[one.name] = one.read(self.inputs[one.name])
            except ValueError as error:
                errors[one.name] = [str(error)]
                continue
            if one.is_required and values[one.name] in (None, []):
                errors[one.name] = [BLANK]
        return values, errors

    def refused(self, errors: FieldErrors) -> "Filled":
        """Return the form with what is wrong in it."""
        return replace(self, errors=errors)

    def merged(self, row: object, version: str) -> "Filled":
        """Return the form over the object as it is now: what the person typed stays, what she left alone follows."""
        inputs, theirs, taken = dict(self.inputs), {}, set()
        now = {one.name: one.input(one.stored(row)) for one in self.form.fields}
        for name, current in now.items():
            if current in (self.inputs[name], self.base.get(name)):
                continue
            if self.inputs[name] == self.base.get(name):
                inputs[name] = current
                taken.add(name)
            else:
                theirs[name] = current
        return replace(self, inputs=inputs, base=now, version=version, theirs=theirs, taken=frozenset(taken))

    def _is_shown(self, one: Field) -> bool:
        if one.shown_if is None:
            return True
        name, values = one.shown_if
        return any(value in values for value in self.inputs.get(name, ()))


def messages(errors: object) -> list[str]:
    """Return the sentences of a field's errors, however deep the rules nested them."""
    match errors:
        case str():
            return [errors]
        case Mapping():
            return [f"{name}: {told}" for name, inner in errors.items() for told in messages(inner)]
        case list() | tuple():
            return [told for inner in errors for told in messages(inner)]
        case _:
            return []


def _base(text: object) -> dict[str, Input]:
    """Read what the hidden input carried; a forged one harms nobody but its author."""
    try:
        read = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(read, dict):
        return {}
    return {
        name: tuple(one for one in value if isinstance(one, str))
        for name, value in read.items()
        if isinstance(value, list)
    }
