"""The list of nouns and verbs against the API's own description."""

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from wardgate.cli.admin.arguments import parse
from wardgate.cli.admin.catalogue import NOUNS
from wardgate.cli.admin.described import DESCRIBED
from wardgate.cli.admin.examples import EXAMPLES
from wardgate.cli.admin.vocabulary import Body, Noun, Verb
from wardgate.portal.segments import SEGMENTS, Part

ELSEWHERE = {
    ("GET", "/wardgate/explain"): "`wardgate explain` asks it",
    **{
        ("GET", f"/wardgate/accounts/{{}}/{kind}_auth_providers{one}"): "an account's own token reads them"
        for kind in ("email_otp", "google", "entra", "okta", "oidc")
        for one in ("", "/{}")
    },
    ("GET", "/groups/{}"): "/wardgate/groups shows Everyone too",
    ("GET", "/sites/{}/gateways"): "/wardgate/sites/{}/gateways tells what drains too",
    ("GET", "/sites/{}/gateways/{}"): "/wardgate/sites/{}/gateways tells what drains too",
    ("POST", "/actors/{}/client_tokens"): "/wardgate/client_tokens makes tokens for service accounts too",
}
"""Endpoints that no verb calls, each with its reason."""

ROOT: Final = Path(__file__).parents[4]

NOT_ON_CREATION = {"is_disabled"}
"""Body members that the API's schemas share between creation and change, but that only a change may give."""


@pytest.fixture
def described() -> dict[str, Any]:
    """The committed document, which `tests/portal/rest/test_document.py` compares with what a portal serves."""
    document: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text())
    return document


def operations(described: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), nameless(path)): operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }


