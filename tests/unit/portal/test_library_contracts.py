"""Names of libraries that the portal rests on without a promise of theirs. Who raises a bound in
pyproject.toml reads here what changed.

What the portal reaches for is read from its source, so that it needs no list here.
"""

import ast
import asyncio
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy
import uvicorn
from sqlalchemy.connectors import asyncio as sqlalchemy_asyncio
from sqlalchemy.dialects.sqlite import aiosqlite
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from unit.portal.test_protocols import HEAD, UPGRADE, Wire
from wardgate.portal import connection_bounds, protocols
from wardgate.portal.database.sqlite_driver import InlineConnection, InlineCursor
from wardgate.simulation.virtual_time import run_virtual

BASES: dict[str, type] = {
    "HttpProtocol": HttpToolsProtocol,
    "HeldFlow": FlowControl,
    "ChannelProtocol": WebSocketsSansIOProtocol,
}
OWN = {
    "gate",
    "ends",
    "http2",
    "begin",
    "hold",
    "is_gone",
    "unsent_bytes",
    "has_unread",
    "hand_over",
    "is_writable",
    "write",
    "fail",
}
"""Public names of our subclasses that uvicorn need not know."""

UVICORN = f"uvicorn {uvicorn.__version__}"


@pytest.mark.parametrize("name", BASES)
def test_uvicorn_still_calls_what_the_protocols_override(name: str) -> None:
    base, ours = BASES[name], getattr(_module_of(name), name)
    for method, function in vars(ours).items():
        if method.startswith("_") or method in OWN or not inspect.isfunction(function):
            continue
        theirs = getattr(base, method, None)
        assert theirs is not None, (
            f"{UVICORN} has no {base.__name__}.{method} any more, which {name} overrides: "
            "find what is called in its place, or the bound that hangs on it is gone"
        )
        expected, found = _parameters(function), _parameters(theirs)
        assert expected == found, (
            f"{UVICORN} calls {base.__name__}.{method} with {found}, and {name} takes {expected}"
        )


@pytest.mark.parametrize("name", BASES)
def test_uvicorn_still_has_what_the_protocols_reach_for(name: str) -> None:
    reached = _reached(name)
    assert reached, f"{name} reaches for nothing: this test has lost its object"

    async def look() -> None:
        missing = sorted(reached - _names_of(name))
        assert not missing, (
            f"{UVICORN}: {BASES[name].__name__} has no {', '.join(missing)} any more, "
            f"which {name} in {_module_of(name).__name__} uses"
        )

    run_virtual(look())


def test_uvicorn_still_has_what_http2_reaches_for() -> None:
    async def look() -> None:
        http = _http()
        config = {"loaded_app", "timeout_keep_alive"} - set(dir(http.config))
        state = {"connections", "tasks", "total_requests", "default_headers"} - set(dir(http.server_state))
        assert not config | state, (
            f"{UVICORN}: no {config | state} any more, which wardgate.portal.http2 uses"
        )

    run_virtual(look())


def test_uvicorn_still_keeps_the_answer_to_a_request_in_its_cycle() -> None:
    async def look() -> None:
        http = _http()
        http.data_received(HEAD + b"\r\n")
        for _ in range(20):
            await asyncio.sleep(0)
        assert getattr(http.cycle, "response_complete", None) is True, (
            f"{UVICORN}: HttpToolsProtocol.cycle.response_complete does not tell any more whether a "
            "request was answered"
        )

    run_virtual(look())


def test_uvicorn_still_takes_signals_where_the_server_switches_that_off() -> None:
    assert "with self.capture_signals()" in inspect.getsource(uvicorn.Server.serve), (
        f"{UVICORN}: Server.serve does not enter `capture_signals` any more, which wardgate.portal.server replaces: "
        "it may take the process's signals itself now"
    )


