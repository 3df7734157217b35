"""Commands load what they need: a question to the portal starts no web framework, and a sign-in link no API."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

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
PACKETS = {"wardgate_native"}
LIBRARIES = {"asyncio", "httpx2", "rich", "yaml", "cryptography", "msgspec"}
# Megabytes in each gateway and client, which are to take 60 (docs/performance.md, *A thousand clients*).
HEAVY = {"rich", "yaml", "cryptography", "pydantic", "opentelemetry"}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("main", STORE | SERVER | PACKETS | LIBRARIES),
        ("admin.execution", STORE | SERVER | PACKETS),
        ("explain", STORE | SERVER | PACKETS),
        ("init", SERVER | PACKETS | {"alembic"}),
        ("sign_in_link", SERVER | PACKETS | {"alembic"}),
        ("db", SERVER | PACKETS | {"alembic"}),
        ("up", SERVER | PACKETS | {"alembic"}),
        ("gateway", STORE | SERVER | HEAVY),
        ("client", STORE | SERVER | HEAVY),
        ("portal", PACKETS | {"alembic", "maxminddb"}),
    ],
)
def test_a_command_does_not_load(module: str, unwanted: set[str]) -> None:
    assert unwanted & loaded_by(f"import wardgate.cli.{module}") == set()


@pytest.mark.timeout(120)  # processes of their own
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["portal", "--help"],
        ["up", "--help"],
        ["client", "--help"],
        ["admin", "sites", "create", "--help"],
        ["__complete", "portal", "--"],
        ["portla"],
    ],
)
def test_help_completion_and_mistakes_load_nothing_that_does_work(words: list[str]) -> None:
    program = f"""
import contextlib, io
from wardgate.cli.main import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main({words})
"""
    loaded = loaded_by(program)
    assert (STORE | SERVER | PACKETS | LIBRARIES) & loaded == set()
    assert {name for name in loaded if name.startswith("wardgate.portal")} == set()


def loaded_by(program: str) -> set[str]:
    program += "\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