def nameless(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def verbs() -> Iterator[tuple[Noun, Verb]]:
    return ((noun, verb) for noun in NOUNS for verb in noun.verbs)


def test_every_endpoint_has_a_verb_and_every_verb_an_endpoint(described: dict[str, Any]) -> None:
    served = operations(described)
    called = {
        (verb.method, nameless(path)) for _, verb in verbs() for path in (verb.path, verb.all_path) if path
    }
    assert called <= served.keys(), called - served.keys()
    same = {("PUT", path) for method, path in called if method == "PATCH"}  # PUT and PATCH are one operation
    assert served.keys() - called - same == ELSEWHERE.keys() & served.keys()


def test_every_body_member_has_an_option(described: dict[str, Any]) -> None:
    served = operations(described)
    for noun, verb in verbs():
        if verb.body is not Body.FIELDS:
            continue
        there = members(described, served[verb.method, nameless(verb.path)], verb.wrapper)
        ours = {field.wire for field in verb.fields}
        assert ours <= there, (noun.name, verb.name)
        missing = there - ours - (NOT_ON_CREATION if verb.name == "create" else set())
        if noun.name == "resources":
            missing = {
                one for one in missing if not one.startswith("device_membership_criteria")
            }  # of device-pools
        assert not missing, (noun.name, verb.name, missing)


def test_what_the_document_says_of_members_is_committed() -> None:
    """`make openapi` writes it."""
    written: dict[str, Any] = {}
    exec(runpy.run_path(str(ROOT / "scripts" / "openapi.py"))["described"](), written)
    assert written["DESCRIBED"] == DESCRIBED
    assert all(field.help for fields in DESCRIBED.values() for field in fields)


def test_every_filter_has_an_option(described: dict[str, Any]) -> None:
    served = operations(described)
    for noun, verb in verbs():
        parameters = served[verb.method, nameless(verb.path)].get("parameters", [])
        there = {one["name"] for one in parameters if one["in"] == "query"} - {"limit", "page_cursor"}
        assert {field.wire for field in verb.filters} == there, (noun.name, verb.name)


def test_versions_are_asked_for_and_named_wherever_the_api_has_them(described: dict[str, Any]) -> None:
    served = operations(described)
    for noun, verb in verbs():
        operation = served[verb.method, nameless(verb.path)]
        takes = any(one["name"] == "If-Match" for one in operation.get("parameters", []))
        shows = verb.method == "GET" and "ETag" in operation["responses"]["200"].get("headers", {})
        assert verb.is_versioned is (takes or shows), (noun.name, verb.name)


def test_choices_are_the_apis(described: dict[str, Any]) -> None:
    served = operations(described)
    for noun, verb in verbs():
        operation = served[verb.method, nameless(verb.path)]
        queried = {one["name"]: one["schema"] for one in operation.get("parameters", [])}
        for field in verb.filters:
            there = allowed(described, queried[field.wire])
            assert set(field.choices) == there, (noun.name, verb.name, field.wire, there)
        if verb.body is Body.FIELDS:
            body = next(
                variants(described, operation["requestBody"]["content"]["application/json"]["schema"])
            )
            for field in verb.fields:
                schema = body["properties"][verb.wrapper]
                for name in field.wire.split("."):
                    schema = next(variants(described, schema))["properties"][name]
                there = allowed(described, schema)
                assert set(field.choices) <= there, (noun.name, verb.name, field.wire, there)
                assert bool(field.choices) is bool(there), (noun.name, verb.name, field.wire, there)


def test_columns_are_members_of_what_is_listed(described: dict[str, Any]) -> None:
    served = operations(described)
    for noun, verb in verbs():
        if verb.name != "list":
            continue
        operation = served[verb.method, nameless(verb.all_path or verb.path)]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        page = next(variants(described, schema))
        there = {
            name
            for one in variants(described, page["properties"]["data"]["items"])
            for name in one["properties"]
        }
        wanted = {column.partition(".")[0] for column in verb.columns or noun.columns}
        assert wanted <= there, (noun.name, wanted - there)


@pytest.mark.parametrize(
    "example", [f"{noun} {example}" for noun, examples in EXAMPLES.items() for example in examples]
)
def test_every_example_can_be_read(example: str) -> None:
    assert parse(shlex.split(example), now=datetime(2026, 11, 22, tzinfo=UTC)).noun.name == example.split()[0]


def test_names_are_unambiguous() -> None:
    assert len({noun.name for noun in NOUNS}) == len(NOUNS)
    for noun in NOUNS:
        assert len({verb.name for verb in noun.verbs}) == len(noun.verbs)
        for verb in noun.verbs:
            flags = [field.flag for field in (*verb.fields, *verb.filters)]
            flags += [f"--{name}" for name in verb.placeholders]
            assert len(set(flags)) == len(flags), (noun.name, verb.name)


def test_all_segments_of_the_api_are_known() -> None:
    ours = {verb.path.split("/")[1] for _, verb in verbs()}
    assert {SEGMENTS[segment] for segment in ours} == {Part.REST}


def members(described: dict[str, Any], operation: dict[str, Any], wrapper: str) -> set[str]:
    """Name the members within a body's wrapper; those of an object within are named with a dot."""
    body = next(variants(described, operation["requestBody"]["content"]["application/json"]["schema"]))
    names: set[str] = set()
    for name, member in next(variants(described, body["properties"][wrapper]))["properties"].items():
        inner = next(variants(described, member), None)
        names |= {name} if inner is None else {f"{name}.{one}" for one in inner["properties"]}
    return names


def variants(described: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give every object that a schema may stand for."""
    if "$ref" in schema:
        yield from variants(described, described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
        for one in alternatives:
            yield from variants(described, one)
    elif "properties" in schema:
        yield schema


def allowed(described: dict[str, Any], schema: dict[str, Any]) -> set[str]:
    """Give the words that a text may be; none: any."""
    if "$ref" in schema:
        return allowed(described, described["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    inner = [allowed(described, one) for key in ("anyOf", "oneOf") for one in schema.get(key, [])]
    return {str(one) for one in schema.get("enum", []) if one is not None}.union(*inner)
