"""What ends a session, looked at by itself: elsewhere the hooks that delete its row come first."""

from datetime import timedelta
from uuid import uuid4

import pytest

from support.portal import World
from support.sign_in import store_provider
from wardgate.portal.people.tables import Actor
from wardgate.portal.sign_in.tables import AuthProviderDetails, PortalSession, UserpassAuthProvider
from wardgate.portal.web.sessions import Sessions, SignedIn


async def opened(
    world: World, *, lives: timedelta, is_disabled: bool = False, provider: AuthProviderDetails | None = None
) -> SignedIn:
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        account = await tx.accounts.load(world.account_id)
        assert account is not None
        actor = await tables.actors.insert(
            Actor(
                id=tx.new_id(),
                account_id=account.id,
                type="account_admin_user",
                name="Eve",
                email=f"eve-{tx.new_id()}@example.org",
                is_disabled=is_disabled,
            )
        )
        session = await tables.portal_sessions.insert(
            PortalSession(
                id=tx.new_id(),
                account_id=account.id,
                actor_id=actor.id,
                auth_provider_id=None if provider is None else provider.id,
                user_agent="test",
                remote_ip="192.0.2.1",
                remote_ip_location_region=None,
                remote_ip_location_city=None,
                remote_ip_location_lat=None,
                remote_ip_location_lon=None,
                expires_at=tx.now + lives,
            )
        )
    return SignedIn(account, actor, session.id)


async def test_a_session_lives_until_it_expires_and_no_longer(world: World) -> None:
    sessions = Sessions(world.portal.services)
    assert await sessions.is_alive(await opened(world, lives=timedelta(hours=1)))
    assert not await sessions.is_alive(await opened(world, lives=timedelta(hours=-1)))


async def test_a_session_of_who_is_disabled_does_not_live(world: World) -> None:
    signed_in = await opened(world, lives=timedelta(hours=1), is_disabled=True)
    assert not await Sessions(world.portal.services).is_alive(signed_in)


@pytest.mark.parametrize("is_disabled", [False, True])
async def test_a_session_by_a_disabled_provider_does_not_live(world: World, is_disabled: bool) -> None:
    provider = UserpassAuthProvider(id=uuid4(), account_id=world.account_id, is_disabled=is_disabled)
    await store_provider(world, provider)
    signed_in = await opened(world, lives=timedelta(hours=1), provider=provider)
    assert await Sessions(world.portal.services).is_alive(signed_in) is not is_disabled


async def test_a_form_token_is_one_sessions_own(world: World) -> None:
    sessions = Sessions(world.portal.services)
    signed_in = await opened(world, lives=timedelta(hours=1))
    other = SignedIn(signed_in.account, signed_in.actor, uuid4())
    assert sessions.form_token(signed_in) != sessions.form_token(other)
