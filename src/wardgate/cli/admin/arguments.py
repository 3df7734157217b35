"""The command line of `wardgate admin`, built from the catalogue; what it says becomes one `Request`.

    wardgate admin NOUN VERB [OBJECT] [--site NAME] [--field VALUE …] [--output table|json|yaml] [--yes]

Built with argparse, not with the decorators of the other commands, because the tree is data. Only the noun in question gets a parser.
"""

import argparse
import functools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from wardgate.cli.admin.catalogue import NOUNS, noun_named
from wardgate.cli.admin.examples import EXAMPLES
from wardgate.cli.admin.rendering import one_line
from wardgate.cli.admin.vocabulary import OWN_ID, REPEATABLE, Answer, Body, Field, Kind, Noun, Output, Verb
from wardgate.cli.errors import UsageError
from wardgate.cli.settings import parse_duration_s
from wardgate.cli.usage import meant

EXIT_CODES: Final = """\
Exit codes: 0 done · 1 failed (the portal cannot be reached, or failed itself) · 2 wrong usage, or not confirmed ·
3 not found · 4 refused (token not accepted, or forbidden) · 5 the values are not valid, or conflict with what is there.

Address and token: --url and --token-file, else WARDGATE_URL and WARDGATE_TOKEN (for what is the operator's
WARDGATE_OPERATOR_TOKEN), else the profile file that `wardgate init` left."""


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
    url: str | None
    token_file: Path | None
    ca_file: Path | None
    config: Path | None


def parse(arguments: Sequence[str], *, now: datetime) -> Request:
    """Parse what follows `wardgate admin`; `now` (aware UTC) is what durations count from.

    Raises:
        UsageError: with what is wrong, in one line.
        SystemExit: help was asked for, and printed.
    """
    noun = next((found for word in arguments if (found := noun_named(word))), None)
    first = next((word for word in arguments if not word.startswith("-")), None)
    if noun is None and first is not None:
        raise UsageError(_unknown(first, "noun", [one.name for one in NOUNS], "wardgate admin"))
    if noun is not None:
        _check_verb(noun, arguments)
    parsed, left = parser(noun).parse_known_args(arguments)
    if left:
        where = f"wardgate admin {parsed.noun} {parsed.verb}"
        options_there = [option for one in _options_of(noun, parsed.verb) for option in one.option_strings]
        hint = meant(left[0].partition("=")[0], options_there) if left[0].startswith("-") else ""
        raise UsageError(f"unrecognized arguments: {one_line(' '.join(left))}{hint} (`{where} --help`)")
    options = vars(parsed)
    noun = noun_named(options["noun"])
    verb = None if noun is None else noun.verb(options["verb"])
    assert noun is not None
    assert verb is not None
    given = {
        field.wire: _value(field, options[field.destination], now, clears=verb.method == "PATCH")
        for field in (*verb.fields, *verb.filters)
        if options.get(field.destination) is not None
    }
    if verb.method == "PATCH" and verb.body is Body.FIELDS and not given:
        flags = ", ".join(field.flag for field in verb.fields)
        raise UsageError(f"nothing to change: give at least one of {flags}")
    return Request(
        noun,
        verb,
        {name: options[f"named_{name}"] for name in verb.placeholders},
        given,
        tuple(options.get("elements") or ()),
        Output.JSON if options["json"] else options["output"],
        options.get("limit"),
        options.get("yes", False),
        options.get("if_match"),
        options.get("etag", False),
        options.get("all", False),
        options["url"],
        options["token_file"],
        options["ca_file"],
        options["config"],
    )


def _check_verb(noun: Noun, arguments: Sequence[str]) -> None:
    """Tell what was meant by a verb that there is not: the first word after the noun that is no option."""
    after = list(arguments)[list(arguments).index(noun.name) + 1 :]
    word = next(iter(after), "-")
    if not word.startswith("-") and noun.verb(word) is None:
        verbs = [verb.name for verb in noun.verbs]
        known = f"; there are {', '.join(verbs)}"
        where = f"wardgate admin {noun.name}"
        raise UsageError(
            f"{noun.name} have no verb {one_line(word)!r}{meant(word, verbs) or known} (`{where} --help`)"
        )


def _options_of(noun: Noun | None, verb: str) -> list[argparse.Action]:
    """Return the options of one verb; argparse has no public way to ask for them."""
    nouns = next(one for one in parser(noun)._actions if isinstance(one, argparse._SubParsersAction))  # noqa: SLF001
    assert noun is not None
    verbs = next(
        one
        for one in nouns.choices[noun.name]._actions  # noqa: SLF001
        if isinstance(one, argparse._SubParsersAction)  # noqa: SLF001
    )
    actions: list[argparse.Action] = verbs.choices[verb]._actions  # noqa: SLF001
    return actions


