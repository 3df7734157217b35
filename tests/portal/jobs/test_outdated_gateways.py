"""The weekly letter: who gets it, and what is in it."""

from dataclasses import replace
from typing import Any

import pytest

import wardgate
from support.letterbox import Letterbox
from support.portal import Peer, World
from wardgate.model.versions import Version
from wardgate.portal.jobs import outdated_gateways
from wardgate.portal.jobs.outdated_gateways import notify_outdated_gateways
from wardgate.wire.user_agent import GATEWAY_SPEAKS

pytestmark = pytest.mark.usefixtures("newest")


@pytest.fixture
def newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release at which peers can be behind."""
    monkeypatch.setattr(outdated_gateways, "NEWEST", Version(1, 4, 0))


async def test_admins_are_told_once_of_gateways_that_are_behind(world: World, letterbox: Letterbox) -> None:
    async with gateway(world, "old", "1.3.9") as old, gateway(world, "new", "1.4.0") as new:
        await old.join()
        await new.join()
        assert await notify_outdated_gateways(world.portal.services, {}) == 1
        received = await letterbox.receive()
        assert received.recipients == ("admin@acme.example",)
        assert "old (Berlin): speaks 1.3.9" in received.message.text
        assert "new (Berlin)" not in received.message.text
        assert await notify_outdated_gateways(world.portal.services, {}) == 0


async def test_clients_two_minors_behind_are_mentioned(world: World, letterbox: Letterbox) -> None:
    agent = "Ubuntu/22.4.0 headless-client/{} (x86_64; 6.8.0)"
    for external_id, version in (("c1", "1.2.9"), ("c2", "1.3.0"), ("c3", "0.9.0")):
        peer = Peer(
            world.portal, "client", world.client_token, agent.format(version), external_id=external_id
        )
        async with peer:
            await peer.join()
    await world.portal.journal.flush()
    async with gateway(world, "old", "1.3.9") as old:
        await old.join()
        await notify_outdated_gateways(world.portal.services, {})
    assert "2 clients that were seen" in (await letterbox.receive()).message.text


@pytest.mark.parametrize(
    "changes",
    [{"config": {"notifications": {"outdated_gateway": {"enabled": False}}}}, {"is_disabled": True}],
)
async def test_accounts_that_do_not_want_it_or_are_disabled_get_none(
    world: World, changes: dict[str, Any]
) -> None:
    async with gateway(world, "old", "1.3.9") as old:
        await old.join()
        async with world.portal.services.store.writing() as transaction:
            account = await transaction.accounts.load(world.account_id)
            assert account is not None
            await transaction.accounts.save(replace(account, **changes))
        assert await notify_outdated_gateways(world.portal.services, {}) == 0


async def test_a_gateway_of_an_older_release_is_told_of_though_it_speaks_the_newest_level(
    world: World, letterbox: Letterbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.gateway(query={"name": "ours"}) as peer:
        await peer.join()
        assert await notify_outdated_gateways(world.portal.services, {}) == 0
        monkeypatch.setattr(outdated_gateways, "NEWEST_RELEASE", Version(99, 0, 0))
        assert await notify_outdated_gateways(world.portal.services, {}) == 1
    line = f"ours (Berlin): speaks {GATEWAY_SPEAKS} (Wardgate {wardgate.__version__})"
    assert line in (await letterbox.receive()).message.text


@pytest.mark.parametrize("version", ["1.4.0", "1.4.1", "2.0.0", "nonsense"])
async def test_gateways_that_are_not_behind_or_not_known_are_not_told_of(world: World, version: str) -> None:
    async with gateway(world, "gw", version) as peer:
        await peer.join()
        assert await notify_outdated_gateways(world.portal.services, {}) == 0


async def test_a_gateway_that_is_offline_is_not_told_of(world: World) -> None:
    async with gateway(world, "old", "1.3.9") as old:
        await old.join()
    assert await notify_outdated_gateways(world.portal.services, {}) == 0


def gateway(world: World, name: str, version: str) -> Peer:
    agent = f"Debian/12.0.0 gateway/{version} (x86_64; 6.8.0)"
    return Peer(world.portal, "gateway", world.gateway_token, agent, external_id=name, query={"name": name})
