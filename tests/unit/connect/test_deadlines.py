from wardgate.connect.deadlines import ClockOffset


def test_an_expiry_becomes_a_deadline_of_the_engines_clock() -> None:
    assert ClockOffset(1_700_000_000.0).deadline_s(1_700_000_060) == 60.0
    assert ClockOffset(1_700_000_000.0).deadline_s(None) is None


def test_a_step_of_a_second_makes_an_offset_stale_and_drift_does_not() -> None:
    offset = ClockOffset(1_700_000_000.0)

    assert offset.is_stale(ClockOffset(1_699_999_999.0))
    assert not offset.is_stale(ClockOffset(1_700_000_000.5))
