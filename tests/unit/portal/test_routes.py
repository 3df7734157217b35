"""What a route declares is what its handler does, and paths say what the pipeline asks of them."""

import ast
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute

from wardgate.portal.rest.application import ROUTES, paths
from wardgate.portal.rest.caller import ForAccount, ForOperator
from wardgate.portal.rest.paths import Paths
from wardgate.portal.rest.routes import Route, Routes

ID = "3bb31c37-6604-49ab-93df-6119c1b33000"


def registered() -> Iterator[tuple[Route, Callable[..., Any]]]:
    for routes in ROUTES:
        handlers = {
            (route.path, method): route.endpoint
            for route in routes.router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        for route in routes:
            yield route, handlers[route.path, route.method]


def reached(handler: Callable[..., Any]) -> str:
    """Return the code of a handler, with that of the functions of its module that it calls."""
    module = inspect.getmodule(handler)
    assert module is not None
    code, waiting, seen = "", [handler], set()
    while waiting:
        function = waiting.pop()
        code += (source := inspect.getsource(function))
        for node in ast.walk(ast.parse(inspect.cleandoc("\n" + source))):
            called = (
                getattr(module, node.func.id, None)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                else None
            )
            if inspect.isfunction(called) and called.__module__ == module.__name__ and called not in seen:
                seen.add(called)
                waiting.append(called)
    return code


CASES = list(registered())


@pytest.mark.parametrize(
    ("route", "handler"), CASES, ids=lambda one: f"{one.method} {one.path}" if isinstance(one, Route) else ""
)
def test_a_route_declares_what_its_handler_does(route: Route, handler: Callable[..., Any]) -> None:
    code = reached(handler)
    match route.method:
        case "GET":
            does_versions = "caller.tagged(" in code or 'headers["etag"]' in code
        case "POST":
            does_versions = False
        case _:
            does_versions = "caller.expected(" in code or "caller.expected_members(" in code
    assert route.is_versioned == does_versions
    assert route.makes_object == ('headers["location"]' in code)
    assert route.is_operators == ("ForOperator" in code.partition(") ->")[0])


def test_the_operators_paths_are_those_of_the_operators_handlers() -> None:
    for route, _ in CASES:
        assert paths().is_operators(route.path) == route.is_operators, route.path
    assert paths().is_operators("/wardgate/banners/whatever/follows")
    assert not paths().is_operators("/wardgate")
    assert not paths().is_operators("*")


async def _for_account(caller: ForAccount) -> None: ...


async def _for_operator(caller: ForOperator) -> None: ...


def test_one_noun_is_not_both_the_operators_and_an_accounts() -> None:
    routes = Routes("things", "/wardgate/things")
    routes.get("")(_for_account)
    assert not Paths(routes).is_operators("/wardgate/things")
    routes.delete("")(_for_operator)
    with pytest.raises(AssertionError, match="things"):
        Paths(routes)


def test_ids_are_asked_of_the_path_with_the_most_words() -> None:
    routes = Routes("things", "/things")
    routes.get("/{id}")(_for_account)
    routes.get("/special")(_for_account)
    found = Paths(routes)
    assert found.are_ids_valid(f"/things/{ID}")
    assert found.are_ids_valid("/things/special")
    assert not found.are_ids_valid("/things/other")
    assert found.are_ids_valid("/nothing/other")
    assert found.methods_at("/things/special") == ["GET", "HEAD"]
