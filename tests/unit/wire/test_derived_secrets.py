import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from wardgate.model.ids import DeviceId
from wardgate.wire.derived_secrets import (
    GATEWAY_TURN_EXPIRY_UNIX,
    derive_client_psk,
    derive_gateway_psk,
    derive_ice_credentials,
    derive_turn_credentials,
    relay_id,
    unix_seconds,
)
from wardgate.wire.device_identity import (
    CLIENT_DERIVATION_KEY,
    derived_device_id,
    external_id,
    random_device_id,
)

V = json.loads((Path(__file__).parents[2] / "vectors" / "derived-secrets" / "vectors.json").read_text())
A, B = (DeviceId(UUID(V["ids"][who])) for who in ("initiator", "receiver"))
KEY_A, KEY_B = (V["public_keys"][who] for who in ("initiator", "receiver"))
BASE_A, BASE_B = (bytes.fromhex(V["psk_bases"][who]) for who in ("initiator", "receiver"))


def test_ice_credentials_match_the_vector() -> None:
    pair = derive_ice_credentials(initiator_id=A, initiator_key=KEY_A, receiver_id=B, receiver_key=KEY_B)
    assert {"username": pair.initiator_username, "password": pair.initiator_password} == V["ice"]["initiator"]
    assert {"username": pair.receiver_username, "password": pair.receiver_password} == V["ice"]["receiver"]


def test_ice_credentials_change_with_a_restarted_peers_key_and_with_the_direction() -> None:
    pair = derive_ice_credentials(initiator_id=A, initiator_key=KEY_A, receiver_id=B, receiver_key=KEY_B)
    assert pair != derive_ice_credentials(
        initiator_id=A, initiator_key=KEY_B, receiver_id=B, receiver_key=KEY_B
    )
    assert pair != derive_ice_credentials(
        initiator_id=B, initiator_key=KEY_B, receiver_id=A, receiver_key=KEY_A
    )


def test_the_gateway_psk_matches_the_vector() -> None:
    psk = derive_gateway_psk(
        client_id=A,
        client_key=KEY_A,
        client_psk_base=BASE_A,
        gateway_id=B,
        gateway_key=KEY_B,
        gateway_psk_base=BASE_B,
    )
    assert psk == V["psk"]["gateway"]


def test_the_client_to_client_psk_matches_the_vector() -> None:
    psk = derive_client_psk(
        initiator_id=A,
        initiator_key=KEY_A,
        initiator_psk_base=BASE_A,
        target_id=B,
        target_key=KEY_B,
        target_psk_base=BASE_B,
    )
    assert psk == V["psk"]["client"]


def test_turn_credentials_and_relay_id_match_the_vectors() -> None:
    turn = V["turn"]
    credentials = derive_turn_credentials(turn["stamp_secret"], KEY_A, turn["expires_at"])
    assert (credentials.username, credentials.password) == (turn["username"], turn["password"])
    assert turn["password"] not in repr(credentials)
    assert str(relay_id(turn["stamp_secret"])) == turn["relay_id"]


def test_a_gateways_fixed_turn_expiry_is_the_first_of_2038() -> None:
    assert datetime.fromtimestamp(GATEWAY_TURN_EXPIRY_UNIX, UTC) == datetime(2038, 1, 1, tzinfo=UTC)


def test_an_expiry_is_rounded_down_and_needs_a_zone() -> None:
    assert unix_seconds(datetime(1970, 1, 1, 0, 0, 7, 999_999, tzinfo=UTC)) == 7
    with pytest.raises(ValueError, match="zone"):
        unix_seconds(datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_a_device_id_in_uuid_form_is_sent_hashed() -> None:
    device = V["device"]
    assert external_id(device["id"]) == device["external_id"]


@pytest.mark.parametrize("form", ["{}", "urn:uuid:{}", "{{{}}}"])
def test_every_textual_form_of_a_uuid_is_hashed_as_given(form: str) -> None:
    text = form.format(V["device"]["id"])
    assert len(external_id(text)) == 64
    assert (external_id(text) == V["device"]["external_id"]) == (form == "{}")


@pytest.mark.parametrize("text", ["gw1", "25746dc26c1cc478", "c5e2a2a4-6f0e-4c3b-9d1a-0f1e2d3c4b5", ""])
def test_any_other_device_id_is_sent_as_it_is(text: str) -> None:
    assert external_id(text) == text


def test_a_device_id_derives_from_the_machine_id_with_its_newline() -> None:
    device = V["device"]
    derived = derived_device_id(device["machine_id"].encode(), CLIENT_DERIVATION_KEY)
    assert derived == device["derived_client_id"]
    assert derived != derived_device_id(device["machine_id"].strip().encode(), CLIENT_DERIVATION_KEY)


def test_a_random_device_id_is_sent_unchanged() -> None:
    made = random_device_id(A)
    assert external_id(made) == made
