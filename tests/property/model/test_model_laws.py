import re

from hypothesis import given
from hypothesis import strategies as st

from wardgate.model.conditions import TimeRange, merge_ranges
from wardgate.model.filters import Filter, PortRange, Protocol, admits
from wardgate.model.name_pattern import NamePattern

labels = st.text(alphabet="ab-", min_size=1, max_size=4)
names = st.lists(labels, min_size=1, max_size=5).map(".".join)
pattern_texts = st.tuples(
    st.lists(st.text(alphabet="ab*?", min_size=1, max_size=4) | st.just("**"), max_size=4), labels
).map(
    lambda parts: ".".join(
        [*(one if one == "**" else re.sub(r"\*+", "*", one) for one in parts[0]), parts[1]]
    )
)


@given(pattern_texts, names)
def test_a_pattern_matches_as_its_regular_expression_does(text: str, name: str) -> None:
    *front, last = text.split(".")
    parts = []
    for position, label in enumerate(front):
        if label == "**":
            parts.append(r"(?:[^.]+\.)*")
        else:
            expression = "".join({"*": "[^.]*", "?": "[^.]"}.get(char, re.escape(char)) for char in label)
            parts.append(rf"(?:{expression}\.)?" if label == "*" and position == 0 else rf"{expression}\.")
    expected = re.fullmatch("".join(parts) + re.escape(last), name) is not None
    assert NamePattern.parse(text).matches(name) is expected


@given(names)
def test_a_literal_pattern_matches_its_own_name_and_is_the_most_specific_that_does(name: str) -> None:
    literal = NamePattern.parse(name)
    assert literal.matches(name.upper())
    if "." in name:
        rest = name.partition(".")[2]
        for wildcard in (f"*.{rest}", f"**.{rest}"):
            assert literal.specificity < NamePattern.parse(wildcard).specificity


@given(st.lists(pattern_texts))
def test_specificity_orders_patterns_totally(texts: list[str]) -> None:
    patterns = {NamePattern.parse(text) for text in texts}
    assert len({one.specificity for one in patterns}) == len(patterns)


ranges = st.tuples(st.integers(0, 86_399), st.integers(0, 86_399)).map(
    lambda pair: TimeRange(min(pair), max(pair))
)


@given(st.lists(ranges), st.integers(0, 86_399))
def test_merging_ranges_covers_the_same_seconds_without_touching(
    given_ranges: list[TimeRange], second: int
) -> None:
    merged = merge_ranges(given_ranges)
    covers = [any(one.start_s <= second <= one.end_s for one in some) for some in (given_ranges, merged)]
    assert covers[0] is covers[1]
    assert all(merged[at].end_s < merged[at + 1].start_s for at in range(len(merged) - 1))
    assert merge_ranges(merged) == merged


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(1, 65535))
def test_a_range_of_ports_survives_text_and_admits_what_lies_within(one: int, other: int, port: int) -> None:
    ports = PortRange(min(one, other), max(one, other))
    assert PortRange.parse(str(ports)) == ports
    assert admits((Filter(Protocol.TCP, (ports,)),), Protocol.TCP, port) is (
        ports.first <= port <= ports.last
    )
