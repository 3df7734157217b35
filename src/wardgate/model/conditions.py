"""Conditions of a policy (portal-domain §3.11, §5.3): parsed from the stored triple, rendered back to it.

Stored form: `{property, operator, values}`, values a list of strings. Each property has one frozen class,
which is all that the
program knows of its form: operators, parsing and rendering. Errors name the element at fault, as the REST API
reports them.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, Self, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from wardgate.model.addresses import IpNetwork, parse_ip, parse_network
from wardgate.model.ids import AuthProviderId
from wardgate.model.regions import REGIONS

_T = TypeVar("_T")


class Property(StrEnum):
    REGION = "remote_ip_location_region"
    REMOTE_IP = "remote_ip"
    AUTH_PROVIDER = "auth_provider_id"
    TIME = "current_utc_datetime"
    VERIFIED = "client_verified"


class Operator(StrEnum):
    IS_IN = "is_in"
    IS_NOT_IN = "is_not_in"
    IS_IN_CIDR = "is_in_cidr"
    IS_NOT_IN_CIDR = "is_not_in_cidr"
    IS_IN_DAY_OF_WEEK_TIME_RANGES = "is_in_day_of_week_time_ranges"
    IS = "is"


SECONDS_A_DAY: Final = 86_400


class InvalidCondition(ValueError):
    """A stored or submitted condition is malformed.

    `field` is `property`, `operator` or `values`; `index` the element of `values` at fault, if one is.
    """

    def __init__(self, field: str, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.index = index


class ReadableCondition(ABC):
    """A condition that this version understands: one subclass for each property, made known by `_kind`."""

    __slots__ = ()
    property: ClassVar[Property]
    operators: ClassVar[Sequence[Operator]]

    @classmethod
    @abstractmethod
    def parse(cls, operator: Operator, values: list[str]) -> Self:
        """Parse one of the class's operators and trimmed, distinct values, at least one.

        Raises:
            InvalidCondition: naming the element at fault.
        """

    @abstractmethod
    def render(self) -> tuple[Operator, list[str]]:
        """Return the stored form, which `parse` reads back to an equal condition."""


KINDS: Final[dict[Property, type[ReadableCondition]]] = {}
_KindT = TypeVar("_KindT", bound=type[ReadableCondition])


def _kind(property_: Property, *operators: Operator) -> Callable[[_KindT], _KindT]:
    def register(kind: _KindT) -> _KindT:
        kind.property, kind.operators = property_, operators
        KINDS[property_] = kind
        return kind

    return register


@_kind(Property.REGION, Operator.IS_IN, Operator.IS_NOT_IN)
@dataclass(frozen=True, slots=True)
class RegionCondition(ReadableCondition):
    """The client's country, ISO 3166-1 alpha-2; an unknown region satisfies neither operator."""

    regions: frozenset[str]
    negated: bool = False

    @classmethod
    def parse(cls, operator: Operator, values: list[str]) -> Self:
        return cls(frozenset(_each(values, _region)), operator is Operator.IS_NOT_IN)

    def render(self) -> tuple[Operator, list[str]]:
        return _membership(self.negated), sorted(self.regions)


@_kind(Property.REMOTE_IP, Operator.IS_IN_CIDR, Operator.IS_NOT_IN_CIDR)
@dataclass(frozen=True, slots=True)
class RemoteIpCondition(ReadableCondition):
    """The address the client connects from; IPv4 is never inside an IPv6 network."""

    networks: tuple[IpNetwork, ...]
    negated: bool = False

    @classmethod
    def parse(cls, operator: Operator, values: list[str]) -> Self:
        return cls(tuple(_each(values, _address_or_network)), operator is Operator.IS_NOT_IN_CIDR)

    def render(self) -> tuple[Operator, list[str]]:
        operator = Operator.IS_NOT_IN_CIDR if self.negated else Operator.IS_IN_CIDR
        return operator, [str(network) for network in self.networks]


