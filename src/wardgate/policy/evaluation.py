"""Evaluating the conditions of one policy against the facts of one connection (portal-domain §5.2, §5.3).

Conditions are ANDed. Each is satisfied until some instant (or without end), violated, or undetermined because a fact
is not known; undetermined counts as violated wherever access is decided, so that what is unknown never opens a door.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any, Final, Self, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from wardgate.model.addresses import IpAddress, normalized
from wardgate.model.conditions import (
    KINDS,
    AuthProviderCondition,
    Condition,
    DayRanges,
    Property,
    ReadableCondition,
    RegionCondition,
    RemoteIpCondition,
    TimeCondition,
    TimeRange,
    UnreadableCondition,
    VerifiedCondition,
    Weekday,
)
from wardgate.model.domain import Policy
from wardgate.model.ids import AuthProviderId, GroupId


class Undetermined(Enum):
    """A fact that only a connection has, where there is no connection (`explain`)."""

    UNDETERMINED = "undetermined"


UNDETERMINED: Final = Undetermined.UNDETERMINED


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a client at its connection; fixed for the connection's life, but for `is_verified`.

    None means known to be absent: no region in the database, a token without provider.
    """

    remote_ip: IpAddress | Undetermined = UNDETERMINED
    region: str | Undetermined | None = UNDETERMINED
    auth_provider_id: AuthProviderId | Undetermined | None = UNDETERMINED
    is_verified: bool | Undetermined = UNDETERMINED


class Outcome(Enum):
    SATISFIED = "satisfied"
    VIOLATED = "violated"
    UNDETERMINED = "undetermined"


class ConditionResult(msgspec.Struct, frozen=True, gc=False):
    """One condition, its outcome, and until when it stays satisfied (None if without end)."""

    condition: Condition
    outcome: Outcome
    until: datetime | None = None


