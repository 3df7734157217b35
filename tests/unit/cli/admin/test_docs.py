"""docs/cli.md says what the commands are: its lists are compared with them."""

import re
import runpy
from pathlib import Path

from wardgate.cli import errors
from wardgate.cli.admin.vocabulary import Output

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "cli.md").read_text()


def test_the_reference_is_that_of_the_commands() -> None:
    generator = runpy.run_path(str(ROOT / "scripts" / "cli_reference.py"))
    _, mark, written = PAGE.partition(generator["MARK"])
    assert mark
    assert written.strip().splitlines() == generator["reference"]().strip().splitlines(), "make cli-reference"


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)}
    base = errors.UserError
    assert codes == {0, base.exit_code, *(one.exit_code for one in base.__subclasses__())}


def test_the_outputs_are_told() -> None:
    assert all(f"`--output {output}`" in PAGE for output in Output if output is not Output.TABLE)