@pytest.mark.parametrize("method", ["startup", "shutdown"])
def test_uvicorn_still_starts_and_stops_through_the_methods_that_the_server_overrides(method: str) -> None:
    found = _parameters(getattr(uvicorn.Server, method))
    assert found == ["self", "sockets"], f"{UVICORN}: Server.{method} takes {found}"
    assert f"self.{method}(" in inspect.getsource(uvicorn.Server._serve), (
        f"{UVICORN}: Server does not call `{method}` any more, by which wardgate.portal.server tells "
        "readiness and drains"
    )


UNUSED = {
    "isolation_level": "connections are opened without one",
    "_conn": "of the setter of isolation_level",
    "_tx": "of the setter of isolation_level",
    "nextset": "SQLite has one result for a statement",
    "setinputsizes": "SQLite has no such thing",
}
"""What the dialect uses in a place where this portal never comes, and why not."""


@pytest.mark.parametrize(
    ("variable", "ours", "theirs"),
    [
        ("_connection", InlineConnection, aiosqlite),
        ("_connection", InlineConnection, sqlalchemy_asyncio),
        ("connection", InlineConnection, sqlalchemy_asyncio),
        ("_cursor", InlineCursor, sqlalchemy_asyncio),
        ("cursor", InlineCursor, sqlalchemy_asyncio),
    ],
)
def test_the_inline_driver_has_what_sqlalchemys_dialect_uses(variable: str, ours: type, theirs: Any) -> None:
    used = _used_of(variable, theirs)
    assert used, f"SQLAlchemy {sqlalchemy.__version__} has no `{variable}` in {theirs.__name__} any more"
    # Attributes of instances too.
    has = set(dir(ours)) | set(_assigned(ours))
    missing = sorted(used - has - UNUSED.keys())
    assert not missing, (
        f"SQLAlchemy {sqlalchemy.__version__}: its aiosqlite dialect uses {', '.join(missing)} of a "
        f"{variable.strip('_')}, which {ours.__name__} in wardgate.portal.database.sqlite_driver does not have"
    )


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _module_of(name: str) -> ModuleType:
    return connection_bounds if name == "HeldFlow" else protocols


def _class_of(name: str) -> ast.ClassDef:
    tree = ast.parse(Path(str(_module_of(name).__file__)).read_text())
    return next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name)


def _reached(name: str) -> set[str]:
    """Return which attributes a subclass of ours uses that it does not make itself; of `conn`, too."""
    body = _class_of(name)
    own = {one.name for one in ast.walk(body) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    reached = set()
    for node in ast.walk(body):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=attribute):
                if not attribute.startswith("_") and attribute not in OWN:
                    reached.add(attribute)
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="self"), attr="conn"), attr=attribute):
                reached.add(f"conn.{attribute}")
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=attribute):
                own.discard(attribute)
                reached.add(attribute)
            case _:
                pass
    return reached - own


def _names_of(name: str) -> set[str]:
    """Return which attributes an instance of uvicorn's own class has while it serves."""
    if name == "HeldFlow":
        return set(dir(FlowControl(Wire())))
    http = _http()
    if name == "HttpProtocol":
        http.data_received(HEAD)  # what it has of a request is there when one has begun
        return set(dir(http))
    http.data_received(UPGRADE)
    channel = http.transport.get_protocol()
    assert isinstance(channel, WebSocketsSansIOProtocol)
    return set(dir(channel)) | {f"conn.{attribute}" for attribute in dir(channel.conn)}


def _http() -> Any:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(
        app,
        http=HttpToolsProtocol,
        ws=WebSocketsSansIOProtocol,
        lifespan="off",
        interface="asgi3",
        log_config=None,
    )
    config.load()
    wire = Wire()
    wire.protocol = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    wire.protocol.connection_made(wire)
    return wire.protocol


def _used_of(variable: str, module: Any) -> set[str]:
    """Return which attributes a module uses of `variable` or `self.variable`."""
    used = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=attribute):
                if name == variable:
                    used.add(attribute)
            case _:
                pass
    return used


def _assigned(type_: type) -> list[str]:
    """Return the attributes that a class assigns to its instances."""
    tree = ast.parse(inspect.getsource(type_))
    return [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]
