"""The part of a form in which the conditions of a policy are edited: one card for each kind, which a switch opens.

All of it is plain controls of HTML; a script only narrows the list of countries and adds rows. The control's input
holds one text for each condition: JSON, as the card shows it. What a card cannot show, such as times in several time
zones, which only the API makes, is kept as it is for as long as it is switched on.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from starlette.datastructures import FormData

from wardgate.model.conditions import InvalidCondition, Operator, Property, Weekday, parse_condition
from wardgate.portal.access.country_names import COUNTRY_NAMES
from wardgate.portal.sign_in.provider_names import provider_names
from wardgate.portal.store import AccountTables
from wardgate.portal.web.choices import Asked, Choices, Option
from wardgate.portal.web.forms import Field, Input, ToggleField
from wardgate.portal.web.time_zones import time_zones
from wardgate.portal.web.visit import Visit

MAX_ROWS: Final = 50
BLANK_ROWS: Final = 2
DAYS: Final[Mapping[str, str]] = {
    Weekday.MONDAY: "Mon",
    Weekday.TUESDAY: "Tue",
    Weekday.WEDNESDAY: "Wed",
    Weekday.THURSDAY: "Thu",
    Weekday.FRIDAY: "Fri",
    Weekday.SATURDAY: "Sat",
    Weekday.SUNDAY: "Sun",
}
NEGATED: Final = {
    Property.REGION: (Operator.IS_IN, Operator.IS_NOT_IN),
    Property.REMOTE_IP: (Operator.IS_IN_CIDR, Operator.IS_NOT_IN_CIDR),
    Property.AUTH_PROVIDER: (Operator.IS_IN, Operator.IS_NOT_IN),
}
"""The operators of those conditions that can be turned round."""

_WHOLE_DAY: Final = ("00:00", "23:59")
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?")


@dataclass(frozen=True, slots=True)
class TimeRow:
    """Times of some days; each may be empty while it is being filled in."""

    days: Sequence[str]
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Card:
    """One kind of condition as the form shows it.

    Attributes:
        is_on: whether the policy has it.
        is_negated: whether the values are those that are kept out.
        kept: a condition that the card cannot show, as JSON; "" for none.
    """

    property: str
    title: str
    about: str
    is_on: bool = False
    is_negated: bool = False
    values: Sequence[str] = ()
    zone: str = ""
    rows: Sequence[TimeRow] = ()
    kept: str = ""


_TITLES: Final = {
    Property.REGION: ("Location", "The country that the client's address belongs to"),
    Property.REMOTE_IP: ("IP range", "The address that the client connects from"),
    Property.AUTH_PROVIDER: ("Sign-in", "How the person has signed in"),
    Property.VERIFIED: ("Verified client", "Only clients that an administrator has verified"),
    Property.TIME: ("Time of day", "Days of the week and times"),
}


@dataclass(frozen=True, kw_only=True)
class ConditionsField(Field):
    """Conditions, all of which must hold."""

    kind: ClassVar[str] = "conditions"
    template: str | None = "access/conditions_field.html"

    def input(self, value: Any) -> Input:
        return tuple(_text(_card_of(one)) for one in _in_order(value or ()))

    def submitted(self, form: FormData) -> Input:
        on = [one for one in form.getlist(self.name) if isinstance(one, str)]
        known = [one.value for one in _TITLES]
        wanted = [one for one in known if one in on] + [one for one in on if one not in known]
        return tuple(_text(_submitted(self.name, one, form)) for one in wanted)

    def read(self, input_: Input) -> Any:
        return [_condition(card) for card in map(_read_card, input_) if card is not None]

    async def options(self, _visit: Visit, tables: AccountTables, _asked: Asked) -> Choices:
        """Return the providers; countries and time zones are the same for all."""
        names = await provider_names(tables)
        in_order = sorted(names.items(), key=lambda one: one[1].casefold())
        return Choices([Option(str(id_), name) for id_, name in in_order])

    def cards(self, input_: Input) -> Sequence[Card]:
        """Return a card for each kind, and one for each that this version does not know."""
        on = {card.property: card for card in map(_read_card, input_) if card is not None}
        known = {one.value: Card(one.value, *told) for one, told in _TITLES.items()}
        return list((known | on).values())

    @property
    def countries(self) -> Mapping[str, str]:
        return COUNTRY_NAMES

    @property
    def days(self) -> Mapping[str, str]:
        return DAYS

    @property
    def zones(self) -> Sequence[str]:
        return time_zones()


def _titled(property_: str) -> tuple[str, str]:
    """Return title and explanation of a kind; of one that this version does not know, its name."""
    return next((told for one, told in _TITLES.items() if one.value == property_), (property_, ""))


def _in_order(conditions: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    order = [one.value for one in _TITLES]
    return sorted(
        conditions, key=lambda one: order.index(one["property"]) if one["property"] in order else 99
    )


# Stored condition → card


def _card_of(stored: Mapping[str, Any]) -> Card:
    property_, operator, values = stored["property"], stored["operator"], list(stored["values"])
    title, about = _titled(property_)
    kept = json.dumps({"property": property_, "operator": operator, "values": values})
    unknown = Card(property_, title, about, is_on=True, kept=kept)
    try:
        parse_condition(property_, operator, values)
    except InvalidCondition:
        return unknown
    if property_ == Property.VERIFIED:
        return Card(property_, title, about, is_on=True) if values == ["true"] else unknown
    if property_ == Property.TIME:
        times = times_of(values)
        if times is None:
            return unknown
        return Card(property_, title, about, is_on=True, zone=times[0], rows=times[1])
    is_negated = operator == NEGATED[Property(property_)][1]
    return Card(property_, title, about, is_on=True, is_negated=is_negated, values=_sorted(property_, values))


def _sorted(property_: str, values: Sequence[str]) -> Sequence[str]:
    """Return values as the controls send them: boxes in their order, lines as they were written."""
    kept = [value.strip() for value in values]
    return kept if property_ == Property.REMOTE_IP else sorted(kept)


def times_of(values: Sequence[str]) -> tuple[str, Sequence[TimeRow]] | None:
    """Return the time zone and the rows of stored days; none if there is no such form of them."""
    zones: set[str] = set()
    ranges: dict[tuple[str, str], list[str]] = {}
    for value in values:
        day, text, zone = (part.strip() for part in value.split("/", 2))
        zones.add(zone)
        pieces = ["00:00-23:59:59"] if text == "true" else text.split(",")
        for piece in pieces:
            first, _, last = (part.strip() for part in piece.partition("-"))
            if not (_TIME.fullmatch(first) and _TIME.fullmatch(last)):
                return None
            last = "23:59" if last == "23:59:59" else last
            ranges.setdefault((first, last), []).append(day)
    if len(zones) != 1 or len(ranges) > MAX_ROWS:
        return None
    rows = [TimeRow(sorted(days, key=list(DAYS).index), *times) for times, days in sorted(ranges.items())]
    return zones.pop(), rows


# What was submitted → card


def _submitted(name: str, property_: str, form: FormData) -> Card:
    title, about = _titled(property_)

    def texts(part: str) -> list[str]:
        return [one for one in form.getlist(f"{name}.{property_}.{part}") if isinstance(one, str)]

    def text(part: str) -> str:
        return next(iter(texts(part)), "")

    if kept := text("kept"):
        return Card(property_, title, about, is_on=True, kept=kept)
    if property_ == Property.TIME:
        count = min(int(text("rows")) if text("rows").isdecimal() and len(text("rows")) < 4 else 0, MAX_ROWS)
        rows = [TimeRow(texts(f"{at}.days"), text(f"{at}.first"), text(f"{at}.last")) for at in range(count)]
        filled = [row for row in rows if row.days or row.first or row.last]
        return Card(property_, title, about, is_on=True, zone=text("zone"), rows=filled)
    values = texts("values")
    if property_ == Property.REMOTE_IP:
        values = [one for one in re.split(r"[\s,;]+", text("values")) if one]
    is_negated = text("operator") == "not"
    return Card(property_, title, about, is_on=True, is_negated=is_negated, values=_sorted(property_, values))


# Card ↔ text


def _text(card: Card) -> str:
    held: dict[str, Any] = {"property": str(card.property)}
    if card.kept:
        held["kept"] = card.kept
    elif card.property == Property.TIME:
        held |= {"zone": card.zone, "rows": [[list(row.days), row.first, row.last] for row in card.rows]}
    elif card.property != Property.VERIFIED:
        held |= {"not": card.is_negated, "values": list(card.values)}
    return json.dumps(held, separators=(",", ":"), ensure_ascii=False)


def _read_card(text: str) -> Card | None:
    """Return the card that a text stands for; none if it is no such text, as an address may bring."""
    try:
        return _card(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _card(held: Mapping[str, Any]) -> Card:
    property_ = str(held["property"])
    title, about = _titled(property_)
    return Card(
        property_,
        title,
        about,
        is_on=True,
        is_negated=bool(held.get("not")),
        values=[str(one) for one in held.get("values", ())],
        zone=str(held.get("zone", "")),
        rows=[
            TimeRow([str(day) for day in days], str(first), str(last))
            for days, first, last in held.get("rows", ())
        ],
        kept=str(held.get("kept", "")),
    )


# Card → condition


def _condition(card: Card) -> dict[str, Any]:
    """Return what the rules take. Raises ValueError with what is wrong."""
    if card.kept:
        return _kept(card.kept)
    if card.property not in list(Property):
        raise ValueError(f"{card.title}: is not known")
    property_ = Property(card.property)
    if property_ is Property.VERIFIED:
        return {"property": property_.value, "operator": Operator.IS.value, "values": ["true"]}
    if property_ is Property.TIME:
        operator, values = Operator.IS_IN_DAY_OF_WEEK_TIME_RANGES, _days(card)
    else:
        operator, values = NEGATED[property_][card.is_negated], list(card.values)
    if not values:
        raise ValueError(f"{card.title}: choose at least one, or switch it off")
    return {"property": property_.value, "operator": operator.value, "values": values}


def _kept(text: str) -> dict[str, Any]:
    try:
        held = json.loads(text)
        return {
            "property": str(held["property"]),
            "operator": str(held["operator"]),
            "values": [str(one) for one in held["values"]],
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("a condition that was kept cannot be read any more") from None


def _days(card: Card) -> list[str]:
    """Return the stored form: one text for each day, with its times."""
    ranges: dict[str, list[str]] = {}
    for row in card.rows:
        if not row.days or not row.first or not row.last:
            raise ValueError(f"{card.title}: choose days, and from when until when")
        if not (_TIME.fullmatch(row.first) and _TIME.fullmatch(row.last)):
            raise ValueError(f"{card.title}: a time is written as 09:30")
        if row.last <= row.first:
            raise ValueError(f"{card.title}: the end must be after the start")
        last = "23:59:59" if row.last == "23:59" else row.last
        text = "true" if (row.first, row.last) == _WHOLE_DAY else f"{row.first}-{last}"
        for day in row.days:
            ranges.setdefault(day, []).append(text)
    if card.rows and not card.zone:
        raise ValueError(f"{card.title}: choose a time zone")
    values = []
    for day in sorted(ranges, key=lambda one: list(DAYS).index(one) if one in DAYS else 99):
        texts = ["true"] if "true" in ranges[day] else sorted(set(ranges[day]))
        values.append(f"{day}/{','.join(texts)}/{card.zone}")
    return values


def fields_of_policies_for_each(kind: str) -> tuple[Field, ...]:
    """The fields of a form that makes a policy for each of several things of a kind, such as `groups`."""
    return (
        ConditionsField(
            name="conditions",
            label="Conditions",
            help=f"All that are switched on must hold, for each of the {kind}.",
            initial=(),
        ),
        ToggleField(
            name="flow_log_uploads_enabled",
            label="Flow log reporting",
            help="Clients and gateways report the connections that they carry. Of the Internet resource these"
            " are very many.",
            initial=True,
        ),
    )
