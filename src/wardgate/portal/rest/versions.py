"""Versions of objects: `ETag` on what is shown, `If-Match` on what is to be changed (RFC 9110 §13.1.1).

A tag stands for what is stored of an object and can be edited. What connections report of themselves (addresses, times, `online`)
is no part of it, so that a device that reconnects does not spoil an administrator's edit.
"""

import hashlib
from dataclasses import fields
from http import HTTPStatus
from typing import Final

import msgspec

from wardgate.portal.rest.problems import Problem
from wardgate.portal.store.consequences import LATEST_SESSION
from wardgate.portal.store.rows import Row

CHANGED: Final = "The object has changed since the version that If-Match names."


def tag_of(row: Row) -> str:
    """Return the entity tag of a row, quotes included."""
    left_out = LATEST_SESSION.get(row.table, frozenset())
    values = {field.name: getattr(row, field.name) for field in fields(row) if field.name not in left_out}
    digest = hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()
    return f'"{digest[:32]}"'


def check_expectation(if_match: str | None, row: Row) -> None:
    """Refuse when `If-Match` is given and names other versions only.

    Raises:
        Problem: 412.
    """
    if if_match is None or if_match.strip() == "*":
        return
    if tag_of(row) not in (tag.strip() for tag in if_match.split(",")):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, CHANGED)
