"""Evaluating the conditions of one policy against the facts of one connection (portal-domain §5.2, §5.3).

Conditions are ANDed. Each is satisfied until some instant (or without end), violated, or undetermined because a fact
is not known; undetermined counts as violated wherever access is decided, so that what is unknown never opens a door.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Final

from wardgate.model.addresses import IpAddress, normalized
from wardgate.model.conditions import (
    AuthProviderCondition,
    Condition,
    DayRanges,
    Property,
    RegionCondition,
    RemoteIpCondition,
    TimeCondition,
    TimeRange,
    UnreadableCondition,
    VerifiedCondition,
    Weekday,
)
from wardgate.model.domain import Policy
from wardgate.model.ids import AuthProviderId


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


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """One condition, its outcome, and until when it stays satisfied (None: without end)."""

    condition: Condition
    outcome: Outcome
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One policy, evaluated: all its conditions, in their order."""

    policy: Policy
    results: tuple[ConditionResult, ...]

    @property
    def is_satisfied(self) -> bool:
        return all(result.outcome is Outcome.SATISFIED for result in self.results)

    @property
    def failed(self) -> tuple[ConditionResult, ...]:
        return tuple(result for result in self.results if result.outcome is not Outcome.SATISFIED)

    @property
    def until(self) -> datetime | None:
        """The earliest end of its conditions; None: without end. Means nothing unless it is satisfied."""
        return min((result.until for result in self.results if result.until is not None), default=None)


def evaluate_policy(policy: Policy, facts: Facts, *, now: datetime) -> Evaluation:
    """Evaluate all conditions of a policy; `now` is aware."""
    if not policy.conditions:
        return Evaluation(policy, ())
    return Evaluation(policy, tuple(evaluate_condition(one, facts, now=now) for one in policy.conditions))


def evaluate_condition(condition: Condition, facts: Facts, *, now: datetime) -> ConditionResult:
    match condition:
        case RegionCondition(regions, negated):
            region = facts.region
            if isinstance(region, Undetermined):
                return _undetermined(condition)
            return _result(condition, region is not None and (region in regions) is not negated)
        case RemoteIpCondition(networks, negated):
            address = facts.remote_ip
            if isinstance(address, Undetermined):
                return _undetermined(condition)
            plain = normalized(address)
            return _result(condition, any(plain in network for network in networks) is not negated)
        case AuthProviderCondition(provider_ids, negated):
            provider_id = facts.auth_provider_id
            if isinstance(provider_id, Undetermined):
                return _undetermined(condition)
            return _result(condition, (provider_id in provider_ids) is not negated)
        case VerifiedCondition(required):
            if not required:
                return _result(condition, True)
            verified = facts.is_verified
            return (
                _undetermined(condition)
                if isinstance(verified, Undetermined)
                else _result(condition, verified)
            )
        case TimeCondition(days):
            until = end_of_window(days, now)
            return _result(condition, until is not None, until)
        case UnreadableCondition():
            return _result(condition, False)


def end_of_window(days: tuple[DayRanges, ...], now: datetime) -> datetime | None:
    """Return when the window that holds at `now` ends, in UTC; None: none holds. The first that matches wins."""
    for day in days:
        local = now.astimezone(day.zone)
        if day.day is not _WEEKDAYS[local.weekday()]:
            continue
        for one in day.ranges:
            if _contains(one, local):
                return _end(day, one, local)
    return None


_WEEKDAYS: Final = tuple(Weekday)


def _contains(one: TimeRange, local: datetime) -> bool:
    since_midnight = timedelta(
        hours=local.hour, minutes=local.minute, seconds=local.second, microseconds=local.microsecond
    )
    return timedelta(seconds=one.start_s) <= since_midnight <= timedelta(seconds=one.end_s)


def _end(day: DayRanges, one: TimeRange, local: datetime) -> datetime:
    end = _at(local.date(), one.end_s, day, fold=local.fold)
    if end.astimezone(day.zone).utcoffset() == local.utcoffset():
        return end
    # Clocks change before the end: if the first instant after the change lies outside the range (the hour that is
    # skipped held the end, or the repeated hour lies before the start), the window ends there.
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


def _result(condition: Condition, is_satisfied: bool, until: datetime | None = None) -> ConditionResult:
    return ConditionResult(condition, Outcome.SATISFIED if is_satisfied else Outcome.VIOLATED, until)


def _undetermined(condition: Condition) -> ConditionResult:
    return ConditionResult(condition, Outcome.UNDETERMINED)


def failed_properties(evaluations: "tuple[Evaluation, ...]") -> tuple[Property, ...]:
    """Return the union of the properties that failed, in order of their first appearance."""
    return tuple(dict.fromkeys(result.condition.property for one in evaluations for result in one.failed))
