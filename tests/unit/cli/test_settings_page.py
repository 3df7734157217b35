"""docs/settings.md lists what the commands declare, and the declarations keep what the page promises."""

import importlib
import pkgutil
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import wardgate.cli.commands as commands
from wardgate.cli.commands import client, gateway, portal, relay, rest, up
from wardgate.cli.parameters import CONFIG, Form, Setting
from wardgate.net.host_dns import Method

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "settings.md").read_text()
GENERATOR = runpy.run_path(str(ROOT / "scripts" / "cli_reference.py"))
TABLES: dict[str, tuple[Setting[Any], ...]] = GENERATOR["TABLES"]
DECLARED = [
    (f"{module.__name__.rpartition('.')[2]}.{name}", value)
    for module in (
        importlib.import_module(f"{commands.__name__}.{one.name}")
        for one in pkgutil.iter_modules(commands.__path__)
    )
    for name, value in vars(module).items()
    if isinstance(value, Setting)
]
SETTINGS = [
    pytest.param(one, id=f"{heading}-{one.name}") for heading, table in TABLES.items() for one in table
]


def test_the_page_is_that_of_the_declarations() -> None:
    assert GENERATOR["settings_page"](PAGE).splitlines() == PAGE.splitlines(), "make cli-reference"


def test_no_setting_is_left_out_of_the_page() -> None:
    listed = {one.name for table in TABLES.values() for one in table}
    assert {place for place, one in DECLARED if one.name not in listed and one is not CONFIG} == set()


@pytest.mark.parametrize("module", [client, gateway, portal, relay, up, rest])
def test_a_table_holds_every_setting_of_its_command(module: Any) -> None:
    own = {value.name: value for value in vars(module).values() if isinstance(value, Setting)}
    assert {one.name: one for one in module.SETTINGS} == {
        name: one for name, one in own.items() if one is not CONFIG
    }


@pytest.mark.parametrize("module", [client, gateway, portal, relay, up])
def test_a_process_takes_every_setting_on_its_command_line_but_secrets(module: Any) -> None:
    assert set(module.SETTINGS) <= set(module.COMMAND.parameters)
    absent = {one.name for one in module.SETTINGS if one.form is Form.ABSENT}
    assert absent <= {"token", "smtp_url"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_written_as_the_default_is_the_default(setting: Setting[Any]) -> None:
    if setting.default_text:
        assert setting.read(setting.default_text) == setting.default
    else:
        assert setting.default in (None, ())


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_says_what_it_means_and_only_what_can_be_chosen(setting: Setting[Any]) -> None:
    assert len(setting.help) > 5
    assert not setting.help.endswith(".")
    for choice in setting.choices:
        setting.read(choice)
    if setting.choices:
        with pytest.raises(ValueError, match="magic"):
            setting.read("magic")


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_code_looks_every_setting_up(setting: Setting[Any]) -> None:
    source = "\n".join(path.read_text() for path in Path(commands.__file__).parents[1].glob("*.py"))
    execution = (Path(commands.__file__).parents[1] / "admin" / "execution.py").read_text()
    assert re.search(rf"\[(\w+\.)?{setting.name.upper()}\]", source + execution)


def test_the_methods_of_dns_control_are_those_that_there_are() -> None:
    assert set(client.DNS_METHODS) == set(Method)
