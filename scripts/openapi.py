"""Write the API's OpenAPI document to docs/openapi.json, and as 3.0 to docs/openapi-3.0.json; and for the command line,
which starts without the libraries of the API, what the document says of members that `catalogue` does not name. Tests
compare the files with what is served.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from wardgate.cli.admin.catalogue import DECLARED
from wardgate.cli.admin.vocabulary import Body, Field, Kind, Verb
from wardgate.portal.rest.application import openapi
from wardgate.portal.rest.document import as_30

ROOT: Final = Path(__file__).parent.parent
DESCRIBED: Final = ROOT / "src" / "wardgate" / "cli" / "admin" / "described.py"
ONLY_CHANGED: Final = "is_disabled"
"""The API's schemas share it between creation and change, but only a change may give it."""

_HEAD: Final = '''"""Members of request bodies for which the command line needs no other words than the API's document.

Written by `make openapi`.
"""

from collections.abc import Mapping
from typing import Final

from wardgate.cli.admin.vocabulary import Field, Kind

DESCRIBED: Final[Mapping[str, tuple[Field, ...]]] = {
'''
_KINDS: Final = {"string": Kind.TEXT, "boolean": Kind.FLAG, "integer": Kind.NUMBER}


def described() -> str:
    """Return the module of described members."""
    document = openapi()
    operations = {
        Verb.key(method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    lines = []
    for verb in (verb for noun in DECLARED for verb in noun.verbs if verb.body is Body.FIELDS):
        key = Verb.key(verb.method, verb.path)
        named = {field.wire.partition(".")[0] for field in verb.fields}
        fields = [one for one in _members(document, operations[key], verb) if one.wire not in named]
        if fields:
            lines.append(f"    {key!r}: ({', '.join(map(_source, fields))},),")
    return _HEAD + "\n".join(sorted(lines)) + "\n}\n"


def _members(document: Any, operation: Any, verb: Verb) -> Iterator[Field]:
    body = _resolved(document, operation["requestBody"]["content"]["application/json"]["schema"])
    wrapper = _resolved(document, body["properties"][verb.wrapper])
    for name, schema in wrapper["properties"].items():
        if verb.method == "POST" and name == ONLY_CHANGED:
            continue
        given = next(one for one in schema.get("anyOf", [schema]) if one.get("type") != "null")
        kind = None if "format" in given else _KINDS.get(given.get("type", ""))
        if kind is not None and "description" in schema:
            choices = tuple(one for one in schema.get("enum", given.get("enum", ())) if one is not None)
            yield Field(
                name,
                schema["description"],
                kind,
                choices=choices,
                is_required=name in wrapper.get("required", ()),
            )


def _resolved(document: Any, schema: Any) -> Any:
    """Return the object that a schema stands for; of several, the first."""
    while "properties" not in schema:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        else:
            schema = (schema.get("anyOf") or schema["oneOf"])[0]
    return schema


def _source(field: Field) -> str:
    more = "" if field.kind is Kind.TEXT else f", {field.kind}"
    more += f", choices={field.choices!r}" if field.choices else ""
    more += ", is_required=True" if field.is_required else ""
    return f"Field({field.wire!r}, {field.help!r}{more})"


if __name__ == "__main__":
    for name, document in (("openapi.json", openapi()), ("openapi-3.0.json", as_30(openapi()))):
        text = json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True)
        (ROOT / "docs" / name).write_text(text + "\n")
    DESCRIBED.write_text(described())
