"""Generators of clients read the committed OpenAPI documents without a complaint, and what they make works.

The Go client is compiled. The Python client calls a served portal: every operation, with data that is
accepted; what it parses must hold all that was sent.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browser import make_api_token
from support.portal import make_world
from support.rest_operations import Furnished, Operation, furnish, operations
from support.served_portal import served_portal
from wardgate.portal.app import Portal
from wardgate.portal.settings import PortalSettings

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".cache" / "client-generators"
"""Where the generators stay, each in its own place: none of what they need gets into the project's environment."""

PYTHON_GENERATOR = "openapi-python-client==0.29.1"
GO_GENERATOR = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"
GO_RUNTIME = "github.com/oapi-codegen/runtime@v1.9.0"

OPTIONS = {"content_type_overrides": {"application/x-ndjson": "text/plain"}, "post_hooks": []}
"""The generator knows no JSON Lines: `docs/rest.md` says so. No hooks: they only format."""

CALLER = Path(__file__).with_name("generated_client_calls.py")
REFUSED = {
    "get /logs/{log_id}",  # read by the caller after it has changed something
    "get /wardgate/decisions/{log_id}",  # nothing has been decided
    "delete /wardgate/accounts/{id}/deletion",  # nor is any to be deleted
}

pytestmark = pytest.mark.timeout(600)  # the first run fetches and compiles the generators


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program to its end; return what it wrote."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        pytest.skip("no Go compiler on this machine")
    return found


@pytest.fixture(scope="module")
def python_tools() -> Path:
    """The environment of the Python generator, which is also that of what it generates."""
    place = TOOLS / PYTHON_GENERATOR
    if not (place / "complete").exists():
        run(sys.executable, "-m", "venv", "--clear", place, cwd=ROOT)
        run(place / "bin" / "pip", "install", "--quiet", PYTHON_GENERATOR, cwd=ROOT)
        (place / "complete").touch()
    return place / "bin"


@pytest.fixture
def python_client(python_tools: Path, tmp_path: Path) -> Path:
    """Generate the client; returns the folder with the package."""
    (tmp_path / "options.json").write_text(json.dumps(OPTIONS))
    said = run(
        python_tools / "openapi-python-client", "generate", "--path", ROOT / "docs" / "openapi.json",
        "--config", "options.json", "--meta", "none", "--output-path", "wardgate_client",
        "--fail-on-warning", cwd=tmp_path,
    )  # fmt: skip
    assert "WARNING" not in said.upper(), said
    return tmp_path


async def test_a_generated_python_client_calls_every_operation(
    python_client: Path, python_tools: Path
) -> None:
    async with served_portal(generous) as (portal, port):
        url = f"http://127.0.0.1:{port}"
        calls = [one async for one in calls_of_everything(portal, url)]
        own = await make_world(portal, "own")
        token, _ = await make_api_token(own)
        caller = await asyncio.create_subprocess_exec(
            python_tools / "python", CALLER,
            env={"PYTHONPATH": str(python_client)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told = json.dumps({"url": url, "token": token, "calls": calls}).encode()
        wrote, complaints = await caller.communicate(told)
    assert caller.returncode == 0, complaints.decode()
    answered = json.loads(wrote)
    assert set(answered["operations"]) == {call["name"] for call in calls}
    faults = [f"{name}: {one['fault']}" for name, one in answered["answers"].items() if "fault" in one]
    assert not faults, "\n".join(faults)
    refused = {name: one for name, one in answered["answers"].items() if one["type"] == "ProblemDocument"}
    assert refused.keys() == REFUSED, refused


def test_a_generated_go_client_compiles(go: str, tmp_path: Path) -> None:
    generator = TOOLS / GO_GENERATOR.rpartition("@")[2]
    settings = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    if not (generator / "oapi-codegen").exists():
        run(go, "install", GO_GENERATOR, cwd=tmp_path, GOBIN=str(generator), **settings)
    said = run(
        generator / "oapi-codegen", "-package", "wardgate", "-generate", "types,client",
        "-o", "wardgate.gen.go", ROOT / "docs" / "openapi-3.0.json", cwd=tmp_path,
    )  # fmt: skip
    assert said == ""
    run(go, "mod", "init", "example.org/wardgate", cwd=tmp_path, **settings)
    run(go, "get", GO_RUNTIME, cwd=tmp_path, **settings)
    run(go, "build", ".", cwd=tmp_path, **settings)
    made = (tmp_path / "wardgate.gen.go").read_text()
    for operation in operations():
        function = "".join(word[:1].upper() + word[1:] for word in named(operation).split("_"))
        assert re.search(rf"^func \(c \*Client\) {function}(WithBody)?\(", made, re.MULTILINE), function


def named(operation: Operation) -> str:
    """Return the name that the generators make of the operation's id."""
    return str(operation.described["operationId"]).replace(".", "_")


def generous(port: int) -> PortalSettings:
    url = f"http://127.0.0.1:{port}"
    return PortalSettings(external_url=url, api_capacity=1e9, api_refill_per_s=1e9)


async def calls_of_everything(portal: Portal, url: str) -> AsyncIterator[dict[str, Any]]:
    """Yield a call of every operation that is accepted, reading first; where one would spoil the next, each
    has an account of its own.
    """
    shared = await _account(portal, "shared")
    for number, operation in enumerate(sorted(operations(), key=lambda one: one.method != "get")):
        is_alone = operation.method == "delete" or operation.path.endswith("/deletion")
        is_alone |= operation.method != "get" and operation.path.startswith(
            "/policies"
        )  # there is one for each pair
        furnished, token = await _account(portal, f"account-{number}") if is_alone else shared
        body = furnished.good(operation)
        yield {
            "operation": str(operation),
            "name": named(operation),
            "url": url,
            "token": furnished.world.operator_token if operation.is_operators else token,
            "arguments": {
                **dict(_ids(operation, furnished)),
                **_query(operation, furnished),
                **({} if body is None else {"body": body}),
            },
        }


async def _account(portal: Portal, slug: str) -> tuple[Furnished, str]:
    world = await make_world(portal, slug)
    token, _ = await make_api_token(world)
    return await furnish(world, slug), token


def _ids(operation: Operation, furnished: Furnished) -> Iterator[tuple[str, str]]:
    for word, given in zip(operation.path.split("/"), furnished.path(operation).split("/"), strict=True):
        if word.startswith("{"):
            yield word.strip("{}"), given


def _query(operation: Operation, furnished: Furnished) -> dict[str, str]:
    """Return the parameters that are required, by the names that the client gives them."""
    match operation.path:
        case "/logs" | "/wardgate/logs/export":
            return {"type_": "change"}
        case "/wardgate/explain":
            return {"actor_id": str(furnished.ids["actors"]), "resource_id": str(furnished.ids["resources"])}
        case _:
            return {}
