from wardgate.connect.held_candidates import Changes, HeldCandidates


def test_additions_and_removals_come_out_once() -> None:
    held: HeldCandidates[str] = HeldCandidates()
    held.hold_added("peer", ("a", "b"))
    held.hold_removed("peer", ("old",))

    assert list(held.flush()) == [("peer", Changes(("a", "b"), ("old",)))]
    assert list(held.flush()) == []


def test_an_addition_and_its_removal_cancel_out_in_either_order() -> None:
    held: HeldCandidates[str] = HeldCandidates()
    held.hold_added("peer", ("a",))
    held.hold_removed("peer", ("a", "b"))
    held.hold_added("peer", ("b",))

    assert list(held.flush()) == []


def test_a_closed_connection_forgets_what_was_held() -> None:
    held: HeldCandidates[str] = HeldCandidates()
    held.hold_added("one", ("a",))
    held.hold_added("two", ("b",))
    held.forget("one")

    assert [peer for peer, _ in held.flush()] == ["two"]
