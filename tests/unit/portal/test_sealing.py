"""Sealed values open for their owner and with their key only."""

import random

import pytest

from wardgate.portal.sealing import SealBroken, seal, unseal

KEY = b"k" * 32


def test_a_sealed_value_opens_with_its_key_for_its_owner_only() -> None:
    sealed = seal(KEY, b"secret", owner="one", random_bytes=random.Random(1).randbytes)
    assert unseal(KEY, sealed, owner="one") == b"secret"
    assert "secret" not in sealed
    for key, text, owner in (
        (b"o" * 32, sealed, "one"),
        (KEY, sealed, "two"),
        (KEY, sealed[:-4], "one"),
        (KEY, "A" + sealed[1:], "one"),
        (KEY, "", "one"),
        (KEY, "é", "one"),
    ):
        with pytest.raises(SealBroken):
            unseal(key, text, owner=owner)


def test_no_two_seals_are_alike() -> None:
    rng = random.Random(1)
    assert seal(KEY, b"secret", owner="one", random_bytes=rng.randbytes) != seal(
        KEY, b"secret", owner="one", random_bytes=rng.randbytes
    )
