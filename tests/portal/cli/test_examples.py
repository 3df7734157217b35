"""The examples of docs/cli.md do what they say."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from .conftest import Admin

pytestmark = pytest.mark.one_database  # the database stands behind REST, whose tests run on both

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
EXAMPLES = [shlex.split(line)[3:] for line in PAGE.splitlines() if line.startswith("$ wardgate admin ")]


async def test_every_example_works(admin: Admin) -> None:
    assert len(EXAMPLES) > 10
    for arguments in EXAMPLES:
        ran = await admin(*arguments, now=datetime.now(UTC))
        assert ran.code == 0, (arguments, ran.error)
