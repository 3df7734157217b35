"""The document against a transcription of the published API (tests/vectors/rest): nothing missing, nothing
added, same types.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from wardgate.portal.rest.application import openapi

VECTORS = Path(__file__).parents[2] / "vectors" / "rest"
OURS = {"/logs": {"q"}}
"""Query parameters that we add."""
OURS_IN_BODIES = {
    "post /policies": {"is_disabled"},
    "post /resources": {"device_membership_criteria"},
    "patch /resources/{id}": {"device_membership_criteria"},
    "put /resources/{id}": {"device_membership_criteria"},
}
OURS_IN_OBJECTS = {"/resources/{id}": {"device_membership_criteria"}}
"""Fields of later consumers."""


def vector(name: str, part: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())[part]
    return loaded


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = openapi()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def word(schema: dict[str, Any]) -> str:
    """Name a field's type as the vectors do."""
    options = schema.get("anyOf", [schema])
    plain = [one for one in options if one.get("type") != "null"]
    name = plain[0].get("format") or resolved(plain[0])["type"]
    return str(name) + ("?" if len(plain) < len(options) else "")


def fields_of(path: str, *, of_items: bool = False) -> dict[str, str]:
    answer = openapi()["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    data = resolved(answer)["properties"]["data"]
    properties = resolved(data["items"] if of_items else data)["properties"]
    return {name: word(schema) for name, schema in properties.items()}


@pytest.mark.parametrize(("path", "fields"), vector("objects", "objects").items())
def test_an_object_has_exactly_its_fields(path: str, fields: dict[str, str]) -> None:
    ours = OURS_IN_OBJECTS.get(path, set())
    assert {name: word for name, word in fields_of(path).items() if name not in ours} == fields


@pytest.mark.parametrize(("path", "fields"), vector("objects", "list_items").items())
def test_items_of_a_list_have_exactly_their_fields(path: str, fields: dict[str, str]) -> None:
    assert fields_of(path, of_items=True) == fields


@pytest.mark.parametrize(("operation", "wrapped"), vector("bodies", "bodies").items())
def test_a_body_takes_exactly_its_fields(operation: str, wrapped: dict[str, list[str]]) -> None:
    method, path = operation.split()
    body = resolve_body(openapi()["paths"][path][method]["requestBody"])
    ((wrapper, fields),) = wrapped.items()
    assert list(body["properties"]) == [wrapper]
    inner = resolved(one_option(body["properties"][wrapper]))
    required = set(inner.get("required", []))
    assert {f"{name}*" if name in required else name for name in inner["properties"]} == {
        *fields,
        *OURS_IN_BODIES.get(operation, ()),
    }


@pytest.mark.parametrize(("path", "filters"), vector("filters", "filters").items())
def test_a_list_takes_exactly_its_filters(path: str, filters: list[str]) -> None:
    parameters = openapi()["paths"][path]["get"]["parameters"]
    taken = {one["name"] for one in parameters if one["in"] == "query"}
    assert taken == {*filters, "limit", "page_cursor"} | OURS.get(path, set())


def test_every_published_operation_is_there_and_all_else_is_under_our_prefix() -> None:
    served = {
        path: sorted(operations)
        for path, operations in openapi()["paths"].items()
        if not path.startswith("/wardgate/")
    }
    published = {path: sorted(methods) for path, methods in vector("operations", "operations").items()}
    assert served == published


@pytest.mark.parametrize(("name", "fields"), vector("log_entries", "entries").items())
def test_a_log_entry_has_exactly_its_fields(name: str, fields: list[str]) -> None:
    assert set(openapi()["components"]["schemas"][name]["properties"]) == set(fields)


def resolve_body(body: dict[str, Any]) -> dict[str, Any]:
    return resolved(one_option(body["content"]["application/json"]["schema"]))


def one_option(schema: dict[str, Any]) -> dict[str, Any]:
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    assert len(options) == 1
    option: dict[str, Any] = options[0]
    return option
