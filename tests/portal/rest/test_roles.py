"""What an actor's type may not do, the API refuses as if there were no credential (rest-api §2), and nothing
is half done.
"""

import ast
from pathlib import Path

import httpx2
import pytest

from support.portal import World
from wardgate import portal
from wardgate.portal.database import permissions
from wardgate.portal.schema.rights import NONE, READ

PORTAL = Path(portal.__path__[0])
ENDPOINTS = sorted([*PORTAL.glob("*/rest.py"), *PORTAL.glob("*/rest/*.py")])


async def test_an_action_beyond_the_actors_type_is_answered_401_and_changes_nothing(
    world: World, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No endpoint of today asks for more than an API client may: so take a right away."""
    path = f"/policies/{world.policy.id}"
    before = (await world.portal.services.store.sequences())[world.account_id]
    rights = permissions.PERMISSIONS["policies"]
    monkeypatch.setitem(permissions.PERMISSIONS, "policies", {**rights, "api_client": READ})  # type: ignore[arg-type]
    for refused in (
        await api.delete(path),
        await api.patch(path, json={"policy": {"is_disabled": True}}),
    ):
        assert refused.json() == {
            "type": "about:blank",
            "title": "Unauthorized",
            "status": 401,
            "detail": "Authentication credentials were missing or invalid.",
        }
    assert (await api.get(path)).status_code == 200
    assert (await world.portal.services.store.sequences())[world.account_id] == before
    monkeypatch.undo()
    assert (await api.delete(path)).status_code == 200


async def test_what_an_actors_type_may_not_read_is_not_shown(
    world: World, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rights = permissions.PERMISSIONS["policies"]
    monkeypatch.setitem(permissions.PERMISSIONS, "policies", {**rights, "api_client": NONE})  # type: ignore[arg-type]
    assert (await api.get(f"/policies/{world.policy.id}")).status_code == 401
    assert (await api.get("/policies")).status_code == 401
    assert (await api.get("/resources")).status_code == 200


async def test_the_logs_ask_too(
    world: World, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(permissions.PERMISSIONS, "changes", {})  # type: ignore[arg-type]
    assert (await api.get("/logs", params={"type": "change"})).status_code == 401
    assert (await api.get("/account")).status_code == 200


@pytest.mark.parametrize("module", ENDPOINTS, ids=lambda path: path.stem)
def test_no_handler_for_an_account_goes_around_its_caller(module: Path) -> None:
    """The tables that `caller.reading()` and `caller.writing()` give ask who may do what; those of the
    transaction do not.
    """
    for function in ast.parse(module.read_text()).body:
        if isinstance(function, ast.AsyncFunctionDef) and "ForAccount" in ast.unparse(function.args):
            reached = {
                node.attr
                for node in ast.walk(function)
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "transaction"
            }
            assert not reached & {"of", "accounts"}, (
                f"{module.name}: {function.name}: use the caller's tables"
            )
