import pytest

from wardgate.model.filters import Filter, PortRange, Protocol, admits


@pytest.mark.parametrize(
    ("text", "bounds"),
    [("80", (80, 80)), ("8000-8010", (8000, 8010)), (" 8000 - 8010 ", (8000, 8010)), ("1-65535", (1, 65535))],
)
def test_a_port_or_a_range_parses(text: str, bounds: tuple[int, int]) -> None:
    parsed = PortRange.parse(text)
    assert (parsed.first, parsed.last) == bounds
    assert PortRange.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text", ["", "0", "65536", "90-80", "a", "80-", "-80", "80-90-100", "8.0", "٨٠", "1-0"]
)
def test_what_is_no_range_of_ports_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        PortRange.parse(text)


def test_ranges_of_one_filter_do_not_overlap_and_icmp_has_none() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Filter(Protocol.TCP, (PortRange(1, 10), PortRange(10, 20)))
    with pytest.raises(ValueError, match="icmp"):
        Filter(Protocol.ICMP, (PortRange(1, 10),))


def test_no_filters_admit_everything_and_some_only_what_matches() -> None:
    filters = (Filter(Protocol.TCP, (PortRange(80, 90),)), Filter(Protocol.UDP))
    assert admits((), Protocol.ICMP)
    assert admits(filters, Protocol.TCP, 85)
    assert admits(filters, Protocol.UDP, 1)
    assert not admits(filters, Protocol.TCP, 91)
    assert not admits(filters, Protocol.TCP)
    assert not admits(filters, Protocol.ICMP)


def test_a_range_admits_both_its_ends_and_nothing_beyond() -> None:
    filters = (Filter(Protocol.TCP, (PortRange(80, 90),)),)
    admitted = [port for port in (79, 80, 81, 89, 90, 91) if admits(filters, Protocol.TCP, port)]
    assert admitted == [80, 81, 89, 90]
