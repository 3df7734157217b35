"""Statements whose cost grows with a table leave the event loop alone: nobody waits for them but who asked."""

import ast
from collections.abc import Iterator
from pathlib import Path

import wardgate

PORTAL = Path(wardgate.__file__).parent / "portal"
WEB = PORTAL / "web"

LONG = {
    ("rest/pages.py", "load_page"): "refuses transactions that are not long",
    ("installation/rest/installation.py", "health"): "reads in a transaction for lists",
    ("installation/operator/health.py", "load_health"): "a page, which reads in a long transaction",
    ("sign_in/provider_rules.py", "count_uses"): "for a page, which reads in a long transaction",
}
"""Where all rows of a table may be counted, and why it holds up nobody."""

READING = "self.services.store.reading(is_long=True)"
"""How pages read, wherever they count."""


def test_rows_are_counted_up_to_a_bound_or_in_a_long_transaction() -> None:
    found = set(unbounded_counts())
    assert found - set(LONG) == set(), "say `at_most`, or count in a long transaction (`Store.reading`)"
    assert set(LONG) - found == set(), "nothing is counted there any more"


def test_pages_read_in_long_transactions() -> None:
    readings = [
        ast.unparse(node)
        for node in ast.walk(ast.parse((WEB / "visit.py").read_text()))
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "reading"
    ]
    assert len(readings) == 2  # an administrator's, and the operator's
    assert all(READING in reading for reading in readings)


def unbounded_counts() -> Iterator[tuple[str, str]]:
    for path in sorted(PORTAL.rglob("*.py")):
        if (
            path.parent == WEB
            or "pages" in path.relative_to(PORTAL).parts
            or (path.name == "pages.py" and path.parent.name != "rest")
        ):
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Await) and is_unbounded_count(node.value):
                        yield str(path.relative_to(PORTAL)), function.name


def is_unbounded_count(call: ast.expr) -> bool:
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "count"
        and ast.unparse(call.func.value) != "reader"  # of a log, which counts a slice at a time
        and not any(keyword.arg == "at_most" for keyword in call.keywords)
    )
