"""Each outcome of a rule has one answer of the API, whichever domain it comes from."""

from unittest.mock import sentinel

import msgspec
import pytest

from wardgate.portal.installation.account_lifecycle import LifecycleError, Locked, WrongSlug
from wardgate.portal.limits import LimitReached
from wardgate.portal.outcomes import Forbidden, Invalid, Missing, Refused, Unsuitable, WrongState
from wardgate.portal.rest import application


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Invalid({"name": ["is invalid"]}), 422),
        (Missing(), 404),
        (Forbidden("no"), 403),
        (Unsuitable("no"), 400),
        (WrongState("no"), 409),
        (LimitReached("sites_count"), 403),
        (LifecycleError("no"), 409),
        (Locked("no"), 403),
        (WrongSlug(), 422),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_outcome_has_its_status(outcome: Refused, status: int) -> None:
    answer = application._refused_by_a_rule(sentinel.request, outcome)
    assert answer.status_code == status
    errors = msgspec.json.decode(bytes(answer.body)).get("validation_errors")
    assert errors == (outcome.errors if isinstance(outcome, Invalid) else None)


def test_no_kind_of_outcome_is_left_out() -> None:
    assert set(Refused.__subclasses__()) == {Invalid, Missing, Forbidden, Unsuitable, WrongState}


def test_the_message_of_wrong_values_names_each_field() -> None:
    assert str(Invalid({"name": ["can't be blank"], "filters": [{"ports": ["bad format"]}]})) == (
        "name can't be blank; filters is invalid"
    )
