"""An account that cannot follow its feed decides nothing any more: its sessions start over on a view that can."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from support.browser import caller
from support.patience import PATIENCE_S
from support.pools import caught_up
from support.portal import World
from wardgate.portal.app import Portal
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.snapshot import accounts as accounts_module
from wardgate.portal.snapshot.accounts import AccountView


class Fault(Exception):
    """Something that nobody expected."""


async def test_sessions_of_an_account_that_cannot_take_in_a_change_end_with_1012(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        with monkeypatch.context() as patched:
            patched.setattr(AccountView, "apply", _fail)
            await _rename_the_resource(world, "renamed")
            assert await client.receive_close() == 1012
            assert await gateway.receive_close() == 1012
    counters = world.portal.services.counters
    assert (counters["background_failures"], counters["closed_view_lost"]) == (1, 2)
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "an account cannot follow its feed"
    ]
    async with world.client() as client:
        init = await client.join()
        assert [one["name"] for one in init["resources"]] == ["renamed"]
        await _rename_the_resource(world, "again")
        told = await client.receive("resource_created_or_updated")
        assert told["payload"]["name"] == "again"


async def test_clients_that_wait_to_be_told_are_told_without_another_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_module, "TOLD_A_TURN", 1)
    async with world.client() as first, world.client(external_id="client-2") as second:
        for client in (first, second):
            await client.join()
        await _rename_the_resource(world, "renamed")
        for client in (first, second):
            told = await client.receive("resource_created_or_updated")
            assert told["payload"]["name"] == "renamed"


async def test_sessions_that_cannot_be_told_of_a_change_end_with_1012(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.client() as client, world.gateway() as gateway:
        await client.join()
        await gateway.join()
        await world.portal.journal.flush()
        await caught_up(world)  # what connecting has changed is not what nobody can be told of
        with monkeypatch.context() as patched:
            patched.setattr(accounts_module, "TOLD_A_TURN", 0)
            patched.setattr(AccountView, "tell_some", _fail)
            await _rename_the_resource(world, "renamed")
            assert await client.receive_close() == 1012
            assert await gateway.receive_close() == 1012
    assert world.portal.services.counters["closed_view_lost"] == 2
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "connections were not told of changes"
    ]
    async with world.client() as client:
        init = await client.join()
        assert [one["name"] for one in init["resources"]] == ["renamed"]


async def test_sessions_of_an_account_whose_feed_ends_end_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow(_account_id: UUID, _after: int) -> AsyncGenerator[list[Change]]:
        for changes in ():
            yield changes

    with monkeypatch.context() as patched:
        patched.setattr(world.portal.services.feed, "follow", follow)
        async with world.client() as client:
            assert await client.receive_close() == 1012
    async with world.client() as client:
        await client.join()
        assert await client.is_quiet()


async def test_a_session_that_begins_while_its_view_is_lost_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = world.portal.channels
    read = endpoint._read_again

    async def read_slowly(*arguments: Any) -> Any:
        connected = await read(*arguments)
        with monkeypatch.context() as patched:
            patched.setattr(AccountView, "apply", _fail)
            lost = asyncio.Event()
            patched.setattr(world.portal.services.accounts, "on_loss", lost.set)
            await _rename_the_resource(world, "renamed")
            await asyncio.wait_for(lost.wait(), PATIENCE_S)
        return connected

    monkeypatch.setattr(endpoint, "_read_again", read_slowly)
    async with world.client() as client:
        assert await client.receive_close() == 1012


async def test_background_work_that_ends_is_begun_again_and_shows_in_readiness(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = portal.services.store.accounts_changed_elsewhere
    failed, polled = asyncio.Event(), asyncio.Event()

    async def silent_once(account_ids: Any) -> frozenset[UUID]:
        if not failed.is_set():
            failed.set()
            raise Fault
        polled.set()
        return await ask(account_ids)

    monkeypatch.setattr(portal.services.store, "accounts_changed_elsewhere", silent_once)
    async with caller(portal) as probe, asyncio.timeout(PATIENCE_S):
        await failed.wait()
        answer = await probe.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "failing")
        await polled.wait()
    assert portal.services.counters["background_failures"] == 1


def _fail(_view: AccountView, _changes: list[Change]) -> None:
    raise Fault


async def _rename_the_resource(world: World, name: str) -> None:
    async with world.portal.services.store.writing() as tx:
        resources = tx.of(world.account_id).resources
        resource = await resources.load(world.resource.id)
        assert resource is not None
        await resources.save(replace(resource, name=name))
