"""Where a setting comes from, and what is said when it cannot be read."""

from pathlib import Path

import pytest

from wardgate.cli.errors import UserError
from wardgate.cli.settings import Settings, parse_duration_s


def test_a_flag_wins_over_the_environment_and_the_environment_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "wardgate.toml"
    config.write_text('listen = "top"\n[portal]\nlisten = "table"\n')
    environment = {"WARDGATE_CONFIG": str(config)}

    assert Settings.load("relay", environment).text("listen", None, None) == "top"
    assert Settings.load("portal", environment).text("listen", None, None) == "table"
    environment["WARDGATE_LISTEN"] = "environment"
    assert Settings.load("portal", environment).text("listen", None, None) == "environment"
    assert Settings.load("portal", environment).text("listen", "flag", None) == "flag"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings("portal", {"WARDGATE_LISTEN": ""}).text("listen", None, "default") == "default"


def test_a_foreign_name_is_asked_after_our_own() -> None:
    settings = Settings("gateway", {"FIREZONE_NAME": "foreign"})
    assert settings.text("name", None, None, env=["FIREZONE_NAME"]) == "foreign"
    settings = Settings("gateway", {"FIREZONE_NAME": "foreign", "WARDGATE_NAME": "ours"})
    assert settings.text("name", None, None, env=["FIREZONE_NAME"]) == "ours"


@pytest.mark.parametrize("how", ["file variable", "credential", "path as value"])
def test_a_secret_may_stand_in_a_file(tmp_path: Path, how: str) -> None:
    file = tmp_path / "WARDGATE_TOKEN"
    file.write_text(" hush\n")
    environment = {
        "file variable": {"WARDGATE_TOKEN_FILE": str(file)},
        "credential": {"CREDENTIALS_DIRECTORY": str(tmp_path)},
        "path as value": {"WARDGATE_TOKEN": str(file)},
    }[how]
    assert Settings("gateway", environment).secret("token", None, None) == "hush"


def test_an_unreadable_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"WARDGATE_TOKEN_FILE: cannot read .*absent"):
        Settings("gateway", {"WARDGATE_TOKEN_FILE": str(tmp_path / "absent")}).secret("token", None, None)


def test_a_value_of_the_wrong_kind_is_refused_by_its_name() -> None:
    with pytest.raises(UserError, match="WARDGATE_PORT"):
        Settings("relay", {"WARDGATE_PORT": "many"}).integer("port", None, 3478)
    with pytest.raises(UserError, match="WARDGATE_SECURE"):
        Settings("relay", {"WARDGATE_SECURE": "perhaps"}).boolean("secure", None, False)


@pytest.mark.parametrize("text", ["many", "1e400", "nan", "1,5", "0x10"])
def test_what_is_no_number_is_refused_in_words(text: str) -> None:
    settings = Settings("portal", {"WARDGATE_RATE": text})
    with pytest.raises(UserError, match=f"^WARDGATE_RATE: '{text}' is not a number$"):
        settings.number("rate", None, 1.0)
    with pytest.raises(UserError, match=f"^WARDGATE_RATE: '{text}' is not a whole number$"):
        settings.integer("rate", None, 1)


def test_a_number_may_have_a_fraction() -> None:
    assert Settings("portal", {"WARDGATE_RATE": "0.5"}).number("rate", None, 1) == 0.5


def test_a_broken_settings_file_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "wardgate.toml"
    config.write_text("listen = ")
    with pytest.raises(UserError, match="not valid TOML"):
        Settings.load("portal", {}, config)


def test_lists_come_from_commas_and_from_arrays() -> None:
    assert Settings("portal", {"WARDGATE_TRUSTED_PROXIES": "10.0.0.1, 10.0.0.2"}).texts(
        "trusted_proxies", None, []
    ) == ["10.0.0.1", "10.0.0.2"]
    assert Settings("portal", {}, {"trusted_proxies": ["10.0.0.1"]}).texts("trusted_proxies", None, []) == [
        "10.0.0.1"
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("5m", 300), ("1h 30m", 5400), ("30d", 2_592_000), ("250ms", 0.25)]
)
def test_durations_are_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-3s"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_s(text)