class Evaluation(msgspec.Struct, frozen=True, gc=False):
    """One policy, evaluated: all its conditions, in their order.

    `until` is the earliest end of its conditions, None if without end; it means nothing unless `is_satisfied`.
    """

    policy: Policy
    results: tuple[ConditionResult, ...]
    is_satisfied: bool
    until: datetime | None

    @property
    def failed(self) -> tuple[ConditionResult, ...]:
        return tuple(result for result in self.results if result.outcome is not Outcome.SATISFIED)


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy that grants, made ready once for many decisions; equal to another when the policies are.

    A decision then neither looks at the kinds of conditions nor builds results that are always the same.
    """

    policy: Policy
    group: int  # the number of its group's id
    _checks: "tuple[Check, ...]" = field(repr=False, compare=False)
    _unconditional: Evaluation | None = field(repr=False, compare=False)

    @classmethod
    def of(cls, policy: Policy, group_id: GroupId) -> Self:
        checks = tuple(compile_condition(one) for one in policy.conditions)
        return cls(policy, group_id.int, checks, None if checks else Evaluation(policy, (), True, None))

    def evaluate(self, facts: Facts, *, now: datetime) -> Evaluation:
        """Evaluate all conditions; `now` is aware."""
        if self._unconditional is not None:
            return self._unconditional
        is_satisfied = True
        earliest: datetime | None = None
        results = [check(facts, now) for check in self._checks]
        for result in results:
            until = result.until
            if result.outcome is not _SATISFIED:
                is_satisfied = False
            elif until is not None and (earliest is None or until < earliest):
                earliest = until
        return Evaluation(self.policy, tuple(results), is_satisfied, earliest)


Check = Callable[[Facts, datetime], ConditionResult]
"""One condition, compiled: facts and an aware instant → its result."""

_SATISFIED: Final = Outcome.SATISFIED  # a global is read faster than an enumeration's attribute
_VIOLATED: Final = Outcome.VIOLATED


def compile_condition(condition: Condition) -> Check:
    """Return the check of a condition; all its results but the end of a time window are built here, once."""
    if isinstance(condition, UnreadableCondition):
        return lambda _facts, _now: ConditionResult(condition, _VIOLATED)
    return _EVALUATED[type(condition)].compile(condition)


def input_of(property_: Property, facts: Facts, now: datetime) -> object:
    """Return what conditions on a property look at: a fact, or the time."""
    return _EVALUATED[KINDS[property_]].read(facts, now)


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """How one kind of condition is evaluated, and what it looks at."""

    compile: Callable[[Any], Check]
    read: Callable[[Facts, datetime], object]


_EVALUATED: Final[dict[type[ReadableCondition], _Evaluated]] = {}
_ReadableT = TypeVar("_ReadableT", bound=ReadableCondition)


def _evaluates(
    kind: type[_ReadableT], read: Callable[[Facts, datetime], object]
) -> Callable[[Callable[[_ReadableT], Check]], Callable[[_ReadableT], Check]]:
    def register(compile_: Callable[[_ReadableT], Check]) -> Callable[[_ReadableT], Check]:
        _EVALUATED[kind] = _Evaluated(compile_, read)
        return compile_

    return register


@_evaluates(RegionCondition, lambda facts, _now: facts.region)
def _region_check(condition: RegionCondition) -> Check:
    satisfied, violated, undetermined = _results(condition)
    regions, negated = condition.regions, condition.negated

    def check(facts: Facts, _now: datetime) -> ConditionResult:
        region = facts.region
        if region is UNDETERMINED:
            return undetermined
        return satisfied if region is not None and (region in regions) is not negated else violated

    return check


@_evaluates(RemoteIpCondition, lambda facts, _now: facts.remote_ip)
def _remote_ip_check(condition: RemoteIpCondition) -> Check:
    satisfied, violated, undetermined = _results(condition)
    inside, outside = (violated, satisfied) if condition.negated else (satisfied, violated)
    networks = tuple((one.version, int(one.netmask), int(one.network_address)) for one in condition.networks)

    def check(facts: Facts, _now: datetime) -> ConditionResult:
        if facts.remote_ip is UNDETERMINED:
            return undetermined
        address = normalized(facts.remote_ip)
        version, number = address.version, int(address)
        for network_version, mask, first in networks:
            if version == network_version and number & mask == first:
                return inside
        return outside

    return check


@_evaluates(AuthProviderCondition, lambda facts, _now: facts.auth_provider_id)
def _auth_provider_check(condition: AuthProviderCondition) -> Check:
    satisfied, violated, undetermined = _results(condition)
    provider_ids, negated = condition.provider_ids, condition.negated

    def check(facts: Facts, _now: datetime) -> ConditionResult:
        provider_id = facts.auth_provider_id
        if provider_id is UNDETERMINED:
            return undetermined
        return satisfied if (provider_id in provider_ids) is not negated else violated

    return check


@_evaluates(VerifiedCondition, lambda facts, _now: facts.is_verified)
def _verified_check(condition: VerifiedCondition) -> Check:
    satisfied, violated, undetermined = _results(condition)

    def check(facts: Facts, _now: datetime) -> ConditionResult:
        if not condition.required:
            return satisfied
        if facts.is_verified is UNDETERMINED:
            return undetermined
        return satisfied if facts.is_verified else violated

    return check


@_evaluates(TimeCondition, lambda _facts, now: now)
def _time_check(condition: TimeCondition) -> Check:
    days, violated = condition.days, ConditionResult(condition, _VIOLATED)

    def check(_facts: Facts, now: datetime) -> ConditionResult:
        until = end_of_window(days, now)
        return violated if until is None else ConditionResult(condition, _SATISFIED, until)

    return check


def _results(condition: Condition) -> tuple[ConditionResult, ConditionResult, ConditionResult]:
    return (
        ConditionResult(condition, _SATISFIED),
        ConditionResult(condition, _VIOLATED),
        ConditionResult(condition, Outcome.UNDETERMINED),
    )


def end_of_window(days: tuple[DayRanges, ...], now: datetime) -> datetime | None:
    """Return when the window that holds at `now` ends, in UTC; None if none holds. The first that matches wins.

    The end is the last instant at which it holds, but where clocks change inside the window: then the instant
    of the change.
    """
    zone: ZoneInfo | None = None
    local, weekday = now, Weekday.MONDAY
    for day in days:
        if day.zone is not zone:
            zone = day.zone
            local = now.astimezone(zone)
            weekday = _WEEKDAYS[local.weekday()]
        if day.day is weekday:
            for one in day.ranges:
                if _contains(one, local):
                    return _end(day, one, local)
    return None


_WEEKDAYS: Final = tuple(Weekday)


def _contains(one: TimeRange, local: datetime) -> bool:
    second = _second_of_day(local)
    return one.start_s <= second and (second, local.microsecond) <= (one.end_s, 0)


def _second_of_day(local: datetime) -> int:
    return local.hour * 3600 + local.minute * 60 + local.second


def _end(day: DayRanges, one: TimeRange, local: datetime) -> datetime:
    left = timedelta(seconds=one.end_s - _second_of_day(local), microseconds=-local.microsecond)
    end = local.astimezone(UTC) + left
    if end.astimezone(day.zone).utcoffset() == local.utcoffset():
        return end
    # Clocks change on the way: either the end is as far off as the clock says then, or, if the first instant after the
    # change lies outside the range (the hour that is skipped held the end, or the repeated hour lies before the
    # start), the window ends there.
    end = _at(local.date(), one.end_s, day, fold=local.fold)
    if end.astimezone(day.zone).utcoffset() == local.utcoffset():
        return end
    change = _change_of_offset(local.astimezone(UTC), end, day)
    after = change.astimezone(day.zone)
    return end if after.date() == local.date() and _contains(one, after) else change


def _at(on: date, seconds: int, day: DayRanges, *, fold: int) -> datetime:
    hour, rest = divmod(seconds, 3600)
    minute, second = divmod(rest, 60)
    return datetime(on.year, on.month, on.day, hour, minute, second, tzinfo=day.zone, fold=fold).astimezone(
        UTC
    )


def _change_of_offset(before: datetime, after: datetime, day: DayRanges) -> datetime:
    """Find the whole second at which the zone's offset stops being that of `before`; both instants are UTC."""
    offset = before.astimezone(day.zone).utcoffset()
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, day.zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def failed_properties(evaluations: tuple[Evaluation, ...]) -> tuple[Property, ...]:
    """Return the union of the properties that failed, in order of their first appearance."""
    return tuple(dict.fromkeys(result.condition.property for one in evaluations for result in one.failed))
