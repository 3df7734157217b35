"""The OpenAPI document and the pages that show it."""

import hashlib
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from support.browser import caller
from support.portal import World
from wardgate.policy import explanation
from wardgate.portal.access import explanation_views
from wardgate.portal.rest.application import openapi
from wardgate.portal.rest.document import as_30

COMMITTED = Path(__file__).parents[3] / "docs" / "openapi.json"
NAMES_A_TYPE = {"type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"}


def schemas(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema of the document with where it is."""
    match node:
        case dict():
            for key, value in node.items():
                here = f"{path}/{key}"
                if key in ("schema", "items") or path.endswith(("/properties", "/components/schemas")):
                    yield here, value
                yield from schemas(value, here)
        case list():
            for index, value in enumerate(node):
                if path.endswith(("anyOf", "oneOf", "allOf")) and "required" not in value:
                    yield f"{path}/{index}", value
                yield from schemas(value, f"{path}/{index}")
        case _:
            return


async def test_the_committed_document_is_what_is_served(world: World) -> None:
    async with caller(world.portal) as nobody:
        served = (await nobody.get("/openapi.json")).json()
    assert served == json.loads(COMMITTED.read_text()), "run `make openapi`"
    assert served["openapi"].startswith("3.1")


def test_the_older_document_is_the_same_without_what_30_lacks() -> None:
    older = as_30(openapi())
    assert older == json.loads(COMMITTED.with_name("openapi-3.0.json").read_text()), "run `make openapi`"
    assert older["openapi"].startswith("3.0")
    assert older["paths"].keys() == openapi()["paths"].keys()
    for where, schema in schemas(older):
        assert schema.get("type") != "null", where
        assert not isinstance(schema.get("type"), list), where
        assert "const" not in schema, where


def test_generators_get_a_name_of_its_own_for_each_model_and_for_each_word_of_an_enumeration() -> None:
    models = as_30(openapi())["components"]["schemas"]
    assert [name for name in models if "__rest__" in name] == []  # two models of one name
    fields = [field for model in models.values() for field in model.get("properties", {}).values()]
    words = [word for field in fields if "enum" in field for word in field["x-enum-varnames"]]
    assert len(words) == len(set(words))
    assert not set(words) & {*models, "Client"}  # `Client` is also the type that carries out calls
    assert "SessionEntryContextClient" in words


def test_what_limits_a_value_stands_beside_its_type() -> None:
    limits = {"enum", "format", "maxLength", "minLength", "maximum", "minimum", "maxItems"}
    astray = [where for where, schema in schemas(openapi()) if "anyOf" in schema and limits & schema.keys()]
    assert astray == []


@pytest.mark.parametrize(
    ("model", "field", "word"),
    [
        ("ActorView", "type", "api_client"),
        ("GroupView", "entity_type", "org_unit"),
        ("ResourceView", "type", "internet"),
        ("FilterView", "protocol", "icmp"),
        ("ConditionView", "operator", "is_in_cidr"),
        ("ConditionView", "property", "client_verified"),
        ("OidcAuthProviderView", "context", "portal_only"),
        ("OidcAuthProviderView", "email_verification_method", "proof"),
        ("JobView", "state", "discarded"),
    ],
)
def test_answers_say_which_words_they_hold(model: str, field: str, word: str) -> None:
    assert word in openapi()["components"]["schemas"][model]["properties"][field]["enum"]


def test_nothing_in_the_document_is_untyped() -> None:
    untyped = [
        where
        for where, schema in schemas(openapi())
        if not NAMES_A_TYPE & schema.keys()
        or (schema.get("type") == "object" and not {"properties", "additionalProperties"} & schema.keys())
        or schema.get("additionalProperties") is True
        or (schema.get("type") == "array" and not schema.get("items"))
    ]
    assert untyped == []


def test_every_body_and_answer_has_a_schema() -> None:
    for path, operations in openapi()["paths"].items():
        for method, operation in operations.items():
            contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
            contents += [answer["content"] for answer in operation["responses"].values()]
            for content in contents:
                assert all(media["schema"] for media in content.values()), (method, path)


def test_explanations_have_the_fields_of_the_engine() -> None:
    for view, struct in (
        (explanation_views.ExplanationView, explanation.Explanation),
        (explanation_views.GroupOfActor, explanation.ExplainedGroup),
        (explanation_views.JudgedBy, explanation.ExplainedInput),
        (explanation_views.CandidatePolicy, explanation.ExplainedPolicy),
        (explanation_views.ExplainedCondition, explanation.ExplainedCondition),
        (explanation_views.OtherPolicy, explanation.OtherPolicy),
        (explanation_views.AskedTraffic, explanation.ExplainedTraffic),
        (explanation_views.ChosenGateway, explanation.ExplainedGateway),
    ):
        own = {"text", "decision_log_id", "flows"} if struct is explanation.Explanation else set()
        assert set(view.model_fields) == set(struct.__struct_fields__) | own


async def test_the_pages_need_no_credentials_and_no_other_host(world: World) -> None:
    async with caller(world.portal, accept="text/html") as browser:
        page = await browser.get("/swaggerui")
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert "http" not in page.text
        for file in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
            asset = await browser.get(file)
            assert asset.status_code == 200, file
            again = await browser.get(file, headers={"if-none-match": asset.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        assert (await browser.get("/swaggerui/x")).status_code == 404
        assert (await browser.post("/swaggerui")).status_code == 405
        moved = await browser.get("/openapi")
        assert (moved.status_code, moved.headers["location"]) == (308, "/openapi.json")


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css"])
def test_vendored_files_are_as_published(name: str) -> None:
    folder = resources.files("wardgate.portal.rest") / "swagger_ui"
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert f"| `{digest}` |" in (folder / "README.md").read_text()
