"""Every section that the code cites exists: of a page in docs/spec, or named as an RFC's or another document's own."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPEC = ROOT / "docs" / "spec"
PAGES = {page.stem for page in SPEC.glob("*.md")} - {"README"}
ALIASES = {"control-plane": "control-plane-protocol", "protocol": "control-plane-protocol"}
FOREIGN = re.compile(r"(RFC \d+|[Pp]aper(?:'s)?|Noise|draft-[\w-]+|virtio [\d.]+)$")
"""Documents of others, whose sections nobody here can look up."""

_NAMES = "|".join(sorted(map(re.escape, {*PAGES, *ALIASES}), key=len, reverse=True))
_NAMED = re.compile(rf"(?<![\w-])({_NAMES})(?:\.md)?(?:\s+spec)?$", re.IGNORECASE)
_NUMBER = r"(?:\d+|[A-Z])(?:\.\d+)*"
_CITATION = re.compile(rf"§+ ?({_NUMBER})(?:[–-]§?({_NUMBER}))?")
_HEADING = re.compile(rf"^#+ (?:Appendix |App\. )?({_NUMBER})[. ]", re.MULTILINE)

SOURCES = sorted(
    path
    for folder in ("src", "native/crates", "tests", "benches", "fuzz", "scripts", "docs")
    for pattern in ("*.py", "*.rs", "*.md", "*.toml", "*.sql")
    for path in (ROOT / folder).rglob(pattern)
    if "target" not in path.parts and path != Path(__file__)
)


def test_every_cited_section_exists() -> None:
    sections = {page: set(_HEADING.findall((SPEC / f"{page}.md").read_text())) for page in PAGES}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: §{number} of {page or 'no page'}"
        for path in SOURCES
        for line, page, number in citations(path)
        if page is None or number not in sections.get(page, ())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(data-plane §5.4)", [("data-plane", "5.4")]),
        (
            "control-plane §3.6.2, §3.6.3",
            [("control-plane-protocol", "3.6.2"), ("control-plane-protocol", "3.6.3")],
        ),
        ("portal-domain §8.4–8.7", [("portal-domain", "8.4"), ("portal-domain", "8.7")]),
        ("relay §2; then (RFC 8656 §9), and §3", [("relay", "2"), ("relay", "3")]),
        ("identity\n    §18", [("identity", "18")]),
        ("§1", [(None, "1")]),
    ],
)
def test_a_citation_belongs_to_the_page_named_last(
    tmp_path: Path, text: str, expected: list[tuple[str | None, str]]
) -> None:
    file = tmp_path / "module.py"
    file.write_text(text)
    assert [(page, number) for _, page, number in citations(file)] == expected


def citations(path: Path) -> Iterator[tuple[int, str | None, str]]:
    """Yield line, page and section; a section without a page of its own belongs to the page that the file
    named last.
    """
    text = path.read_text()
    page: str | None = path.stem if path.parent == SPEC else None
    is_foreign = False
    end = 0
    for match in _CITATION.finditer(text):
        # Comment marks and line ends stand between a page and its section where a sentence is wrapped.
        before = re.sub(r"[\s#/!*\"]+", " ", text[max(end, match.start() - 80) : match.start()]).rstrip()
        if path.parent == SPEC and not before.endswith(tuple(PAGES)):
            page = path.stem
        if FOREIGN.search(before):
            is_foreign = True
        elif named := _NAMED.search(before):
            name = named.group(1).lower()
            page, is_foreign = ALIASES.get(name, name), False
        elif not (is_foreign and re.fullmatch(r" ?(?:,|and|;| )* ?", before)):
            is_foreign = False
        end = match.end()
        if is_foreign:
            continue
        line = text.count("\n", 0, match.start()) + 1
        for number in match.groups():
            if number is not None:
                yield line, page, number
