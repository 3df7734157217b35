"""Versions of objects: what `ETag` on the API and the hidden field of a form carry.

A tag identifies the stored, editable state of an object. What connections report about themselves (addresses,
times, `online`) does not count, so that a device that reconnects does not invalidate an administrator's edit.
A list of members has a tag too: it identifies the whole set of members, whichever page is returned.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import fields
from uuid import UUID

import msgspec

from wardgate.portal.schema.row import Row
from wardgate.portal.tables import TABLES


def tag_of(row: Row) -> str:
    """Return the entity tag of a row, quotes included."""
    left_out = TABLES[row.table].latest_use
    return _tag({field.name: getattr(row, field.name) for field in fields(row) if field.name not in left_out})


def tag_of_members(owner_id: UUID, member_ids: Iterable[UUID]) -> str:
    """Return the entity tag of a list of members, quotes included. Their order does not matter."""
    return _quoted(owner_id.bytes + b"".join(sorted(one.bytes for one in member_ids)))


def _tag(content: object) -> str:
    return _quoted(msgspec.json.encode(content, order="sorted"))


def _quoted(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'
