"""Tokens of every kind are drawn and stored by one function, and found again by what it returns."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from unit.portal.rules.conftest import Office
from wardgate.portal import credentials
from wardgate.portal.devices import rules as devices
from wardgate.portal.installation import rules as installation
from wardgate.portal.outcomes import Invalid, Missing, Unsuitable, WrongState
from wardgate.portal.sign_in import rules as sign_in
from wardgate.wire.tokens import InvalidToken


async def test_a_client_token_is_found_by_its_text_alone(office: Office) -> None:
    given = {"actor_id": str(office.made.admin.id), "expires_at": "2999-01-01T00:00:00Z"}
    issued = await sign_in.make_client_token(office.tables, office.transaction, given, keys=office.keys)
    account, actor, row = await credentials.find_client_token(
        issued.text, transaction=office.transaction, keys=office.keys
    )
    assert (account, actor, row) == (office.made.account, office.made.admin, issued.row)
    assert issued.text not in repr(issued)
    await office.tables.client_tokens.delete(issued.id)
    with pytest.raises(InvalidToken):
        await credentials.find_client_token(issued.text, transaction=office.transaction, keys=office.keys)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"expires_at": "2999-01-01T00:00:00Z"}, "actor_id"),
        ({"actor_id": "x", "expires_at": "2999-01-01T00:00:00Z"}, "actor_id"),
        ({"actor_id": None}, "actor_id"),
    ],
)
async def test_a_client_token_needs_an_owner(office: Office, given: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        await sign_in.make_client_token(office.tables, office.transaction, given, keys=office.keys)
    assert set(refused.value.errors) == {field}


async def test_only_service_accounts_get_a_token_at_their_own_address(office: Office) -> None:
    given = {"expires_at": "2999-01-01T00:00:00Z"}
    with pytest.raises(Unsuitable):
        await sign_in.make_service_account_token(
            office.tables, office.transaction, office.made.admin, given, keys=office.keys
        )


async def test_a_token_must_end_in_the_future(office: Office) -> None:
    past = (office.tables.now - timedelta(seconds=1)).isoformat()
    given = {"actor_id": str(office.made.admin.id), "expires_at": past}
    with pytest.raises(Invalid) as refused:
        await sign_in.make_client_token(office.tables, office.transaction, given, keys=office.keys)
    assert refused.value.errors == {"expires_at": [sign_in.IN_FUTURE]}


async def test_a_gateways_token_in_use_outlives_its_rotation_and_an_unused_one_does_not(
    office: Office,
) -> None:
    tables, transaction, keys = office.tables, office.transaction, office.keys
    gateway, first = await devices.make_gateway(tables, transaction, office.made.site.id, {}, keys=keys)
    with pytest.raises(WrongState):
        await devices.make_gateway_token(tables, transaction, gateway, keys=keys)

    second = await devices.rotate_gateway_token(tables, transaction, gateway, keys=keys)
    assert await _tokens(office) == {second.id: None}  # nobody used the first

    connected = await tables.devices.save(replace(gateway, gateway_token_id=second.id))
    third = await devices.rotate_gateway_token(tables, transaction, connected, keys=keys)
    assert await _tokens(office) == {second.id: tables.now, third.id: None}

    fourth = await devices.rotate_gateway_token(tables, transaction, connected, keys=keys)
    assert await _tokens(office) == {second.id: tables.now, fourth.id: None}
    assert first.text != second.text != third.text != fourth.text


async def _tokens(office: Office) -> dict[UUID, datetime | None]:
    """Return the gateway tokens that there are, with when each was rotated."""
    return {row.id: row.rotated_at for row in await office.tables.gateway_tokens.load_all()}


async def test_a_relays_token_is_replaced_at_once(office: Office) -> None:
    transaction, keys = office.transaction, office.keys
    old = await installation.make_relay_token(transaction, {"name": "fra"}, keys=keys)
    new = await installation.rotate_relay_token(transaction, old.row, keys=keys)
    assert await credentials.find_relay_token(new.text, transaction=transaction, keys=keys) == new.row
    with pytest.raises(InvalidToken):
        await credentials.find_relay_token(old.text, transaction=transaction, keys=keys)
    with pytest.raises(Missing):
        await installation.load_relay_token(transaction, old.id)
