"""Codes of authenticator apps, and recovery codes."""

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from wardgate.portal.sign_in.second_factor import recovery, totp

SECRET = b"12345678901234567890"  # RFC 6238 appendix B
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "code"), [(1234567890, "005924"), (1111111109, "081804"), (20000000000, "353130")]
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    now = EPOCH + timedelta(seconds=seconds)
    assert totp.matching_step(SECRET, code, now=now, after=-1) == seconds // 30
    for off in (-30, 30):
        assert totp.matching_step(SECRET, code, now=now + timedelta(seconds=off), after=-1) == seconds // 30
    for off in (-60, 60):
        assert totp.matching_step(SECRET, code, now=now + timedelta(seconds=off), after=-1) is None
    assert totp.matching_step(SECRET, code, now=now, after=seconds // 30) is None


@pytest.mark.parametrize("typed", ["", "00592", "0059244", "٠٠٥٩٢٤", "005924\x00"])
def test_what_is_no_code_is_none(typed: str) -> None:
    assert totp.matching_step(SECRET, typed, now=EPOCH + timedelta(seconds=1234567890), after=-1) is None


def test_apps_are_told_account_and_person() -> None:
    uri = totp.setup_uri(SECRET, person="ada@acme.example", account="Acme: R&D <x>")
    assert uri.startswith("otpauth://totp/Acme")
    assert "secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" in uri
    assert totp.qr_svg(uri).startswith("<svg ")


def test_recovery_codes_are_recognised_however_they_are_typed() -> None:
    rng, actor_id = random.Random(1), UUID(int=3)
    codes = recovery.draw_codes(rng.randbytes)
    assert len(set(codes)) == recovery.COUNT
    hashes = [recovery.hash_code(b"k" * 32, actor_id, code) for code in codes]
    typed = codes[3].upper().replace("-", " ")
    left = recovery.without(hashes, recovery.hash_code(b"k" * 32, actor_id, typed))
    assert left == [*hashes[:3], *hashes[4:]]
    assert recovery.without(hashes, recovery.hash_code(b"k" * 32, UUID(int=4), typed)) is None
    assert recovery.without(hashes, recovery.hash_code(b"o" * 32, actor_id, typed)) is None
