"""Every background task has an owner that notices its end; `wardgate.supervision` holds the owners."""

import ast
from collections.abc import Iterator
from pathlib import Path

import wardgate

SOURCE = Path(wardgate.__file__).parent

MAKERS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}

OWNERS = {
    ("supervision.py", "Tasks.start"): "the owner itself",
    ("net/supervision.py", "run_until_first_ends"): "awaits all of them, and passes on what the first raised",
    ("net/portal_link.py", "PortalLink._converse"): "waits for the first of them, and for all at its end",
    ("net/portal_link.py", "_connect_first"): "awaits them as they end, and all at its end",
    ("cli/up.py", "_keep"): "waits for whichever ends first; neither can fail",
    ("portal/jobs/runner.py", "Runner._execute"): "awaits it in the next statement",
    (
        "portal/channels/endpoint.py",
        "_Pump._write_at_once",
    ): "it logs what it raises itself, and `run` ends it and waits for it",
    (
        "portal/http2.py",
        "Http2Protocol._open",
    ): "uvicorn's server, as for its own; it logs what the application raised",
    (
        "portal/protocols.py",
        "ChannelProtocol._start",
    ): "uvicorn's server, as for its own; it logs what the application raised",
    ("portal/database/group_sync.py", "GroupSync.begin"): "whoever asked for the run awaits it",
    (
        "portal/database/sqlite_driver.py",
        "ExecutorCursor._run",
    ): "awaits it, even when it is cancelled itself",
    ("portal/server.py", "serve"): "waits for whichever ends first; those that only wait cannot fail",
    ("portal/server.py", "_served"): "awaits it when the block ends, which it does when the server does",
    (
        "simulation/control_link.py",
        "ControlLink.__init__",
    ): "its end is the link's, and the peer is told of it",
}
"""Where a task is made without an owner from `wardgate.supervision` or a task group, and who watches it there."""


def test_every_task_has_an_owner() -> None:
    found = {(name, place) for name, place in made_tasks()}
    assert found - set(OWNERS) == set(), (
        "start it with `supervision.Tasks`, `Supervisor.keep` or a task group"
    )
    assert set(OWNERS) - found == set(), "no task is made there any more"


def made_tasks() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if any(maker in text for maker in MAKERS):
            name = str(path.relative_to(SOURCE))
            yield from ((name, place) for place in naked_tasks(ast.parse(text)))


def naked_tasks(
    tree: ast.AST, scope: tuple[str, ...] = (), groups: frozenset[str] = frozenset()
) -> list[str]:
    """Return the scopes in which a task is made otherwise than by a task group."""
    found = []
    if isinstance(tree, ast.AsyncWith):
        groups |= {
            item.optional_vars.id
            for item in tree.items
            if isinstance(item.optional_vars, ast.Name)
            and ast.unparse(item.context_expr).endswith("TaskGroup()")
        }
    if isinstance(tree, ast.Call):
        function = tree.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""
        if name in MAKERS and owner not in groups:
            found.append(".".join(scope))
    if isinstance(tree, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        scope = (*scope, tree.name)
    for child in ast.iter_child_nodes(tree):
        found += naked_tasks(child, scope, groups)
    return found


def test_the_search_finds_what_it_looks_for() -> None:
    source = """
async def f():
    async with asyncio.TaskGroup() as group:
        group.create_task(work())
    self._task = self._loop.create_task(work())
class C:
    def g(self):
        return ensure_future(work())
"""
    assert naked_tasks(ast.parse(source)) == ["f", "C.g"]
