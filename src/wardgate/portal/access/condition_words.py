"""Conditions of policies in words, for people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from wardgate.model.conditions import InvalidCondition, Operator, Property, parse_condition
from wardgate.portal.access.condition_field import DAYS, times_of
from wardgate.portal.access.country_names import COUNTRY_NAMES

SHORT_NAMES: Final[Mapping[str, str]] = {
    Property.REGION: "Location",
    Property.REMOTE_IP: "IP range",
    Property.AUTH_PROVIDER: "Sign-in",
    Property.VERIFIED: "Verified client",
    Property.TIME: "Time",
}
_NEGATED: Final = (Operator.IS_NOT_IN, Operator.IS_NOT_IN_CIDR)


def short_names(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the kinds of a policy's conditions."""
    return [SHORT_NAMES.get(one["property"], one["property"]) for one in conditions]


def sentence(condition: Mapping[str, Any], providers: Mapping[UUID, str]) -> str:
    """Say when a stored condition holds."""
    property_, operator = str(condition["property"]), str(condition["operator"])
    values = [str(one).strip() for one in condition["values"]]
    try:
        parse_condition(property_, operator, values)
    except InvalidCondition as error:
        return f"A condition that cannot be read, so that nobody meets it: {error.message}"
    is_negated = operator in _NEGATED
    match Property(property_):
        case Property.REGION:
            places = _listed([COUNTRY_NAMES.get(one, one) for one in values])
            return (
                f"The client is known to be outside {places}" if is_negated else f"The client is in {places}"
            )
        case Property.REMOTE_IP:
            ranges = _listed(values)
            return (
                f"The client connects from outside {ranges}"
                if is_negated
                else f"The client connects from {ranges}"
            )
        case Property.AUTH_PROVIDER:
            names = _listed([providers.get(UUID(one), "a deleted provider") for one in values])
            return (
                f"The person signed in otherwise than with {names}"
                if is_negated
                else f"The person signed in with {names}"
            )
        case Property.VERIFIED:
            return "The client is verified" if values == ["true"] else "The client is verified or not"
        case Property.TIME:
            return _times(values)


def _listed(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def _times(values: Sequence[str]) -> str:
    found = times_of(values)
    if found is None:
        return f"It is within {'; '.join(values)}"
    zone, rows = found
    told = []
    for row in rows:
        days = ", ".join(DAYS[day] for day in row.days)
        is_whole = (row.first, row.last) == ("00:00", "23:59")
        told.append(f"{days}, all day" if is_whole else f"{days}, {row.first} to {row.last}")
    return f"It is {'; or '.join(told)} ({zone})"