@_kind(Property.AUTH_PROVIDER, Operator.IS_IN, Operator.IS_NOT_IN)
@dataclass(frozen=True, slots=True)
class AuthProviderCondition(ReadableCondition):
    """The provider that issued the client's token; a token of an administrator has none."""

    provider_ids: frozenset[AuthProviderId]
    negated: bool = False

    @classmethod
    def parse(cls, operator: Operator, values: list[str]) -> Self:
        return cls(frozenset(_each(values, _provider_id)), operator is Operator.IS_NOT_IN)

    def render(self) -> tuple[Operator, list[str]]:
        return _membership(self.negated), sorted(str(one) for one in self.provider_ids)


@_kind(Property.VERIFIED, Operator.IS)
@dataclass(frozen=True, slots=True)
class VerifiedCondition(ReadableCondition):
    """Whether an administrator verified the device; `required` false is always satisfied."""

    required: bool

    @classmethod
    def parse(cls, _operator: Operator, values: list[str]) -> Self:
        if len(values) != 1:
            raise InvalidCondition("values", "should have 1 item(s)")
        return cls(_each(values, _boolean)[0])

    def render(self) -> tuple[Operator, list[str]]:
        return Operator.IS, ["true" if self.required else "false"]


class Weekday(StrEnum):
    """Stored letters; the value's position is `datetime.weekday()`."""

    MONDAY = "M"
    TUESDAY = "T"
    WEDNESDAY = "W"
    THURSDAY = "R"
    FRIDAY = "F"
    SATURDAY = "S"
    SUNDAY = "U"


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """Inclusive range of local time, in whole seconds since local midnight."""

    start_s: int
    end_s: int

    def __post_init__(self) -> None:
        if not 0 <= self.start_s <= self.end_s < SECONDS_A_DAY:
            raise ValueError("a range must lie within one day and not end before it starts")


@dataclass(frozen=True, slots=True)
class DayRanges:
    """One day of the week in one zone; ranges are merged and ascending."""

    day: Weekday
    ranges: tuple[TimeRange, ...]
    zone: ZoneInfo


@_kind(Property.TIME, Operator.IS_IN_DAY_OF_WEEK_TIME_RANGES)
@dataclass(frozen=True, slots=True)
class TimeCondition(ReadableCondition):
    """Local times of days of the week. `values` keeps the stored texts."""

    days: tuple[DayRanges, ...]
    values: tuple[str, ...]

    @classmethod
    def parse(cls, _operator: Operator, values: list[str]) -> Self:
        return cls(_merged(_each(values, parse_day_ranges)), tuple(values))

    def render(self) -> tuple[Operator, list[str]]:
        return Operator.IS_IN_DAY_OF_WEEK_TIME_RANGES, list(self.values)


@dataclass(frozen=True, slots=True)
class UnreadableCondition:
    """A stored condition that this version cannot parse: never satisfied, so that access fails closed."""

    property: Property
    reason: str


Condition = ReadableCondition | UnreadableCondition

OPERATORS: Final = {property_: KINDS[property_].operators for property_ in Property}


def parse_condition(property_: str, operator: str, values: list[str]) -> Condition:
    """Parse one stored condition; values are trimmed first.

    Raises:
        InvalidCondition: naming the field and element at fault.
    """
    try:
        prop = Property(property_)
    except ValueError:
        raise InvalidCondition("property", "is invalid") from None
    kind = KINDS[prop]
    if operator not in kind.operators:
        raise InvalidCondition("operator", "is invalid")
    trimmed = [value.strip() for value in values]
    if not trimmed:
        raise InvalidCondition("values", "should have at least 1 item(s)")
    if len(set(trimmed)) != len(trimmed):
        raise InvalidCondition("values", "must not contain duplicate values")
    return kind.parse(Operator(operator), trimmed)


def parse_stored_condition(property_: str, operator: str, values: list[str]) -> Condition:
    """Parse a condition out of the store; what cannot be read becomes one that nobody satisfies.

    Raises:
        ValueError: the property itself is unknown.
    """
    known = Property(property_)
    if not all(isinstance(value, str) for value in values):
        return UnreadableCondition(known, "values must be texts")
    try:
        return parse_condition(property_, operator, values)
    except InvalidCondition as error:
        return UnreadableCondition(known, error.message)


def render_condition(condition: Condition) -> tuple[Property, Operator, list[str]]:
    """Return the stored triple of a condition.

    Raises:
        ValueError: for an unreadable condition, which has no stored form.
    """
    match condition:
        case ReadableCondition():
            return condition.property, *condition.render()
        case UnreadableCondition(reason=reason):
            raise ValueError(f"an unreadable condition cannot be rendered: {reason}")


