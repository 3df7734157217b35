"""A run on PostgreSQL repeats nothing."""

import os
from collections.abc import Iterator

import pytest

from support.postgres import cluster


@pytest.fixture(autouse=True)
def stands_on_the_database_of_the_run() -> Iterator[None]:
    """On PostgreSQL, fail a test that has not used it: its second run would prove what its first did."""
    if os.environ["WARDGATE_TESTS_DATABASE"] != "postgres":
        yield
        return
    server = cluster()
    handed_out = server.handed_out
    yield
    assert server.in_use or server.handed_out > handed_out, "on SQLite all the same: mark it `one_database`"
