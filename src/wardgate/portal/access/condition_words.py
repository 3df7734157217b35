"""Conditions of policies in words, for people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from wardgate.model.conditions import Property

SHORT_NAMES: Final[Mapping[str, str]] = {
    Property.REGION: "Location",
    Property.REMOTE_IP: "IP range",
    Property.AUTH_PROVIDER: "Sign-in",
    Property.VERIFIED: "Verified client",
    Property.TIME: "Time",
}


def short_names(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the kinds of a policy's conditions."""
    return [SHORT_NAMES.get(one["property"], one["property"]) for one in conditions]
