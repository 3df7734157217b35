"""Time, randomness and ids reach the portal through its `Environment` alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wardgate.portal

ROOT = Path(wardgate.portal.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "environment.py")

WHY_NOT = {
    "time": "ask `environment.clock`",
    "secrets": "draw from `environment.rng`",
    "uuid.uuid1": "ask `environment.new_id()`",
    "uuid.uuid4": "ask `environment.new_id()`",
    "random.random": "draw from `environment.rng`",
    "random.SystemRandom": "draw from `environment.rng`",
    "os.urandom": "draw from `environment.rng`",
    "datetime.now": "ask `environment.clock.now()`",
    "datetime.utcnow": "ask `environment.clock.now()`",
    "datetime.today": "ask `environment.clock.now()`",
    "date.today": "ask `environment.clock.now()`",
    "threading": "work that holds the loop goes to `environment.executor`",
}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_in_the_portal_reads_a_clock_or_draws_randomness(module: Path) -> None:
    for line, name in _used_names(ast.parse(module.read_text())):
        assert name not in WHY_NOT, f"{module.name}:{line}: {name}: {WHY_NOT[name]}"


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic",
        "from uuid import UUID, uuid4",
        "import uuid\nuuid.uuid4()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime\ndatetime.datetime.now()",
        "import secrets as s",
    ],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    assert any(name in WHY_NOT for _line, name in _used_names(ast.parse(source)))


def _used_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            yield node.lineno, f"{name}.{node.attr}"
