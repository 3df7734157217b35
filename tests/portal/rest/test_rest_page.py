"""The examples of docs/rest.md, run as they are printed there."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import httpx2
import pytest

from support.portal import World
from wardgate.portal.rest.application import openapi

PAGE = (Path(__file__).parents[3] / "docs" / "rest.md").read_text()


@dataclass(frozen=True, slots=True)
class Example:
    is_operators: bool
    method: str
    target: str
    headers: dict[str, str]
    body: str | None
    status: int
    answer: str | None


def examples() -> list[Example]:
    found = []
    for who, text in re.findall(r"^```http(.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE):
        request, *lines = text.splitlines()
        method, target = request.split()
        headers = dict(line.split(": ", 1) for line in lines if re.match(r"[A-Z][A-Za-z-]*: ", line))
        bodies = [line for line in lines if line.startswith("{")]
        at = next(index for index, line in enumerate(lines) if line.isdecimal())
        answer = next((line for line in lines[at + 1 :] if line.startswith("{")), None)
        body = bodies[0] if bodies and lines.index(bodies[0]) < at else None
        found.append(
            Example(who.strip() == "operator", method, target, headers, body, int(lines[at]), answer)
        )
    return found


def compare(expected: Any, actual: Any, names: dict[str, str]) -> None:
    """Hold what is printed against the answer, which may have more members; a new `$name` takes the value it
    stands for.
    """
    match expected:
        case dict():
            for key, value in expected.items():
                compare(value, actual[key], names)
        case list():
            assert len(expected) == len(actual)
            for one, other in zip(expected, actual, strict=True):
                compare(one, other, names)
        case str() if expected.startswith("$"):
            assert names.setdefault(expected[1:], actual) == actual
        case _:
            assert expected == actual


async def test_the_printed_examples_hold(
    api: httpx2.AsyncClient, operator: httpx2.AsyncClient, world: World
) -> None:
    names: dict[str, str] = {}
    assert len(examples()) > 15
    for example in examples():
        client = operator if example.is_operators else api
        body = None if example.body is None else Template(example.body).substitute(names)
        target = Template(example.target).substitute(names)
        answer = await client.request(example.method, target, content=body, headers=example.headers)
        assert answer.status_code == example.status, (example, answer.text)
        if example.answer is not None:
            compare(json.loads(example.answer), answer.json(), names)


@pytest.mark.parametrize("path", [path for path in openapi()["paths"] if path.startswith("/wardgate/")])
def test_everything_of_our_own_is_on_the_page(path: str) -> None:
    for action in ("/rotate", "/verification", "/sessions"):
        if path.endswith(f"/{{id}}{action}"):
            assert action in PAGE
            path = path.removesuffix(action)
    assert path.removesuffix("/{id}").removesuffix("/{log_id}") in PAGE
