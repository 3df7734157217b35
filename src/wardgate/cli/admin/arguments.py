"""The command line of `wardgate admin`, built from the catalogue; what it says becomes one `Request`.

wardgate admin NOUN VERB [OBJECT] [--site NAME] [--field VALUE …] [--output table|json|yaml] [--yes]
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from wardgate.cli import values
from wardgate.cli.admin.catalogue import NOUNS, noun_named
from wardgate.cli.admin.examples import EXAMPLES, examples_of
from wardgate.cli.admin.vocabulary import (
    OWN_ID,
    PARENTS,
    REPEATABLE,
    Answer,
    Body,
    Field,
    Kind,
    Noun,
    Output,
    Verb,
)
from wardgate.cli.command_line import Command, read
from wardgate.cli.commands.rest import CALLING, NOTES
from wardgate.cli.commands.tree import ROOT
from wardgate.cli.parameters import AnyParameter, Form, Parameter, switch
from wardgate.cli.settings import Settings


@dataclass(frozen=True, slots=True)
class Request:
    """What the user wants.

    Attributes:
        named: placeholder → what the user called the object.
        given: fields and filters that were given, as JSON values; ids still as the user wrote them.
        elements: for lists of ids: what the user called each.
        if_match: act only on this version (an entity tag).
        wants_version: show the version and nothing else.
        wants_all: list what is left out otherwise, too.
    """

    noun: Noun
    verb: Verb
    named: dict[str, str]
    given: dict[str, Any]
    elements: tuple[str, ...]
    output: Output
    limit: int | None
    is_confirmed: bool
    if_match: str | None
    wants_version: bool
    wants_all: bool
    settings: Settings


def parse(words: Sequence[str], *, now: datetime) -> Request:
    """Parse what follows `wardgate admin`, a noun and a verb of it; `now` (aware UTC) is what durations count
    from.

    Raises:
        UsageError: with what is wrong, in one line.
    """
    call = read(ROOT, ["admin", *words])
    assert not call.wants_help, "help is the program's, not a request"
    return request_of(Settings.load("rest", os.environ, call.given, call.name), now=now)


def request_of(settings: Settings, *, now: datetime) -> Request:
    """Return what a command line wants, once its words are read.

    Raises:
        UsageError: a value is wrong, or nothing is to be changed.
    """
    noun_name, verb_name = settings.command.split()[-2:]
    noun = noun_named(noun_name)
    verb = None if noun is None else noun.verb(verb_name)
    assert noun is not None
    assert verb is not None
    try:
        given = {
            field.wire: _value(field, settings.given[field.destination], now, clears=verb.method == "PATCH")
            for field in (*verb.fields, *verb.filters)
            if field.destination in settings.given
        }
    except ValueError as error:
        raise settings.wrong_usage(str(error)) from error
    if verb.method == "PATCH" and verb.body is Body.FIELDS and not given:
        flags = ", ".join(field.flag for field in verb.fields)
        raise settings.wrong_usage(f"nothing to change: give at least one of {flags}")
    return Request(
        noun,
        verb,
        {name: settings.given[f"named_{name}"] for name in verb.placeholders},
        given,
        tuple(settings.given.get("elements", ())),
        Output.JSON if settings[_JSON] else Output(settings[_OUTPUT]),
        settings[_LIMIT],
        settings[_YES],
        settings[_IF_MATCH],
        settings[_ETAG],
        settings[_ALL],
        settings,
    )


def nouns() -> tuple[Command, ...]:
    """Return the commands below `wardgate admin`."""
    return tuple(map(_command_of, NOUNS))


def _command_of(noun: Noun) -> Command:
    written = tuple(f"wardgate admin {noun.name} {example}" for example in EXAMPLES.get(noun.name, ()))
    return Command(
        name=noun.name,
        help=noun.help,
        examples=written or examples_of(noun, noun.verbs[0]),
        notes=NOTES,
        children=lambda: tuple(_command_within(noun, verb) for verb in noun.verbs),
    )


def _command_within(noun: Noun, verb: Verb) -> Command:
    return Command(
        name=verb.name,
        help=verb.help,
        parameters=tuple(_parameters(noun, verb)),
        examples=examples_of(noun, verb),
        notes=NOTES,
        section="rest",
        run="wardgate.cli.admin.execution:run",
    )


_LIMIT: Final = Parameter[int | None](
    name="limit",
    help="list at most this many; all by default",
    read=values.whole_number_within(1, 10**9),
    default=None,
    value="N",
)
_ALL: Final = switch("all", "include those that nobody can edit")
_YES: Final = switch("yes", "do not ask for confirmation")
_ETAG: Final = switch("etag", "print the version only, for --if-match")
_IF_MATCH: Final = Parameter[str | None](
    name="if_match",
    help="act only if this is still the version (see --etag of show or list)",
    read=values.text,
    default=None,
    value="ETAG",
)
_OUTPUT: Final = Parameter(
    name="output",
    help="how the answer is printed",
    read=values.one_of(*Output),
    default="table",
    choices=tuple(Output),
)
_JSON: Final = switch("json", "the same as --output json")

COMMON: Final = (_OUTPUT, _JSON, *CALLING)
"""What every verb takes."""


def _parameters(noun: Noun, verb: Verb) -> list[AnyParameter]:
    found = [_object(noun, name) if name in OWN_ID else _parent(name) for name in verb.placeholders]
    if verb.elements:
        found.append(
            Parameter[str](
                name="elements",
                help="ids, names or e-mail addresses" if verb.elements == "actors" else "ids or names",
                read=values.text,
                default="",
                form=Form.ARGUMENTS,
                value=verb.elements.removesuffix("s").upper(),
                noun=verb.elements,
                is_required=verb.body is not Body.WHOLE_LIST,
            )
        )
    found += map(_field, (*verb.fields, *verb.filters))
    if verb.answer is Answer.PAGES:
        found.append(_LIMIT)
    if verb.all_path:
        found.append(_ALL)
    if verb.is_destructive:
        found.append(_YES)
    if verb.is_versioned:
        found.append(_ETAG if verb.method == "GET" else _IF_MATCH)
    return [*found, *COMMON]


def _object(noun: Noun, placeholder: str) -> AnyParameter:
    return Parameter(
        name=f"named_{placeholder}",
        help=f"its {' or '.join(('id', *noun.named_by))}",
        read=values.text,
        default="",
        form=Form.ARGUMENT,
        value=noun.singular.upper().replace(" ", "-"),
        noun=noun.name,
        is_required=True,
    )


def _parent(placeholder: str) -> AnyParameter:
    return Parameter(
        name=f"named_{placeholder}",
        option=placeholder,
        help=f"the {placeholder.replace('_', ' ')}: name or id",
        read=values.text,
        default="",
        value="NAME",
        noun=PARENTS[placeholder],
        is_required=True,
    )


def _field(field: Field) -> AnyParameter:
    form = {Kind.FLAG: Form.TOGGLE} | dict.fromkeys(REPEATABLE, Form.REPEATED)
    value = "" if field.choices else _PLACEHOLDERS.get(field.kind, "TEXT")
    return Parameter[Any](
        name=field.destination,
        option=field.flag.removeprefix("--"),
        help=field.help,
        read=values.one_of(*field.choices) if field.choices else values.text,
        default=None,
        form=form.get(field.kind, Form.OPTION),
        value=value,
        choices=field.choices,
        noun=field.noun or "",
        is_required=field.is_required,
    )


_PLACEHOLDERS: Final = {Kind.ID: "NAME", Kind.INSTANT: "TIME", Kind.PAST_INSTANT: "TIME", Kind.NUMBER: "N"}


def _value(field: Field, given: Any, now: datetime, *, clears: bool) -> Any:
    """Return the JSON value; `clears`: an empty text stands for null.

    Raises:
        ValueError: the text has none; the message begins with the option.
    """
    try:
        match field.kind:
            case Kind.INSTANT:
                return values.parse_instant(given, now, direction=1)
            case Kind.PAST_INSTANT:
                return values.parse_instant(given, now, direction=-1)
            case Kind.NUMBER:
                return None if given == "" else _number(given)
            case Kind.FILTERS:
                return [_filter(text) for text in given if text]
            case Kind.CONDITIONS:
                return [_condition(text) for text in given if text]
            case Kind.ADDRESSES:
                return [{"address": text} for text in given if text]
            case _:
                return None if given == "" and clears else given
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{field.flag}: {error}") from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise ValueError(f"{text!r} is not a number from 0 up")
    return int(text)


def _filter(text: str) -> dict[str, Any]:
    protocol, _, ports = text.partition(":")
    return {
        "protocol": protocol.strip(),
        "ports": [port.strip() for port in ports.split(",") if port.strip()],
    }


def _condition(text: str) -> dict[str, Any]:
    words = shlex.split(text)
    if len(words) < 3:
        raise ValueError(f"{text!r} is not 'PROPERTY OPERATOR VALUE…'")
    return {"property": words[0], "operator": words[1], "values": words[2:]}
