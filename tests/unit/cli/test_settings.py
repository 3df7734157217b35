"""Where a setting comes from, and what is said when it cannot be read."""

from pathlib import Path

import pytest

from wardgate.cli import values
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import Setting
from wardgate.cli.settings import Settings

LISTEN = Setting(name="listen", help="", read=values.text, default="default")
NAME = Setting[str | None](name="name", help="", read=values.text, default=None, foreign=("FIREZONE_NAME",))
TOKEN = Setting[str | None](name="token", help="", read=values.secret, default=None)
PORT = Setting(name="port", help="", read=values.whole_number, default=3478)
SECURE = Setting(name="secure", help="", read=values.boolean, default=False)
RATE = Setting(name="rate", help="", read=values.number, default=1.0)
WHOLE_RATE = Setting(name="rate", help="", read=values.whole_number, default=1)
PROXIES = Setting[tuple[str, ...]](
    name="trusted_proxies", help="", read=values.list_of(values.text), default=()
)


def test_an_option_wins_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "wardgate.toml"
    config.write_text('listen = "top"\n[portal]\nlisten = "table"\n')
    environment = {"WARDGATE_CONFIG": str(config)}

    assert Settings.load("relay", environment)[LISTEN] == "top"
    assert Settings.load("portal", environment)[LISTEN] == "table"
    environment["WARDGATE_LISTEN"] = "environment"
    assert Settings.load("portal", environment)[LISTEN] == "environment"
    assert Settings.load("portal", environment, {"listen": "option"})[LISTEN] == "option"


def test_the_option_names_another_file_than_the_environment(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(f'listen = "{name}"\n')
    environment = {"WARDGATE_CONFIG": str(tmp_path / "one")}
    assert Settings.load("portal", environment, {"config": tmp_path / "other"})[LISTEN] == "other"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings("portal", {"WARDGATE_LISTEN": ""})[LISTEN] == "default"


def test_a_foreign_name_is_asked_after_our_own() -> None:
    settings = Settings("gateway", {"FIREZONE_NAME": "foreign"})
    assert settings[NAME] == "foreign"
    settings = Settings("gateway", {"FIREZONE_NAME": "foreign", "WARDGATE_NAME": "ours"})
    assert settings[NAME] == "ours"


@pytest.mark.parametrize("how", ["file variable", "credential", "path as value"])
def test_a_secret_may_stand_in_a_file(tmp_path: Path, how: str) -> None:
    file = tmp_path / "WARDGATE_TOKEN"
    file.write_text(" hush\n")
    environment = {
        "file variable": {"WARDGATE_TOKEN_FILE": str(file)},
        "credential": {"CREDENTIALS_DIRECTORY": str(tmp_path)},
        "path as value": {"WARDGATE_TOKEN": str(file)},
    }[how]
    assert Settings("gateway", environment)[TOKEN] == "hush"


def test_an_unreadable_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"WARDGATE_TOKEN_FILE: cannot read .*absent"):
        _ = Settings("gateway", {"WARDGATE_TOKEN_FILE": str(tmp_path / "absent")})[TOKEN]


def test_credentials_that_may_not_be_looked_at_are_named(tmp_path: Path) -> None:
    # Root may look anywhere: a name longer than a file system takes is refused to root, too.
    directory = tmp_path / ("x" * 300)
    with pytest.raises(UserError, match=r"credential WARDGATE_TOKEN: cannot read .*WARDGATE_TOKEN: \w"):
        _ = Settings("gateway", {"CREDENTIALS_DIRECTORY": str(directory)})[TOKEN]


def test_a_value_of_the_wrong_kind_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match="WARDGATE_PORT"):
        _ = Settings("relay", {"WARDGATE_PORT": "many"})[PORT]
    with pytest.raises(UserError, match="WARDGATE_SECURE"):
        _ = Settings("relay", {"WARDGATE_SECURE": "perhaps"})[SECURE]
    with pytest.raises(UserError, match=r"^port in the settings file: 'many' is not a whole number$"):
        _ = Settings("relay", {}, {"port": "many"})[PORT]


@pytest.mark.parametrize("text", ["many", "1e400", "nan", "1,5", "0x10"])
def test_what_is_no_number_is_refused_in_words(text: str) -> None:
    settings = Settings("portal", {"WARDGATE_RATE": text})
    with pytest.raises(UserError, match=f"^WARDGATE_RATE: '{text}' is not a number$"):
        _ = settings[RATE]
    with pytest.raises(UserError, match=f"^WARDGATE_RATE: '{text}' is not a whole number$"):
        _ = settings[WHOLE_RATE]


def test_a_number_may_have_a_fraction() -> None:
    assert Settings("portal", {"WARDGATE_RATE": "0.5"})[RATE] == 0.5


def test_a_broken_settings_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "wardgate.toml"
    config.write_text("listen = ")
    with pytest.raises(UserError, match="not valid TOML"):
        Settings.load("portal", {}, {"config": config})


def test_lists_come_from_commas_and_from_arrays() -> None:
    both = ("10.0.0.1", "10.0.0.2")
    assert Settings("portal", {"WARDGATE_TRUSTED_PROXIES": "10.0.0.1, 10.0.0.2"})[PROXIES] == both
    assert Settings("portal", {}, {"trusted_proxies": list(both)})[PROXIES] == both


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("5m", 300), ("1h 30m", 5400), ("30d", 2_592_000), ("250ms", 0.25)]
)
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    assert values.parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-3s"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        values.parse_duration_s(text)
