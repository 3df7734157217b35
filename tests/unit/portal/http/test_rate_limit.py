"""Buckets by key: how much they let through, and what many of them cost."""

from collections.abc import Iterator
from typing import Any

import pytest

from wardgate.portal.http import rate_limit
from wardgate.portal.http.rate_limit import TokenBuckets, retry_after


def test_so_many_at_once_and_then_one_by_one() -> None:
    buckets = TokenBuckets(capacity=3, refill_per_s=2)
    assert [buckets.take("a", now=0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b", now=0) == 0
    assert buckets.take("a", now=0.4) == pytest.approx(0.1)
    assert buckets.take("a", now=0.5) == 0
    assert [retry_after(wait) for wait in (0.0, 0.5, 1.0, 1.1)] == [1, 1, 1, 2]


def test_full_buckets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "_PRUNE_AT", 8)
    buckets = TokenBuckets(capacity=1, refill_per_s=1)
    for number in range(100):
        assert buckets.take(number, now=number * 10) == 0
        assert len(buckets._levels) <= 8


def test_what_one_more_bucket_costs_does_not_grow_with_how_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limit, "_PRUNE_AT", 8)
    buckets = TokenBuckets(capacity=1, refill_per_s=1e-6)
    looked_at = 0

    class Levels(dict[Any, Any]):
        def items(self) -> Iterator[Any]:  # type: ignore[override]
            nonlocal looked_at
            for item in super().items():
                looked_at += 1
                yield item

    buckets._levels = Levels()
    for number in range(2000):
        assert buckets.take(number, now=0) == 0
        if not isinstance(buckets._levels, Levels):
            buckets._levels = Levels(buckets._levels)
    assert len(buckets._levels) == 2000
    assert looked_at < 2 * 2000
