"""The steps of `deploy/Containerfile`, carried out in a bare Debian system, and what they leave."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from packages.conftest import System
from wardgate.cli.commands.tree import ROOT as COMMANDS

DEPLOY = Path(__file__).parents[2] / "deploy"


def steps() -> list[tuple[str, str]]:
    """Return the instructions with their arguments, continued lines joined and comments left out."""
    lines = [line for line in (DEPLOY / "Containerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


@pytest.mark.usefixtures("_debian")  # first: another process may build meanwhile what is installed
def test_its_steps_make_a_system_that_runs_the_program(debian: System, dist: Path) -> None:
    environment = dict[str, str]()
    entry = ""
    for instruction, argument in steps():
        match instruction:
            case "FROM":
                assert argument == "debian:${DEBIAN}-slim", "the system that the tests carry the steps out in"
            case "ARG":
                assert argument.startswith("DEBIAN="), "which system it is, and here this machine's own"
            case "RUN":
                debian.run("sh", "-ec", argument, DEBIAN_FRONTEND="noninteractive", **environment)
            case "ADD":
                pattern, target = argument.split()
                (archive,) = dist.glob(pattern.removeprefix("dist/"))
                subprocess.run(["tar", "-xzf", archive, "-C", f"{debian.root}{target}"], check=True)
            case "ENV":
                environment |= dict(word.split("=", 1) for word in argument.split())
            case "ENTRYPOINT":
                (entry,) = yaml.safe_load(argument)
            case "VOLUME" | "CMD":
                pass
            case _:
                raise AssertionError(f"the test does not know {instruction}")
    assert debian.run(entry, "--version", **environment).stdout.strip()
    made = debian.run(
        "setpriv", "--reuid=wardgate-portal", "--regid=wardgate-portal", "--clear-groups", entry, "init",
        "--account-name", "Acme", "--account-slug", "acme", "--admin-email", "ada@acme.example", **environment,
    )  # fmt: skip
    assert "is ready in /var/lib/wardgate" in made.stdout


def test_the_compose_file_names_commands_and_settings_that_there_are() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    for name, service in compose["services"].items():
        command = COMMANDS.child(service["command"][0])
        assert command is not None, name
        known = {variable for one in command.parameters for variable in getattr(one, "variables", ())}
        for variable in service["environment"]:
            assert variable.removesuffix("_FILE") in known, f"{name}: {variable}"
        assert service["cap_drop"] == ["ALL"]
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
