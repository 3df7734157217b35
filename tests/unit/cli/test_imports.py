"""Commands load what they need: a question to the portal starts no web framework, and a sign-in link no API."""

import subprocess
import sys

import pytest

STORE = {"sqlalchemy", "alembic", "asyncpg"}
SERVER = {
    "fastapi",
    "starlette",
    "uvicorn",
    "jinja2",
    "prometheus_client",
    "iptocc",
    "maxminddb",
    "aiosmtplib",
}
PACKETS = {"wardgate_native", "pyroute2"}


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("main", STORE | SERVER | PACKETS | {"asyncio", "httpx2", "rich", "yaml", "cryptography"}),
        ("admin.execution", STORE | SERVER | PACKETS),
        ("explain", STORE | SERVER | PACKETS),
        ("init", SERVER | PACKETS | {"alembic"}),
        ("sign_in_link", SERVER | PACKETS | {"alembic"}),
        ("db", SERVER | PACKETS | {"alembic"}),
        ("up", SERVER | PACKETS | {"alembic"}),
        ("gateway", STORE | SERVER),
        ("portal", PACKETS | {"alembic", "maxminddb"}),
    ],
)
def test_a_command_does_not_load(module: str, unwanted: set[str]) -> None:
    program = f"import sys, wardgate.cli.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert unwanted & set(done.stdout.split()) == set()
