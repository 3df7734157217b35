"""What becomes of an order's outcome; the orders themselves meet a real server in `interop`."""

import asyncio
import contextlib
import threading
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from wardgate.portal import acme
from wardgate.portal.acme import AcmeCertificate, OrderFailed
from wardgate.portal.environment import SystemClock
from wardgate.portal.settings import AcmeSettings

DOMAIN = "portal.example.test"
NOW = SystemClock().now()


@pytest.fixture
def kept(tmp_path: Path) -> AcmeCertificate:
    settings = AcmeSettings((DOMAIN,), "https://acme.example.test/dir", None, None)
    one = AcmeCertificate(settings, tmp_path / "certificate.pem", clock=SystemClock(), rng=Random(1))
    one._file.write_bytes(acme._self_signed((DOMAIN,), NOW))
    return one


@pytest.mark.parametrize(
    "issued",
    [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "words", "no certificate"],
)
async def test_what_is_no_certificate_never_takes_the_place_of_one(
    kept: AcmeCertificate, monkeypatch: pytest.MonkeyPatch, issued: bytes
) -> None:
    before = kept._file.read_bytes()
    monkeypatch.setattr(kept, "_ordered", lambda: issued)
    with pytest.raises(OrderFailed, match="cannot be used"):
        await kept._order()
    assert kept._file.read_bytes() == before


async def test_a_certificate_for_other_names_is_refused(
    kept: AcmeCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept._file.read_bytes()
    monkeypatch.setattr(kept, "_ordered", lambda: acme._self_signed(("other.example.test",), NOW))
    with pytest.raises(OrderFailed, match="other names"):
        await kept._order()
    assert kept._file.read_bytes() == before


async def test_a_disk_that_is_full_is_a_failed_order_and_not_the_end_of_the_task(
    kept: AcmeCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_ordered", lambda: acme._self_signed((DOMAIN,), NOW))
    monkeypatch.setattr(acme, "_write", full)
    with pytest.raises(OrderFailed, match="No space left"):
        await kept._order()


def test_an_order_that_hangs_does_not_hold_up_the_end(
    kept: AcmeCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered = threading.Event(), threading.Event()

    def hang() -> bytes:
        begun.set()
        answered.wait()
        raise OrderFailed("too late")

    monkeypatch.setattr(kept, "_ordered", hang)

    async def live_shortly() -> None:
        order = asyncio.create_task(kept._order())
        await asyncio.to_thread(begun.wait)
        order.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await order

    asyncio.run(live_shortly())  # would wait for the answer for ever
    answered.set()


def test_one_that_signs_itself_is_due_and_so_is_none(kept: AcmeCertificate) -> None:
    assert kept.is_due(NOW)
    kept._file.write_bytes(b"")
    assert kept.is_due(NOW - timedelta(days=1))
