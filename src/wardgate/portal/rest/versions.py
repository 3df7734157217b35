"""`If-Match` on changes (RFC 9110 §13.1.1): the tags are those of `object_versions`."""

from http import HTTPStatus
from typing import Final

from wardgate.portal.rest.problems import Problem

CHANGED: Final = "The object has changed since the version that If-Match names."


def check_expectation(if_match: str | None, tag: str) -> None:
    """Refuse if `If-Match` is given and does not name this version.

    Raises:
        Problem: 412.
    """
    if if_match is None or if_match.strip() == "*":
        return
    if tag not in (one.strip() for one in if_match.split(",")):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, CHANGED)
