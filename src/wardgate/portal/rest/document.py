"""The API's OpenAPI 3.1 document: what the framework derives from the handlers, completed from the routes'
metadata.

The framework knows neither the pipeline in front of it (authentication, limits, headers) nor that errors are
problem documents; both are added here.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from wardgate.portal.rest.problems import PROBLEM_JSON, ProblemDocument, title_of
from wardgate.portal.rest.routes import Route

DESCRIPTION: Final = """\
Administration of one account with the token of an API client, and of the installation with the operator's token
(`/wardgate/relay_tokens`, `/wardgate/relays`, `/wardgate/health`). See `docs/rest.md` for how to use it.
"""

_REFERENCE: Final = "#/components/schemas/{model}"
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeat the call with the same key within 24 hours to get the first answer without a second effect.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x20-\\x7e]+$"},
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Entity tags, or `*`: carry out only if the object, or list of members, "
    "is still this version of it.",
    "schema": {"type": "string", "format": "entity-tags"},
}
_ETAG: Final = {
    "description": "The version of the object, or of the whole list of members, for `If-Match`.",
    "schema": {"type": "string"},
}
_LOCATION: Final = {"description": "Where the new object is.", "schema": {"type": "string"}}


def document(api: FastAPI, routes: Iterable[Route], contracts: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Build the document.

    Args:
        routes: those of `api`, as they were declared.
        contracts: bodies of calls that are no operations of the API; their schemas are published all the same
            (rest-api §12).
    """
    declared = {(route.path, route.method.lower()): route for route in routes}
    openapi = get_openapi(
        title=api.title,
        version=api.version,
        description=DESCRIPTION,
        routes=api.routes,
        servers=[{"url": "/"}],
    )
    components = openapi["components"]
    others: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemDocument, "serialization")]
    others += [(one, "validation") for one in contracts]
    _, described = models_json_schema(others, ref_template=_REFERENCE)
    components["schemas"] |= described["$defs"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {"authorization": {"type": "http", "scheme": "bearer"}}
    openapi["security"] = [{"authorization": []}]
    openapi["tags"] = [{"name": name} for name in _tags(openapi)]
    _settle_nulls(components["schemas"])
    _settle_parameters(openapi["paths"])
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            _complete(operation, declared[path, method])
    return openapi


_NEVER_NULL: Final = frozenset(
    {
        "allow_email_otp_sign_in", "client_id", "client_secret", "color", "context", "discovery_document_uri",
        "email_claim", "email_verification_method", "expires_at", "flow_log_uploads_enabled", "group_id", "is_disabled",
        "is_locked", "message", "name", "okta_domain", "outdated_gateway_notifications", "resource_id", "type",
    }
)  # fmt: skip
"""Fields of bodies that do not accept null, in any model. The framework lets null through so that the error
can name the field."""

_NULL_ALL_THE_SAME: Final = frozenset({("GatewayFields", "name"), ("UpstreamDnsFields", "type")})
_NEVER_NULL_HERE: Final = frozenset(
    {
        ("AccountFields", "legal_name"), ("AccountFields", "slug"), ("EntraFields", "issuer"),
        ("NewEntraFields", "issuer"), ("SettingsFields", "legal_name"),
    }
)  # fmt: skip


def _settle_nulls(schemas: dict[str, Any]) -> None:
    """Document for each field whether it accepts null, and move the constraints on its value next to the
    value's type.

    The framework writes `{"anyOf": [{"type": "string"}, {"type": "null"}], "enum": [...]}`: generators of
    clients look for the words of an enumeration where the type is, and find none.
    """
    for model, schema in schemas.items():
        for name, field in schema.get("properties", {}).items():
            plain = [one for one in field.get("anyOf", []) if one != _NULL]
            if len(plain) != 1 or len(field["anyOf"]) != 2:
                continue
            limits = {key: field.pop(key) for key in _LIMITS & field.keys()}
            if "enum" in limits:
                limits["enum"] = [word for word in limits["enum"] if word is not None]
            plain[0] |= limits
            if model.endswith("Fields") and _is_never_null(model, name, schema):
                del field["anyOf"]
                field |= plain[0]


def _is_never_null(model: str, name: str, schema: dict[str, Any]) -> bool:
    if (model, name) in _NULL_ALL_THE_SAME:
        return False
    return (name in _NEVER_NULL or (name in schema.get("required", ()) and name != "hostname")) or (
        model,
        name,
    ) in _NEVER_NULL_HERE


def _settle_parameters(paths: dict[str, Any]) -> None:
    """Remove null from query parameters: an optional parameter is simply omitted."""
    for operations in paths.values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                plain = [one for one in schema.get("anyOf", []) if one != _NULL]
                if _NULL in schema.get("anyOf", []) and len(plain) == 1:
                    del schema["anyOf"]
                    parameter["schema"] = plain[0] | schema


_NULL: Final = {"type": "null"}
_LIMITS: Final = frozenset(
    {
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
    }
)


def as_30(openapi: dict[str, Any]) -> dict[str, Any]:
    """Return the document as OpenAPI 3.0 for generators that support nothing newer; what 3.0 cannot express
    is dropped."""
    older: dict[str, Any] = _older(openapi)
    for model, schema in older["components"]["schemas"].items():
        for name, field in schema.get("properties", {}).items():
            if "enum" in field:
                field["x-enum-varnames"] = [_camel_case(model, name, word) for word in field["enum"]]
    return {**older, "openapi": "3.0.3"}


def _camel_case(*words: str) -> str:
    """Name a constant after its model and field: by the word alone, Go's generator would emit a constant
    `Client` beside its type `Client`."""
    return "".join(part[:1].upper() + part[1:] for word in words for part in word.split("_"))


def _older(node: Any) -> Any:
    match node:
        case dict():
            options = node.get("anyOf")
            if isinstance(options, list) and _NULL in options:
                plain = [_older(one) for one in options if one != _NULL]
                rest = {key: _older(value) for key, value in node.items() if key != "anyOf"}
                if len(plain) == 1 and "$ref" not in plain[0]:
                    return {**plain[0], **rest, "nullable": True}
                return {**rest, "allOf" if len(plain) == 1 else "anyOf": plain, "nullable": True}
            kept = {key: _older(value) for key, value in node.items()}
            if isinstance(kept.get("type"), list):  # several types: whatever it is
                del kept["type"]
                kept.pop("items", None)
            if "const" in kept and "type" in kept:
                kept["enum"] = [kept.pop("const")]
            return kept
        case list():
            return [_older(one) for one in node]
        case _:
            return node


def _tags(openapi: dict[str, Any]) -> list[str]:
    operations = [one for operations in openapi["paths"].values() for one in operations.values()]
    return sorted({tag for operation in operations for tag in operation["tags"]})


def _complete(operation: dict[str, Any], route: Route) -> None:
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        if parameter["name"] in route.required:
            parameter["required"] = True
    if route.method == "POST":
        parameters.append(_IDEMPOTENCY_KEY)
    elif _is_conditional(route):
        parameters.append(_IF_MATCH)
    if not parameters:
        del operation["parameters"]
    answers = operation["responses"]
    answers.pop("422", None)
    _note_headers(route, answers)
    for status in _refusals(route):
        answers[str(status)] = {
            "description": title_of(status),
            "content": {PROBLEM_JSON: {"schema": {"$ref": _REFERENCE.format(model="ProblemDocument")}}},
        }


def _is_conditional(route: Route) -> bool:
    return route.is_versioned and route.method not in ("GET", "POST")


def _note_headers(route: Route, answers: dict[str, Any]) -> None:
    headers: dict[str, Any] = {}
    if route.makes_object or (route.is_versioned and route.method in ("GET", "PUT", "PATCH")):
        headers["ETag"] = _ETAG
    if route.makes_object:
        headers["Location"] = _LOCATION
    for status in ("200", "201"):
        if headers and status in answers:
            answers[status]["headers"] = headers


def _refusals(route: Route) -> list[HTTPStatus]:
    statuses = {400, 401, 406, 429, 500}
    if "{" in route.path or route.may_find_nothing:
        statuses.add(404)
    if route.method != "GET":
        statuses |= {403, 408, 409, 413, 422}
    if _is_conditional(route):
        statuses.add(412)
    return [HTTPStatus(status) for status in sorted(statuses)]
