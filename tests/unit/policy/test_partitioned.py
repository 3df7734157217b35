from hypothesis import given
from hypothesis import strategies as st

from wardgate.policy.partitioned import PartitionedMap

KEYS = st.integers(0, 1000)
CHANGES = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.integers())))


def map_of(entries: dict[int, int]) -> PartitionedMap[int, int]:
    draft = PartitionedMap[int, int]().draft()
    for key, value in entries.items():
        draft[key] = value
    return draft.finish()


@given(st.dictionaries(KEYS, st.integers()), CHANGES)
def test_it_is_a_dict_that_stays_as_it_is(
    entries: dict[int, int], changes: list[tuple[int, int | None]]
) -> None:
    before, expected = map_of(entries), dict(entries)
    draft = before.draft()
    for key, value in changes:
        assert draft.get(key) == expected.get(key)
        if value is None:
            assert draft.pop(key) == expected.pop(key, None)
        else:
            draft[key] = expected[key] = value
    after = draft.finish()
    assert before == entries
    assert after == expected
    assert len(after) == len(expected)
    assert set(after) == expected.keys()
    assert [after.get(key) for key, _ in changes] == [expected.get(key) for key, _ in changes]
    assert all(key in after and after[key] == value for key, value in expected.items())
    assert all(key in expected for key, _ in changes if key in after)


def test_what_does_not_differ_is_shared() -> None:
    base = map_of({number: number for number in range(10_000)})
    draft = base.draft()
    assert draft.pop(10_000) is None
    assert draft.finish() is base, "nothing was changed"

    draft = base.draft()
    draft[10_001] = draft[10_257] = 1  # the second falls into the partition of the first
    after = draft.finish()
    shared = [one is other for one, other in zip(base.partitions, after.partitions, strict=True)]
    assert shared.count(False) == 1
