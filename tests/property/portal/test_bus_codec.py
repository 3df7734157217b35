"""Everything that crosses the bus survives its codec, and tells no secret to a log."""

import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from wardgate.portal.bus import presence
from wardgate.portal.bus.codec import Encodable, decode, encode
from wardgate.wire.messages import Message

ALL = get_args(Encodable)


@settings(max_examples=settings.default.max_examples // 5)  # some of these have fifty fields
@given(st.data())
@pytest.mark.parametrize("type_", ALL, ids=lambda type_: type_.__name__)
def test_decoding_gives_back_what_was_encoded(type_: type, data: st.DataObject) -> None:
    value = data.draw(values_of(type_))
    decoded = decode(encode(value))
    assert decoded == value
    assert type(decoded) is type_


@pytest.mark.parametrize("type_", ALL, ids=lambda type_: type_.__name__)
def test_values_of_the_bus_are_frozen_all_the_way_down(type_: type) -> None:
    for part in parts_of(type_, set()):
        if issubclass(part, msgspec.Struct):
            assert part.__struct_config__.frozen, part
        else:
            assert part.__dataclass_params__.frozen, part


@settings(max_examples=5)
@given(st.data())
@pytest.mark.parametrize("type_", ALL, ids=lambda type_: type_.__name__)
def test_no_representation_tells_a_secret(type_: type, data: st.DataObject) -> None:
    secret = "5ecre7" * 10
    key_fields = {"psk_base": secret.encode(), "stamp_secret": secret}
    value = data.draw(values_of(type_))
    names = {field.name for field in msgspec.structs.fields(type_)}
    value = msgspec.structs.replace(value, **{key: key_fields[key] for key in key_fields.keys() & names})
    for name in names:
        inner = getattr(value, name)
        if isinstance(inner, Message) and hasattr(inner, "flow_logs_ingest_token"):
            told = msgspec.structs.replace(inner, flow_logs_ingest_token=secret)
            value = msgspec.structs.replace(value, **{name: told})
    assert "5ecre7" not in repr(value)
    assert "5ecre7" not in f"{value}"


def parts_of(type_: Any, seen: set[Any]) -> set[type]:
    """Return the structs and dataclasses that a type is made of."""
    if isinstance(type_, type) and get_origin(type_) is None:
        if (issubclass(type_, msgspec.Struct) or is_dataclass(type_)) and type_ not in seen:
            seen.add(type_)
            for hint in hints_of(type_).values():
                parts_of(hint, seen)
    else:
        inner = (type_.__supertype__,) if isinstance(type_, NewType) else get_args(type_)
        for one in inner:
            parts_of(one, seen)
    return seen


def hints_of(type_: type) -> dict[str, Any]:
    names = (
        [field.name for field in msgspec.structs.fields(type_)]
        if issubclass(type_, msgspec.Struct)
        else [field.name for field in fields(type_)]
    )
    hints = get_type_hints(type_, include_extras=True)
    return {name: hints[name] for name in names}


@cache
def values_of(type_: Any) -> st.SearchStrategy[Any]:
    """Generate values of a type, from its annotations alone: a new message needs nothing here."""
    if type_ in SCALARS:
        return SCALARS[type_]
    if isinstance(type_, NewType):
        return values_of(type_.__supertype__)
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        return annotated(arguments)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values_of, arguments))
    if origin is tuple:
        assert arguments[1:] == (...,), type_
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if issubclass(type_, Enum):
        return st.sampled_from(type_)
    assert issubclass(type_, msgspec.Struct) or is_dataclass(type_), f"{type_}: say how to make one"
    made = st.fixed_dictionaries({name: values_of(hint) for name, hint in hints_of(type_).items()})
    return made.map(lambda values: build(type_, values)).filter(lambda value: value is not None)


def build(type_: Callable[..., Any], values: dict[str, Any]) -> Any:
    try:
        return type_(**values)
    except ValueError:
        return None  # the type itself says that its fields do not go together


def annotated(arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    kind, meta = arguments
    if meta.tz:
        return st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=2))))
    return st.from_regex(meta.pattern, fullmatch=True) if meta.pattern else values_of(kind)


IPV4 = st.integers(min_value=0, max_value=2**32 - 1).map(IPv4Address)
IPV6 = st.integers(min_value=0, max_value=2**128 - 1).map(IPv6Address)

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    bytes: st.binary(max_size=8),
    datetime: st.nothing(),  # one without a zone means nothing on another node
    float: st.floats(allow_nan=False),
    int: st.integers(min_value=-(2**63), max_value=2**63 - 1),
    presence.IpAddress: IPV4 | IPV6,
    IPv4Address: IPV4,
    IPv6Address: IPV6,
    str: st.text("aZ0é\0\n\u2028😀", max_size=8),
    type(None): st.none(),
    UnsetType: st.just(UNSET),
    UUID: st.uuids(),
}