def parse_day_ranges(text: str) -> DayRanges:
    """Parse `DAY/RANGES/ZONE`, e.g. `M/09:00-17:00,18-20/Europe/Berlin`; `true` is the whole day.

    Raises:
        ValueError: with a reason of its own for a bad day, zone, missing zone and range.
    """
    parts = text.split("/", 2)
    if len(parts) < 3 or not parts[2].strip():
        raise ValueError("timezone is required")
    day_text, ranges_text, zone_text = (part.strip() for part in parts)
    try:
        day = Weekday(day_text)
    except ValueError:
        raise ValueError("invalid day of the week, must be one of M, T, W, R, F, S, U") from None
    try:
        zone = _zone(zone_text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("invalid timezone") from None
    if ranges_text == "true":
        return DayRanges(day, (TimeRange(0, SECONDS_A_DAY - 1),), zone)
    pieces = [piece for piece in ranges_text.split(",") if piece.strip()]
    return DayRanges(day, merge_ranges(_time_range(piece) for piece in pieces), zone)


def _zone(name: str) -> ZoneInfo:
    """Load a zone by its IANA name.

    A host's database also holds names that mean something else on the next host, and copies that count leap seconds.
    """
    if name in ("localtime", "posixrules") or name.startswith(("posix/", "right/")):
        raise ZoneInfoNotFoundError(name)
    return ZoneInfo(name)


def merge_ranges(ranges: Iterable[TimeRange]) -> tuple[TimeRange, ...]:
    """Merge ranges that touch or overlap, ascending: `4-11,11-22` is `4-22`."""
    merged: list[TimeRange] = []
    for one in sorted(ranges):
        if merged and one.start_s <= merged[-1].end_s:
            merged[-1] = TimeRange(merged[-1].start_s, max(merged[-1].end_s, one.end_s))
        else:
            merged.append(one)
    return tuple(merged)


_TIME: Final = re.compile(r"\s*([0-9]{1,2})(?::([0-9]{1,2})(?::([0-9]{1,2})(?:\.[0-9]*)?)?)?\s*")


def _time_range(text: str) -> TimeRange:
    start, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"invalid time range {text.strip()!r}")
    start_s, end_s = _time(start), _time(end)
    if start_s > end_s:
        raise ValueError(f"invalid time range {text.strip()!r}: it ends before it starts")
    return TimeRange(start_s, end_s)


def _time(text: str) -> int:
    match = _TIME.fullmatch(text)
    hour, minute, second = (int(part or 0) for part in match.groups()) if match is not None else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"invalid time {text.strip()!r}")
    return hour * 3600 + minute * 60 + second


def _merged(days: list[DayRanges]) -> tuple[DayRanges, ...]:
    pooled: dict[tuple[Weekday, str], DayRanges] = {}
    for one in days:
        key = (one.day, one.zone.key)
        known = pooled.get(key)
        pooled[key] = (
            one if known is None else DayRanges(one.day, merge_ranges(known.ranges + one.ranges), one.zone)
        )
    return tuple(pooled.values())


def _each(values: list[str], parse: Callable[[str], _T]) -> list[_T]:
    parsed: list[_T] = []
    for index, value in enumerate(values):
        try:
            parsed.append(parse(value))
        except ValueError as error:
            raise InvalidCondition("values", str(error), index) from None
    return parsed


def _region(text: str) -> str:
    if text not in REGIONS:
        raise ValueError("is not a country code")
    return text


def _address_or_network(text: str) -> IpNetwork:
    try:
        return parse_network(text if "/" in text else f"{text}/{parse_ip(text).max_prefixlen}")
    except ValueError:
        raise ValueError("is not an IP address or CIDR") from None


def _provider_id(text: str) -> AuthProviderId:
    try:
        return AuthProviderId(UUID(text))
    except ValueError:
        raise ValueError("is not a UUID") from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError('must be "true" or "false"')
    return text == "true"


def _membership(negated: bool) -> Operator:
    return Operator.IS_NOT_IN if negated else Operator.IS_IN
