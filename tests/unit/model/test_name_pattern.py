import pytest

from wardgate.model.name_pattern import NamePattern

MOST_SPECIFIC_FIRST = [
    "example.com",
    "bar.example.com",
    "*.bar.example.com",
    "foo.example.com",
    "?.example.com",
    "*.example.com",
    "**.example.com",
    "*ample.com",
    "*.com",
]


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        (
            "example.com",
            ["example.com", "EXAMPLE.com", "example.com."],
            ["a.example.com", "examplexcom", "example.co"],
        ),
        ("*.example.com", ["a.example.com", "example.com"], ["a.b.example.com", "xexample.com"]),
        (
            "**.example.com",
            ["example.com", "a.example.com", "a.b.example.com"],
            ["xexample.com", "example.org"],
        ),
        ("?.example.com", ["a.example.com"], ["example.com", "ab.example.com", ".example.com"]),
        ("*ample.com", ["example.com", "ample.com"], ["a.example.com", "a.ample.com"]),
        ("a.**.b.com", ["a.b.com", "a.x.b.com", "a.x.y.b.com"], ["ab.com", "a.xb.com"]),
        ("a.*.com", ["a.b.com"], ["a.com", "a.b.c.com"]),
        ("w?b-*.lan", ["web-1.lan", "web-.lan"], ["wb-1.lan", "web-1.x.lan"]),
        ("*.*.lan", ["a.b.lan", "b.lan"], ["lan", "a.b.c.lan"]),
    ],
)
def test_a_pattern_matches_what_its_grammar_says(pattern: str, names: list[str], others: list[str]) -> None:
    parsed = NamePattern.parse(pattern)
    assert [name for name in names if not parsed.matches(name)] == []
    assert [name for name in others if parsed.matches(name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a***.com",
        "x**.com",
        "a.**",
        "**",
        "a b.com",
        "a/b",
        "[ab].com",
        "l" * 64 + ".com",
        "a." * 127 + "com",
    ],
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        NamePattern.parse(text)


def test_the_most_specific_pattern_sorts_first() -> None:
    patterns = sorted(
        (NamePattern.parse(text) for text in reversed(MOST_SPECIFIC_FIRST)), key=lambda one: one.specificity
    )
    assert [str(pattern) for pattern in patterns] == MOST_SPECIFIC_FIRST


def test_equality_ignores_case_and_a_trailing_dot() -> None:
    assert NamePattern.parse("**.Example.COM.") == NamePattern.parse("**.example.com")


def test_a_name_that_is_made_to_backtrack_is_answered_at_once() -> None:
    pattern = NamePattern.parse(".".join(["**", "*a*a*a*a*a*a*a*", "**", "b*b*b*b*b*b", "com"]))
    assert not pattern.matches(".".join(["a" * 60] * 3 + ["com"]))


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("*.lab.example", ["nas.lab.example", "NAS.Lab.Example", "n.lab.example."], ["lab.example", "a.b.lab.example"]),
        ("**.lab.example", ["nas.lab.example", "a.b.lab.example"], ["lab.example", "lab.example.org", "xlab.example"]),
        ("a.**.example", ["a.b.example", "a.b.c.example"], ["a.example", "a.b.examples"]),
        ("n?s-*.lab.example", ["nas-.lab.example", "nos-7.lab.example"], ["ns-7.lab.example", "nas.lab.example"]),
    ],
)  # fmt: skip
def test_a_pool_covers_host_names_where_every_wildcard_stands_for_something(
    pattern: str, names: list[str], others: list[str]
) -> None:
    parsed = NamePattern.parse(pattern)
    assert [name for name in names if not parsed.covers(name)] == []
    assert [name for name in others if parsed.covers(name)] == []


@pytest.mark.parametrize(
    "pattern", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "*.example"]
)
def test_names_outside_ascii_meet_whichever_way_they_are_written(pattern: str) -> None:
    parsed = NamePattern.parse(pattern)
    for name in ("xn--bcher-kva.example", "XN--BCHER-KVA.example.", "bücher.example", "Bücher.Example"):
        assert parsed.matches(name)
    assert not parsed.matches("bucher.other")
    assert not parsed.matches("\u0300.example"), "what is no name matches nothing"
    assert NamePattern.parse("**.bücher.example").covers("nas.xn--bcher-kva.example")
    assert NamePattern.parse("**.xn--bcher-kva.example").covers("nas.bücher.example")