@functools.cache
def parser(noun: Noun | None) -> argparse.ArgumentParser:
    """Return the parser of all nouns, with the verbs of `noun` only, if one is given."""
    root = _Parser(
        prog="wardgate admin",
        description="Administer the portal over its REST API. Objects may be named in place of their ids.",
        epilog=f"Example: wardgate admin resources create --name web --type dns --address web.corp.example"
        f" --site Berlin\n\n{EXIT_CODES}",
    )
    nouns = root.add_subparsers(dest="noun", metavar="NOUN", required=True)
    for one in NOUNS:
        sub = nouns.add_parser(one.name, help=one.help, description=one.help, epilog=_epilog(one, None))
        if noun in (None, one):
            verbs = sub.add_subparsers(dest="verb", metavar="VERB", required=True)
            for verb in one.verbs:
                _add_arguments(
                    verbs.add_parser(
                        verb.name, help=verb.help, description=verb.help, epilog=_epilog(one, verb)
                    ),
                    one,
                    verb,
                )
    return root


def _epilog(noun: Noun, verb: Verb | None) -> str:
    """Return the examples of a noun, or of one of its verbs, and what is the same everywhere."""
    examples = [
        f"Example: wardgate admin {noun.name} {example}"
        for example in EXAMPLES.get(noun.name, ())
        if verb is None or example.split()[0] == verb.name
    ]
    return "\n\n".join((*examples, EXIT_CODES))


def _unknown(word: str, what: str, known: Sequence[str], where: str) -> str:
    return f"there is no {what} {one_line(word)!r}{meant(word, known)} (`{where} --help`)"


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line, like every other command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (`{self.prog} --help`)")


def _add_arguments(command: argparse.ArgumentParser, noun: Noun, verb: Verb) -> None:
    for name in verb.placeholders:
        if name in OWN_ID:
            by = " or ".join(("id", *noun.named_by))
            command.add_argument(
                f"named_{name}", metavar=noun.singular.upper().replace(" ", "-"), help=f"its {by}"
            )
        else:
            command.add_argument(
                f"--{name.replace('_', '-')}",
                dest=f"named_{name}",
                metavar="NAME",
                required=True,
                help=f"the {name.replace('_', ' ')}: name or id",
            )
    if verb.elements:
        command.add_argument(
            "elements",
            metavar=verb.elements.removesuffix("s").upper(),
            nargs="*" if verb.body is Body.WHOLE_LIST else "+",
            help="ids, names or addresses" if verb.elements == "actors" else "ids or names",
        )
    for field in (*verb.fields, *verb.filters):
        _add_field(command, field)
    if verb.answer is Answer.PAGES:
        command.add_argument("--limit", type=_positive, metavar="N", help="at most so many; all by default")
    if verb.all_path:
        command.add_argument("--all", action="store_true", help="those too that nobody edits")
    if verb.is_destructive:
        command.add_argument("--yes", action="store_true", help="do not ask")
    if verb.is_versioned and verb.method == "GET":
        command.add_argument("--etag", action="store_true", help="print the version only, for --if-match")
    elif verb.is_versioned:
        command.add_argument(
            "--if-match",
            metavar="ETAG",
            help="do it only if this is still the version (see --etag of `show` or `list`)",
        )
    command.add_argument(
        "--output", type=Output, choices=list(Output), default=Output.TABLE, help="table by default",
        metavar="{table,json,yaml}",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="the same as --output json")
    command.add_argument("--url", metavar="URL", help="the portal [env: WARDGATE_URL]")
    command.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the token [env: WARDGATE_TOKEN_FILE]"
    )
    command.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="PEM authorities to trust [env: WARDGATE_CA_FILE]"
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="TOML file [env: WARDGATE_CONFIG]")


def _add_field(command: argparse.ArgumentParser, field: Field) -> None:
    common: dict[str, Any] = {
        "dest": field.destination,
        "help": field.help.replace("%", "%%"),
        "required": field.is_required,
    }
    if field.kind is Kind.FLAG:
        command.add_argument(field.flag, action=argparse.BooleanOptionalAction, default=None, **common)
    elif field.kind in REPEATABLE:
        command.add_argument(field.flag, action="append", metavar="TEXT", **common)
    elif field.choices:
        command.add_argument(field.flag, choices=field.choices, **common)
    else:
        command.add_argument(field.flag, metavar=_METAVARS.get(field.kind, "TEXT"), **common)


_METAVARS: Final = {Kind.ID: "NAME", Kind.INSTANT: "TIME", Kind.PAST_INSTANT: "TIME", Kind.NUMBER: "N"}


def _value(field: Field, given: Any, now: datetime, *, clears: bool) -> Any:
    """Return the JSON value; `clears`: an empty text stands for null."""
    try:
        match field.kind:
            case Kind.INSTANT:
                return parse_instant(given, now, direction=1)
            case Kind.PAST_INSTANT:
                return parse_instant(given, now, direction=-1)
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
        raise UsageError(f"{field.flag}: {error}") from error


def parse_instant(text: str, now: datetime, *, direction: int) -> str:
    """Return the RFC 3339 time that a text stands for: itself, or a duration after (1) or before (-1) `now`.

    Raises:
        ValueError, OverflowError: it is neither, or beyond all calendars.
    """
    if re.match(r"\d{4}-", text):
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise ValueError(f"{text!r} lacks its time zone: append Z for UTC")
    else:
        instant = now + direction * timedelta(seconds=parse_duration_s(text))
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 up")
    return int(text)
