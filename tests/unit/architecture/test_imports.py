"""The pure packages stay pure, and the reason is part of the failure (docs: ARCHITECTURE.md, invariants)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wardgate

SOURCE = Path(wardgate.__file__).parent
PURE = ("model", "policy", "wire", "connect", "dns")
WHY_NOT = {
    "asyncio": "the adapter owns the event loop",
    "os": "take what you need of the environment as an argument",
    "pathlib": "files belong to adapters",
    "random": "take `rng` as an argument",
    "secrets": "take the bytes as an argument",
    "socket": "emit a transmit; the adapter sends it",
    "sqlalchemy": "the store is the portal's",
    "ssl": "transport belongs to adapters",
    "subprocess": "the operating system belongs to `net`",
    "threading": "a pure machine has one caller at a time",
    "time": "take `now` as an argument",
}
WHY_NOT_CALL = {
    ("datetime", "now"): "take `now` as an argument",
    ("datetime", "utcnow"): "take `now` as an argument",
    ("datetime", "today"): "take `now` as an argument",
    ("date", "today"): "take `now` as an argument",
    ("uuid", "uuid4"): "take the id as an argument",
    ("uuid", "uuid1"): "take the id as an argument",
}


def modules_under(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((SOURCE / package).rglob("*.py"))]


def name_of(module: Path) -> str:
    return str(module.relative_to(SOURCE))


@pytest.mark.parametrize("module", modules_under(*PURE), ids=name_of)
def test_pure_layers_do_no_io(module: Path) -> None:
    for name in imported_names(module):
        top = name.partition(".")[0]
        assert top not in WHY_NOT, f"{name_of(module)}: {name}: {WHY_NOT[top]}"


@pytest.mark.parametrize("module", modules_under(*PURE), ids=name_of)
def test_pure_layers_ask_nobody_for_time_or_ids(module: Path) -> None:
    for call in called_attributes(module):
        assert call not in WHY_NOT_CALL, f"{name_of(module)}: {'.'.join(call)}: {WHY_NOT_CALL[call]}"


@pytest.mark.parametrize("package", PURE[:3])
def test_the_packages_exist_that_the_rules_speak_of(package: str) -> None:
    assert modules_under(package)


def test_no_module_is_named_for_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [name_of(path) for path in SOURCE.rglob("*.py") if path.stem in vague] == []


def imported_names(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def called_attributes(module: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module == "uuid":
            yield from (("uuid", alias.name) for alias in node.names)
